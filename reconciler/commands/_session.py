"""The session of a command: its environment, its target, and connections to service, storage and lockfiles."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock
from reconciler.domain.model import Target
from reconciler.domain.target_option import DEFAULT_TARGET, commands_for
from reconciler.environment import Environment
from reconciler.manifests.discovery import Root, target_files, target_name
from reconciler.manifests.target import read_target
from reconciler.providers import registry
from reconciler.providers.spec import ProviderContext
from reconciler.state.lockfile import LockFile, RedactedLockStore, loads

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

    from reconciler.domain.ports import LockStore
    from reconciler.providers.google.storage import Storage
    from reconciler.providers.spec import ConnectedProvider

_T = TypeVar("_T")


class EventLoop(AbstractContextManager["EventLoop"]):
    """Runs coroutines one after another in one event loop, with prompts for the user between them.

    SIGINT and SIGTERM cancel the running coroutine, which then cleans up. Only commands that need asyncio import it.
    At its end, asyncio's runner would start a thread that waits for the executor, which has nothing to wait for.
    """

    def __init__(self) -> None:
        import asyncio

        from reconciler.daemon_threads import DaemonThreads

        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(DaemonThreads())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        try:
            if tasks := asyncio.all_tasks(self._loop):
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a coroutine; raise KeyboardInterrupt when a signal canceled it."""
        from asyncio import CancelledError

        task = self._loop.create_task(work)
        try:
            with _canceled_by_signals(task, self._loop):
                return self._loop.run_until_complete(task)
        except CancelledError:
            raise KeyboardInterrupt from None


