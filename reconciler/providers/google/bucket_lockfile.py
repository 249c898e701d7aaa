"""A lockfile in Cloud Storage: saved with compare-and-swap, and protected by a lease while a plan is applied."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread, current_thread
from typing import Annotated, Any, TypeVar

from msgspec import Meta, MsgspecError, Struct, to_builtins
from msgspec.json import decode

from reconciler.daemon_threads import DaemonThreads
from reconciler.domain.errors import (
    AccessError,
    LeaseHeld,
    LockConflict,
    PreconditionError,
    ReconcileError,
    ServiceError,
    TimeoutReached,
)
from reconciler.domain.lock import require_size
from reconciler.domain.ports import Clock, Sleeper
from reconciler.domain.text import decode_utf8, sanitize
from reconciler.environment import Deadline, is_canceled
from reconciler.providers.google.storage import Storage

LEASE_DURATION = timedelta(minutes=5)
"""The time after which a lease expires unless it is renewed, and so the longest wait after a run that crashed."""

LEASE_SUFFIX = ".lease"
"""The suffix of a lease; the rest of its address is that of the lockfile."""

ABSENT = 0
"""The generation of a missing object."""

CANCEL_GRACE = 5.0
"""How long a request may continue after the caller's task was canceled, in seconds."""

_START_FIELD = 19  # of a process in proc(5), counted from the one after its name
_IDENTITY_SPACES = 3
_RENEWAL = LEASE_DURATION / 3  # a lease survives one failed renewal
_POLL = 0.2  # seconds between two checks for cancellation
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class _LeaseContent(Struct, frozen=True, omit_defaults=True):
    """The content of a lease; ``holder`` and ``acquired`` together identify the run that holds it.

    ``process`` identifies its process where the system allows that: see :func:`process_identity`.
    """

    holder: str
    acquired: Annotated[datetime, Meta(tz=True)]
    expires: Annotated[datetime, Meta(tz=True)]
    process: str = ""

    def data(self) -> bytes:
        return f"{json.dumps(to_builtins(self), indent=2)}\n".encode()

    def has_same_holder(self, other: _LeaseContent) -> bool:
        return (self.holder, self.acquired) == (other.holder, other.acquired)

    def __str__(self) -> str:
        return f"held by {sanitize(self.holder)} until {self.expires.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def process_identity(pid: int) -> str:
    """Return what no other process has: start of the system, namespace, number and start of the process.

    It is empty without such a process, and on systems without ``/proc`` (see proc(5)).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    started = status.rpartition(")")[2].split()[_START_FIELD]
    return f"{boot} {namespace} {pid} {started}"


def _has_ended(process: str) -> bool:
    """Return whether a process of this system and namespace no longer runs; others cannot be known."""
    *system, pid, _ = process.split() if process.count(" ") == _IDENTITY_SPACES else ["", "", "", ""]
    here = process_identity(os.getpid())
    return bool(here) and here.split()[:2] == system and pid.isdigit() and process_identity(int(pid)) != process


class Lease:
    """The lease of one run; its content identifies the run, so a lost response leaves no doubt about the holder.

    Args:
        address: The ``gs://`` address of the object.
        clock: The current time; the clocks of all machines should agree within a fraction of :data:`LEASE_DURATION`.
        sleep: Waits between two renewals.
        holder: A description of this run for messages.
        process: What :func:`process_identity` returns for this run: its end frees the lease on this machine.
    """

    def __init__(self, address: str, *, clock: Clock, sleep: Sleeper, holder: str, process: str = "") -> None:
        self.address = address
        self._clock = clock
        self._sleep = sleep
        self._holder = holder
        self._process = process
        self._acquired = clock()
        self._renewals: asyncio.Task[None] | None = None

    async def acquire(self, storage: Storage) -> None:
        """Create the object, or replace an expired one, and start to renew it in the running loop.

        Raises:
            ReconcileError: Another run holds the lease, or the object is not a lease.
        """
        generation = ABSENT
        while not await self._write(storage, generation):
            expired, generation = await self.find_expired(storage) or (None, ABSENT)
            if expired:
                state = "expired lease" if expired.expires <= self._clock() else "lease of an ended run,"
                _LOG.warning("replacing the %s %s, %s", state, self.address, expired)
        self._renewals = asyncio.create_task(self._renew(storage))

    async def release(self, storage: Storage) -> None:
        """Delete the object if this run holds it; after a failure, the lease expires."""
        if self._renewals:
            self._renewals.cancel()
            await asyncio.wait([self._renewals])
        try:
            generation = await self._find_own(storage)
            if generation is not None:
                await storage.delete(self.address, generation=generation)
        except ReconcileError as error:
            _LOG.warning("cannot release the lease %s, which will expire: %s", self.address, error)

    def _content(self) -> _LeaseContent:
        return _LeaseContent(self._holder, self._acquired, self._clock() + LEASE_DURATION, self._process)

    async def _write(self, storage: Storage, generation: int) -> bool:
        """Write the lease if the object has this generation; return whether this run holds it now."""
        try:
            await storage.write(self.address, self._content().data(), generation=generation)
        except PreconditionError:
            return False
        return True

    async def find_expired(self, storage: Storage) -> tuple[_LeaseContent, int] | None:
        """Return a lease that has expired, or whose process has ended, and its generation; ``None`` without a lease.

        Raises:
            ReconcileError: Another run holds the lease, or the object is not a lease.
        """
        stored = await self._read(storage)
        if stored and stored[0].expires > self._clock() and not _has_ended(stored[0].process):
            raise LeaseHeld(
                f"another run is in progress and has the lease {self.address}, {stored[0]}",
                "wait until it has ended, and run the command again; if it has crashed, its lease expires at that time",
            )
        return stored

    async def _read(self, storage: Storage) -> tuple[_LeaseContent, int] | None:
        stored = await storage.read(self.address)
        if stored is None:
            return None
        data, generation = stored
        try:
            return decode(data, type=_LeaseContent), generation
        except (MsgspecError, RecursionError) as error:
            raise ReconcileError(
                f"{self.address} is not a lease",
                f"move it away (`gcloud storage mv {self.address} {self.address}.old`),"
                " or change spec.lock of the target",
            ) from error

    async def _find_own(self, storage: Storage) -> int | None:
        """Return the generation of the lease; ``None`` where this run no longer holds it."""
        stored = await self._read(storage)
        return stored[1] if stored and stored[0].has_same_holder(self._content()) else None

    async def _renew(self, storage: Storage) -> None:
        """Renew the lease until it is lost; a lost lease is not taken back from its new holder."""
        held = True
        while held:
            await self._sleep(_RENEWAL.total_seconds())
            try:
                generation = await self._find_own(storage)
                held = generation is not None and await self._write(storage, generation)
            except ReconcileError as error:
                _LOG.warning("cannot renew the lease %s: %s", self.address, error)
        _LOG.warning("lost the lease %s; this run continues, and merges what other runs save", self.address)


class BucketLockfile:
    """A lockfile, or another text that several runs write, at a ``gs://`` address.

    It implements :class:`reconciler.domain.ports.LockStore`.

    It is synchronous, and can be called inside a running event loop: a thread of its own sends the requests in its own
    loop. The thread starts with the first request, and ends when this object is garbage-collected.

    Every method raises AccessError without valid credentials or permission, ServiceError when a request fails or the
    bucket does not exist, and UsageError for an invalid address.

    Args:
        address: The address of the text, ``gs://bucket/object``; its lease is ``gs://bucket/object.lease``.
        connect: Returns the client; it is called in that thread, inside its loop.
        clock, sleep, holder, process: See :class:`~reconciler.providers.google.bucket_lockfile.Lease`.
        deadline: How long requests may take; a request may continue for the deadline's grace after it.
        grace: How long a request may continue after the caller's task was canceled, in seconds.
        label: The name of the text in messages.
    """

    def __init__(
        self,
        address: str,
        connect: Callable[[], Storage],
        *,
        clock: Clock,
        sleep: Sleeper,
        holder: str,
        process: str = "",
        deadline: Deadline | None = None,
        grace: float = CANCEL_GRACE,
        label: str = "the lockfile",
    ) -> None:
        self._address = address
        self._label = label
        self._connect = connect
        self._clock = clock
        self._sleep = sleep
        self._holder = holder
        self._process = process
        self._deadline = deadline or Deadline()
        self._grace = grace
        self._thread: _StorageThread | None = None
        self._generation = ABSENT
        self._text: str | None = None

    @property
    def path(self) -> str:
        """The address."""
        return self._address

    def read(self) -> str | None:
        """Return the text, or ``None`` where it does not exist; raises ReconcileError where it is not UTF-8."""
        with _add_context(f"cannot read {self._label} {self._address}"):
            stored = self._run(lambda storage: storage.read(self._address))
        data, self._generation = stored or (None, ABSENT)
        remedy = "restore an earlier version of the object, or save it as UTF-8"
        self._text = None if data is None else decode_utf8(data, self._address, remedy)
        return self._text

    def server_time(self) -> datetime | None:
        """Return when the text that :meth:`read` returned was written, by the server's clock; ``None`` without a text.

        Raises:
            LockConflict: Another run has changed the text.
        """
        if self._generation == ABSENT:
            return None
        with _add_context(f"cannot read {self._label} {self._address}"):
            stored = self._run(lambda storage: storage.stat(self._address))
        if stored is None or stored.generation != self._generation:
            raise self._conflict()
        return stored.created

    def _conflict(self) -> LockConflict:
        return LockConflict(
            f"another run has saved {self._address} in the meantime",
            "run the command again; it finds the trainings that this run has started",
        )

    def write(self, text: str) -> bool:
        """Replace the text that :meth:`read` returned, if it differs; return whether it did.

        Raises:
            LockConflict: Another run has changed the text; nothing was written.
        """
        if text == self._text:
            return False
        data, generation = text.encode(), self._generation
        require_size(data, self._address)
        try:
            with _add_context(f"cannot save {self._label} {self._address}"):
                self._generation = self._run(lambda storage: storage.write(self._address, data, generation=generation))
        except PreconditionError as error:
            raise self._conflict() from error
        self._text = text
        return True

    def saving(self) -> AbstractContextManager[None]:
        """Exclude no run: :meth:`write` fails if another run has saved, which takes a moment, not a whole lease."""
        return nullcontext()

    def check_writable(self) -> None:
        """Raise the error of an unreadable object; whether it is writable shows when the lease is acquired."""
        with _add_context(f"cannot check {self._label} {self._address}"):
            self._run(lambda storage: storage.stat(self._address))

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the lease, which prevents other runs from making changes; it is renewed in the background.

        The lease of a run that crashed expires within minutes. The loss of a lease (it expired while the machine slept,
        and another run acquired it) is only logged: the lockfile is merged, and new models have names of their own.

        Raises:
            ReconcileError: Another run holds the lease.
        """
        lease = Lease(
            self._address + LEASE_SUFFIX,
            clock=self._clock,
            sleep=self._sleep,
            holder=self._holder,
            process=self._process,
        )
        with _add_context(f"cannot acquire the lease {lease.address}"):
            self._run(lease.acquire)
        try:
            yield
        finally:
            self._run(lease.release)

    def _run(self, action: Callable[[Storage], Coroutine[Any, Any, _T]]) -> _T:
        if self._thread is None:
            self._thread = _StorageThread(self._connect, self._deadline, self._grace)
            weakref.finalize(self, self._thread.close)
        return self._thread.run(action)


