"""What to do about what a service refuses: a table for each service, and the general rows that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
SCOPES = (CLOUD_PLATFORM, "https://www.googleapis.com/auth/generative-language.tuning")
"""The OAuth scopes that are asked for: those of every service here. API keys can neither tune nor upload."""


def _log_in(scopes: tuple[str, ...]) -> str:
    return f"log in with `gcloud auth application-default login --scopes={','.join(scopes)}`, or set {_TOKEN}"


_TOKEN = "RECONCILE_ACCESS_TOKEN"  # noqa: S105 - the name of the variable, not a token
LOG_IN = _log_in(SCOPES)
_POLICY = (
    "ask who administers your organisation on Google Cloud: a policy of it (VPC Service Controls, or an organisation"
    " policy) forbids this"
)
_LATER = "try again later; what was begun goes on, and the next run resumes it"

CALLER_REASONS = frozenset(
    {
        "SERVICE_DISABLED",
        "BILLING_DISABLED",
        "CONSUMER_INVALID",
        "CONSUMER_SUSPENDED",
        "USER_PROJECT_DENIED",
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "SECURITY_POLICY_VIOLATED",
        "RESOURCE_USAGE_RESTRICTION_VIOLATED",
    }
)
"""Reasons of google.api.ErrorReason (googleapis, google/api/error_reason.proto) that blame the caller or the project
and say nothing about the resource that was asked for."""

# Words by which the same reasons show where a front end sends no ErrorInfo, or one that only names the permission.
_CALLER_WORDS: Mapping[str, str] = {
    "has not been used in project": "SERVICE_DISABLED",
    "requires billing to be enabled": "BILLING_DISABLED",
    "billing account for the owning project is disabled": "BILLING_DISABLED",
    "rohibited by organization's policy": "SECURITY_POLICY_VIOLATED",
    "constraints/": "RESOURCE_USAGE_RESTRICTION_VIOLATED",
    "serviceusage.services.use": "USER_PROJECT_DENIED",
    "insufficient authentication scopes": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
}


@dataclass(frozen=True, slots=True)
class Service:
    """One service, as remedies speak of it.

    ``host`` is its API's name, ``address`` the fields of the target that decide where it is reached, ``scopes`` what a
    token needs. ``remedies`` are its own, by google.rpc status name or by a reason; ``words`` are words of messages
    that tell such a reason.
    """

    host: str
    address: str
    scopes: tuple[str, ...]
    remedies: Mapping[str, str]
    words: Mapping[str, str] = field(default_factory=dict)

    def reason(self, *texts: str) -> str:
        """The reason that the words of a message tell, empty when they tell none."""
        words = {**_CALLER_WORDS, **self.words}
        return next((reason for known, reason in words.items() if any(known in text for text in texts)), "")

    def remedy(self, code: str, reason: str = "", better: Mapping[str, str] | None = None) -> str:
        """What to do about a status, or about a reason where one is known; ``better`` knows more of this request."""
        table = {**self._general(), **self.remedies}
        return table.get(reason) or (better or {}).get(code) or table.get(code, "")

    def _general(self) -> Mapping[str, str]:
        return {
            "UNAUTHENTICATED": _log_in(self.scopes),
            "RESOURCE_EXHAUSTED": "wait for the quota, ask for more, or lower spec.limits.requestsPerMinute of the"
            " target",
            "INVALID_ARGUMENT": "correct what the service names and run again",
            "UNREACHABLE": f"check {self.address} of the target, the network and the proxy settings",
            "INTERNAL": _LATER,
            "UNAVAILABLE": _LATER,
            "DEADLINE_EXCEEDED": _LATER,
            "SERVICE_DISABLED": f"enable the API in the target's spec.project: `gcloud services enable {self.host}`",
            "BILLING_DISABLED": "enable billing for the target's spec.project",
            "CONSUMER_INVALID": "check spec.project of the target",
            "CONSUMER_SUSPENDED": "the target's spec.project is suspended; settle that with Google Cloud",
            "SECURITY_POLICY_VIOLATED": _POLICY,
            "RESOURCE_USAGE_RESTRICTION_VIOLATED": _POLICY,
            "USER_PROJECT_DENIED": "ask for roles/serviceusage.serviceUsageConsumer on the target's spec.project",
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT": f"get a token with the scopes {' and '.join(self.scopes)}:"
            f" {_log_in(self.scopes)}",
        }


GENERATIVE_LANGUAGE = Service(
    host="generativelanguage.googleapis.com",
    address="spec.endpoint",
    scopes=SCOPES,
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "log in as somebody with roles/serviceusage.serviceUsageConsumer on the target's"
            " spec.project and, for a tuned model that is another's, writer or owner permission on it",
            "NOT_FOUND": "check spec.endpoint, spec.apiVersion and spec.project of the target",
            "UNIMPLEMENTED": "check spec.endpoint and spec.apiVersion of the target",
        }
    ),
)

STORAGE = Service(
    host="storage.googleapis.com",
    address="spec.storageEndpoint",
    scopes=(CLOUD_PLATFORM,),
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "ask for roles/storage.objectUser on the bucket",
            "NOT_FOUND": "check the bucket of the target",
            "FAILED_PRECONDITION": "somebody else changed it meanwhile; run again",
            "RETAINED": "name another bucket, or another object, that nothing keeps from being changed: no retention"
            " policy, and no hold",
        }
    ),
    words=MappingProxyType({"retention policy": "RETAINED", " hold and cannot be ": "RETAINED"}),
)

_SERVICE_AGENT = "the account that the service names (Vertex AI's service agent, or spec.vertex.serviceAccount)"
VERTEX = Service(
    host="aiplatform.googleapis.com",
    address="spec.location and spec.endpoint",
    scopes=(CLOUD_PLATFORM,),
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "ask for roles/aiplatform.user on the target's spec.project",
            "NOT_FOUND": "check spec.location, spec.project and spec.endpoint of the target",
            "UNIMPLEMENTED": "check spec.location and spec.endpoint of the target",
            "UNSUPPORTED_REGION": "name a location in spec.location of the target that offers tuning, such as"
            " us-central1 or europe-west4",
            "AGENT_STORAGE": f"grant {_SERVICE_AGENT} roles/storage.objectViewer on the bucket of the data set:"
            " `gcloud storage buckets add-iam-policy-binding gs://BUCKET --role=roles/storage.objectViewer"
            " --member=serviceAccount:ACCOUNT`",
            "AGENT_PENDING": "wait a few minutes and run again: Google sets up the project's service agents at their"
            " first use",
            "AGENT_KEY": f"grant {_SERVICE_AGENT} roles/cloudkms.cryptoKeyEncrypterDecrypter on spec.vertex.kmsKeyName",
            "AGENT_ACCOUNT": "grant Vertex AI's service agent roles/iam.serviceAccountTokenCreator, and yourself"
            " roles/iam.serviceAccountUser, on spec.vertex.serviceAccount",
        }
    ),
    words=MappingProxyType(
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
