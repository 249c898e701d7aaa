from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse

from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.engine.observe import TRANSIENT_CODES
from reconciler.providers.google.auth import BearerAuth, google_auth
from reconciler.providers.google.credentials import ApplicationDefault
from reconciler.providers.google.http import HttpRequest
from reconciler.providers.google.retry import ATTEMPTS, FEW_ATTEMPTS
from support.cases import slow_except
from support.provider_google import (
    EMAIL,
    Google,
    KeyPair,
    Rerouted,
    authorized_user,
    google_on_loopback,
    impersonated,
    key_pair,
    service_account,
    workload_identity,
    write_json,
)
from support.provider_service import Script, Time, client_of, error, script

LIST = HttpRequest("GET", "/v1beta3/tunedModels")
OK = JSONResponse({"fine": True})
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
TUNING = "https://www.googleapis.com/auth/generative-language.tuning"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEAD_PORT = "127.0.0.1:1"


@pytest.fixture(scope="module")
def keys() -> KeyPair:
    return key_pair()


@pytest.fixture
def google(keys: KeyPair) -> Iterator[Google]:
    with google_on_loopback(keys) as google:
        yield google


def named(path: Path) -> Mapping[str, str]:
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def adc(environ: Mapping[str, str], google: Google | None = None, project: str | None = None) -> BearerAuth:
    carrier = Rerouted(google) if google else None
    return google_auth(access_token=None, environ=environ, project=project, transport=carrier)


def ask(auth: BearerAuth, app: Script | None = None, time: Time | None = None, *, times: int = 1) -> Script:
    app = app or script(OK)
    client = client_of(app, time or Time(), auth=auth)

    async def run() -> None:
        await asyncio.gather(*(client.request(LIST) for _ in range(times)))

    asyncio.run(run())
    return app


def refusal(auth: BearerAuth, time: Time | None = None, kind: type[ReconcileError] = AccessError) -> ReconcileError:
    app = script(OK)
    with pytest.raises(kind) as caught:
        ask(auth, app, time)
    assert app.seen == []
    return caught.value


def test_a_service_account_signs_for_its_token(google: Google, tmp_path: Path) -> None:
    app = ask(adc(named(service_account(tmp_path, google))))
    assert google.lines == ["POST /token"]
    assert google.asked[0].form["grant_type"] == JWT_GRANT
    claims = google.asked[0].claims
    assert (claims["iss"], claims["scope"].split()) == (EMAIL, [CLOUD, TUNING])
    assert app.seen[0].headers["authorization"] == "Bearer token-1"


def test_a_user_refreshes_a_login(google: Google, tmp_path: Path) -> None:
    app = ask(adc(named(authorized_user(tmp_path)), google))
    asked = google.asked[0]
    assert (asked.host, asked.line) == ("oauth2.googleapis.com", "POST /token")
    assert (asked.form["grant_type"], asked.form["refresh_token"]) == ("refresh_token", "REFRESH-TOKEN")
    assert "scope" not in asked.form  # a login has the scopes that it was given
    assert app.seen[0].headers["authorization"] == "Bearer token-1"


def test_an_impersonated_service_account_is_asked_for_by_its_source(google: Google, tmp_path: Path) -> None:
    app = ask(adc(named(impersonated(tmp_path)), google))
    source, target = google.asked
    assert (source.host, target.host) == ("oauth2.googleapis.com", "iamcredentials.googleapis.com")
    assert target.line == f"POST /v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    assert target.headers["authorization"] == "Bearer token-1"
    assert target.form["scope"] == [CLOUD, TUNING]
    assert app.seen[0].headers["authorization"] == "Bearer token-2"


def test_a_workload_identity_is_exchanged_and_nothing_else_is_asked(google: Google, tmp_path: Path) -> None:
    app = ask(adc(named(workload_identity(tmp_path, google))))
    assert google.lines == ["POST /v1/token"]
    form = google.asked[0].form
    assert (form["subject_token"], form["scope"].split()) == ("OIDC-TOKEN", [CLOUD, TUNING])
    assert app.seen[0].headers["authorization"] == "Bearer token-1"


