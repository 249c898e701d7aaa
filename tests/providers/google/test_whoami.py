"""What the credentials are, as far as they or Google tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from msgspec import structs

from reconciler.domain.errors import AccessError, ServiceError
from reconciler.providers.google.doctor import CallerIdentity, whoami
from reconciler.providers.google.errors import SCOPES
from reconciler.providers.google.retry import ATTEMPTS, RetryPolicy
from support.cases import each_row
from support.provider_google import (
    EMAIL,
    Google,
    authorized_user,
    google_on_loopback,
    impersonated,
    key_pair,
    service_account,
    workload_identity,
    write_json,
)
from support.provider_service import Time

ASKED = frozenset(SCOPES)
LOGIN_SCOPES = "openid https://www.googleapis.com/auth/cloud-platform"
ANA = "ana@example.com"


class Answers(httpx.MockTransport):
    """Google's endpoints and a metadata server; ``info`` is what tokeninfo answers."""

    def __init__(self, info: httpx.Response | None = None) -> None:
        super().__init__(self.answer)
        self.info = info or httpx.Response(200, json={"email": ANA, "scope": LOGIN_SCOPES, "azp": "me"})
        self.email: httpx.Response | None = httpx.Response(200, text=f"{EMAIL}\n")
        self.asked: list[httpx.Request] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path == "/tokeninfo":
            return self.info
        if request.url.path.endswith("/email"):
            if self.email is None:
                raise httpx.ConnectError("gone")
            return self.email
        if request.url.path.endswith(":generateAccessToken"):
            return httpx.Response(200, json={"accessToken": "token-2", "expireTime": "2099-01-01T00:00:00Z"})
        issued = {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer"}
        return httpx.Response(200, json={"access_token": "token-1", "expires_in": 3600, **issued})

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.url.host}{request.url.path}" for request in self.asked]


@pytest.fixture(scope="module")
def google() -> Iterator[Google]:
    with google_on_loopback(key_pair()) as google:
        yield google


def named(path: Path) -> Mapping[str, str]:
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def who(environ: Mapping[str, str], answers: Answers, time: Time | None = None, **options: Any) -> CallerIdentity:
    chosen = {"access_token": None, "project": None, "ask_google": True, **options}
    retry = RetryPolicy((time or Time()).sleep, lambda: 0.0)
    return asyncio.run(whoami(environ=environ, transport=answers, retry=retry, **chosen))


def test_whose_an_access_token_is_google_tells() -> None:
    answers = Answers()
    assert who({}, answers, access_token="ya29.hush", project="mine") == CallerIdentity(
        "access token", "RECONCILE_ACCESS_TOKEN", ANA, frozenset(LOGIN_SCOPES.split()), "mine"
    )
    (asked,) = answers.asked
    assert (asked.method, str(asked.url)) == ("POST", "https://oauth2.googleapis.com/tokeninfo")
    assert dict(parse_qsl(asked.content.decode())) == {"access_token": "ya29.hush"}


def test_google_receives_no_token_for_another_host() -> None:
    answers = Answers()
    identity = who({}, answers, access_token="ya29.hush", ask_google=False)
    assert identity == CallerIdentity("access token", "RECONCILE_ACCESS_TOKEN")
    assert answers.asked == []