@contextmanager
def _canceled_by_signals(task: Task[Any], loop: AbstractEventLoop) -> Iterator[None]:
    """Make SIGINT and SIGTERM cancel the task; only the main thread gets signals.

    asyncio's runner makes a second SIGINT raise KeyboardInterrupt in the code that runs, such as a save of the
    lockfile. Its handlers for other signals run only when the loop does, and a save blocks it.
    """
    import asyncio
    import signal

    def cancel(_number: int, _frame: FrameType | None) -> None:
        # A task that runs learns of it at once, even if it blocks the loop. Another one waits for a future, and the
        # handler may have interrupted asyncio, which is about to end this future: the loop cancels the task.
        if task.done():
            raise KeyboardInterrupt
        if asyncio.current_task(loop) is task:
            task.cancel()
        else:
            loop.call_soon_threadsafe(task.cancel)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = [(number, signal.signal(number, cancel)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


_RUN_VARIABLES = ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "CI_JOB_URL", "BUILD_URL")
"""Variables with which CI systems name a run."""
_DELETES_NOTHING = "nothing is deleted, because the models that it relies on are unknown"


class Session(Struct, frozen=True):
    """One target, and how a command reaches it.

    ``root`` is the directory of the target file, ``lockfile`` the file beside it. ``allow_endpoints`` are hosts that
    credentials may be sent to, besides ``*.googleapis.com`` and this machine, and ``allow_folders`` are folders outside
    of the repository that may have models.
    """

    environment: Environment
    target: Target
    root: Path
    lockfile: Path
    allow_endpoints: frozenset[str] = frozenset()
    allow_folders: frozenset[Path] = frozenset()

    @property
    def shown_lockfile(self) -> str:
        """The lockfile's path or address, as messages show it."""
        return self.target.lock or display_path(self.lockfile, self.environment.cwd)

    def connect(self) -> ConnectedProvider:
        """Return a client of the target's service, an async context manager."""
        return registry.connect(self.provider_context)

    @property
    def provider_context(self) -> ProviderContext:
        """What the provider of the target connects with."""
        return ProviderContext(self.environment, self.target, self.root, self.allow_endpoints, self.allow_folders)

    def connect_storage(self) -> Storage:
        """Return a client of Cloud Storage, an async context manager."""
        from reconciler.providers.google.storage import open_storage

        return open_storage(self.environment, self.target, self.allow_endpoints)

    def query(self, work: Callable[[ConnectedProvider], Awaitable[_T]]) -> _T:
        """Return what ``work`` returns for a client, in an event loop of its own."""

        async def connected() -> _T:
            async with self.connect() as service:
                return await work(service)

        with EventLoop() as loop:
            return loop.run(connected())

    def lock_store(self) -> LockStore:
        """Return the store of the target's lockfile: beside the target file, or in a bucket."""
        address = self.target.lock
        store = self.object_store(address, "the lockfile") if address else self.file_store(self.lockfile)
        return store if self.target.show_examples else RedactedLockStore(store)

    def file_store(self, path: Path) -> LockFile:
        """Return a store for the text of a file."""
        return LockFile(path, self.environment.deadline)

    def object_store(self, address: str, label: str) -> LockStore:
        """Return a store for the text at a ``gs://`` address; ``label`` is its name in messages."""
        from reconciler.providers.google.bucket_lockfile import BucketLockfile, process_identity

        return BucketLockfile(
            address,
            self.connect_storage,
            clock=self.environment.clock,
            sleep=self.environment.sleeper,
            holder=self._lease_holder(),
            process=process_identity(os.getpid()),
            deadline=self.environment.deadline,
            label=label,
        )

    def _lease_holder(self) -> str:
        """Name this run for users who find its lease."""
        import socket

        environ = self.environment.environ
        run = [environ[name] for name in _RUN_VARIABLES if environ.get(name)]
        return " ".join([f"process {os.getpid()} on {socket.gethostname()}", *run])

    def readable_locks(self) -> Iterator[Lock]:
        """Yield the lockfiles of the other targets beside this one; skip those that cannot be read."""
        for path in self._sibling_lockfiles():
            try:
                text = LockFile(path).read()
                yield Lock() if text is None else loads(text, path.name)
            except ReconcileError:
                continue  # reported by the commands for that target

    def all_locks(self) -> tuple[Lock, ...]:
        """Return the lockfiles of all other targets of the root, in files and in buckets.

        Raises:
            ReconcileError: when a lockfile, or a target file that may name one, cannot be read.
        """
        stores = [
            (target.name, self.object_store(target.lock, "the lockfile"))
            for target in self._other_targets()
            if target.lock and target.lock != self.target.lock
        ]
        files = ((_target_of(path), LockFile(path)) for path in self._sibling_lockfiles())
        return tuple(_require_lock(target, store) for target, store in (*files, *stores))

    def _sibling_lockfiles(self) -> list[Path]:
        own = self.lockfile
        return [path for path in sorted(own.parent.glob("reconcile*.lock.json")) if path != own]

    def _other_targets(self) -> Iterator[Target]:
        root = self.root
        for file in target_files(root):
            if file.with_suffix(".lock.json") == self.lockfile:
                continue
            result = read_target(Root(root, file), file.name, self.environment.environ)
            if result.target is None:
                raise ReconcileError(f"{result.problems[0]}", f"fix the target file: {_DELETES_NOTHING}")
            yield result.target


def _target_of(lockfile: Path) -> str:
    return target_name(lockfile.with_suffix("").with_suffix(".yaml")) or DEFAULT_TARGET


def _require_lock(target: str, store: LockStore) -> Lock:
    with commands_for(target):
        try:
            text = store.read()
            return Lock() if text is None else loads(text, str(store.path))
        except ReconcileError as error:
            error.remedy = f"{error.remedy}; {_DELETES_NOTHING}"
            raise


def display_root(root: Path, cwd: Path) -> str:
    """Return a root as the user would write it, empty for the working directory."""
    path = display_path(root, cwd)
    return "" if path == "." else path


def display_path(path: Path, cwd: Path) -> str:
    """Return a path as the user would write it: relative to the working directory, unless that is longer."""
    if path.anchor != cwd.anchor:
        return str(path)
    return min(Path(os.path.relpath(path, cwd)).as_posix(), str(path), key=len)
