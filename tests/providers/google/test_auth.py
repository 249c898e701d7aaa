from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest
from msgspec.structs import replace
from starlette.responses import JSONResponse, RedirectResponse

from reconciler.domain.errors import AccessError, UsageError
from reconciler.providers.generativelanguage.wire import SERVICE
from reconciler.providers.google.auth import BearerAuth, google_auth
from reconciler.providers.google.http import Client, HttpRequest
from support.cases import each_row
from support.provider_service import Script, Time, client_of, error, script, settings_of

TOKEN = "ya29.SECRET"
LIST = HttpRequest("GET", "/v1beta3/tunedModels")
OK = JSONResponse({"fine": True})


def bearer(token: str = TOKEN, project: str | None = None, *allowed: str) -> BearerAuth:
    return google_auth(access_token=token, environ={}, project=project, allow_endpoints=frozenset(allowed))


def ask(app: Script, endpoint: str, auth: BearerAuth) -> None:
    time = Time()
    client = Client(endpoint, SERVICE, replace(settings_of(time, httpx.ASGITransport(app)), auth=auth))
    asyncio.run(client.request(LIST))


def test_a_token_and_its_quota_project_are_sent() -> None:
    app = script(OK)
    asyncio.run(client_of(app, Time(), auth=bearer(f"{TOKEN}\n", "my-project")).request(LIST))
    assert app.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert app.seen[0].headers["x-goog-user-project"] == "my-project"


def test_without_a_project_none_is_named() -> None:
    app = script(OK)
    asyncio.run(client_of(app, Time(), auth=bearer()).request(LIST))
    assert "x-goog-user-project" not in app.seen[0].headers


@each_row(
    ("endpoint", "allowed"),
    [
        ("https://generativelanguage.googleapis.com", ""),
        ("https://generativelanguage.googleapis.com:443", ""),
        ("http://127.0.0.1:8080", ""),
        ("http://127.8.9.10", ""),
        ("http://[::1]:8080", ""),
        ("http://localhost:8080", ""),
        ("https://tuning.example.com", "tuning.example.com"),
        ("https://tuning.example.com:8443", "Tuning.Example.com"),
        ("https://tuning.example.com:8443", "tuning.example.com:8443"),
    ],
)
def test_hosts_that_may_have_a_token(endpoint: str, allowed: str) -> None:
    app = script(OK)
    ask(app, endpoint, bearer(TOKEN, None, allowed))
    assert app.seen[0].headers["authorization"] == f"Bearer {TOKEN}"


@each_row(
    ("endpoint", "allowed", "shown"),
    [
        ("http://generativelanguage.googleapis.com", "", "http://generativelanguage.googleapis.com"),
        ("https://googleapis.com", "", "https://googleapis.com"),
        ("https://evilgoogleapis.com", "", "https://evilgoogleapis.com"),
        ("https://x.googleapis.com.evil.example", "", "https://x.googleapis.com.evil.example"),
        ("http://127.0.0.1.evil.example", "", "http://127.0.0.1.evil.example"),
        ("http://localhost.evil.example", "", "http://localhost.evil.example"),
        ("http://10.0.0.1", "", "http://10.0.0.1"),
        ("http://0.0.0.0", "", "http://0.0.0.0"),
        ("https://tuning.example.com", "example.com", "https://tuning.example.com"),
        ("https://tuning.example.com:9", "tuning.example.com:8443", "https://tuning.example.com"),
    ],
)
def test_hosts_that_may_not(endpoint: str, allowed: str, shown: str) -> None:
    app = script(OK)
    with pytest.raises(AccessError) as caught:
        ask(app, endpoint, bearer(TOKEN, None, allowed))
    assert app.seen == []
    host = shown.partition("//")[2]
    assert str(caught.value) == (
        f"no token is sent to {shown}: it is neither *.googleapis.com over TLS nor loopback; pass"
        f" --allow-endpoint {host} if you trust this host with your token"
    )


def test_a_rejected_token_that_cannot_be_renewed_is_reported_at_once() -> None:
    app = script(error(401, "UNAUTHENTICATED", "Expired."), OK)
    with pytest.raises(AccessError, match=r"failed with 401 UNAUTHENTICATED: Expired; RECONCILE_ACCESS_TOKEN"):
        asyncio.run(client_of(app, Time(), auth=bearer()).request(LIST))
    assert len(app.seen) == 1