@contextmanager
def _add_context(failure: str) -> Iterator[None]:
    """Prefix the error of a request with the failed action; the caller explains a failed precondition."""
    try:
        yield
    except PreconditionError:
        raise
    except ServiceError as error:
        raise ServiceError(f"{failure}: {error.message}", error.remedy, code=error.code) from error
    except AccessError as error:
        raise AccessError(f"{failure}: {error.message}", error.remedy) from error
    except TimeoutReached as error:
        raise TimeoutReached(f"{failure}: {error.message}", error.remedy) from error


class _StorageThread:
    """A client of Cloud Storage in an event loop of a daemon thread, which the program's exit does not wait for."""

    def __init__(self, connect: Callable[[], Storage], deadline: Deadline, grace: float) -> None:
        self._deadline = deadline
        self._grace = grace
        opened: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Storage]] = Future()
        serving = _serve(connect, opened)
        self._thread = Thread(target=asyncio.run, args=(serving,), name="lockfile", daemon=True)
        self._thread.start()
        self._loop, self._end, self._storage = opened.result()

    def run(self, action: Callable[[Storage], Coroutine[Any, Any, _T]]) -> _T:
        """Return the result of a coroutine; an interrupted caller cancels it.

        Raises:
            TimeoutReached: The deadline has passed, and its grace.
            ServiceError: The caller's task was canceled, and the service does not respond within the grace period;
                the caller does not wait for all retries.
        """
        outcome = asyncio.run_coroutine_threadsafe(action(self._storage), self._loop)
        try:
            self._wait(outcome)
            return outcome.result()
        except BaseException:
            outcome.cancel()
            raise

    def _wait(self, outcome: Future[_T]) -> None:
        has_passed = self._deadline.countdown(self._deadline.grace)
        while not wait([outcome], timeout=_POLL).done:
            if has_passed():
                raise TimeoutReached("Cloud Storage did not respond within --timeout", "run the command again")
            if not is_canceled():
                continue
            if wait([outcome], timeout=self._grace).done:
                return
            raise ServiceError(
                "interrupted, and Cloud Storage does not respond",
                "run the command again; it finds the trainings that this run has started",
                code="CANCELLED",
            )

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        if self._thread is not current_thread():  # the garbage collector may call this in the thread itself
            self._thread.join()


async def _serve(
    connect: Callable[[], Storage], opened: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Storage]]
) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    try:
        storage = connect()
    except Exception as error:  # noqa: BLE001 - raised where the client is awaited
        opened.set_exception(error)
        return
    async with storage:
        opened.set_result((asyncio.get_running_loop(), end, storage))
        await end.wait()
