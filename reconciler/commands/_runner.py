"""Running coroutines until somebody interrupts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")


class EventLoop(AbstractContextManager["EventLoop"]):
    """Runs coroutines one after another in one event loop, so that people can be asked in between.

    SIGINT and SIGTERM cancel what runs, and it cleans up.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of a coroutine; raises KeyboardInterrupt when a signal ended it."""
        try:
            return self._runner.run(_terminable(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def _terminable(work: Coroutine[Any, Any, _T]) -> _T:
    """Let SIGTERM do what asyncio's runner lets SIGINT do; other threads than the first get no signals."""
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine runs in a task")
    loop = asyncio.get_running_loop()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)  # wakes a loop that waits for the network

    # The loop's own handlers run when the loop does; this one also while the lockfile is saved, which blocks the loop.
    try:
        before = signal.signal(signal.SIGTERM, cancel)
    except ValueError:
        return await work
    try:
        return await work
    finally:
        signal.signal(signal.SIGTERM, before)