NEW_TOKEN = (
    "set RECONCILE_ACCESS_TOKEN to a new access token, as `gcloud auth application-default print-access-token` prints"
    " it, or unset it to use Application Default Credentials"
)
OTHER_CHARACTERS = "it contains characters that no token has, such as quotes or spaces"


@each_row(
    ("token", "problem"),
    [
        ('"ya29.SECRET"', "it contains quotes"),
        ("'ya29.SECRET'", "it contains quotes"),
        ("{ya29.SECRET}", "it contains JSON; the path of a credentials file belongs in GOOGLE_APPLICATION_CREDENTIALS"),
        ("Bearer ya29.SECRET", 'it begins with "Bearer"; the token is what follows'),
        (" ", "it is blank"),
        ("ya29.SE CRET", OTHER_CHARACTERS),
        ("ya29.SECRET\r\nx: y", OTHER_CHARACTERS),
        ("ya29.SECRÉT", OTHER_CHARACTERS),
    ],
)
def test_a_token_that_is_none_is_reported_and_not_shown(token: str, problem: str) -> None:
    with pytest.raises(AccessError) as caught:
        bearer(token)
    assert str(caught.value) == f"invalid RECONCILE_ACCESS_TOKEN: {problem}; {NEW_TOKEN}"
    assert "SECR" not in str(caught.value)


@each_row(
    ("token", "kind"),
    [
        ("ya29.SECRET", "the rejected token, which is valid for about an hour"),
        ("eyJhbGciOi.SECRET.x", "a JSON Web Token, and services require an access token"),
        ("AIzaSECRET", "an API key, which cannot tune"),
    ],
)
def test_a_rejected_token_names_its_variable(token: str, kind: str) -> None:
    app = script(error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."))
    with pytest.raises(AccessError) as caught:
        asyncio.run(client_of(app, Time(), auth=bearer(token)).request(LIST))
    assert caught.value.remedy == f"RECONCILE_ACCESS_TOKEN holds {kind}: {NEW_TOKEN}"


@each_row(("ahead", "shown"), [(3725, "1 h 2 min behind"), (-90, "1 min 30 s ahead of"), (59, ""), (-59, "")])
def test_a_rejected_token_may_be_due_to_the_clock(ahead: int, shown: str) -> None:
    time = Time()
    answer = error(401, "UNAUTHENTICATED", "Expired.")
    answer.headers["date"] = format_datetime(time.clock() + timedelta(seconds=ahead), usegmt=True)
    with pytest.raises(AccessError) as caught:
        asyncio.run(client_of(script(answer), time, auth=bearer()).request(LIST))
    clock = f" (the clock of this machine is {shown} that of the service)"
    assert (
        caught.value.message
        == f"GET /v1beta3/tunedModels failed with 401 UNAUTHENTICATED{clock * bool(shown)}: Expired"
    )
    assert ("set the clock of this machine" in caught.value.remedy) is bool(shown)


def test_a_token_shows_nowhere_and_follows_no_redirect(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = bearer()
    app = script(error(503, "UNAVAILABLE", "busy"), RedirectResponse("https://evil.example/"), OK)
    client = client_of(app, Time(), auth=auth)
    with pytest.raises(Exception, match=r"a redirect to evil\.example, and redirects are not followed") as caught:
        asyncio.run(client.request(LIST))
    assert [seen.headers["host"] for seen in app.seen] == ["127.0.0.1", "127.0.0.1"]
    shown = f"{auth!r} {vars(auth)!r} {client!r} {vars(client)!r} {caught.getrepr(style='long')} {caplog.text}"
    assert "retrying in" in shown
    assert "SECRET" not in shown


def test_what_needs_no_credentials_does_not_load_google_auth() -> None:
    program = (
        "import sys, reconciler.providers.generativelanguage.spec; assert 'httpx' not in sys.modules;"
        "import reconciler.providers.generativelanguage.provider, reconciler.providers.google.auth;"
        "assert 'google.auth' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own program


@each_row(
    "endpoint",
    [
        "https://x.googleapis.com@evil.example",
        "https://X.googleapis.com",
        "https://x%2egoogleapis.com",
        "https://evil.example\\.googleapis.com",
        "https://x_y.googleapis.com",
        "https://\uff47oogleapis.com",
        "https://a.googleapis.com:4_4",
        "https://[::1%25eth0]",
    ],
)
def test_a_host_that_programs_read_differently_is_no_endpoint(endpoint: str) -> None:
    app = script(OK)
    with pytest.raises(UsageError, match="invalid endpoint: "):
        ask(app, endpoint, bearer())
    assert app.seen == []
