from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.engine.observe import TRANSIENT_CODES
from reconciler.providers.google.auth import BearerAuth, google_auth
from reconciler.providers.google.credentials import ApplicationDefault
from reconciler.providers.google.http import HttpRequest
from reconciler.providers.google.retry import ATTEMPTS, FEW_ATTEMPTS
from support.cases import each_row, slow_except
from support.fork_server import forked
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
    "from reconciler.providers.google.login import credentials_file; print(credentials_file({}))"
)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take another user id")
def test_a_user_without_a_home_directory_has_no_login() -> None:
    done = subprocess.run(forked("-c", WITHOUT_HOME), capture_output=True, text=True, check=False)  # noqa: S603 - ours
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
    with pytest.raises(
        AccessError, match=r"failed with 401 UNAUTHENTICATED: Not for you; check that the account of the"
    ):
        ask(adc(named(service_account(tmp_path, google))), app)
    assert len(app.seen) == len(google.asked) == 2


def test_requests_that_were_rejected_together_share_one_refresh(google: Google, tmp_path: Path) -> None:
    rejected = error(401, "UNAUTHENTICATED", "Expired.")
    app = script(rejected, rejected, rejected, OK)
    ask(adc(named(service_account(tmp_path, google))), app, times=3)
    assert len(google.asked) == 2
    assert [seen.headers["authorization"] for seen in app.seen[3:]] == ["Bearer token-2"] * 3


def oauth(code: str, description: str = "", **more: str) -> dict[str, Any]:
    return {"error": code, "error_description": description, **more}


