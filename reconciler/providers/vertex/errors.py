"""Vertex AI in error messages: its host, and the remedies for its errors."""

from __future__ import annotations

from types import MappingProxyType

from reconciler.providers.google.errors import CLOUD_PLATFORM, ServiceDescription

_AGENT = "the account that the service names (Vertex AI's service agent, or spec.vertex.serviceAccount)"

SERVICE = ServiceDescription(
    host="aiplatform.googleapis.com",
    fields="spec.location and spec.endpoint",
    scopes=(CLOUD_PLATFORM,),
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "ask for roles/aiplatform.user on the target's spec.project",
            "NOT_FOUND": "check spec.location, spec.project and spec.endpoint of the target",
            "UNIMPLEMENTED": "check spec.location and spec.endpoint of the target",
            "UNSUPPORTED_REGION": "set spec.location of the target to a location that supports tuning, such as"
            " us-central1 or europe-west4",
            "AGENT_STORAGE": f"grant {_AGENT} roles/storage.objectViewer on the bucket of the data set:"
            " `gcloud storage buckets add-iam-policy-binding gs://BUCKET --role=roles/storage.objectViewer"
            " --member=serviceAccount:ACCOUNT`",
            "AGENT_PENDING": "wait a few minutes and run the command again: Google creates the service agents of a"
            " project on first use",
            "AGENT_KEY": f"grant {_AGENT} roles/cloudkms.cryptoKeyEncrypterDecrypter on spec.vertex.kmsKeyName",
            "AGENT_ACCOUNT": "grant Vertex AI's service agent roles/iam.serviceAccountTokenCreator, and yourself"
            " roles/iam.serviceAccountUser, on spec.vertex.serviceAccount",
        }
    ),
    phrases=MappingProxyType(
        {
            "nsupported region": "UNSUPPORTED_REGION",
            "storage.objects.": "AGENT_STORAGE",
            "storage.buckets.": "AGENT_STORAGE",
            "ervice agents are being provisioned": "AGENT_PENDING",
            "cloudkms.": "AGENT_KEY",
            "iam.serviceAccounts.": "AGENT_ACCOUNT",
        }
    ),
)

_DOCS = "https://cloud.google.com/vertex-ai/generative-ai/docs/models"
_BUSY = MappingProxyType(
    {
        "RESOURCE_EXHAUSTED": "wait until another tuning job of the project has ended, or request more quota of"
        " concurrent tuning jobs in the target's spec.location"
    }
)
_UNTUNABLE = ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")
CREATE_REMEDIES = _BUSY | dict.fromkeys(
    _UNTUNABLE,
    f"fix what the service reports; for the base models and locations that support tuning, see {_DOCS}/tune-models",
)
CREATE_CHILD_REMEDIES = _BUSY | dict.fromkeys(
    _UNTUNABLE,
    "fix what the service reports; for the tuned models that can be tuned further, see"
    f" {_DOCS}/gemini-use-continuous-tuning",
)
INFER_REMEDIES = MappingProxyType(
    {
        **dict.fromkeys(
            ("NOT_FOUND", "FAILED_PRECONDITION"),
            "deploy the model again, or train it again with `reconcile apply --replace NAME`: the endpoint no longer"
            " exists, or has no deployed model",
        ),
        "INVALID_ARGUMENT": "fix the prompt or its options as the service reports",
    }
)
DELETE_REMEDIES = MappingProxyType(
    {
        "PERMISSION_DENIED": "ask for roles/aiplatform.user on the project, which can delete models and endpoints",
        "FAILED_PRECONDITION": "undeploy the model from every other endpoint, then run `reconcile prune` again",
    }
)