@each_row(
    "info",
    [
        httpx.Response(400, json={"error": "invalid_token", "email": ANA}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
    ],
)
def test_what_google_does_not_tell_is_unknown(info: httpx.Response) -> None:
    assert who({}, Answers(info), access_token="ya29.hush") == CallerIdentity("access token", "RECONCILE_ACCESS_TOKEN")


def test_a_login_is_a_users(tmp_path: Path) -> None:
    login = authorized_user(tmp_path, quota_project_id="theirs")
    answers = Answers()
    assert who(named(login), answers) == CallerIdentity(
        "user login", str(login), ANA, frozenset(LOGIN_SCOPES.split()), "theirs"
    )
    assert answers.lines == ["POST oauth2.googleapis.com/token", "POST oauth2.googleapis.com/tokeninfo"]


def test_a_login_knows_its_account_when_the_file_names_it(tmp_path: Path) -> None:
    login = authorized_user(tmp_path, account="bea@example.com")
    assert who(named(login), Answers()).account == "bea@example.com"


def test_a_service_account_key_tells_itself(google: Google, tmp_path: Path) -> None:
    key, answers = service_account(tmp_path, google), Answers()
    assert who(named(key), answers, project="mine") == CallerIdentity(
        "service account key", str(key), EMAIL, ASKED, "mine"
    )
    assert answers.lines == ["POST 127.0.0.1/token"]


def test_an_impersonated_service_account_tells_itself(tmp_path: Path) -> None:
    file, answers = impersonated(tmp_path), Answers()
    assert who(named(file), answers) == CallerIdentity("impersonated service account", str(file), EMAIL, ASKED)
    assert not any(line.endswith("/tokeninfo") for line in answers.lines)


def test_a_workload_identity_is_its_provider(google: Google, tmp_path: Path) -> None:
    file = workload_identity(tmp_path, google)
    provider = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/p/providers/github"
    assert who(named(file), Answers()) == CallerIdentity("workload identity federation", str(file), provider, ASKED)


def test_a_workload_identity_that_impersonates_is_the_service_account(google: Google, tmp_path: Path) -> None:
    file = workload_identity(tmp_path, google)
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"audience"', f'"service_account_impersonation_url": "{url}", "audience"'))
    assert who(named(file), Answers()).account == EMAIL


@pytest.mark.parametrize("told", [True, False])
def test_a_google_cloud_machine_asks_its_metadata_server(tmp_path: Path, *, told: bool) -> None:
    answers = Answers()
    answers.email = answers.email if told else None
    identity = who({"HOME": str(tmp_path), "GCE_METADATA_HOST": "metadata"}, answers)
    account = EMAIL if told else ANA
    scopes = frozenset(LOGIN_SCOPES.split())
    assert identity == CallerIdentity("service account of this machine", "the metadata server", account, scopes)


def test_other_credentials_are_named_as_google_auth_names_them(tmp_path: Path) -> None:
    document = {
        "type": "external_account_authorized_user",
        "audience": "//iam.googleapis.com/locations/global/workforcePools/p/providers/q",
        "refresh_token": "REFRESH-TOKEN",
        "token_url": "https://sts.googleapis.com/v1/oauthtoken",
        "token_info_url": "https://sts.googleapis.com/v1/introspect",
        "client_id": "me",
        "client_secret": "CLIENT-SECRET",
    }
    file = write_json(tmp_path / "workforce.json", document)
    identity = who(named(file), Answers(httpx.Response(400, json={})))
    assert identity == CallerIdentity("external account authorized user", str(file))


def test_no_credentials_are_an_access_error(tmp_path: Path) -> None:
    with pytest.raises(
        AccessError, match=r"GOOGLE_APPLICATION_CREDENTIALS names .*nowhere\.json, and there is no such file"
    ):
        who(named(tmp_path / "nowhere.json"), Answers())


def test_a_token_endpoint_out_of_order_is_reported_after_retries(tmp_path: Path) -> None:
    class Broken(Answers):
        def answer(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("no route", request=request)

    time = Time()
    with pytest.raises(ServiceError, match=r"cannot get an access token: .* does not respond: no route"):
        who(named(authorized_user(tmp_path)), Broken(), time)
    assert len(time.naps) == ATTEMPTS - 1


def test_no_secret_shows(tmp_path: Path) -> None:
    identity = who(named(authorized_user(tmp_path)), Answers())
    shown = repr(structs.asdict(identity))
    assert not [secret for secret in ("token-", "REFRESH-TOKEN", "CLIENT-SECRET") if secret in shown]
