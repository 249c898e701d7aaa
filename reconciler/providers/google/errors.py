"""Errors of Google's APIs, and the fields of proto3 JSON: parse a response, and turn failures into messages.

In proto3 JSON, defaults are omitted, and integers are numbers, strings or whole floats. An invalid time, number or text
counts as absent: no decision depends on it, and it must not be recorded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import httpx
from msgspec import Struct, field

from reconciler.domain.errors import (
    AccessError,
    ForbiddenError,
    PreconditionError,
    ReconcileError,
    ServiceError,
)
from reconciler.domain.model import Failure, Number, Source
from reconciler.domain.text import sanitize

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
SCOPES = (CLOUD_PLATFORM, "https://www.googleapis.com/auth/generative-language.tuning")
"""The OAuth scopes of all services. An API key can neither tune nor upload."""


def _log_in(scopes: tuple[str, ...]) -> str:
    command = f"gcloud auth application-default login --scopes={','.join(scopes)}"
    return f"log in with `{command}`, or set RECONCILE_ACCESS_TOKEN"


LOG_IN = _log_in(SCOPES)

# The canonical HTTP mapping of google/rpc/code.proto, for responses without a status name.
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

_LATER = "run the command again later; trainings that have started continue"
_POLICY = "ask your Google Cloud administrator: VPC Service Controls or an organization policy forbids this"

# By google.rpc status name, or by a reason. The fields in braces are those of ServiceDescription.
_STATUS_REMEDIES: Mapping[str, str] = {
    "UNAUTHENTICATED": "{log_in}",
    "RESOURCE_EXHAUSTED": "wait for the quota, request more, or lower spec.limits.requestsPerMinute of the target",
    "INVALID_ARGUMENT": "fix what the service reports, then run the command again",
    "UNREACHABLE": "check {fields} of the target, the network and the proxy settings",
    "INTERNAL": _LATER,
    "UNAVAILABLE": _LATER,
    "DATA_LOSS": "restore the data of the service; reconcile doctor names the file of the embedded service, which you"
    " can also move away, and with it the lockfile that records its models",
    "DEADLINE_EXCEEDED": _LATER,
}
# Reasons of google.api.ErrorReason (googleapis, google/api/error_reason.proto) that are about the caller or the
# project, and not about the requested resource.
_CALLER_REMEDIES: Mapping[str, str] = {
    "SERVICE_DISABLED": "enable the API in the target's spec.project: `gcloud services enable {host}`",
    "BILLING_DISABLED": "enable billing for the target's spec.project",
    "CONSUMER_INVALID": "check spec.project of the target",
    "CONSUMER_SUSPENDED": "contact Google Cloud support: the target's spec.project is suspended",
    "SECURITY_POLICY_VIOLATED": _POLICY,
    "RESOURCE_USAGE_RESTRICTION_VIOLATED": _POLICY,
    "USER_PROJECT_DENIED": "ask for roles/serviceusage.serviceUsageConsumer on the target's spec.project",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "get a token with the scopes {scopes}: {log_in}",
}
# Parts of messages that identify the same reasons, for front ends that send no ErrorInfo, or only a permission in it.
_CALLER_PHRASES: Mapping[str, str] = {
    "has not been used in project": "SERVICE_DISABLED",
    "requires billing to be enabled": "BILLING_DISABLED",
    "billing account for the owning project is disabled": "BILLING_DISABLED",
    "rohibited by organization's policy": "SECURITY_POLICY_VIOLATED",
    "constraints/": "RESOURCE_USAGE_RESTRICTION_VIOLATED",
    "serviceusage.services.use": "USER_PROJECT_DENIED",
    "insufficient authentication scopes": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
}
_MAX_VIOLATIONS = 3


class ServiceDescription(Struct, frozen=True):
    """The facts about one API that its error messages need.

    ``host`` is the API's name, ``fields`` are the fields of the target that decide its endpoint, and ``scopes`` are the
    OAuth scopes that a token needs. ``remedies`` are the API's own, by google.rpc status name or by a reason;
    ``phrases`` are parts of messages and the reasons that they identify.
    """

    host: str
    fields: str
    scopes: tuple[str, ...]
    remedies: Mapping[str, str]
    phrases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def find_reason(self, *texts: str) -> str:
        """Return the reason that one of the texts identifies, or an empty string."""
        phrases = {**_CALLER_PHRASES, **self.phrases}
        return next((reason for phrase, reason in phrases.items() if any(phrase in text for text in texts)), "")

    def find_remedy(self, code: str, reason: str = "", request_remedies: Mapping[str, str] | None = None) -> str:
        """Return the remedy for a reason, else the request's for a status, else the API's; empty where none has one."""
        names = {
            "host": self.host,
            "fields": self.fields,
            "scopes": " and ".join(self.scopes),
            "log_in": _log_in(self.scopes),
        }
        general = {name: text.format(**names) for name, text in {**_STATUS_REMEDIES, **_CALLER_REMEDIES}.items()}
        remedies = {**general, **self.remedies}
        return remedies.get(reason) or (request_remedies or {}).get(code) or remedies.get(code, "")


class ErrorResponse(Struct, frozen=True):
    """A response with an error status; ``code``, ``message`` and ``details`` are those of a google.rpc.Status."""

    status: int
    code: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    def detail(self, kind: str) -> Mapping[str, Any]:
        """Return the first detail of that google.rpc type (``RetryInfo``), or an empty mapping."""
        return next((detail for detail in self.details if str(detail.get("@type", "")).endswith(f".{kind}")), {})


def parse_error_response(response: httpx.Response, body: bytes) -> ErrorResponse:
    """Parse a response with an error status; the body may also be a front end's HTML."""
    status = response.status_code
    error = parse_error_object(body)
    code, message, details = error.get("status"), error.get("message"), error.get("details")
    return ErrorResponse(
        status=status,
        code=code if isinstance(code, str) and code.isupper() else _STATUS_NAMES.get(status, "UNKNOWN"),
        message=sanitize(message) if isinstance(message, str) and message.strip() else _describe(response),
        details=tuple(detail for detail in details if isinstance(detail, dict)) if isinstance(details, list) else (),
    )


