"""Application Default Credentials through google-auth, with httpx as its transport.

``google.auth.default`` is not used: google-auth 2.62 needs `requests` for workload identity federation and the metadata
server, and it queries Google and runs ``gcloud`` for a project that is not needed here. The search order for
credentials is the same (https://google.aip.dev/auth/4110).
"""

# google-auth is typed in part:
# mypy: untyped-calls-exclude="google"
from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import google.auth
import httpx
from google.auth import exceptions, transport
from google.auth.credentials import Credentials, with_scopes_if_required
from msgspec import Struct

from reconciler.daemon_threads import run_in_daemon_thread
from reconciler.domain.endpoints import is_loopback
from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.ports import Clock
from reconciler.domain.text import sanitize
from reconciler.environment import utc_now
from reconciler.providers.google.errors import (
    SCOPES,
    failure_cause,
    parse_error_object,
    parse_error_response,
)
from reconciler.providers.google.login import credentials_file
from reconciler.providers.google.network import METADATA_HOST, client_options, explain_failure
from reconciler.providers.google.retry import (
    FEW_ATTEMPTS,
    RETRIED_STATUSES,
    TransientError,
    parse_date,
    requested_delay,
)
from reconciler.providers.google.token_failures import (
    Origin,
    TokenRefusal,
    error_texts,
    explain_refusal,
    nothing_found,
    read_origin,
)
from reconciler.redaction import remember, remember_members

_TIMEOUT = 10.0
_METADATA_TIMEOUT = 3.0
_FAILED = "cannot get an access token"
_NETWORK = "check the network and the proxy settings, then run the command again"
_MALFORMED = (AttributeError, LookupError, OSError, TypeError, ValueError)


class ApplicationDefault:
    """A token source that loads and refreshes the environment's credentials when they are needed.

    Args:
        environ: The process environment.
        project: The quota project; without one, that of the credentials.
        transport: A transport that carries requests for tokens without the network.
        clock: The clock that times in responses are compared with.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        project: str | None,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._environ = environ
        self._clock = clock
        self._project = project
        self._request = GoogleAuthRequest(transport)
        self._credentials: Credentials | None = None
        self._turn = asyncio.Lock()

    @property
    def quota_project(self) -> str | None:
        """The given project, or that of the credentials."""
        return self._project or getattr(self._credentials, "quota_project_id", None)

    @property
    def credentials(self) -> Credentials | None:
        """The loaded credentials; ``None`` before the first token."""
        return self._credentials

    @property
    def renewal(self) -> str:
        """What to do where a service rejects the token."""
        return self._origin().renewal

    def _origin(self) -> Origin:
        return read_origin(credentials_file(self._environ), self._environ)

    async def token(self) -> str:
        """Return a token that is valid now; raises AccessError without credentials."""
        async with self._turn:
            credentials = self._load_once()
            if not credentials.valid:
                await run_in_daemon_thread(lambda: self._refresh(credentials))
            return str(credentials.token)

    async def renew(self, rejected: str) -> str | None:
        """Return a refreshed token; several requests with the same rejected token refresh it once."""
        async with self._turn:
            credentials = self._load_once()
            if credentials.token == rejected:
                await run_in_daemon_thread(lambda: self._refresh(credentials))
            return str(credentials.token)

    def _load_once(self) -> Credentials:
        if self._credentials is None:
            self._credentials = self._load()
        return self._credentials

    def _load(self) -> Credentials:
        path = credentials_file(self._environ)
        if path is None:
            return MetadataCredentials(self._environ)
        try:
            remember(path.read_text(encoding="utf-8", errors="replace"))
            return self._load_file(path)
        except exceptions.GoogleAuthError as error:
            message = f"cannot use the credentials: {_describe(error)}"
        except _MALFORMED as error:
            message = f"cannot use the credentials in {path}: {type(error).__name__}"
        origin = self._origin()
        raise AccessError(
            message, f"write the file again, or {origin.log_in}"
        )  # outside the handlers: a chained error may quote the file's secrets

    def _load_file(self, path: Path) -> Credentials:
        with warnings.catch_warnings():
            # google-auth warns of untrusted files; the user's own environment names this one.
            warnings.simplefilter("ignore")
            credentials, _ = google.auth.load_credentials_from_file(
                str(path), quota_project_id=self._project, request=self._request
            )
        scoped: Credentials = with_scopes_if_required(credentials, SCOPES)
        return scoped

    def _refresh(self, credentials: Credentials) -> None:
        self._request.succeeded = False
        try:
            credentials.refresh(self._request)
        except (exceptions.GoogleAuthError, *_MALFORMED) as error:
            failure = self._failure(error)
        else:
            return
        raise failure  # outside the handler: google-auth's errors contain whole responses, and with them secrets

    def _failure(self, error: Exception) -> AccessError | TransientError:
        """Return the failure to get a token; an unusable response with status 200 is usually a front end's page."""
        request = self._request
        if request.succeeded:
            message = f"{_FAILED}: {request.address} responded without a token"
            return TransientError(ServiceError(message, _NETWORK, code="UNKNOWN"), attempts=FEW_ATTEMPTS)
        origin = self._origin()
        if not isinstance(error, exceptions.GoogleAuthError):
            return AccessError(f"{_FAILED}: {type(error).__name__}", origin.renewal)
        message = f"{_FAILED}: {_describe(error)}"
        if error.retryable:
            return TransientError(ServiceError(message, _NETWORK, code="UNAVAILABLE"))
        if request.refusal is None:
            return AccessError(message, origin.renewal)
        skew, remedy = explain_refusal(request.refusal, origin, self._clock())
        return AccessError(f"{message}{skew}", remedy)


