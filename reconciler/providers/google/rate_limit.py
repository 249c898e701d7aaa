"""The rate limit of one client."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from reconciler.domain.ports import Clock, Sleeper

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