def test_a_google_cloud_machine_asks_its_metadata_server(google: Google, tmp_path: Path) -> None:
    app = ask(adc({"HOME": str(tmp_path), "GCE_METADATA_HOST": f"127.0.0.1:{google.port}"}))
    asked = google.asked[0]
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    assert asked.line == f"GET {path}?scopes={CLOUD},{TUNING}"
    assert asked.headers["metadata-flavor"] == "Google"
    assert app.seen[0].headers["authorization"] == "Bearer token-1"


WITHOUT_HOME = (
    "import os; os.environ.pop('HOME', None); os.setresuid(2**31 - 1, 0, 0)\n"  # without an entry in the user database
    "from reconciler.providers.google.credentials import credentials_file; print(credentials_file({}))"
)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take another user id")
def test_a_user_without_a_home_directory_has_no_login() -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own script
        [sys.executable, "-c", WITHOUT_HOME], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


@pytest.mark.parametrize(
    ("variable", "folder"), [("CLOUDSDK_CONFIG", ""), ("HOME", ".config/gcloud"), ("APPDATA", "gcloud")]
)
def test_the_login_of_gcloud_is_found(google: Google, tmp_path: Path, variable: str, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    authorized_user(tmp_path / folder)
    assert ask(adc({variable: str(tmp_path)}, google)).seen[0].headers["authorization"] == "Bearer token-1"


@pytest.mark.parametrize(
    ("project", "of_login", "sent"),
    [("mine", "theirs", "mine"), ("mine", None, "mine"), (None, "theirs", "theirs"), (None, None, None)],
)
def test_the_quota_project_is_the_targets_or_the_logins(
    google: Google, tmp_path: Path, project: str | None, of_login: str | None, sent: str | None
) -> None:
    login = authorized_user(tmp_path, **({"quota_project_id": of_login} if of_login else {}))
    app = ask(adc(named(login), google, project))
    assert app.seen[0].headers.get("x-goog-user-project") == sent


def test_a_token_serves_many_requests(google: Google, tmp_path: Path) -> None:
    app = ask(adc(named(service_account(tmp_path, google))), times=5)
    assert len(app.seen) == 5
    assert len(google.asked) == 1


def test_a_token_is_refreshed_before_it_expires(google: Google, tmp_path: Path) -> None:
    google.expires_in = 60  # less than the margin that google-auth keeps
    app = ask(adc(named(service_account(tmp_path, google))), times=2)
    assert [seen.headers["authorization"] for seen in app.seen] == ["Bearer token-1", "Bearer token-2"]


def test_a_rejected_token_is_refreshed_once_and_the_request_repeated(google: Google, tmp_path: Path) -> None:
    app = script(error(401, "UNAUTHENTICATED", "Expired."), OK)
    ask(adc(named(service_account(tmp_path, google))), app)
    assert [seen.headers["authorization"] for seen in app.seen] == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_stays_rejected_is_an_access_error(google: Google, tmp_path: Path) -> None:
    app = script(error(401, "UNAUTHENTICATED", "Not for you."))
    with pytest.raises(AccessError, match=r"failed with 401 UNAUTHENTICATED: Not for you; log in with `gcloud"):
        ask(adc(named(service_account(tmp_path, google))), app)
    assert len(app.seen) == len(google.asked) == 2


def test_requests_that_were_rejected_together_share_one_refresh(google: Google, tmp_path: Path) -> None:
    rejected = error(401, "UNAUTHENTICATED", "Expired.")
    app = script(rejected, rejected, rejected, OK)
    ask(adc(named(service_account(tmp_path, google))), app, times=3)
    assert len(google.asked) == 2
    assert [seen.headers["authorization"] for seen in app.seen[3:]] == ["Bearer token-2"] * 3


def test_a_revoked_login_is_reported_with_what_to_do(google: Google, tmp_path: Path) -> None:
    google.refusal = 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    assert str(refusal(adc(named(authorized_user(tmp_path)), google))) == (
        "cannot get an access token: invalid_grant: Token has been expired or revoked; log in with `gcloud auth"
        f" application-default login --scopes={CLOUD},{TUNING}`, or set RECONCILE_ACCESS_TOKEN"
    )


def test_an_unreachable_token_endpoint_is_retried_and_then_reported(google: Google, tmp_path: Path) -> None:
    time = Time()
    path = service_account(tmp_path, google, token_uri=f"http://{DEAD_PORT}/token")
    caught = refusal(adc(named(path)), time, ServiceError)
    assert caught.message.startswith(f"cannot get an access token: http://{DEAD_PORT}/token does not respond: ")
    assert caught.remedy == "check the network and the proxy settings, then run the command again"
    assert len(time.naps) == ATTEMPTS - 1


def test_without_any_credentials_the_remedy_is_to_log_in(tmp_path: Path) -> None:
    time = Time()
    caught = refusal(adc({"HOME": str(tmp_path), "GCE_METADATA_HOST": DEAD_PORT}), time)
    assert str(caught).startswith("no credentials found; log in with `gcloud auth application-default login --scopes=")
    assert len(time.naps) == FEW_ATTEMPTS - 1, "a metadata server counts as absent only after repeats"


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [(404, {}, AccessError), (200, {"expires_in": 5}, ServiceError), (200, {"access_token": "t"}, ServiceError)],
)
def test_a_metadata_server_without_a_service_account_is_reported(
    google: Google, tmp_path: Path, status: int, document: dict[str, object], kind: type[ReconcileError]
) -> None:
    google.refusal = status, document
    caught = refusal(adc({"HOME": str(tmp_path), "GCE_METADATA_HOST": f"127.0.0.1:{google.port}"}), kind=kind)
    assert caught.message.startswith("cannot get an access token: ")