def denied(permission: str, message: str) -> dict[str, Any]:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission},
    }
    return {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED", "details": [info]}}


def disabled(service: str) -> dict[str, Any]:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"consumer": "projects/415104041262", "service": service},
    }
    message = "IAM Service Account Credentials API has not been used in project 415104041262 before or it is disabled."
    return {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED", "details": [info]}}


ACCESS = denied(
    "iam.serviceAccounts.getAccessToken", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource."
)
POOL = "projects/123/locations/global/workloadIdentityPools/p"
DESCRIBE = (
    "`gcloud iam workload-identity-pools providers describe github --workload-identity-pool=p --location=global"
    " --project=123` shows it"
)
GRANT = f"`gcloud iam service-accounts add-iam-policy-binding {EMAIL} --role=roles/iam"
REFUSALS: Mapping[str, tuple[str, int, Mapping[str, Any], str]] = {
    "revoked login": (
        "login",
        400,
        oauth("invalid_grant", "Token has been expired or revoked."),
        "log in with `gcloud auth application-default login --scopes=",
    ),
    "login of an organization": (
        "login",
        400,
        oauth("invalid_grant", "reauth related error (invalid_rapt)", error_subtype="invalid_rapt"),
        ": your organization requires a new login after some hours",
    ),
    "deleted client": (
        "login",
        401,
        oauth("deleted_client", "The OAuth client was deleted."),
        "OAuth client was deleted",
    ),
    "policy": (
        "login",
        400,
        oauth("admin_policy_enforced", "Blocked."),
        "ask the administrator of your Google Workspace",
    ),
    "clock, by its words": (
        "service account",
        400,
        oauth(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat"
            " and exp values in the JWT claim.",
        ),
        "set the clock of this machine",
    ),
    "deleted key": (
        "service account",
        400,
        oauth("invalid_grant", "Invalid JWT Signature."),
        f"`gcloud iam service-accounts keys list --iam-account={EMAIL}` lists the valid ones",
    ),
    "deleted account": (
        "service account",
        400,
        oauth("invalid_grant", "Invalid grant: account not found"),
        f"`gcloud iam service-accounts describe {EMAIL}`",
    ),
    "impersonation": ("impersonated", 403, ACCESS, f"grant roles/iam.serviceAccountTokenCreator on {EMAIL}: {GRANT}"),
    "impersonation by a job": (
        "impersonating job",
        403,
        ACCESS,
        f"{GRANT}.workloadIdentityUser --member=principalSet://iam.googleapis.com/{POOL}/attribute.repository/acme/nlp`",
    ),
    "API of IAM": (
        "impersonated",
        403,
        disabled("iamcredentials.googleapis.com"),
        "`gcloud services enable iamcredentials.googleapis.com --project=415104041262`",
    ),
    "attribute condition": (
        "workload identity",
        401,
        oauth("unauthorized_client", "The given credential is rejected by the attribute condition."),
        f"that the attribute condition of the provider allows, or change the condition: {DESCRIBE}",
    ),
    "audience": (
        "workload identity",
        400,
        oauth(
            "invalid_grant", "The audience in ID Token [https://github.com/acme] does not match the expected audience."
        ),
        f"for the audience https://iam.googleapis.com/{POOL}/providers/github, or allow its audience: `gcloud iam",
    ),
    "pool": (
        "workload identity",
        400,
        oauth(
            "invalid_target",
            'The target service indicated by the "audience" parameters is invalid. This might either be because the'
            " pool or provider is disabled or deleted or because it doesn't exist.",
        ),
        f"check the audience //iam.googleapis.com/{POOL}/providers/github in GOOGLE_APPLICATION_CREDENTIALS=",
    ),
    "stale ID token": (
        "workload identity",
        400,
        oauth("invalid_grant", "ID Token issued at 1700000000 is stale to sign-in."),
        "get a new ID token: it is valid for minutes only",
    ),
}


def refused_source(kind: str, folder: Path, google: Google) -> Path:
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    return {
        "login": lambda: authorized_user(folder),
        "service account": lambda: service_account(folder, google),
        "impersonated": lambda: impersonated(folder),
        "workload identity": lambda: workload_identity(folder, google),
        "impersonating job": lambda: workload_identity(folder, google, service_account_impersonation_url=url),
    }[kind]()


@pytest.mark.parametrize(("kind", "status", "body", "remedy"), REFUSALS.values(), ids=REFUSALS)
def test_each_refusal_of_a_token_has_its_own_remedy(
    google: Google, tmp_path: Path, kind: str, status: int, body: Mapping[str, Any], remedy: str
) -> None:
    path = refused_source(kind, tmp_path, google)
    if "imperson" in kind:
        google.faults = {2: (status, json.dumps(body))}
    else:
        google.refusal = status, dict(body)
    caught = refusal(adc({**named(path), "GITHUB_REPOSITORY": "acme/nlp"}, google))
    assert caught.message.startswith("cannot get an access token: ")
    assert remedy in caught.remedy
    if "log in with" in caught.remedy:
        assert caught.remedy.startswith(
            f"log in with `gcloud auth application-default login --scopes={CLOUD},{TUNING}`,"
        )
        assert f"and unset GOOGLE_APPLICATION_CREDENTIALS, which names {path}" in caught.remedy


def test_a_login_of_gcloud_is_renewed_by_a_login(google: Google, tmp_path: Path) -> None:
    google.refusal = 400, oauth("invalid_grant", "Token has been expired or revoked.")
    authorized_user(tmp_path)
    assert str(refusal(adc({"CLOUDSDK_CONFIG": str(tmp_path)}, google))) == (
        "cannot get an access token: invalid_grant: Token has been expired or revoked; log in with `gcloud auth"
        f" application-default login --scopes={CLOUD},{TUNING}`, or set RECONCILE_ACCESS_TOKEN"
    )


@pytest.mark.parametrize(("ahead", "shown"), [(7290, "2 h 1 min behind"), (-605, "10 min 5 s ahead of")])
def test_the_difference_of_a_clock_is_measured(google: Google, tmp_path: Path, ahead: int, shown: str) -> None:
    google.ahead = timedelta(seconds=ahead)
    google.refusal = 400, oauth("invalid_grant", "Invalid JWT: Token must be a short-lived token.")
    caught = refusal(adc(named(service_account(tmp_path, google))))
    hours = shown.replace("5 s", r"\d s")  # the request takes some time
    assert re.search(f"; the clock of this machine is {hours} that of the service$", caught.message)
    assert caught.remedy == "set the clock of this machine, for example with `timedatectl set-ntp true`"


def test_a_job_of_github_without_permission_for_an_id_token_says_so(google: Google, tmp_path: Path) -> None:
    source = {"url": "https://run-actions-1.actions.githubusercontent.com/token?audience=x", "headers": {}}
    google.refusal = 401, {"message": "Unauthorized"}
    path = workload_identity(tmp_path, google, credential_source=source)
    assert refusal(adc(named(path), google)).remedy == (
        "add `permissions: {contents: read, id-token: write}` to the job, and run google-github-actions/auth in the"
        " same job"
    )


@each_row(
    ("environ", "said"),
    [
        ({"GITHUB_ACTIONS": "true"}, "no credentials found, and the job may not request an ID token"),
        (
            {"GITHUB_ACTIONS": "true"},
            "(ACTIONS_ID_TOKEN_REQUEST_URL is not set); add `permissions: {contents: read, id-token:",
        ),
        (
            {"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": "https://x"},
            "no credentials found; run google-github-actions/auth in this job before",
        ),
        ({"GITLAB_CI": "true"}, "no credentials found; add `id_tokens` to the job"),
        (
            {"GOOGLE_APPLICATION_CREDENTIALS": ""},
            "no credentials found: GOOGLE_APPLICATION_CREDENTIALS is empty; log in",
        ),
        (
            {"GOOGLE_APPLICATION_CREDENTIALS": "", "RECONCILE_ACCESS_TOKEN": ""},
            "no credentials found: RECONCILE_ACCESS_TOKEN and GOOGLE_APPLICATION_CREDENTIALS are empty; log in",
        ),
    ],
)
def test_what_is_missing_depends_on_the_environment(tmp_path: Path, environ: Mapping[str, str], said: str) -> None:
    assert said in str(refusal(adc({"HOME": str(tmp_path), "GCE_METADATA_HOST": DEAD_PORT, **environ})))


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


KEY = '{"client_secret": "made-up", "refresh_token": "1//0gSECRET", "type": "authorized_user"}'
UNSET = "or unset GOOGLE_APPLICATION_CREDENTIALS to use the login of gcloud or the account of this machine"
EXPECTED = "expected the path of a credentials file"


@each_row(
    ("value", "problem", "remedy"),
    [
        ("/nowhere/none.json", "names /nowhere/none.json, and there is no such file", f"fix the path, {UNSET}"),
        ("none.json", "names none.json, and there is no such file in the working directory", "fix the path"),
        ("/", f"names /, which is not a file: {EXPECTED}", f"set it to a file, such as one in /, {UNSET}"),
        (".", f"names ., which is not a file: {EXPECTED}", f"set it to a file, such as one in ., {UNSET}"),
        (" ", f"is blank: {EXPECTED}", f"set it to a path, {UNSET}"),
        ("~/key.json", f"begins with ~, which only a shell replaces: {EXPECTED}", "=/srv/ada/key.json`"),
        ("$KEYS/key.json", f"contains the variable KEYS, which only a shell replaces: {EXPECTED}", "=/keys/key.json`"),
        ("%KEYS%/key.json", f"contains the variable KEYS, which only a shell replaces: {EXPECTED}", "=/keys/key.json`"),
        ('"/keys/key.json"', f"has quotes around the path: {EXPECTED}", "=/keys/key.json`"),
        ("file:///keys/key.json", f"is a URL: {EXPECTED}", "=/keys/key.json`"),
        (KEY, f"contains the content of a credentials file: {EXPECTED}", "write the content to a file, set"),
        (f"\n{KEY}\n", f"contains the content of a credentials file: {EXPECTED}", "write the content to a file, set"),
        (
            b64encode(KEY.encode()).decode(),
            f"contains the content of a credentials file: {EXPECTED}",
            "write the content to a file, set",
        ),
        *(
            (value, f"does not name a file: {EXPECTED}, not its content (the value is not shown)", "write the content")
            for value in ("1//0gSECRET", "x" * 5000, "a\0b")
        ),
    ],
)
def test_a_value_that_is_not_a_file_has_its_problem_and_is_not_quoted(value: str, problem: str, remedy: str) -> None:
    caught = refusal(adc({"GOOGLE_APPLICATION_CREDENTIALS": value, "HOME": "/srv/ada", "KEYS": "/keys"}))
    assert caught.message == f"GOOGLE_APPLICATION_CREDENTIALS {problem}"
    assert remedy in caught.remedy
    assert "SECRET" not in str(caught)
    assert "made-up" not in str(caught)


@each_row(
    ("content", "problem", "remedy"),
    [
        (b"", "is empty", "write the credentials again"),
        (b" \n", "is empty", "write the credentials again"),
        (KEY.encode("utf-16"), "is UTF-16, as PowerShell writes it", "save it as UTF-8"),
        (KEY.encode("utf-8-sig"), "begins with a byte order mark", "save it as UTF-8 without"),
        (b64encode(KEY.encode()), "is encoded in base64", "decode it: `base64 --decode {path} > credentials.json`"),
        (b"-----BEGIN PRIVATE KEY-----\nSECRET", "is a private key, not a JSON file", "download the key"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer", "run `git lfs pull`"),
        (b"AIzaSECRET", "is an API key, which cannot tune", "use a login or a service account"),
        (b"ya29.SECRET", "is a token", "set RECONCILE_ACCESS_TOKEN to the token"),
        (b"[]", "is not a JSON object", "write the credentials again"),
        (b'"SECRET"', "is not a JSON object", "write the credentials again"),
        (b"{SECRET", "is not a JSON object", "write the credentials again"),
        (
            b'{"installed": {"client_secret": "SECRET"}}',
            "is an OAuth client, not credentials",
            "--client-id-file={path}",
        ),
        (b'{"client_email": "x"}', 'has no "type": expected the path of a credentials file', "write the credentials"),
    ],
)
def test_a_file_that_holds_no_credentials_says_what_it_is(
    tmp_path: Path, content: bytes, problem: str, remedy: str
) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(content)
    caught = refusal(adc(named(path)))
    assert caught.message == f"GOOGLE_APPLICATION_CREDENTIALS names {path}, which {problem}"
    assert remedy.format(path=path) in caught.remedy
    assert "SECRET" not in str(caught)


def test_a_file_of_another_kind_is_reported(tmp_path: Path) -> None:
    caught = refusal(adc(named(write_json(tmp_path / "key.json", {"type": "api_key", "key": "SECRET"}))))
    assert "does not have a valid type. Type is api_key, expected one of" in caught.message
    assert "SECRET" not in str(caught)


@pytest.mark.parametrize(
    "content", ['{"type": "service_account", "private_key": "SECRET"}', '{"type": "external_account", "x": "SECRET"}']
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


def test_requests_is_never_needed(google: Google, tmp_path: Path) -> None:
    paths = [str(service_account(tmp_path, google)), str(workload_identity(tmp_path, google))]
    program = f"""
import asyncio, sys, warnings
warnings.simplefilter("error")
sys.modules["requests"] = None  # importing it raises ImportError
from reconciler.providers.google.credentials import ApplicationDefault
for path, token in zip({paths}, ("token-1", "token-2"), strict=True):
    source = ApplicationDefault({{"GOOGLE_APPLICATION_CREDENTIALS": path}}, None)
    assert asyncio.run(source.token()) == token
assert "google.auth.transport.requests" not in sys.modules
"""
    subprocess.run(forked("-c", program), check=True)  # noqa: S603 - our own program
