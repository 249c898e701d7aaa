"""How long a service asks its clients to wait."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from reconciler.domain.ports import Clock, Sleeper
from reconciler.providers.google.errors import Refusal

if TYPE_CHECKING:
    import httpx


_MINUTE = timedelta(minutes=1)


class RateLimit:
    """Lets a minute's allowance through at once, and from then on one request every ``60 / per_minute`` seconds."""

    def __init__(self, per_minute: int, *, clock: Clock, sleep: Sleeper) -> None:
        self._interval = _MINUTE / per_minute
        self._clock = clock
        self._sleep = sleep
        self._full_again = datetime.min.replace(tzinfo=UTC)
        self._turn = asyncio.Lock()

    async def acquire(self) -> None:
        """Wait until one more request may be sent; callers are let through in the order in which they came."""
        async with self._turn:
            now = self._clock()
            # The upper bound matters when the wall clock is set back: it may cost a minute, not the whole step back.
            due = min(max(now, self._full_again), now + _MINUTE) + self._interval
            self._full_again = due
            if due > now + _MINUTE:
                await self._sleep((due - now - _MINUTE).total_seconds())


def asked_delay(response: httpx.Response, refusal: Refusal, now: datetime) -> float | None:
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
    except (OverflowError, ValueError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(aware - now, timedelta()).total_seconds()


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
