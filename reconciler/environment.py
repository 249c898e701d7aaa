"""The outside world as commands see it."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from reconciler.domain.ports import Clock, Sleeper


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


async def sleep(seconds: float) -> None:
    """The event loop's sleep."""
    import asyncio

    await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that a command takes from outside; tests hand in another one.

    ``environ`` is the process environment, ``stdin`` where the path ``-`` is read from.
    """

    cwd: Path = field(default_factory=Path.cwd)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    stdin: BinaryIO = field(default_factory=lambda: sys.stdin.buffer)
    clock: Clock = utc_now
    sleeper: Sleeper = sleep
    rng: random.Random = field(default_factory=random.SystemRandom)
