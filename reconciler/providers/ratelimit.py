"""At most so many requests a minute: the generic cell rate algorithm (ITU-T I.371), a leaky bucket without a queue."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from reconciler.core.ports import Clock, Sleeper

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