PAGE = "<!doctype html><title>Sign in</title>"
FAULTS: Mapping[str, tuple[int, str] | None] = {
    "page": (200, PAGE),
    "truncated": (200, '{"access_token": "t'),
    "without a token": (200, "{}"),
    "quota": (429, "{}"),
    "internal": (500, PAGE),
    "unavailable": (503, '{"error": {"code": 503, "status": "UNAVAILABLE", "message": "Busy."}}'),
    "cut": None,
}


def sources(folder: Path, google: Google) -> Mapping[str, Callable[[], BearerAuth]]:
    """Return the kinds of credentials whose tokens live so shortly that each request gets a new one."""
    google.expires_in = 60
    metadata = {"HOME": str(folder), "GCE_METADATA_HOST": f"127.0.0.1:{google.port}"}
    return {
        "login": lambda: adc(named(authorized_user(folder)), google),
        "service account": lambda: adc(named(service_account(folder, google))),
        "impersonated": lambda: adc(named(impersonated(folder)), google),
        "workload identity": lambda: adc(named(workload_identity(folder, google))),
        "metadata": lambda: adc(metadata),
    }


ENDPOINTS = (
    ("login", 1),
    ("login", 2),
    ("service account", 1),
    ("impersonated", 1),
    ("impersonated", 2),
    ("workload identity", 1),
    ("metadata", 1),
    ("metadata", 2),
)


@pytest.mark.parametrize(
    ("kind", "number", "fault"),
    slow_except(
        [(*endpoint, fault) for fault in FAULTS for endpoint in ENDPOINTS],
        *((*endpoint, "unavailable") for endpoint in ENDPOINTS),  # each endpoint, and each fault, once
        *(("login", 2, fault) for fault in FAULTS),
    ),
)
def test_one_fault_of_a_token_endpoint_ends_no_run(
    google: Google, tmp_path: Path, kind: str, number: int, fault: str
) -> None:
    google.faults = {number: FAULTS[fault]}
    time = Time()
    app = ask(sources(tmp_path, google)[kind](), time=time, times=2)
    assert len(app.seen) == 2
    assert len(time.naps) == 1


