"""The process environment of a command, as one value that tests replace."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from reconciler.domain.ports import Clock, Sleeper

if TYPE_CHECKING:
    import random


GRACE: Final = timedelta(seconds=5)
"""How long a request or a save may continue after the deadline of its command."""
SINGLE_CHECK: Final = timedelta(minutes=2)
"""How long a command may check that waits for nothing; the same as the deadline of one request."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


async def sleep(seconds: float) -> None:
    """Suspend the caller for that many seconds."""
    import asyncio

    await asyncio.sleep(seconds)


def is_canceled() -> bool:
    """Return whether the calling task was canceled; code that blocks the event loop has to check."""
    import asyncio

    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def _system_random() -> random.Random:
    from random import SystemRandom

    return SystemRandom()


class Deadline:
    """The time at which a command has to end, which ``--timeout`` sets; without a limit there is none.

    Args:
        limit: The time from now to the deadline. With zero the command checks once, and waits for nothing.
        clock: The current time.
        grace: How long what is in progress at the deadline may continue.
    """

    def __init__(self, limit: timedelta | None = None, clock: Clock = utc_now, grace: timedelta | None = None) -> None:
        self._clock = clock
        self._end = None if limit is None else clock() + limit
        self.grace = grace or (GRACE if limit else SINGLE_CHECK)

    def left(self) -> timedelta | None:
        """Return the time until the deadline, zero after it; ``None`` without a deadline."""
        return None if self._end is None else max(self._end - self._clock(), timedelta())

    @property
    def has_passed(self) -> bool:
        """Whether the command has to end now."""
        return self._end is not None and self._clock() >= self._end

    def countdown(self, grace: timedelta) -> Callable[[], bool]:
        """Return a function that returns whether the deadline has passed, at least this time from now."""
        left, begun = self.left(), self._clock()
        return lambda: left is not None and self._clock() - begun >= left + grace

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Extend the deadline by the time that the body takes, in which the command waits for its user."""
        begun = self._clock()
        try:
            yield
        finally:
            if self._end is not None:
                self._end += self._clock() - begun


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that a command takes from outside the process.

    ``environ`` is the process environment, ``stdin`` is read for the path ``-``.
    """

    cwd: Path = field(default_factory=Path.cwd)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    stdin: BinaryIO = field(default_factory=lambda: sys.stdin.buffer)
    clock: Clock = utc_now
    sleeper: Sleeper = sleep
    rng: random.Random = field(default_factory=_system_random)
    deadline: Deadline = field(default_factory=Deadline)

    def limited(self, timeout: timedelta | None) -> Self:
        """Return the environment of a command that begins now and has to end after ``timeout``."""
        return replace(self, deadline=Deadline(timeout, self.clock))
