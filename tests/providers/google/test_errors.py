from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import HTMLResponse, JSONResponse, Response

from reconciler.domain.errors import AccessError, ExitStatus, ForbiddenError, ReconcileError, ServiceError
from reconciler.domain.text import sanitize
from reconciler.providers.google.http import HttpRequest
from support.cases import each_row
from support.provider_service import Time, client_of, error, script

LIST = HttpRequest("GET", "/v1beta3/tunedModels", {"pageToken": "SECRET"})


def refusal(answer: Response) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        asyncio.run(client_of(script(answer), Time()).request(LIST))
    return caught.value


LOG_IN = (
    "log in with `gcloud auth application-default login --scopes=https://www.googleapis.com/auth/cloud-platform,"
    "https://www.googleapis.com/auth/generative-language.tuning`, or set RECONCILE_ACCESS_TOKEN"
)
ASK = (
    "log in with an account that has roles/serviceusage.serviceUsageConsumer on the target's spec.project and, for a"
    " tuned model of another account, writer or owner permission on it"
)
ENABLE = (
    "enable the API, and run the command again after a few minutes:"
    " `gcloud services enable generativelanguage.googleapis.com`"
)
CONSUME = (
    "ask an administrator of the project to run `gcloud projects add-iam-policy-binding PROJECT"
    " --role=roles/serviceusage.serviceUsageConsumer --member=MEMBER`, with your account as user:EMAIL or"
    " serviceAccount:EMAIL, or set spec.project of the target to a project that you may use"
)
BILLED = (
    "link an open billing account of `gcloud billing accounts list` to the project:"
    " `gcloud billing projects link PROJECT --billing-account=ACCOUNT`"
)
POLICY = "ask your Google Cloud administrator: VPC Service Controls or an organization policy forbids this"
MODELS = f"{POLICY}; `gcloud org-policies describe constraints/vertexai.allowedModels --effective` shows it"
SCOPED = (
    "get a token with the scopes https://www.googleapis.com/auth/cloud-platform and"
    f" https://www.googleapis.com/auth/generative-language.tuning: {LOG_IN}"
)
QUOTA = "wait for the quota, request more, or lower spec.limits.requestsPerMinute of the target"
LATER = "run the command again later; trainings that have started continue"


@each_row(
    ("status", "code", "remedy"),
    [
        (400, "INVALID_ARGUMENT", "fix what the service reports, then run the command again"),
        (401, "UNAUTHENTICATED", LOG_IN),
        (403, "PERMISSION_DENIED", ASK),
        (404, "NOT_FOUND", "check spec.endpoint, spec.apiVersion and spec.project of the target"),
        (429, "RESOURCE_EXHAUSTED", QUOTA),
        (500, "INTERNAL", LATER),
        (503, "UNAVAILABLE", LATER),
        (504, "DEADLINE_EXCEEDED", LATER),
    ],
)
def test_a_refusal_is_one_sentence_with_its_remedy(status: int, code: str, remedy: str) -> None:
    shown = str(refusal(error(status, code, "The service's own words.")))
    assert shown == f"GET /v1beta3/tunedModels failed with {status} {code}: The service's own words; {remedy}"


def test_without_a_known_remedy_the_service_has_the_last_word() -> None:
    shown = str(refusal(error(400, "FAILED_PRECONDITION", "User location is not supported.")))
    assert shown == "GET /v1beta3/tunedModels failed with 400 FAILED_PRECONDITION: User location is not supported"


@pytest.mark.parametrize(("status", "kind"), [(401, AccessError), (403, ForbiddenError)])
def test_401_and_403_are_access_errors(status: int, kind: type[AccessError]) -> None:
    caught = refusal(error(status, "PERMISSION_DENIED", "no"))
    assert isinstance(caught, kind)
    assert caught.exit_status is ExitStatus.ACCESS


def test_the_code_is_the_services_own_status_or_that_of_the_http_status() -> None:
    own, by_http = refusal(error(409, "ABORTED", "no")), refusal(HTMLResponse("<h1>Conflict</h1>", 409))
    assert isinstance(own, ServiceError)
    assert isinstance(by_http, ServiceError)
    assert (own.code, by_http.code) == ("ABORTED", "ALREADY_EXISTS")


