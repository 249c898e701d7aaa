"""Call functions that block in daemon threads, for which neither an event loop nor the process waits at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """Runs each call in a daemon thread of its own.

    As the default executor of a loop, it looks up names: a name that DNS does not answer blocks a thread for minutes,
    and such a call cannot be canceled.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a call."""
        outcome: Future[T] = Future()
        outcome.set_running_or_notify_cancel()

        def run() -> None:
            try:
                outcome.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised where the outcome is awaited
                outcome.set_exception(error)

        Thread(target=run, daemon=True).start()
        return outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the base
        """Wait for nothing."""


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """Run like asyncio.to_thread, but in a daemon thread: an interrupted program does not wait for it."""
    return await asyncio.get_running_loop().run_in_executor(DaemonThreads(), copy_context().run, work)
