"""Application Default Credentials through google-auth, carried by httpx.

``google.auth.default`` is not used: as of google-auth 2.62 it needs `requests` for workload identity federation and for
the metadata server, asks Google for the name of a project that is not needed here, and runs ``gcloud`` for the same.
The places it looks at, and their order, are kept (https://google.aip.dev/auth/4110).
"""

# google-auth ships its own types, but leaves many functions without:
# mypy: untyped-calls-exclude="google"
from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import google.auth
import httpx
from google.auth import exceptions, transport
from google.auth.credentials import Credentials, with_scopes_if_required

from reconciler.domain.errors import AccessError
from reconciler.providers.google.errors import LOG_IN, SCOPES, TransientError, cause_of, clean, error_object
from reconciler.providers.google.network import client_options, is_loopback

T = TypeVar("T")

_TIMEOUT = 10.0
_METADATA_TIMEOUT = 3.0
_NETWORK = "check the network and the proxy settings, then run again"
_MALFORMED = (AttributeError, LookupError, OSError, TypeError, ValueError)


class ApplicationDefault:
    """A token source over the credentials that the environment names, loaded and refreshed when first needed.

    Args:
        environ: The process environment.
        project: The quota project; without one, that of the credentials.
        carrier: What carries requests for tokens instead of the network.
    """

    def __init__(
        self, environ: Mapping[str, str], project: str | None, carrier: httpx.BaseTransport | None = None
    ) -> None:
        self._environ = environ
        self._project = project
        self._carrier = carrier
        self._credentials: Credentials | None = None
        self._turn = asyncio.Lock()

    @property
    def quota_project(self) -> str | None:
        """The project that was handed in, or that of the credentials."""
        return self._project or getattr(self._credentials, "quota_project_id", None)

    @property
    def credentials(self) -> Credentials | None:
        """What the environment named; ``None`` before the first token."""
        return self._credentials

    async def token(self) -> str:
        """A token that is valid now; raises AccessError when there is none to be had."""
        async with self._turn:
            credentials = self._loaded()
            if not credentials.valid:
                await in_daemon(lambda: self._refresh(credentials))
            return str(credentials.token)

    async def renew(self, rejected: str) -> str | None:
        """A refreshed token; several requests that were refused with one token refresh it once."""
        async with self._turn:
            credentials = self._loaded()
            if credentials.token == rejected:
                await in_daemon(lambda: self._refresh(credentials))
            return str(credentials.token)

    def _loaded(self) -> Credentials:
        if self._credentials is None:
            self._credentials = self._load()
        return self._credentials

    def _load(self) -> Credentials:
        path = credentials_file(self._environ)
        if path is None:
            return MetadataCredentials(self._environ.get("GCE_METADATA_HOST") or "metadata.google.internal")
        try:
            return self._load_file(path)
        except exceptions.GoogleAuthError as error:
            message = f"the credentials cannot be used: {_reason(error)}"
        except _MALFORMED as error:
            message = f"the credentials in {path} cannot be used: {type(error).__name__}"
        raise AccessError(message, LOG_IN)  # outside the handlers: what it would chain may quote the file's secrets

    def _load_file(self, path: Path) -> Credentials:
        with warnings.catch_warnings():
            # google-auth warns of files from strangers; this one is named by the user's own environment.
            warnings.simplefilter("ignore")
            credentials, _ = google.auth.load_credentials_from_file(
                str(path), quota_project_id=self._project, request=HttpxRequest(self._carrier)
            )
        scoped: Credentials = with_scopes_if_required(credentials, SCOPES)
        return scoped

    def _refresh(self, credentials: Credentials) -> None:
        try:
            credentials.refresh(HttpxRequest(self._carrier))
        except (exceptions.GoogleAuthError, *_MALFORMED) as error:
            failure = _failure(error)
        else:
            return
        raise failure  # outside the handler: google-auth's errors hold whole answers, and with them secrets