def test_a_slow_metadata_server_is_not_absent(google: Google, tmp_path: Path) -> None:
    class Slow(Rerouted):
        asked = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.asked += 1
            if self.asked <= FEW_ATTEMPTS:
                raise httpx.ReadTimeout("timed out", request=request)
            return super().handle_request(request)

    auth = BearerAuth(ApplicationDefault({"HOME": str(tmp_path)}, None, Slow(google)))
    assert len(ask(auth).seen) == 1


def test_a_metadata_server_that_vanishes_during_a_run_is_an_outage(google: Google, tmp_path: Path) -> None:
    class Gone(Rerouted):
        asked = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.asked += 1
            if self.asked > 1:
                raise httpx.ConnectError("no route", request=request)
            return super().handle_request(request)

    google.expires_in = 60
    time = Time()
    auth = BearerAuth(ApplicationDefault({"HOME": str(tmp_path)}, None, Gone(google)))
    with pytest.raises(ServiceError, match="no route") as caught:
        ask(auth, time=time, times=2)
    assert caught.value.code in TRANSIENT_CODES, "a run that waits tolerates it"


@pytest.mark.parametrize(
    "value", ["/nowhere/none.json", "/", '{"refresh_token": "1//0gSECRET"}', "1//0gSECRET", "x" * 5000, "a\0b"]
)
def test_a_value_that_is_not_a_file_is_not_quoted(value: str) -> None:
    assert refusal(adc({"GOOGLE_APPLICATION_CREDENTIALS": value})).message == (
        "GOOGLE_APPLICATION_CREDENTIALS does not name a file: expected the path of a credentials file, not its content"
    )


def test_a_file_of_another_kind_is_reported(tmp_path: Path) -> None:
    caught = refusal(adc(named(write_json(tmp_path / "key.json", {"type": "api_key", "key": "SECRET"}))))
    assert "does not have a valid type. Type is api_key, expected one of" in caught.message
    assert "SECRET" not in str(caught)


@pytest.mark.parametrize(
    "content", ["SECRET", '{"type": "service_account", "private_key": "SECRET"}', "[]", '"SECRET"']
)
def test_a_malformed_file_is_reported_and_never_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content, encoding="utf-8")
    caught = refusal(adc(named(path)))
    assert caught.message.startswith("cannot use the credentials")
    assert str(path) in caught.message
    assert "SECRET" not in str(caught)


def test_a_key_that_is_none_is_reported_and_never_quoted(google: Google, tmp_path: Path) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n"
    path = service_account(tmp_path, google, private_key=pem)
    caught = refusal(adc(named(path)))
    assert caught.message == f"cannot use the credentials: Failed to load service account credentials from {path}"


def test_secrets_show_in_no_log_error_or_value(
    google: Google, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = adc(named(impersonated(tmp_path)), google)
    ask(auth)
    google.refusal = (
        403,
        {"error": {"message": "getAccessToken denied.", "more": "token-"}},
    )
    with pytest.raises(AccessError) as caught:
        ask(auth, script(error(401, "UNAUTHENTICATED", "Expired.")))
    shown = f"{auth!r} {vars(auth)!r} {caught.value!r} {caught.value} {caplog.text}"
    assert caught.value.message == (
        "cannot get an access token: Unable to acquire impersonated credentials: getAccessToken denied"
    )
    assert not [secret for secret in ("token-", "REFRESH-TOKEN", "CLIENT-SECRET", "PRIVATE KEY") if secret in shown]


@pytest.mark.parametrize("kind", ["service account", "workload identity"])
def test_requests_is_never_needed(google: Google, tmp_path: Path, kind: str) -> None:
    path = service_account(tmp_path, google) if kind == "service account" else workload_identity(tmp_path, google)
    program = f"""
import asyncio, sys
sys.modules["requests"] = None  # importing it raises ImportError
from reconciler.providers.google.credentials import ApplicationDefault
source = ApplicationDefault({{"GOOGLE_APPLICATION_CREDENTIALS": {str(path)!r}}}, None)
assert asyncio.run(source.token()) == "token-1"
assert "google.auth.transport.requests" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)  # noqa: S603 - our own program
