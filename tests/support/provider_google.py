"""Google's token endpoints on a loopback port, for google-auth to be tried against for real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from msgspec import Struct, field

AUDIENCE = "https://oauth2.googleapis.com/token"
EMAIL = "robot@project.iam.gserviceaccount.com"


class KeyPair(Struct, frozen=True):
    private: str
    public: bytes


@cache
def key_pair() -> KeyPair:
    """Return the key pair of this test run: making one takes up to a second, and to read a long one takes long."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - a made-up key
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(private.decode(), public)


class Asked(Struct, frozen=True):
    """A request as it arrived; ``form`` is its form or JSON body, ``claims`` those of a JWT whose signature held."""

    host: str
    line: str
    headers: dict[str, str]
    form: dict[str, Any]
    claims: dict[str, Any] = field(default_factory=dict)


class Google(Struct, dict=True):
    """What the endpoints know: the key they verify with, how long tokens live, what they refuse with instead.

    ``faults`` are the first responses by number; ``None`` closes the connection, and text is a page in place of JSON.
    The clock of the endpoints is ``ahead``.
    """

    keys: KeyPair
    expires_in: int = 3600
    refusal: tuple[int, dict[str, Any]] | None = None
    faults: dict[int, tuple[int, str] | None] = field(default_factory=dict)
    ahead: timedelta = timedelta()
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[str]:
        return [f"{asked.line} on {asked.host}" if "." in asked.host[9:] else asked.line for asked in self.asked]

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any] | str] | None:
        self.asked.append(asked)
        if len(self.asked) in self.faults:
            return self.faults[len(self.asked)]
        if self.refusal:
            return self.refusal
        token = f"token-{len(self.asked)}"
        if asked.line.endswith(":generateAccessToken"):
            return 200, {"accessToken": token, "expireTime": "2099-01-01T00:00:00Z"}
        return 200, {"access_token": token, "expires_in": self.expires_in, "token_type": "Bearer"} | (
            {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"} if "audience" in asked.form else {}
        )


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, google: Google, *args: Any) -> None:
        self._google = google
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["content-length"])))

    def _answer(self, body: bytes) -> None:
        is_json = self.headers.get("content-type") == "application/json"
        form = json.loads(body) if is_json else dict(parse_qsl(body.decode()))
        claims = {}
        if "assertion" in form:  # raises, and so closes the connection, when the signature or the audience is wrong
            claims = dict(jwt.decode(form["assertion"], certs=self._google.keys.public, audience=AUDIENCE))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(headers["host"], f"{self.command} {self.path}", headers, form, claims)
        answer = self._google.answer(asked)
        if answer is None:
            self.close_connection = True
            return
        status, document = answer
        content = (document if isinstance(document, str) else json.dumps(document)).encode()
        self.send_response_only(status)
        self.send_header("date", format_datetime(datetime.now(UTC) + self._google.ahead, usegmt=True))
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        """Keep stderr clean."""


@contextmanager
def google_on_loopback(keys: KeyPair) -> Iterator[Google]:
    google = Google(keys)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, google)) as server:
        google.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield google
        finally:
            server.shutdown()
            thread.join()


class Rerouted(httpx.BaseTransport):
    """Carries every request to a loopback port, whatever host it was meant for; the host header still names that."""

    def __init__(self, google: Google) -> None:
        self._google = google

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._google.port)
        with httpx.HTTPTransport(verify=False) as carrier:
            response = carrier.handle_request(request)
            response.read()
        return response


def write_json(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def service_account(folder: Path, google: Google, **changes: str) -> Path:
    document = {
        "type": "service_account",
        "project_id": "of-the-file",
        "private_key_id": "1",
        "private_key": google.keys.private,
        "client_email": EMAIL,
        "token_uri": f"{google.url}/token",
    }
    return write_json(folder / "service-account.json", document | changes)


USER = {
    "type": "authorized_user",
    "client_id": "me.apps.googleusercontent.com",
    "client_secret": "CLIENT-SECRET",
    "refresh_token": "REFRESH-TOKEN",
}


def authorized_user(folder: Path, **more: str) -> Path:
    return write_json(folder / "application_default_credentials.json", USER | more)


def impersonated(folder: Path) -> Path:
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    document = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": url,
        "source_credentials": USER,
        "delegates": [],
    }
    return write_json(folder / "impersonated.json", document)


def workload_identity(folder: Path, google: Google, **more: Any) -> Path:
    subject = folder / "oidc-token"
    subject.write_text("OIDC-TOKEN", encoding="utf-8")
    document = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/p/providers/github",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{google.url}/v1/token",
        "credential_source": {"file": str(subject)},
    }
    return write_json(folder / "workload-identity.json", document | more)
