"""The Generative Language API in error messages: its host, and the remedies for its errors."""

from __future__ import annotations

from types import MappingProxyType

from reconciler.providers.google.errors import SCOPES, ServiceDescription

SERVICE = ServiceDescription(
    host="generativelanguage.googleapis.com",
    fields="spec.endpoint",
    scopes=SCOPES,
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "log in with an account that has roles/serviceusage.serviceUsageConsumer on the"
            " target's spec.project and, for a tuned model of another account, writer or owner permission on it",
            "NOT_FOUND": "check spec.endpoint, spec.apiVersion and spec.project of the target",
            "UNIMPLEMENTED": "check spec.endpoint and spec.apiVersion of the target",
        }
    ),
)

CREATE_REMEDIES = MappingProxyType(
    dict.fromkeys(
        ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"),
        "fix what the service reports; a base model can be tuned only while it supports createTunedModel, and Google"
        " retired its last such model of this API in May 2025",
    )
)
CREATE_CHILD_REMEDIES = MappingProxyType(
    dict.fromkeys(
        ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"),
        "fix what the service reports; a tuned model can be tuned further only while it is ready and its base model can"
        " be tuned",
    )
)

# The permissions of each role are in google/ai/generativelanguage/v1beta3/permission.proto, Role: a writer can edit
# and share, and only an owner can delete.
_GONE = "run `reconcile apply`: the model no longer exists"
UPDATE_REMEDIES = MappingProxyType(
    {"PERMISSION_DENIED": "log in as its owner, or ask the owner for writer or owner permission on the tuned model"}
)
DELETE_REMEDIES = MappingProxyType(
    {"PERMISSION_DENIED": "log in as its owner, or ask the owner for owner permission on the tuned model"}
)
INFER_REMEDIES = MappingProxyType(
    {
        "NOT_FOUND": _GONE,
        "PERMISSION_DENIED": "log in as its owner, or ask the owner for reader permission on the tuned model; if it no"
        " longer exists, run `reconcile apply`",
        "FAILED_PRECONDITION": "run `reconcile wait`: only a ready model can answer",
        "INVALID_ARGUMENT": "fix the prompt or its options as the service reports",
    }
)
READ_ACCESS_REMEDIES = UPDATE_REMEDIES | {"NOT_FOUND": _GONE}
WRITE_ACCESS_REMEDIES = UPDATE_REMEDIES | {
    "NOT_FOUND": "run `reconcile apply` again: the model no longer exists, or another user is changing its permissions"
}

NO_TUNABLE_MODELS = """\
this service has no base model that can be tuned: Google retired the last one of this API, gemini-1.5-flash-001, in \
May 2025
To train the same manifests on Vertex AI, save this target beside yours as reconcile.vertex.yaml, set base models of \
Vertex AI in the manifests (spec.vertex.baseModel: gemini-2.5-flash), and run `reconcile plan --target vertex`:
    apiVersion: tuning.reconcile/v1alpha1
    kind: Target
    metadata: {name: vertex}
    spec:
      provider: vertex
      scope: SCOPE            # as in this target
      project: PROJECT
      location: us-central1
      bucket: gs://BUCKET     # of that project, for the data sets"""
"""The error for a service without base models that can be tuned; the first line is the problem."""