def _describe(error: exceptions.GoogleAuthError) -> str:
    """Return google-auth's message and that of the service, without the rest of the response, which may be secret."""
    texts = [str(argument) for argument in error.args[:2]]
    detail = parse_error_object(texts[1]).get("message") if len(texts) > 1 else None
    return ": ".join(sanitize(str(text)) for text in (*texts[:1], detail) if text) or type(error).__name__


class MetadataCredentials(Credentials):
    """The service account of the Google Cloud machine that the program runs on."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in google-auth
        self._environ = environ
        host = environ.get("GCE_METADATA_HOST") or METADATA_HOST
        self._account = f"http://{host}/computeMetadata/v1/instance/service-accounts/default"

    def email(self, request: GoogleAuthRequest) -> str:
        """Return the account's email address, empty where the metadata server does not respond."""
        try:
            response = self._get(request, "email")
        except (TransientError, ServiceError):
            return ""
        return sanitize(response.data.decode("utf-8", "replace")) if response.status == httpx.codes.OK else ""

    def _get(self, request: GoogleAuthRequest, path: str) -> GoogleAuthResponse:
        return request(f"{self._account}/{path}", headers={"Metadata-Flavor": "Google"}, timeout=_METADATA_TIMEOUT)

    def refresh(self, request: GoogleAuthRequest) -> None:
        """Get a token from the metadata server; where there never was a server, there are no credentials at all."""
        try:
            response = self._get(request, f"token?scopes={','.join(SCOPES)}")
        except TransientError as failure:
            if request.connected or self.token is not None:
                raise
            raise TransientError(nothing_found(self._environ), attempts=FEW_ATTEMPTS) from failure
        if response.status != httpx.codes.OK:
            raise exceptions.RefreshError(f"the metadata server responded with {response.status}")
        document = json.loads(response.data)
        token, lifetime = str(document["access_token"]), int(document["expires_in"])
        self.token = token
        # google-auth compares with naive times in UTC
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=lifetime)


class GoogleAuthResponse(Struct, frozen=True):
    """A response with the attributes that google-auth reads."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class GoogleAuthRequest(transport.Request):
    """The transport of google-auth over httpx; redirects are not followed.

    Requests without TLS, such as those to the metadata server, use no proxy, which would see the token. Of the last
    request, ``address`` is the address, ``connected`` states whether there was a server, ``succeeded`` whether its
    status was 200, and ``refusal`` is its response with another status.
    """

    def __init__(self, transport: httpx.BaseTransport | None) -> None:
        self.address = ""
        self.connected = True
        self.succeeded = False
        self.refusal: TokenRefusal | None = None
        self._transport = transport

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_options: object,
    ) -> GoogleAuthResponse:
        """Send one request; raises TransientError or ServiceError without a response, and for a status that is retried.

        google-auth does not see these failures: it retries some of them itself, and refuses others at once.
        """
        self.address, self.connected, self.succeeded = sanitize(url.partition("?")[0]), True, False
        self.refusal = None
        failure: TransientError | ServiceError | exceptions.TransportError
        try:
            address = httpx.URL(url)
            direct = address.scheme == "http" or is_loopback(address.host)
            options = client_options(address, direct=direct, in_process=self._transport is not None)
            with httpx.Client(transport=self._transport, timeout=timeout or _TIMEOUT, **options) as client:
                response = client.request(method, address, content=body, headers=headers)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            failure = exceptions.TransportError(f"{self.address} does not respond: {failure_cause(error)}")
        except httpx.HTTPError as error:
            self.connected = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            explained = explain_failure(error, "the addresses in the credentials")
            message = f"{_FAILED}: {self.address} does not respond: {explained.cause}"
            remedy = explained.remedy if explained.permanent else _NETWORK
            unreachable = ServiceError(message, remedy, code="UNREACHABLE")
            failure = unreachable if explained.permanent else TransientError(unreachable)
        else:
            remember_members(response.text)
            if response.status_code not in RETRIED_STATUSES:
                self.succeeded = response.status_code == httpx.codes.OK
                if not self.succeeded:
                    self.refusal = _read_refusal(self.address, response)
                return GoogleAuthResponse(response.status_code, response.headers, response.content)
            details = parse_error_response(response, response.content)
            message = f"{_FAILED}: {self.address} responded with {response.status_code}: {details.message}"
            delay = requested_delay(response, details, datetime.now(UTC))
            failure = TransientError(ServiceError(message, _NETWORK, code="UNAVAILABLE"), delay=delay)
        raise failure  # outside the handlers: httpx's errors contain the request, with its secrets


def _read_refusal(address: str, response: httpx.Response) -> TokenRefusal:
    error = parse_error_response(response, response.content)
    texts = (*error.texts(), *error_texts(response.content))
    return TokenRefusal(address, error, texts, parse_date(response.headers.get("date", "")))
