"""The lockfile as an object in Cloud Storage: compare-and-swap for what is saved, a lease while things are changed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Thread, current_thread
from typing import Any, TypeVar

from reconciler.core.ports import Clock, Sleeper
from reconciler.core.problems import AccessError, LockConflict, ReconcileError, ServiceError
from reconciler.providers.errors import PreconditionError
from reconciler.providers.lease import ABSENT, SUFFIX, Lease
from reconciler.providers.storage import Storage

PATIENCE = 5.0
_ATTENTION = 0.2  # seconds between two looks at whether somebody interrupts
_LATER = "run again: what was begun goes on, and is found"
_T = TypeVar("_T")


class BucketLock:
    """A lockfile, or another text that several runs write, at a ``gs://`` address.

    It implements :class:`reconciler.core.ports.LockStore`.

    It is synchronous, and may be called inside a running event loop: the requests are sent by a loop in a thread of its
    own, which starts with the first of them and ends, its connections given back, when nobody holds this object.

    Every method raises AccessError when nobody is logged in or somebody who may not, and ServiceError when Cloud
    Storage refuses, cannot be reached, or has no such bucket; and UsageError for an address that is none.

    Args:
        address: Where the text is, ``gs://bucket/object``; the lease is beside it, ``gs://bucket/object.lease``.
        patience: How long a request may still take, in seconds, once the caller's task was cancelled.
        connect: Makes the client; it is called in that thread, inside its loop.
        clock, sleep, holder: See :class:`~reconciler.providers.lease.Lease`.
        called: What messages call the text.
    """

    def __init__(
        self,
        address: str,
        connect: Callable[[], Storage],
        *,
        clock: Clock,
        sleep: Sleeper,
        holder: str,
        patience: float = PATIENCE,
        called: str = "the lockfile",
    ) -> None:
        self._address = address
        self._called = called
        self._connect = connect
        self._clock = clock
        self._sleep = sleep
        self._holder = holder
        self._patience = patience
        self._bridge: _Bridge | None = None
        self._generation = ABSENT
        self._text: str | None = None

    @property
    def path(self) -> str:
        """The address."""
        return self._address

    def read(self) -> str | None:
        """The text, or ``None`` where there is none; raises ReconcileError when it is no text."""
        with _explained(f"{self._called} {self._address} cannot be read"):
            found = self._run(lambda storage: storage.read(self._address))
        data, self._generation = found or (None, ABSENT)
        self._text = None if data is None else self._decoded(data)
        return self._text

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ReconcileError(
                f"{self._called} {self._address} is not UTF-8 text",
                "put an earlier version of the object in its place, or delete it: apply rebuilds it",
            ) from error

    def write(self, text: str) -> bool:
        """Replace the text that :meth:`read` found, if it differs; whether it did.

        Raises:
            LockConflict: Something else is there by now; nothing was written.
        """
        if text == self._text:
            return False
        data, seen = text.encode(), self._generation
        try:
            with _explained(f"{self._called} {self._address} cannot be saved"):
                self._generation = self._run(lambda storage: storage.write(self._address, data, generation=seen))
        except PreconditionError as error:
            message = f"another run has saved {self._address} meanwhile"
            raise LockConflict(message, "run again: what this run began is found") from error
        self._text = text
        return True

    def check_writable(self) -> None:
        """Raise what keeps the object from being looked at; that it may be written shows when the lease is taken."""
        with _explained(f"{self._called} {self._address} cannot be looked at"):
            self._run(lambda storage: storage.stat(self._address))

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep other runs from changing things meanwhile; renewed in the background, given back at the end.

        A run that died leaves a lease that ends by itself within minutes. A lease that was lost (it ended while
        the machine slept, and another run took it over) is logged and nothing else: what is saved is compared and
        merged, and what is created has a name of its own.

        Raises:
            ReconcileError: Another run holds the lease.
        """
        lease = Lease(self._address + SUFFIX, clock=self._clock, sleep=self._sleep, holder=self._holder)
        with _explained(f"the lease {lease.address} cannot be taken"):
            self._run(lease.take)
        try:
            yield
        finally:
            self._run(lease.give_back)

    def _run(self, act: Callable[[Storage], Coroutine[Any, Any, _T]]) -> _T:
        if self._bridge is None:
            self._bridge = _Bridge(self._connect, self._patience)
            weakref.finalize(self, self._bridge.close)
        return self._bridge.run(act)


def _is_cancelled() -> bool:
    """Whether the task that calls was cancelled, which it can only notice by asking while it blocks its loop."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


@contextmanager
def _explained(failure: str) -> Iterator[None]:
    """Say what a failed request was for; an unmet precondition is the caller's to explain."""
    try:
        yield
    except PreconditionError:
        raise
    except ServiceError as error:
        raise ServiceError(f"{failure}: {error.message}", error.remedy, code=error.code) from error
    except AccessError as error:
        raise AccessError(f"{failure}: {error.message}", error.remedy) from error


class _Bridge:
    """A client of Cloud Storage in an event loop of its own, which a daemon thread runs: nothing waits for its end."""

    def __init__(self, connect: Callable[[], Storage], patience: float) -> None:
        self._patience = patience
        opened: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Storage]] = Future()
        serving = _serve(connect, opened)
        self._thread = Thread(target=asyncio.run, args=(serving,), name="lockfile", daemon=True)
        self._thread.start()
        self._loop, self._end, self._storage = opened.result()

    def run(self, act: Callable[[Storage], Coroutine[Any, Any, _T]]) -> _T:
        """The result of a coroutine; who is interrupted while waiting for it takes it back.

        Raises:
            ServiceError: The caller's task was cancelled, and the service does not answer: nobody shall wait for
                either of them until the retries are used up.
        """
        outcome = asyncio.run_coroutine_threadsafe(act(self._storage), self._loop)
        try:
            self._attend(outcome)
            return outcome.result()
        except BaseException:
            outcome.cancel()
            raise

    def _attend(self, outcome: Future[_T]) -> None:
        while not wait([outcome], timeout=_ATTENTION).done:
            if not _is_cancelled():
                continue
            if wait([outcome], timeout=self._patience).done:
                return
            raise ServiceError("interrupted, and Cloud Storage does not answer", _LATER, code="CANCELLED")

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        if self._thread is not current_thread():  # the garbage collector calls from whichever thread it runs in
            self._thread.join()


async def _serve(
    connect: Callable[[], Storage], opened: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Storage]]
) -> None:
    end = asyncio.Event()
    try:
        storage = connect()
    except Exception as error:  # noqa: BLE001 - it is raised where the client is waited for
        opened.set_exception(error)
        return
    async with storage:
        opened.set_result((asyncio.get_running_loop(), end, storage))
        await end.wait()
