"""Errors of Google's APIs, and the fields of proto3 JSON: parse a response, and turn failures into messages.

In proto3 JSON, defaults are omitted, and integers are numbers, strings or whole floats. An invalid time, number or text
counts as absent: no decision depends on it, and it must not be recorded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
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
_DESCRIBE_POLICY = "`gcloud org-policies describe {constraint} --effective{in_project}`"

# By google.rpc status name, or by a reason. The fields in braces are those of ServiceDescription.
_STATUS_REMEDIES: Mapping[str, str] = {
    "UNAUTHENTICATED": "{log_in}",
    "RESOURCE_EXHAUSTED": "wait for the quota, request more{quotas}, or lower spec.limits.requestsPerMinute of the"
    " target",
    "INVALID_ARGUMENT": "fix what the service reports, then run the command again",
    "UNREACHABLE": "check {fields} of the target, the network and the proxy settings",
    "INTERNAL": _LATER,
    "UNAVAILABLE": _LATER,
    "DATA_LOSS": "restore the data of the service; reconcile doctor names the file of the embedded service, which you"
    " can also move away, and with it the lockfile that records its models",
    "DEADLINE_EXCEEDED": _LATER,
}
# Reasons of google.api.ErrorReason (googleapis, google/api/error_reason.proto) that are about the caller or the
# project, and not about the requested resource, and further ones that only messages identify.
_CALLER_REMEDIES: Mapping[str, str] = {
    "SERVICE_DISABLED": "enable the API, and run the command again after a few minutes:"
    " `gcloud services enable {api}{in_project}`",
    "BILLING_DISABLED": "link an open billing account of `gcloud billing accounts list` to the project:"
    " `gcloud billing projects link {project} --billing-account=ACCOUNT`",
    "QUOTA_PROJECT_MISSING": "set spec.project of the target to the project whose quota is used, or run"
    " `gcloud auth application-default set-quota-project PROJECT`",
    "CONSUMER_INVALID": "check spec.project of the target: there is no project {project}, or it was deleted",
    "CONSUMER_SUSPENDED": "contact Google Cloud support: the project {project} is suspended",
    "SECURITY_POLICY_VIOLATED": _POLICY,
    "RESOURCE_USAGE_RESTRICTION_VIOLATED": _POLICY,
    "ORG_RESTRICTION_VIOLATION": f"{_POLICY}; {_DESCRIBE_POLICY} shows it",
    "LOCATION_POLICY_VIOLATED": "set spec.location of the target, or the location of the bucket, to one that the"
    " organization policy of the project allows: `gcloud org-policies describe constraints/gcp.resourceLocations"
    " --effective{in_project}` lists them",
    "USER_PROJECT_DENIED": "ask an administrator of the project to run `gcloud projects add-iam-policy-binding"
    " {project} --role=roles/serviceusage.serviceUsageConsumer --member=MEMBER`, with your account as user:EMAIL or"
    " serviceAccount:EMAIL, or set spec.project of the target to a project that you may use",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "get a token with the scopes {scopes}: {log_in}",
    "QUOTA_IS_ZERO": "request quota{quotas}: the project has none of it in this location, and waiting does not help",
}
# Parts of messages that identify the same reasons, for front ends that send no ErrorInfo, or only a permission in it.
# The more specific ones precede. The last three are the names of ``errors[].reason`` of older APIs, as Cloud Storage.
_CALLER_PATTERNS: Mapping[str, str] = {
    r"requires? a quota project|projects/(764086051850|32555940559)\b": "QUOTA_PROJECT_MISSING",
    r"constraints/gcp\.resourceLocations|location\S* .{0,80}(violates|not allowed)": "LOCATION_POLICY_VIOLATED",
    r"prohibited by organization.s policy": "SECURITY_POLICY_VIOLATED",
    r"constraints/": "ORG_RESTRICTION_VIOLATION",
    r"has not been used in project|accessNotConfigured": "SERVICE_DISABLED",
    r"billing account|billing to be enabled|enable billing|accountDisabled": "BILLING_DISABLED",
    r"serviceusage\.services\.use": "USER_PROJECT_DENIED",
    r"insufficient authentication scopes|insufficientScopes": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
}
_CONSTRAINT = re.compile(r"constraints/[A-Za-z0-9.]{1,100}")
_PROJECT = re.compile(
    r"(?:projects?[/ ]#?|project_number:)(?P<project>[a-z][a-z0-9:.-]{4,61}[a-z0-9]|[0-9]{4,20})\b", re.ASCII
)
_API = re.compile(r"[a-z0-9-]{1,63}\.googleapis\.com", re.ASCII)
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
        for pattern, reason in _CALLER_PATTERNS.items():
            if any(re.search(pattern, text, re.IGNORECASE) for text in texts):
                return reason
        return next((reason for phrase, reason in self.phrases.items() if any(phrase in text for text in texts)), "")

    def find_remedy(
        self,
        code: str,
        reason: str = "",
        request_remedies: Mapping[str, str] | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> str:
        """Return the remedy for a reason, else the request's for a status, else the API's; empty where none has one.

        ``facts`` are those of the response, by their names in remedies.
        """
        own, request = {**_STATUS_REMEDIES, **_CALLER_REMEDIES, **self.remedies}, request_remedies or {}
        remedy = own.get(reason) or request.get(code) or own.get(code, "")
        values: dict[str, str] = {
            **describe_project(""),
            "api": self.host,
            "constraint": "constraints/CONSTRAINT",
            "fields": self.fields,
            "scopes": " and ".join(self.scopes),
            "log_in": _log_in(self.scopes),
            **(facts or {}),
        }
        return re.sub(r"\{(\w+)\}", lambda found: values.get(str(found[1]), str(found[0])), remedy)


def describe_project(project: str) -> dict[str, str]:
    """Return how remedies name a project; empty for an unknown one."""
    page = f" at https://console.cloud.google.com/iam-admin/quotas?project={project}" if project else ""
    return {"project": project or "PROJECT", "in_project": f" --project={project}" if project else "", "quotas": page}


class ErrorResponse(Struct, frozen=True):
    """A response with an error status; ``code``, ``message`` and ``details`` are those of a google.rpc.Status.

    ``reasons`` are those of older APIs, in ``errors``. ``quota_project`` is the project that the request named.
    """

    status: int
    code: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()
    reasons: tuple[str, ...] = ()
    quota_project: str = ""

    def detail(self, kind: str) -> Mapping[str, Any]:
        """Return the first detail of that google.rpc type (``RetryInfo``), or an empty mapping."""
        return next((detail for detail in self.details if str(detail.get("@type", "")).endswith(f".{kind}")), {})

    @property
    def metadata(self) -> Mapping[str, str]:
        """The texts in the metadata of the ErrorInfo."""
        metadata = self.detail("ErrorInfo").get("metadata")
        items = metadata.items() if isinstance(metadata, dict) else ()
        return {name: text for name, text in items if isinstance(text, str)}

    def texts(self) -> tuple[str, ...]:
        """Return all texts that can identify the reason: the message, the metadata and the violations."""
        violations = (text for kind in _VIOLATIONS for parts in self.violations(kind) for text in parts)
        return (self.message, *self.metadata.values(), *self.reasons, *violations)

    def violations(self, kind: str) -> Iterator[tuple[str, ...]]:
        """Yield the texts of each violation in the detail of a google.rpc type."""
        key, *names = _VIOLATIONS[kind]
        found = self.detail(kind).get(key)
        for violation in found if isinstance(found, list) else ():
            if isinstance(violation, dict):
                yield tuple(str(violation[name]) for name in names if violation.get(name))


def parse_error_response(response: httpx.Response, body: bytes) -> ErrorResponse:
    """Parse a response with an error status; the body may also be a front end's HTML."""
    status = response.status_code
    error = parse_error_object(body)
    code, message, details, errors = (error.get(name) for name in ("status", "message", "details", "errors"))
    reasons = (found.get("reason") for found in errors if isinstance(found, dict)) if isinstance(errors, list) else ()
    return ErrorResponse(
        status=status,
        code=code if isinstance(code, str) and code.isupper() else _STATUS_NAMES.get(status, "UNKNOWN"),
        message=sanitize(message) if isinstance(message, str) and message.strip() else _describe(response),
        details=tuple(detail for detail in details if isinstance(detail, dict)) if isinstance(details, list) else (),
        reasons=tuple(reason for reason in reasons if isinstance(reason, str)),
        quota_project=response.request.headers.get("x-goog-user-project", ""),
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
    reason = find_reason(response, service)
    remedy = service.find_remedy(response.code, reason, remedies, project_facts(response))
    parts = "; ".join((response.message, *_describe_violations(response)))
    message = f"{request} failed with {response.status} {response.code}{note}: {parts}"
    match response.status:
        case httpx.codes.FORBIDDEN:
            return ForbiddenError(message, remedy, resource=reason not in _CALLER_REMEDIES)
        case httpx.codes.UNAUTHORIZED:
            return AccessError(message, remedy)
        case httpx.codes.PRECONDITION_FAILED if not reason:
            return PreconditionError(message, remedy, code=response.code)
        case _:
            return ServiceError(message, remedy, code=response.code)


def find_reason(response: ErrorResponse, service: ServiceDescription) -> str:
    """Return the google.api.ErrorReason, or the reason that the texts identify; empty where there is none."""
    reason = response.detail("ErrorInfo").get("reason")
    if has_no_quota(response):
        return "QUOTA_IS_ZERO"
    found = service.find_reason(*response.texts())
    if isinstance(reason, str) and reason in _CALLER_REMEDIES and found != "QUOTA_PROJECT_MISSING":
        return reason
    return found


def has_no_quota(response: ErrorResponse) -> bool:
    """Return whether the limit of an exceeded quota is zero: then no retry can succeed."""
    values = [parts[-1] for parts in response.violations("QuotaFailure") if parts]
    exhausted = response.code == "RESOURCE_EXHAUSTED"
    return exhausted and (response.metadata.get("quota_limit_value") == "0" or values == ["0"])


def project_facts(response: ErrorResponse) -> Mapping[str, str]:
    """Return what a response contains for its remedy; a name that is none of Google's is left to the default."""
    metadata = response.metadata
    # containerInfo is the bare number or ID of the consumer
    texts = (metadata.get("consumer", ""), f"project {metadata.get('containerInfo', '')}", *response.texts())
    found = map(_PROJECT.search, texts)
    project = next((str(match["project"]) for match in found if match), response.quota_project)
    facts = describe_project(sanitize(project))
    if _API.fullmatch(api := metadata.get("service", "")):
        facts["api"] = api
    if constraint := next(filter(None, map(_CONSTRAINT.search, response.texts())), None):
        facts["constraint"] = constraint[0].rstrip(".")
    return facts


_VIOLATIONS: Mapping[str, tuple[str, ...]] = {
    "BadRequest": ("fieldViolations", "field", "description"),
    "QuotaFailure": ("violations", "subject", "description", "quotaMetric", "quotaValue"),
    "PreconditionFailure": ("violations", "type", "subject", "description"),
}
"""The lists of violations in details of google.rpc types, and the fields that are shown."""
_QUOTA = ("quota_metric", "quota_limit_value", "quota_unit", "quota_location", "consumer")


def _describe_violations(response: ErrorResponse) -> Iterator[str]:
    violations = [parts for kind in _VIOLATIONS for parts in response.violations(kind)]
    for parts in violations[:_MAX_VIOLATIONS]:
        if shown := sanitize(": ".join(parts)):
            yield shown
    named = ((name.removeprefix("quota_"), response.metadata.get(name)) for name in _QUOTA)
    quota = [f"{name} {text}" for name, text in named if text]
    if response.code == "RESOURCE_EXHAUSTED" and quota:
        yield sanitize(f"quota {', '.join(quota)}")


_SKEW = timedelta(minutes=1)
"""How much a clock may differ; times in responses have a precision of one second, and networks are slow."""


def clock_skew(service_time: datetime | None, now: datetime) -> str:
    """Return how much the clock of this machine differs from that of a service; empty where both are about the same."""
    if service_time is None or abs(now - service_time) <= _SKEW:
        return ""
    seconds = round(abs(now - service_time).total_seconds())
    hours, minutes = seconds // 3600, seconds // 60 % 60
    shown = f"{hours:,} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
    return f"the clock of this machine is {shown} {'ahead of' if now > service_time else 'behind'} that of the service"


SET_CLOCK = "set the clock of this machine, for example with `timedatectl set-ntp true`"


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


def read_source(base_model: Any, tuned_model: Any, checkpoint: Any = None) -> Source | None:
    """Return the base model that a model was tuned from, else the tuned model; ``None`` where both are absent."""
    base, parent = read_text(base_model), read_text(tuned_model)
    if base:
        return Source(base_model=base)
    return Source(remote=parent, checkpoint=read_text(checkpoint)) if parent else None


def read_failure(error: Mapping[str, Any]) -> Failure:
    """Return the google.rpc.Status of a failed training or operation."""
    message = sanitize(read_text(error.get("message"))) or "no reason given"
    return Failure(code=read_integer(error.get("code")) or 0, message=message)
