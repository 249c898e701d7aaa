"""What a service answers when it refuses, as one sentence for people: its own message, the request and the remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx

from reconciler.domain.errors import AccessError, ForbiddenError, PreconditionError, ReconcileError, ServiceError

# The canonical HTTP mapping of google/rpc/code.proto, for answers that name no status themselves.
_STATUS_NAMES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_MAX_TEXT = 600
_MAX_DETAILS = 3
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


class TransientError(Exception):
    """One attempt failed in a way that another may mend.

    ``error`` is for people, should it stay so; ``delay`` is the pause in seconds that the service asked for;
    ``ambiguous`` tells that the service may have carried the request out all the same.
    """

    def __init__(self, error: ReconcileError, *, delay: float | None, ambiguous: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.delay = delay
        self.ambiguous = ambiguous


@dataclass(frozen=True, slots=True)
class Refusal:
    """A google.rpc.Status as an error body bears it; empty where the body bears none."""

    status: int
    code: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    def detail(self, kind: str) -> Mapping[str, Any]:
        """The first detail of that google.rpc type (``RetryInfo``), or an empty mapping."""
        return next((detail for detail in self.details if str(detail.get("@type", "")).endswith(f".{kind}")), {})


def clean(text: str) -> str:
    """Text from outside on one line, without control or bidirectional characters, without its full stop, shortened.

    Lone surrogates, which JSON can spell and no file can hold, go as well.
    """
    line = _CONTROL.sub(" ", text).strip()
    return line[:_MAX_TEXT].rstrip(". ") + ("…" if len(line) > _MAX_TEXT else "")


def parse_refusal(response: httpx.Response, body: bytes) -> Refusal:
    """Read an error answer, whatever a front end made of it."""
    status = response.status_code
    error = error_object(body)
    code = error.get("status")
    message = error.get("message")
    details = error.get("details")
    return Refusal(
        status=status,
        code=code if isinstance(code, str) and code.isupper() else _STATUS_NAMES.get(status, "UNKNOWN"),
        message=clean(message) if isinstance(message, str) and message.strip() else _without_message(response),
        details=tuple(item for item in details if isinstance(item, dict)) if isinstance(details, list) else (),
    )


def error_object(body: bytes | str) -> Mapping[str, Any]:
    """The ``error`` of a body in Google's error format, or an empty mapping."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # HTML from a front end, or a body that was cut short
        return {}
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _without_message(response: httpx.Response) -> str:
    kind = clean(response.headers.get("content-type", "").partition(";")[0]) or "no content type"
    return f"{response.reason_phrase or 'no reason given'} (no error message, {kind})"


def refused(
    request: str, refusal: Refusal, service: Service, note: str = "", remedies: Mapping[str, str] | None = None
) -> ReconcileError:
    """The error to raise for a refusal.

    Args:
        request: The request as people know it, ``GET /v1beta3/tunedModels``.
        refusal: What the service answered.
        service: Who answered.
        note: What is known beyond the answer, such as how often it was tried.
        remedies: Remedies by status name that are better than the service's for this request.
    """
    reason = _reason(refusal, service)
    remedy = service.remedy(refusal.code, reason, remedies)
    parts = "; ".join((refusal.message, *_explanations(refusal)))
    message = f"{request} was refused with {refusal.status} {refusal.code}{note}: {parts}"
    match refusal.status:
        case httpx.codes.FORBIDDEN:
            return ForbiddenError(message, remedy, resource=reason not in CALLER_REASONS)
        case httpx.codes.UNAUTHORIZED:
            return AccessError(message, remedy)
        case httpx.codes.PRECONDITION_FAILED:
            return PreconditionError(message, remedy, code=refusal.code)
        case _:
            return ServiceError(message, remedy, code=refusal.code)


def _reason(refusal: Refusal, service: Service) -> str:
    """The google.api.ErrorReason, or what the message tells; empty when none is told."""
    info = refusal.detail("ErrorInfo")
    reason, metadata = info.get("reason"), info.get("metadata")
    if isinstance(reason, str) and reason in CALLER_REASONS:
        return reason
    permission = metadata.get("permission") if isinstance(metadata, dict) else None
    return service.reason(refusal.message, permission if isinstance(permission, str) else "")


def _explanations(refusal: Refusal) -> tuple[str, ...]:
    violations = (
        *(
            (item.get("field"), item.get("description"))
            for item in _violations(refusal, "BadRequest", "fieldViolations")
        ),
        *(
            (item.get("subject"), item.get("description"))
            for item in _violations(refusal, "QuotaFailure", "violations")
        ),
    )
    texts = (clean(": ".join(str(part) for part in parts if part)) for parts in violations[:_MAX_DETAILS])
    return tuple(text for text in texts if text)


def _violations(refusal: Refusal, kind: str, key: str) -> Iterator[Mapping[str, Any]]:
    items = refusal.detail(kind).get(key)
    yield from (item for item in items if isinstance(item, dict)) if isinstance(items, list) else ()


def cause_of(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Why a request got no answer. A header that HTTP forbids is not quoted, as httpx does: it may bear a token."""
    if isinstance(error, httpx.LocalProtocolError):
        return "the request holds what HTTP does not allow"
    return clean(str(error)) or type(error).__name__


def unreachable(request: str, host: str, cause: str, service: Service) -> ServiceError:
    """The error for a request to which no answer came from ``host``."""
    message = f"{request} got no answer from {clean(host)}: {clean(cause)}"
    return ServiceError(message, service.remedy("UNREACHABLE"), code="UNREACHABLE")


def unintelligible(request: str, what: str, service: Service) -> ServiceError:
    """The error for an answer that is not what this API answers."""
    remedy = f"check {service.address} of the target: what answers there is no such service"
    return ServiceError(f"{request} was answered with {what}", remedy, code="UNKNOWN")


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
