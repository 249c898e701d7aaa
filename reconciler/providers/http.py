"""The one HTTP client: JSON over httpx, with a rate limit, retries of what may be retried, and errors for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from reconciler.core.ports import Clock, Random, Sleeper
from reconciler.core.problems import UsageError
from reconciler.providers.errors import (
    Refusal,
    TransientError,
    cause_of,
    clean,
    parse_refusal,
    refused,
    unintelligible,
    unreachable,
)
from reconciler.providers.network import client_options, is_loopback, parse_address
from reconciler.providers.ratelimit import RateLimit

Json = dict[str, Any]
T = TypeVar("T")

ATTEMPTS = 6
"""How often one request is tried at most."""

MAX_BACKOFF = 30.0
"""The longest pause between two attempts, in seconds, when the service names none itself."""

MAX_OBEDIENCE = 120.0
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
    """One request: its path below the endpoint, its query and its JSON body.

    ``remedies`` are better remedies for this request than the general ones, by google.rpc status name.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    remedies: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Client:
    """Requests to one endpoint. ``requests`` counts what was really sent, repeats included.

    Args:
        endpoint: The service's address, ``https://generativelanguage.googleapis.com``.
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
        url = _endpoint(endpoint)
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
        return await self.repeat(lambda: self.once(call))

    async def repeat(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Carry out ``attempt`` until it does not raise :class:`TransientError`, :data:`ATTEMPTS` times at most."""

        async def run() -> T:
            return await attempt()

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

    async def once(self, call: Call) -> Json:
        """Send a request a single time.

        Raises:
            TransientError: It may be repeated, if the caller knows that to be safe.
            ReconcileError: Repeating is pointless.
        """
        try:
            response, body = await self._send(call)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise unreachable(str(call), self._host, cause_of(error)) from error
        except httpx.TransportError as error:
            cause = cause_of(error)
            ambiguous = not isinstance(error, _NEVER_SENT)
            raise TransientError(unreachable(str(call), self._host, cause), delay=None, ambiguous=ambiguous) from error
        except httpx.DecodingError as error:
            raise unintelligible(str(call), "a body that cannot be decompressed") from error
        if response.is_success:
            return _object(call, response, body)
        raise self._failure(call, response, body)

    @property
    def _host(self) -> str:
        return self._http.base_url.netloc.decode()

    async def _send(self, call: Call) -> tuple[httpx.Response, bytes]:
        request = self._http.build_request(call.method, call.path, params=call.params, json=call.body)
        response = await self._http.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise unintelligible(str(call), f"more than {MAX_BODY // 2**20} MiB")
            return response, bytes(body)
        finally:
            await response.aclose()

    def _failure(self, call: Call, response: httpx.Response, body: bytes) -> Exception:
        if response.is_redirect:
            return unintelligible(str(call), f"a redirect to {_redirect_host(response)}, which is never followed")
        refusal = parse_refusal(response, body)
        if refusal.status not in _RETRIED:
            return refused(str(call), refusal, remedies=call.remedies)
        delay = _asked_delay(response, refusal, self._clock())
        if delay is not None and delay > MAX_OBEDIENCE:
            return refused(str(call), refusal, f" and asks to wait {delay:.0f} s", call.remedies)
        error = refused(str(call), refusal, remedies=call.remedies)
        return TransientError(error, delay=delay, ambiguous=refusal.status not in _NOT_DONE)


def _endpoint(address: str) -> httpx.URL:
    try:
        return parse_address(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"the endpoint is no URL: {clean(str(error))}", "correct spec.endpoint") from error


def _object(call: Call, response: httpx.Response, body: bytes) -> Json:
    if not body and call.method == "DELETE":
        return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        kind = clean(response.headers.get("content-type", "")) or "no content type"
        raise unintelligible(str(call), f"{response.status_code} and no JSON ({kind})") from error
    if not isinstance(document, dict):
        raise unintelligible(str(call), f"{response.status_code} and JSON that is no object")
    return document


def _redirect_host(response: httpx.Response) -> str:
    return clean(response.next_request.url.host) if response.next_request else "an address that it does not name"


def _asked_delay(response: httpx.Response, refusal: Refusal, now: datetime) -> float | None:
    """The pause in seconds that the service asked for: the longer one of RetryInfo and Retry-After."""
    asked = (_retry_info(refusal), _retry_after(response.headers.get("retry-after", ""), now))
    return max((delay for delay in asked if delay is not None), default=None)


def _retry_info(refusal: Refusal) -> float | None:
    value = refusal.detail("RetryInfo").get("retryDelay")
    return _seconds(value.removesuffix("s")) if isinstance(value, str) else None


def _retry_after(value: str, now: datetime) -> float | None:
    """Retry-After in seconds or as an HTTP date (RFC 9110, 10.2.3); what cannot be read is as if it were absent."""
    if (seconds := _seconds(value)) is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(aware - now, timedelta()).total_seconds()


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _log_retry(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    _LOG.info("trying again in %.1f s: %s", state.upcoming_sleep, failure)