def test_html_of_a_front_end_is_not_shown() -> None:
    caught = refusal(HTMLResponse("<html><title>502 Bad Gateway</title><script>x</script></html>", 502))
    assert caught.message == (
        "GET /v1beta3/tunedModels failed with 502 UNAVAILABLE: Bad Gateway (no error message, text/html)"
    )


@each_row(
    "body",
    [
        [],
        "text",
        {"error": "text"},
        {"error": {"message": 5, "status": ["x"], "details": {}}},
        {"error": None},
        7,
        None,
    ],
)
def test_strange_error_bodies_still_make_a_sentence(body: Any) -> None:
    message = str(refusal(JSONResponse(body, 400)))
    assert message.startswith("GET /v1beta3/tunedModels failed with 400 INVALID_ARGUMENT: Bad Request (no error")


def test_field_and_quota_violations_are_reported() -> None:
    bad = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [
            {"field": "tuned_model.display_name", "description": "Too long."},
            {"description": "Odd."},
            3,
        ],
    }
    quota = {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"subject": "project:1", "description": "Tunings a day."}],
    }
    message = refusal(error(400, "INVALID_ARGUMENT", "Wrong.", bad, quota)).message
    assert message.endswith(": Wrong; tuned_model.display_name: Too long; Odd; project:1: Tunings a day")


@each_row(
    ("reason", "resource", "remedy"),
    [
        ("SERVICE_DISABLED", False, ENABLE),
        ("USER_PROJECT_DENIED", False, CONSUME),
        ("ACCESS_TOKEN_SCOPE_INSUFFICIENT", False, SCOPED),
        ("SECURITY_POLICY_VIOLATED", False, POLICY),
        ("RESOURCE_USAGE_RESTRICTION_VIOLATED", False, POLICY),
        ("IAM_PERMISSION_DENIED", True, ASK),
    ],
)
def test_a_403_tells_whom_it_blames(reason: str, resource: bool, remedy: str) -> None:  # noqa: FBT001 - a table's column
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    caught = refusal(error(403, "PERMISSION_DENIED", "no", info))
    assert isinstance(caught, ForbiddenError)
    assert caught.resource is resource
    assert caught.remedy == remedy


@each_row(
    ("message", "remedy"),
    [
        ("Generative Language API has not been used in project 1 before or it is disabled.", ENABLE),
        ("Grant a custom role with the serviceusage.services.use permission.", CONSUME),
        ("Request had insufficient authentication scopes.", SCOPED),
        ("This API method requires billing to be enabled. Please enable billing on project #1.", BILLED),
        ("The billing account for the owning project is disabled in state absent", BILLED),
        ("Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: x", POLICY),
        ("Organization Policy constraint constraints/vertexai.allowedModels violated for projects/1", MODELS),
    ],
)
def test_a_403_without_a_reason_is_reported_by_its_words(message: str, remedy: str) -> None:
    caught = refusal(error(403, "PERMISSION_DENIED", message))
    assert isinstance(caught, ForbiddenError)
    assert (caught.resource, caught.remedy) == (False, remedy)


@each_row(
    ("metadata", "remedy"),
    [
        ({"permission": "serviceusage.services.use"}, CONSUME),
        ({"permission": "other.thing.get"}, ASK),
        ({"permission": 5}, ASK),
        ("text", ASK),
    ],
)
def test_a_403_that_names_a_permission_is_reported_by_it(metadata: object, remedy: str) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED"}
    assert refusal(error(403, "PERMISSION_DENIED", "no", info | {"metadata": metadata})).remedy == remedy


def test_the_query_is_never_part_of_a_message() -> None:
    assert "SECRET" not in str(refusal(error(400, "INVALID_ARGUMENT", "no")))


def test_a_services_text_cannot_steer_a_terminal_or_grow_without_bound() -> None:
    hostile = "a\x1b[31mred\x07\r\nnext\u202eline\x9b" + "x" * 5000
    message = refusal(error(400, "INVALID_ARGUMENT", hostile)).message
    assert message.startswith("GET /v1beta3/tunedModels failed with 400 INVALID_ARGUMENT: a [31mred next line x")
    assert len(message) < 700
    assert message.endswith("…")


def test_text_that_no_file_can_hold_is_cleaned() -> None:
    assert sanitize("a\ud800b") == "a b"


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    cleaned = sanitize(text)
    assert len(cleaned.splitlines()) <= 1
    assert "\x1b" not in cleaned
    assert json.loads(json.dumps(cleaned)) == cleaned