def parse_error_object(body: bytes | str) -> Mapping[str, Any]:
    """Return the ``error`` of a body in Google's error format, or an empty mapping."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # HTML from a front end, or a truncated body
        return {}
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _describe(response: httpx.Response) -> str:
    kind = sanitize(response.headers.get("content-type", "").partition(";")[0]) or "no content type"
    return f"{response.reason_phrase or 'no reason given'} (no error message, {kind})"


def response_error(
    request: str,
    response: ErrorResponse,
    service: ServiceDescription,
    note: str = "",
    remedies: Mapping[str, str] | None = None,
) -> ReconcileError:
    """Return the error to raise for a response with an error status.

    Args:
        request: The method and path, ``GET /v1beta3/tunedModels``.
        response: The response.
        service: The API that responded.
        note: More about the failure, after the status.
        remedies: Remedies for this request by status name; they precede those of the API.
    """
    reason = _find_reason(response, service)
    remedy = service.find_remedy(response.code, reason, remedies)
    parts = "; ".join((response.message, *_describe_violations(response)))
    message = f"{request} failed with {response.status} {response.code}{note}: {parts}"
    match response.status:
        case httpx.codes.FORBIDDEN:
            return ForbiddenError(message, remedy, resource=reason not in _CALLER_REMEDIES)
        case httpx.codes.UNAUTHORIZED:
            return AccessError(message, remedy)
        case httpx.codes.PRECONDITION_FAILED:
            return PreconditionError(message, remedy, code=response.code)
        case _:
            return ServiceError(message, remedy, code=response.code)


def _find_reason(response: ErrorResponse, service: ServiceDescription) -> str:
    """Return the google.api.ErrorReason, or the reason that the message identifies; empty where there is none."""
    info = response.detail("ErrorInfo")
    reason, metadata = info.get("reason"), info.get("metadata")
    if isinstance(reason, str) and reason in _CALLER_REMEDIES:
        return reason
    permission = metadata.get("permission") if isinstance(metadata, dict) else None
    return service.find_reason(response.message, permission if isinstance(permission, str) else "")


def _describe_violations(response: ErrorResponse) -> Iterator[str]:
    violations = [
        (violation.get(subject), violation.get("description"))
        for kind, key, subject in (
            ("BadRequest", "fieldViolations", "field"),
            ("QuotaFailure", "violations", "subject"),
        )
        if isinstance(found := response.detail(kind).get(key), list)
        for violation in found
        if isinstance(violation, dict)
    ]
    for parts in violations[:_MAX_VIOLATIONS]:
        if text := sanitize(": ".join(str(part) for part in parts if part)):
            yield text


def failure_cause(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Return why a request got no response, without the header that httpx quotes: it may contain a token."""
    if isinstance(error, httpx.LocalProtocolError):
        return "the request contains characters that HTTP does not allow"
    return sanitize(str(error)) or type(error).__name__


def unexpected_response(request: str, problem: str, service: ServiceDescription) -> ServiceError:
    """Return the error for a response that this API does not send."""
    remedy = f"check {service.fields} of the target: another kind of service responded"
    return ServiceError(f"{request} returned {problem}", remedy, code="UNKNOWN")


_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_MAX_INTEGER = 2**53 - 1  # RFC 8259, section 6


def read_number(value: Any) -> Number | None:
    """Return a finite number, as ``int`` where it is whole and a float represents it exactly."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _MAX_INTEGER else number


def read_integer(value: Any) -> int | None:
    """Return an integer within the range that a float represents exactly; ``None`` for any other value."""
    number = read_number(value)
    return number if isinstance(number, int) else None


def read_count(value: Any) -> int | None:
    """Return a number of steps or epochs; ``None`` for a negative or any other value."""
    number = read_integer(value)
    return number if number is not None and number >= 0 else None


def read_text(value: Any) -> str:
    """Return text that UTF-8 can encode; lone surrogates, which JSON can spell, are replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def read_time(value: Any) -> str:
    """Return an RFC 3339 time with a zone as the service wrote it; an empty string for any other value."""
    moment = read_text(value)
    if not _RFC3339.fullmatch(moment):
        return ""
    try:
        datetime.fromisoformat(moment)
    except ValueError:  # such as February 30
        return ""
    return moment


def read_name(value: Any) -> str:
    """Return the name of a resource; raises ValueError where it is missing."""
    if name := read_text(value):
        return name
    raise ValueError("missing name")


def read_source(base_model: Any, tuned_model: Any) -> Source | None:
    """Return the base model that a model was tuned from, else the tuned model; ``None`` where both are absent."""
    base, parent = read_text(base_model), read_text(tuned_model)
    return Source(base_model=base, remote="" if base else parent) if base or parent else None


def read_failure(error: Mapping[str, Any]) -> Failure:
    """Return the google.rpc.Status of a failed training or operation."""
    message = sanitize(read_text(error.get("message"))) or "no reason given"
    return Failure(code=read_integer(error.get("code")) or 0, message=message)
