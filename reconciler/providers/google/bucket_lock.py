"""The lockfile as an object in Cloud Storage: compare-and-swap for what is saved, a lease while things are changed."""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread, current_thread
from typing import Any, TypeVar

from reconciler.domain.errors import AccessError, LockConflict, PreconditionError, ReconcileError, ServiceError
from reconciler.domain.ports import Clock, Sleeper
from reconciler.providers.google.errors import clean
from reconciler.providers.google.storage import Storage

DURATION = timedelta(minutes=5)
"""How long a lease lasts after it was taken or renewed: a run that died keeps others waiting so long at most."""

SUFFIX = ".lease"
"""What is put behind the address of a lockfile to make that of its lease."""

ABSENT = 0
"""The generation of an object that is not there."""

_RENEWAL = DURATION / 3  # so that one renewal may fail before the lease ends
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a lease says; ``holder`` and ``acquired`` together tell whose it is."""

    holder: str
    acquired: datetime
    expires: datetime

    @classmethod
    def read(cls, data: bytes) -> _Claim:
        """Raises LookupError, OverflowError, RecursionError, TypeError or ValueError when it is none."""
        document = json.loads(data)
        return cls(str(document["holder"]), _time(document["acquired"]), _time(document["expires"]))

    def data(self) -> bytes:
        document = {
            "holder": self.holder,
            "acquired": self.acquired.isoformat(),
            "expires": self.expires.isoformat(),
        }
        return f"{json.dumps(document, indent=2)}\n".encode()

    def is_of(self, other: _Claim) -> bool:
        return (self.holder, self.acquired) == (other.holder, other.acquired)

    def __str__(self) -> str:
        return f"{clean(self.holder)} holds it until {self.expires:%Y-%m-%d %H:%M:%S} UTC"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class Lease:
    """One run's lease. Whose a lease is shows in its content: an answer that was lost leaves nobody in doubt.

    Args:
        address: The ``gs://`` address of the object.
        clock: The current time. The machines of all runs should agree on it within a fraction of :data:`DURATION`.
        sleep: What waits between two renewals.
        holder: Who this run is, for people.
    """

    def __init__(self, address: str, *, clock: Clock, sleep: Sleeper, holder: str) -> None:
        self.address = address
        self._clock = clock
        self._sleep = sleep
        self._holder = holder
        self._acquired = clock()
        self._renewals: asyncio.Task[None] | None = None

    async def take(self, storage: Storage) -> None:
        """Make the object, or take over one that has ended, and renew it from now on, in the running loop.

        Raises:
            ReconcileError: Another run holds the lease, or the object is no lease.
        """
        generation = ABSENT
        while not await self._claimed(storage, generation):
            claim, generation = await self.ended(storage) or (None, ABSENT)
            if claim:
                _LOG.warning("taking over the lease %s, which was left behind: %s", self.address, claim)
        self._renewals = asyncio.create_task(self._keep(storage))

    async def give_back(self, storage: Storage) -> None:
        """Delete the object, if it is still ours; one that cannot be deleted ends by itself."""
        if self._renewals:
            self._renewals.cancel()
            await asyncio.wait([self._renewals])
        try:
            generation = await self._own(storage)
            if generation is not None:
                await storage.delete(self.address, generation=generation)
        except ReconcileError as error:
            _LOG.warning("the lease %s is left behind, and ends by itself: %s", self.address, error)

    def _claim(self) -> _Claim:
        return _Claim(self._holder, self._acquired, self._clock() + DURATION)

    async def _claimed(self, storage: Storage, generation: int) -> bool:
        """Whether the object had that generation, and is ours now."""
        try:
            await storage.write(self.address, self._claim().data(), generation=generation)
        except PreconditionError:
            return False
        return True

    async def ended(self, storage: Storage) -> tuple[_Claim, int] | None:
        """What a lease says that was left behind, and its generation, if there is one.

        Raises:
            ReconcileError: Another run holds the lease, or the object is no lease.
        """
        found = await self._look(storage)
        if found and found[0].expires > self._clock():
            raise ReconcileError(
                f"another run is at work, and has the lease {self.address}: {found[0]}",
                "run again when it has ended; if it is certainly dead, wait until that time, or delete the lease:"
                f" `gcloud storage rm {self.address}`",
            )
        return found

    async def _look(self, storage: Storage) -> tuple[_Claim, int] | None:
        found = await storage.read(self.address)
        if found is None:
            return None
        data, generation = found
        try:
            return _Claim.read(data), generation
        except (LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise ReconcileError(
                f"{self.address} is in the place of a lease, and is none",
                f"see what it is; then delete it (`gcloud storage rm {self.address}`), or keep the lockfile elsewhere",
            ) from error

    async def _own(self, storage: Storage) -> int | None:
        """The generation of the lease as long as it is ours."""
        found = await self._look(storage)
        return found[1] if found and found[0].is_of(self._claim()) else None

    async def _keep(self, storage: Storage) -> None:
        """Renew until the lease is lost; what was lost is not taken again from whoever has it now."""
        kept = True
        while kept:
            await self._sleep(_RENEWAL.total_seconds())
            try:
                generation = await self._own(storage)
                kept = generation is not None and await self._claimed(storage, generation)
            except ReconcileError as error:
                _LOG.warning("the lease %s could not be renewed: %s", self.address, error)
        _LOG.warning("the lease %s was lost; this run goes on, and keeps what others save meanwhile", self.address)


PATIENCE = 5.0
_ATTENTION = 0.2  # seconds between two looks at whether somebody interrupts
_LATER = "run again: what was begun goes on, and is found"
_T = TypeVar("_T")


class BucketLock:
    """A lockfile, or another text that several runs write, at a ``gs://`` address.

    It implements :class:`reconciler.domain.ports.LockStore`.

    It is synchronous, and may be called inside a running event loop: the requests are sent by a loop in a thread of its
    own, which starts with the first of them and ends, its connections given back, when nobody holds this object.

    Every method raises AccessError when nobody is logged in or somebody who may not, and ServiceError when Cloud
    Storage refuses, cannot be reached, or has no such bucket; and UsageError for an address that is none.

    Args:
        address: Where the text is, ``gs://bucket/object``; the lease is beside it, ``gs://bucket/object.lease``.
        patience: How long a request may still take, in seconds, once the caller's task was cancelled.
        connect: Makes the client; it is called in that thread, inside its loop.
        clock, sleep, holder: See :class:`~reconciler.providers.google.bucket_lock.Lease`.
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