async def in_daemon(work: Callable[[], T]) -> T:
    """Like asyncio.to_thread, but nobody waits for the thread who was interrupted: no executor joins it at the end."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - it is raised where the outcome is awaited
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def _failure(error: Exception) -> AccessError | TransientError:
    if isinstance(error, exceptions.DefaultCredentialsError):
        return AccessError(_reason(error), LOG_IN)
    if not isinstance(error, exceptions.GoogleAuthError):
        return AccessError(f"no access token could be had: {type(error).__name__}", LOG_IN)
    message = f"no access token could be had: {_reason(error)}"
    if error.retryable or isinstance(error, exceptions.TransportError):
        return TransientError(AccessError(message, _NETWORK), delay=None, ambiguous=False)
    return AccessError(message, LOG_IN)


def _reason(error: exceptions.GoogleAuthError) -> str:
    """What google-auth says, and what the service said to it; not the whole answer, which may hold more."""
    texts = [str(argument) for argument in error.args[:2]]
    said = error_object(texts[1]).get("message") if len(texts) > 1 else None
    return ": ".join(clean(str(text)) for text in (*texts[:1], said) if text) or type(error).__name__


def credentials_file(environ: Mapping[str, str]) -> Path | None:
    """The file that is named, or the one that ``gcloud auth application-default login`` writes, if it did."""
    if named := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    folder = environ.get("CLOUDSDK_CONFIG") or _gcloud_folder(environ)
    written = Path(folder) / "application_default_credentials.json"
    return written if written.is_file() else None


def _gcloud_folder(environ: Mapping[str, str]) -> Path:
    if roaming := environ.get("APPDATA"):
        return Path(roaming) / "gcloud"
    return Path(environ.get("HOME", "~")).expanduser() / ".config" / "gcloud"


class MetadataCredentials(Credentials):
    """The service account of the Google Cloud machine that this runs on."""

    def __init__(self, host: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is untyped there
        self._account = f"http://{host}/computeMetadata/v1/instance/service-accounts/default"

    def email(self, request: HttpxRequest) -> str:
        """The account's address, empty when the metadata server does not tell."""
        try:
            response = self._ask(request, "email")
        except exceptions.TransportError:
            return ""
        return clean(response.data.decode("utf-8", "replace")) if response.status == httpx.codes.OK else ""

    def _ask(self, request: HttpxRequest, what: str) -> HttpxResponse:
        return request(f"{self._account}/{what}", headers={"Metadata-Flavor": "Google"}, timeout=_METADATA_TIMEOUT)

    def refresh(self, request: HttpxRequest) -> None:
        """Ask the metadata server for a token; that it does not answer means that there are no credentials at all."""
        try:
            response = self._ask(request, f"token?scopes={','.join(SCOPES)}")
        except exceptions.TransportError as error:
            raise exceptions.DefaultCredentialsError("there are no credentials") from error
        if response.status != httpx.codes.OK:
            raise exceptions.RefreshError(f"the metadata server answered {response.status}")
        answer = response.json()
        self.token = str(answer["access_token"])
        # google-auth compares with naive times in UTC
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=int(answer["expires_in"]))


class HttpxResponse(transport.Response):
    """google-auth's view of an httpx response."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        return self._response.headers

    @property
    def data(self) -> bytes:
        """The body."""
        return self._response.content

    def json(self) -> Any:
        """The body as JSON; raises ValueError."""
        return self._response.json()


class HttpxRequest(transport.Request):
    """google-auth's way to ask, over httpx; it follows no redirect.

    What travels in clear text goes through no proxy, which would see the token: such hosts, like the metadata server,
    are next door.
    """

    def __init__(self, carrier: httpx.BaseTransport | None) -> None:
        self._carrier = carrier

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_options: object,
    ) -> HttpxResponse:
        """Send one request; raises google.auth.exceptions.TransportError when no answer comes."""
        try:
            address = httpx.URL(url)
            direct = address.scheme == "http" or is_loopback(address.host)
            options = client_options(direct=direct, carried=self._carrier is not None)
            with httpx.Client(transport=self._carrier, timeout=timeout or _TIMEOUT, **options) as client:
                return HttpxResponse(client.request(method, address, content=body, headers=headers))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"{clean(url.partition('?')[0])} does not answer: {cause_of(error)}"
            raise exceptions.TransportError(message) from error
