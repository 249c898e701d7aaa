"""Run coroutines until a signal interrupts them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")


class EventLoop(AbstractContextManager["EventLoop"]):
    """Runs coroutines one after another in one event loop, with prompts for the user between them.

    SIGINT and SIGTERM cancel the running coroutine, which then cleans up.
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
        """Return the result of a coroutine; raise KeyboardInterrupt when a signal canceled it."""
        try:
            return self._runner.run(_with_sigterm(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def _with_sigterm(work: Coroutine[Any, Any, _T]) -> _T:
    """Make SIGTERM cancel the coroutine as asyncio's runner makes SIGINT do; only the main thread gets signals."""
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine runs in a task")
    loop = asyncio.get_running_loop()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)  # wakes a loop that waits for the network

    # asyncio's own handlers run only when the loop does. This one also runs while a save of the lockfile blocks it.
    try:
        before = signal.signal(signal.SIGTERM, cancel)
    except ValueError:
        return await work
    try:
        return await work
    finally:
        signal.signal(signal.SIGTERM, before)
