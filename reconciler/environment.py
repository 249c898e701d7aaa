"""The process environment of a command, as one value that tests replace."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from reconciler.domain.ports import Clock, Sleeper

if TYPE_CHECKING:
    import random


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
