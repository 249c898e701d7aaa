"""Retries: which failures are retried, how often, and how long to wait between attempts."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from reconciler.domain.errors import ReconcileError
from reconciler.domain.ports import Random, Sleeper
from reconciler.providers.google.errors import ErrorResponse

ATTEMPTS = 6
"""The number of times that one request is sent at most."""

MAX_BACKOFF = 30.0
"""The longest pause between two attempts, in seconds, where the service requests none."""

MAX_RETRY_AFTER = 120.0
"""The longest pause, in seconds, that a service may request; a longer one is an error."""

FEW_ATTEMPTS = 3
"""The attempts for a failure that is usually permanent, such as a page of another service."""

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_LOG = logging.getLogger(__name__)


def is_unknown_outcome(status: int) -> bool:
    """Whether the service may have carried out a request that it answered with this error status."""
    executed = httpx.codes.is_server_error(status) and status != httpx.codes.NOT_IMPLEMENTED
    return executed or status == httpx.codes.REQUEST_TIMEOUT


class TransientError(Exception):
    """A failed attempt that may succeed when it is repeated.

    ``error`` is raised after the last of ``attempts``; its ``outcome_unknown`` is true where the service may have
    carried out this attempt. ``delay`` is the pause in seconds that the service requested.
    """

    def __init__(self, error: ReconcileError, *, delay: float | None = None, attempts: int = ATTEMPTS) -> None:
        super().__init__(str(error))
        self.error = error
        self.delay = delay
        self.attempts = attempts


class Attempt(Protocol[T_co]):
    """An action that is retried; ``in_doubt`` is true where an earlier attempt failed and may have been carried out."""

    async def __call__(self, *, in_doubt: bool) -> T_co: ...


class RetryPolicy:
    """Exponential backoff with jitter; a pause that the service requests takes precedence."""

    def __init__(self, sleep: Sleeper, random: Random) -> None:
        self._sleep = sleep
        self._random = random

    async def run(self, attempt: Attempt[T]) -> T:
        """Return the result of the first attempt that raises no :class:`TransientError`.

        The ``outcome_unknown`` of an error is true where any of the attempts may have been carried out.
        """
        in_doubt = False
        failures: Counter[int] = Counter()

        async def run_once() -> T:
            nonlocal in_doubt
            try:
                return await attempt(in_doubt=in_doubt)
            except TransientError as failure:
                in_doubt = in_doubt or bool(failure.error.outcome_unknown)
                failures[failure.attempts] += 1
                raise

        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=lambda state: state.attempt_number >= ATTEMPTS or any(failures[most] >= most for most in failures),
            wait=self._wait,
            retry=retry_if_exception_type(TransientError),
            before_sleep=_log_retry,
            reraise=True,
        )
        try:
            return await retrying(run_once)
        except TransientError as failure:
            failure.error.outcome_unknown = in_doubt
            raise failure.error from failure
        except ReconcileError as error:
            error.outcome_unknown = in_doubt or bool(error.outcome_unknown)
            raise

    async def pause(self, attempt: int) -> None:
        """Wait after attempt number ``attempt``, counted from 1; each pause is longer than the one before."""
        await self._sleep(self._backoff(attempt))

    def _backoff(self, attempt: int) -> float:
        return float(min(MAX_BACKOFF, 2.0 ** (attempt - 1))) * (1 + self._random()) / 2

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, TransientError) and failure.delay is not None:
            return failure.delay + self._random()  # clients with the same delay must not return at the same moment
        return self._backoff(state.attempt_number)


def _log_retry(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    cause = failure.error.message if isinstance(failure, TransientError) else failure  # no remedy is needed yet
    _LOG.info("retrying in %.1f s: %s", state.upcoming_sleep, cause)


def requested_delay(response: httpx.Response, error: ErrorResponse, now: datetime) -> float | None:
    """Return the pause in seconds that the service requests, the longer of RetryInfo and Retry-After."""
    retry_info = error.detail("RetryInfo").get("retryDelay")
    delays = (
        _parse_seconds(retry_info.removesuffix("s")) if isinstance(retry_info, str) else None,
        _parse_retry_after(response.headers.get("retry-after", ""), now),
    )
    return max((delay for delay in delays if delay is not None), default=None)


def _parse_retry_after(value: str, now: datetime) -> float | None:
    """Parse seconds or an HTTP date (RFC 9110, 10.2.3); an unreadable value counts as absent."""
    if (seconds := _parse_seconds(value)) is not None:
        return seconds
    moment = parse_date(value)
    return max(moment - now, timedelta()).total_seconds() if moment else None


def parse_date(value: str) -> datetime | None:
    """Return an HTTP date, which has a time zone; ``None`` for any other value."""
    try:
        moment = parsedate_to_datetime(value)
    except (OverflowError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parse_seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
