from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.providers.google.auth import BearerAuth
from reconciler.providers.google.credentials import ApplicationDefault
from reconciler.providers.google.http import Client, HttpRequest
from support.cases import each_row
from support.provider_google import (
    Google,
    KeyPair,
    Rerouted,
    authorized_user,
    google_on_loopback,
    impersonated,
    key_pair,
    service_account,
)
from support.provider_service import Time, client_of, error, script

LIST = HttpRequest("GET", "/v1beta3/tunedModels")
SECRETS = ("SECRET", "token-", "REFRESH-TOKEN", "CLIENT-SECRET", "PRIVATE KEY")


@pytest.fixture(scope="module")
def keys() -> KeyPair:
    return key_pair()


@pytest.fixture
def google(keys: KeyPair) -> Iterator[Google]:
    with google_on_loopback(keys) as google:
        yield google


def named(path: Path) -> Mapping[str, str]:
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it hangs on to, shown in a traceback or not."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    yield from seen


def shown(error: BaseException) -> str:
    links = "\n".join(f"{link} {link!r} {link.args!r} {vars(link)!r}" for link in chain(error))
    return links + "".join(traceback.format_exception(error))


def asked(client: Client) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        asyncio.run(client.request(LIST))
    return caught.value


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def test_the_repr_of_values_with_a_token_does_not_contain_it(google: Google, tmp_path: Path) -> None:
    source = ApplicationDefault(named(authorized_user(tmp_path)), None, Rerouted(google))
    auth = BearerAuth(source)
    client = client_of(script(JSONResponse({})), Time(), auth=auth)
    asyncio.run(client.request(LIST))
    assert asyncio.run(source.token()) == "token-1"
    values = (source, auth, client)
    assert leaks(" ".join(f"{value} {value!r} {vars(value)!r}" for value in values)) == []


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {"id_token": "SECRET", "refresh_token": "SECRET"}),
        (400, {"error": "invalid_grant", "error_description": "Expired.", "more": "SECRET"}),
        (403, {"error": {"message": "Denied."}, "more": "SECRET"}),
        (200, {"access_token": "SECRET\nx: y", "expires_in": 3600}),
        (200, {"access_token": "SECRÉT SECRET", "expires_in": 3600}),
    ],
)
@pytest.mark.parametrize("kind", ["login", "impersonated", "service account", "metadata"])
def test_no_response_of_a_token_endpoint_adds_a_secret_to_the_error(
    google: Google, tmp_path: Path, status: int, answer: dict[str, object], kind: str
) -> None:
    google.refusal = status, answer
    environ = {
        "login": lambda: named(authorized_user(tmp_path)),
        "impersonated": lambda: named(impersonated(tmp_path)),
        "service account": lambda: named(service_account(tmp_path, google)),
        "metadata": lambda: {"HOME": str(tmp_path), "GCE_METADATA_HOST": "metadata.google.internal"},
    }[kind]()
    auth = BearerAuth(ApplicationDefault(environ, None, Rerouted(google)))
    caught = asked(client_of(script(JSONResponse({})), Time(), auth=auth))
    assert isinstance(caught, ServiceError if "id_token" in answer else AccessError)
    assert leaks(shown(caught)) == []


def test_a_token_that_is_none_is_reported_and_not_shown(google: Google, tmp_path: Path) -> None:
    google.refusal = 200, {"access_token": "SECRET\nx: y", "expires_in": 3600}
    app = script(JSONResponse({}))
    auth = BearerAuth(ApplicationDefault(named(authorized_user(tmp_path)), None, Rerouted(google)))
    assert str(asked(client_of(app, Time(), auth=auth))).startswith(
        "invalid access token: it contains characters that no token has; log in with `gcloud"
    )
    assert app.seen == []


@each_row("content", [b'{"private_key": "SECRET', b'{"private_key": "SECRET\xff"}', b'"SECRET"'])
def test_a_credentials_file_hangs_on_no_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    auth = BearerAuth(ApplicationDefault(named(path), None))
    caught = asked(client_of(script(JSONResponse({})), Time(), auth=auth))
    assert str(path) in str(caught)
    assert leaks(shown(caught)) == []


def test_a_refused_token_hangs_on_no_error(google: Google, tmp_path: Path) -> None:
    auth = BearerAuth(ApplicationDefault(named(authorized_user(tmp_path)), None, Rerouted(google)))
    for answer in (error(401, "UNAUTHENTICATED", "Expired."), error(503, "UNAVAILABLE", "Busy.")):
        assert leaks(shown(asked(client_of(script(answer), Time(), auth=auth)))) == []
