"""The one HTTP client: JSON over httpx, with a rate limit, retries of what may be retried, and errors for people."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from reconciler.domain.errors import ServiceError
from reconciler.domain.ports import Clock, Random, Sleeper
from reconciler.providers.google.errors import (
    GENERATIVE_LANGUAGE,
    Service,
    TransientError,
    cause_of,
    clean,
    parse_refusal,
    refused,
    unintelligible,
    unreachable,
)
from reconciler.providers.google.network import client_options, is_loopback, parse_endpoint
from reconciler.providers.google.rate_limit import RateLimit, asked_delay

Json = dict[str, Any]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ATTEMPTS = 6
"""How often one request is tried at most."""

MAX_BACKOFF = 30.0
"""The longest pause between two attempts, in seconds, when the service names none itself."""

MAX_RETRY_AFTER = 120.0
"""The longest pause, in seconds, that a service may ask for; beyond it the run ends and says so."""

MAX_BODY = 64 * 2**20
"""The largest answer that is read, in bytes after decompression: 1,000 models with long loss curves are a tenth."""

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_NOT_DONE = frozenset({429})
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its path below the endpoint, its query, and its body as JSON or as it stands.

    ``content`` that is no ``bytes`` must give the same bytes each time that it is iterated over, for repeats; its
    length stands in ``headers``. ``accepted`` are statuses beyond 2xx that are no failure here. ``remedies`` are better
    remedies for this request than the service's, by google.rpc status name. ``shown`` is what people read in place of
    method and path, where the path is a secret; so ``repr`` has no path.
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

    def __str__(self) -> str:
        return self.shown or f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names in ``headers`` are found however they are capitalised."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Attempt(Protocol[T_co]):
    """Something to try. ``in_doubt`` tells that an earlier try may have been carried out although it failed."""

    async def __call__(self, *, in_doubt: bool) -> T_co: ...


class Client:
    """Requests to one endpoint. ``requests`` counts what was really sent, repeats included.

    Args:
        endpoint: The service's address, ``https://generativelanguage.googleapis.com``.
        service: What remedies say of the service.
        auth: What authorises requests; ``None`` sends them bare.
        clock: The current time, for the rate limit and for ``Retry-After`` dates.
        sleep: What waits between attempts.
        random: Jitter.
        requests_per_minute: The rate limit; ``None`` is none.
        transport: What carries the requests instead of the network, such as an in-process ASGI application.

    Raises:
        UsageError: The endpoint is no URL, or the proxy settings or certificates of the environment cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        service: Service = GENERATIVE_LANGUAGE,
        auth: httpx.Auth | None,
        clock: Clock,
        sleep: Sleeper,
        random: Random,
        requests_per_minute: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.requests = 0
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._limit = RateLimit(requests_per_minute, clock=clock, sleep=sleep) if requests_per_minute else None
        self._service = service
        url = parse_endpoint(endpoint, service)
        self._http = httpx.AsyncClient(
            base_url=url,
            auth=auth,
            transport=transport,
            timeout=_TIMEOUT,
            follow_redirects=False,  # a token must never follow one to another host
            event_hooks={"request": [self._before_request]},
            headers={"accept": "application/json"},
            **client_options(direct=is_loopback(url.host), carried=transport is not None),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _before_request(self, _request: httpx.Request) -> None:
        if self._limit:
            await self._limit.acquire()
        self.requests += 1

    async def request(self, call: Call) -> Json:
        """Send an idempotent request, again where that may help, and return its JSON object.

        Raises:
            AccessError: The service answered 401 or 403.
            ServiceError: It refused otherwise, answered nonsense, or could not be reached.
        """
        return self.document(call, await self.answer(call))

    async def answer(self, call: Call) -> Answer:
        """As :meth:`request`, for answers that are no JSON."""

        async def attempt(*, in_doubt: bool) -> Answer:  # noqa: ARG001 - what is idempotent may be sent either way
            return await self.once(call)

        return await self.repeat(attempt)

    async def repeat(self, attempt: Attempt[T]) -> T:
        """Carry out ``attempt`` until it does not raise :class:`TransientError`, :data:`ATTEMPTS` times at most."""
        in_doubt = False

        async def run() -> T:
            nonlocal in_doubt
            try:
                return await attempt(in_doubt=in_doubt)
            except TransientError as failure:
                in_doubt = in_doubt or failure.ambiguous
                raise

        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._pause,
            retry=retry_if_exception_type(TransientError),
            before_sleep=_log_retry,
            reraise=True,
        )
        try:
            return await retrying(run)
        except TransientError as failure:
            raise failure.error from failure

    async def pause(self, attempt: int) -> None:
        """Wait before repeating what has been done ``attempt`` times, each time longer."""
        await self._sleep(self._backoff(attempt))

    def _backoff(self, attempt: int) -> float:
        return float(min(MAX_BACKOFF, 2.0 ** (attempt - 1))) * (1 + self._random()) / 2

    def _pause(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, TransientError) and failure.delay is not None:
            return failure.delay + self._random()  # so that clients told the same do not come back as one
        return self._backoff(state.attempt_number)

    async def once(self, call: Call) -> Answer:
        """Send a request a single time.

        Raises:
            TransientError: It may be repeated, if the caller knows that to be safe.
            ReconcileError: Repeating is pointless.
        """
        try:
            response, body = await self._send(call)
        except httpx.TransportError as error:
            failure = self._unanswered(call, error)
        except httpx.DecodingError:
            failure = self.unintelligible(call, "a body that cannot be decompressed")
        else:
            if response.is_success or response.status_code in call.accepted:
                return Answer(response.status_code, response.headers, body)
            failure = self._failure(call, response, body)
        raise failure  # outside the handlers: httpx's errors hold the request, and with it token and address

    def unintelligible(self, call: Call, what: str) -> ServiceError:
        """The error for an answer to ``call`` that is not what the service answers."""
        return unintelligible(str(call), what, self._service)

    def document(self, call: Call, answer: Answer) -> Json:
        """The JSON object of an answer; raises ServiceError when it is none."""
        if not answer.body and call.method == "DELETE":
            return {}
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            kind = clean(answer.headers.get("content-type", "")) or "no content type"
            raise self.unintelligible(call, f"{answer.status} and no JSON ({kind})") from error
        if not isinstance(document, dict):
            raise self.unintelligible(call, f"{answer.status} and JSON that is no object")
        return document

    def decode(self, call: Call, read: Callable[[Json], T], body: Json) -> T:
        """What ``read`` makes of a JSON object; raises ServiceError when it stumbles over its shape."""
        try:
            return read(body)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise self.unintelligible(call, f"a body of another shape ({type(error).__name__})") from error

    @property
    def origin(self) -> tuple[str, str, int | None]:
        """Scheme, host and port of the endpoint; the port is ``None`` where it is the scheme's own."""
        url = self._http.base_url
        return url.scheme, url.host, url.port

    async def _send(self, call: Call) -> tuple[httpx.Response, bytes]:
        request = self._http.build_request(
            call.method,
            call.path,
            params=call.params or None,
            json=call.body,
            content=call.content,
            headers=call.headers,
        )
        response = await self._http.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise self.unintelligible(call, f"more than {MAX_BODY // 2**20} MiB")
            return response, bytes(body)
        finally:
            await response.aclose()

    def _unanswered(self, call: Call, error: httpx.TransportError) -> Exception:
        host = self._http.base_url.netloc.decode()
        told = unreachable(str(call), host, cause_of(error), self._service)
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            return told
        return TransientError(told, delay=None, ambiguous=not isinstance(error, _NEVER_SENT))

    def _failure(self, call: Call, response: httpx.Response, body: bytes) -> Exception:
        if response.is_redirect:
            return self.unintelligible(call, f"a redirect to {_redirect_host(response)}, which is never followed")
        refusal = parse_refusal(response, body)
        if refusal.status not in _RETRIED:
            return refused(str(call), refusal, self._service, remedies=call.remedies)
        delay = asked_delay(response, refusal, self._clock())
        if delay is not None and delay > MAX_RETRY_AFTER:
            note = f" and asks to wait {delay:.0f} s"
            return refused(str(call), refusal, self._service, note, call.remedies)
        error = refused(str(call), refusal, self._service, remedies=call.remedies)
        return TransientError(error, delay=delay, ambiguous=refusal.status not in _NOT_DONE)


def _redirect_host(response: httpx.Response) -> str:
    return clean(response.next_request.url.host) if response.next_request else "an address that it does not name"


def _log_retry(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    _LOG.info("trying again in %.1f s: %s", state.upcoming_sleep, failure)
