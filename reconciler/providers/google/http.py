"""The HTTP client of all Google services: JSON over httpx with a rate limit, retries, pagination and clear errors.

Which failures are retried is in :mod:`reconciler.providers.google.retry`.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import httpx
from msgspec import Struct

from reconciler.domain.endpoints import is_loopback
from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.ports import Clock, Random, Sleeper
from reconciler.domain.text import sanitize
from reconciler.providers.google.auth import BearerAuth
from reconciler.providers.google.errors import (
    SET_CLOCK,
    ServiceDescription,
    clock_skew,
    has_no_quota,
    parse_error_response,
    response_error,
    unexpected_response,
)
from reconciler.providers.google.network import client_options, explain_failure, parse_endpoint
from reconciler.providers.google.retry import (
    FEW_ATTEMPTS,
    MAX_RETRY_AFTER,
    RETRIED_STATUSES,
    Attempt,
    RetryPolicy,
    TransientError,
    is_unknown_outcome,
    parse_date,
    requested_delay,
)

_MINUTE = timedelta(minutes=1)


class RateLimit:
    """A limit that admits ``per_minute`` requests at once, and then one every ``60 / per_minute`` seconds."""

    def __init__(self, per_minute: int, *, clock: Clock, sleep: Sleeper) -> None:
        self._interval = _MINUTE / per_minute
        self._clock = clock
        self._sleep = sleep
        self._full_again = datetime.min.replace(tzinfo=UTC)
        self._turn = asyncio.Lock()

    async def acquire(self) -> None:
        """Wait until one more request may be sent; callers are admitted in the order in which they arrive."""
        async with self._turn:
            now = self._clock()
            # The upper bound limits the wait to one minute when the wall clock is set back.
            due = min(max(now, self._full_again), now + _MINUTE) + self._interval
            self._full_again = due
            if due > now + _MINUTE:
                await self._sleep((due - now - _MINUTE).total_seconds())


Json = dict[str, Any]
T = TypeVar("T")

MAX_BODY = 64 * 2**20
"""The largest response, in bytes after decompression; 1,000 models with long loss curves take a tenth of it."""

DEADLINE = timedelta(minutes=2)
"""The longest time for one request with its whole response; each retry has its own."""

UPLOAD_DEADLINE = timedelta(minutes=10)
"""The longest time for a request that uploads a part of a data set, at most 16 MiB."""

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_DEADLINE = "reconcile.deadline"
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request: its path below the endpoint, its query, and its body as JSON or as bytes.

    For another host of the same service the path is a URL, whose host the caller must have derived or verified.

    ``content`` other than ``bytes`` must yield the same bytes each time it is iterated, for retries; its length is in
    ``headers``. ``accepted`` are statuses outside 2xx that are not errors. ``remedies`` by google.rpc status name
    precede the service's. ``shown`` replaces method and path in messages where the path is a secret, as in ``repr``.
    ``idempotent`` is false where a repeated request may act twice. ``deadline`` replaces that of the client.
    """

    method: str
    path: str = field(repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    remedies: Mapping[str, str] = field(default_factory=dict)
    content: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset()
    shown: str = ""
    idempotent: bool = True
    deadline: timedelta | None = None

    def __str__(self) -> str:
        return self.shown or f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response; names in ``headers`` are found in any capitalization."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class AsyncClosing(ABC):
    """An async context manager that closes itself."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""


class ClientSettings(Struct, frozen=True):
    """The time, authorization, rate limit and transport of a client.

    ``random`` is the jitter of retries. ``auth`` is ``None`` for requests without authorization, and
    ``requests_per_minute`` for no rate limit. ``transport`` carries requests without the network, such as
    ``httpx.ASGITransport(app)``. ``deadline`` is the longest real time for one request with its whole response.
    """

    clock: Clock
    sleep: Sleeper
    random: Random
    auth: httpx.Auth | None = None
    requests_per_minute: int | None = None
    transport: httpx.AsyncBaseTransport | None = None
    deadline: timedelta = DEADLINE


class Client(AsyncClosing):
    """A client of one endpoint, for a service that remedies are about.

    ``requests`` counts the requests that were sent, retries included. ``service_time`` is the time in the ``Date`` of
    the last response that has one.

    Raises:
        UsageError: The endpoint, or the environment's proxy settings or certificates, are invalid.
    """

    def __init__(self, endpoint: str, service: ServiceDescription, settings: ClientSettings) -> None:
        self.requests = 0
        self.service_time: datetime | None = None
        self._clock = settings.clock
        self._deadline = settings.deadline
        self._retry = RetryPolicy(settings.sleep, settings.random)
        limit, transport = settings.requests_per_minute, settings.transport
        self._limit = RateLimit(limit, clock=settings.clock, sleep=settings.sleep) if limit else None
        self._service = service
        self._auth = settings.auth
        self._transport = transport
        self._url = parse_endpoint(endpoint, service)
        self._base = endpoint.rstrip("/")
        self._hosts = {self._url.netloc: self._connect(self._url)}

    def _connect(self, url: httpx.URL) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            auth=self._auth,
            transport=self._transport,
            timeout=_TIMEOUT,
            follow_redirects=False,  # a redirect could send the token to another host
            event_hooks={"request": [self._before_request]},
            headers={"accept": "application/json"},
            **client_options(url, direct=is_loopback(url.host), in_process=self._transport is not None),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        for http in self._hosts.values():
            await http.aclose()

    async def _before_request(self, request: httpx.Request) -> None:
        """Wait for the rate limit, which does not count towards the deadline of the request."""
        deadline: asyncio.Timeout
        deadline, seconds = request.extensions[_DEADLINE]
        if self._limit:
            deadline.reschedule(None)
            await self._limit.acquire()
        deadline.reschedule(asyncio.get_running_loop().time() + seconds)
        self.requests += 1

    async def request(self, request: HttpRequest) -> Json:
        """Send an idempotent request with retries, and return the JSON object of its response.

        Raises:
            AccessError: The status is 401 or 403.
            ServiceError: The status is another error, the response is not JSON, or there is none.
        """
        return await self.fetch(request, lambda body: body)

    async def fetch(self, request: HttpRequest, read: Callable[[Json], T]) -> T:
        """Send a request as :meth:`request` does, and return the decoded response."""

        async def attempt(*, in_doubt: bool) -> T:  # noqa: ARG001 - an idempotent request may be sent again
            return await self.fetch_once(request, read)

        return await self.retry(attempt)

    async def find(self, request: HttpRequest, read: Callable[[Json], T]) -> T | None:
        """Send a request as :meth:`fetch` does; return ``None`` where the resource does not exist."""
        try:
            return await self.fetch(request, read)
        except ServiceError as error:
            if error.code == "NOT_FOUND":
                return None
            raise

    async def fetch_once(self, request: HttpRequest, read: Callable[[Json], T]) -> T:
        """Send a request as :meth:`send_once` does, and return the decoded response."""
        return self.decode(request, read, self.document(request, await self.send_once(request)))

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send an idempotent request with retries, as :meth:`request` does, and return any kind of response."""

        async def attempt(*, in_doubt: bool) -> HttpResponse:  # noqa: ARG001 - an idempotent request may be sent again
            return await self.send_once(request)

        return await self.retry(attempt)

    async def retry(self, attempt: Attempt[T]) -> T:
        """Return the result of the first attempt that raises no TransientError."""
        return await self._retry.run(attempt)

    async def pause(self, attempt: int) -> None:
        """Wait after attempt number ``attempt``, counted from 1; each pause is longer than the one before."""
        await self._retry.pause(attempt)

    async def send_once(self, request: HttpRequest) -> HttpResponse:
        """Send a request without retries.

        Raises:
            TransientError: The request may be sent again if the caller knows that this is safe.
            ReconcileError: A retry cannot succeed.
        """
        failure: ReconcileError | TransientError
        try:
            response, body = await self._exchange(request)
        except TimeoutError:
            seconds = self._seconds(request)
            failure = TransientError(self._no_response(request, f"the response is incomplete after {seconds:g} s"))
            unknown = True
        except httpx.TransportError as error:
            failure = self._connection_failure(request, error)
            unknown = not isinstance(error, _NEVER_SENT)
        except httpx.DecodingError:
            failure = self._unusable(request, "a body that cannot be decompressed")
            unknown = True
        else:
            if response.is_success or response.status_code in request.accepted:
                return HttpResponse(response.status_code, response.headers, body)
            failure = self._status_failure(request, response, body)
            unknown = is_unknown_outcome(response.status_code)
        reported = failure.error if isinstance(failure, TransientError) else failure
        reported.outcome_unknown = unknown and not request.idempotent
        raise failure  # outside the handlers: httpx's errors contain the request, with its token and address

    def unexpected_response(self, request: HttpRequest, problem: str) -> ServiceError:
        """Return the error for a response that this service does not send."""
        return unexpected_response(str(request), problem, self._service)

    def document(self, request: HttpRequest, response: HttpResponse) -> Json:
        """Return the JSON object of a response; raises TransientError for another body, such as a front end's page."""
        if not response.body and request.method == "DELETE":
            return {}
        try:
            document = json.loads(response.body)
        except (ValueError, RecursionError) as error:
            kind = sanitize(response.headers.get("content-type", "")) or "no content type"
            raise self._unusable(request, f"{response.status} without JSON ({kind})") from error
        if not isinstance(document, dict):
            raise self._unusable(request, f"{response.status} with JSON that is not an object")
        return document

    def decode(self, request: HttpRequest, read: Callable[[Json], T], body: Json) -> T:
        """Return the result of ``read`` for a JSON object; raises TransientError for an object of another shape."""
        try:
            return read(body)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise self._unusable(request, f"a body of another shape ({type(error).__name__})") from error

    def _unusable(self, request: HttpRequest, problem: str) -> TransientError:
        error = self.unexpected_response(request, problem)
        error.outcome_unknown = not request.idempotent
        return TransientError(error, attempts=FEW_ATTEMPTS)

    @property
    def origin(self) -> tuple[str, str, int | None]:
        """Scheme, host and port of the endpoint; the port is ``None`` for the scheme's default."""
        return self._url.scheme, self._url.host, self._url.port

    async def _exchange(self, request: HttpRequest) -> tuple[httpx.Response, bytes]:
        url = self._url_of(request)
        http = self._hosts.get(url.netloc)
        if http is None:
            http = self._hosts[url.netloc] = self._connect(url)  # each host can have a proxy of its own
        outgoing = http.build_request(
            request.method,
            url,
            params=request.params or None,
            json=request.body,
            content=request.content,
            headers=request.headers,
        )
        seconds = self._seconds(request)
        async with asyncio.timeout(seconds) as deadline:
            outgoing.extensions[_DEADLINE] = deadline, seconds
            response = await http.send(outgoing, stream=True)
            self.service_time = parse_date(response.headers.get("date", "")) or self.service_time
            try:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise self._unusable(request, f"more than {MAX_BODY // 2**20} MiB").error
                return response, bytes(body)
            finally:
                await response.aclose()

    def _url_of(self, request: HttpRequest) -> httpx.URL:
        """Return the URL of a request, whose path is complete if it is of another host than the endpoint's."""
        return httpx.URL(f"{self._base}{request.path}" if request.path.startswith("/") else request.path)

    def _seconds(self, request: HttpRequest) -> float:
        return (request.deadline or self._deadline).total_seconds()

    def _no_response(self, request: HttpRequest, cause: str, remedy: str = "") -> ServiceError:
        host = sanitize(self._url_of(request).netloc.decode())
        message = f"{request} got no response from {host}: {sanitize(cause)}"
        return ServiceError(message, remedy or self._service.find_remedy("UNREACHABLE"), code="UNREACHABLE")

    def _connection_failure(self, request: HttpRequest, error: httpx.TransportError) -> ReconcileError | TransientError:
        failure = explain_failure(error, f"{self._service.fields} of the target")
        reported = self._no_response(request, failure.cause, failure.remedy)
        return reported if failure.permanent else TransientError(reported)

    def _status_failure(
        self, request: HttpRequest, response: httpx.Response, body: bytes
    ) -> ReconcileError | TransientError:
        if response.is_redirect:
            host = sanitize(response.next_request.url.host) if response.next_request else "an unnamed address"
            return self.unexpected_response(request, f"a redirect to {host}, and redirects are not followed")
        error = parse_error_response(response, body)
        delay = requested_delay(response, error, self._clock())
        too_long = delay is not None and delay > MAX_RETRY_AFTER
        retried = error.status in RETRIED_STATUSES and not has_no_quota(error)
        note = f" and a requested delay of {delay:.0f} s" if retried and too_long else ""
        remedies = request.remedies
        if error.status == httpx.codes.UNAUTHORIZED and isinstance(self._auth, BearerAuth):
            skew = clock_skew(parse_date(response.headers.get("date", "")), self._clock())
            note += f" ({skew})" if skew else ""
            remedies = {**remedies, error.code: SET_CLOCK if skew else self._auth.renewal}
        failure = response_error(str(request), error, self._service, note, remedies)
        return TransientError(failure, delay=delay) if retried and not too_long else failure


class Named(Protocol):
    """A listed resource, such as a tuned model or a base model."""

    @property
    def remote(self) -> str:
        """The full name."""
        ...


N = TypeVar("N", bound=Named)
_MAX_BARREN_PAGES = 100
_MAX_PAGES = 100_000  # ten million models in pages of 100


async def list_models(
    client: Client, request: HttpRequest, read: Callable[[Json], tuple[tuple[N, ...], str]]
) -> tuple[N, ...]:
    """Return every model of a list; see :func:`list_all`."""
    return await list_all(client, request, read, lambda model: model.remote)


async def list_all(
    client: Client,
    request: HttpRequest,
    read: Callable[[Json], tuple[tuple[T, ...], str]],
    name: Callable[[T], str],
) -> tuple[T, ...]:
    """Return the resources of all pages in the service's order; one that moves between pages is returned once.

    Args:
        client: The client of the service.
        request: The request of the first page.
        read: Returns the resources of a page and the token of the next one, empty on the last.
        name: Returns the name that identifies a resource.

    Raises:
        AccessError: As :meth:`Client.request`.
        ServiceError: As :meth:`Client.request`, and when the page tokens repeat.
    """
    resources: dict[str, T] = {}
    tokens: set[str] = set()
    barren = 0
    while True:
        page, token = await client.fetch(request, read)
        barren = 0 if any(name(resource) not in resources for resource in page) else barren + 1
        resources |= {name(resource): resource for resource in page}
        if not token:
            return tuple(resources.values())
        if token in tokens or barren > _MAX_BARREN_PAGES or len(tokens) > _MAX_PAGES:
            raise client.unexpected_response(request, "a list without end: its page tokens repeat")
        tokens.add(token)
        request = replace(request, params={**request.params, "pageToken": token})
