"""Record events: fold them into the lock, save the lockfile, and pass them on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from functools import reduce

from msgspec.structs import replace

from reconciler.domain.errors import LockConflict
from reconciler.domain.lock import Lock, check_same_owner
from reconciler.domain.ports import Clock, LockStore
from reconciler.planning.events import Event, EventSink, record
from reconciler.state.lockfile import LockWriter, loads

SAVE_INTERVAL = timedelta(seconds=1)
_MAX_ATTEMPTS = 5
"""How often saving is tried while other runs save in between; each conflict means that another run made progress."""


class Recorder:
    """Folds events into the lock, saves it at most once a second and on flush, and calls the sinks.

    When another run saved the lockfile in between, the events of this run are folded into what that run saved.
    """

    def __init__(self, lock: Lock, store: LockStore, clock: Clock, sinks: Sequence[EventSink] = ()) -> None:
        """``sinks`` are called with each event after it was recorded."""
        self.lock = lock
        self._store = store
        self._writer = LockWriter()
        self._clock = clock
        self._sinks = sinks
        self._events: list[Event] = []
        self._saved = lock
        self._text: str | None = None  # the text that the events were last folded into, or that was saved
        self._saved_at: datetime | None = None

    def emit(self, *events: Event) -> None:
        """Record events, save the lock when the interval has passed, and call the sinks.

        Events of one call are saved together or not at all.
        """
        for event in events:
            before, self.lock = self.lock, record(self.lock, event)
            if self.lock is not before:
                self._events.append(event)
        if self._saved_at is None or self._clock() - self._saved_at >= SAVE_INTERVAL:
            self.flush()
        for event in events:
            for sink in self._sinks:
                sink(event)

    def lease(self) -> AbstractContextManager[object]:
        """Return a context manager that keeps other runs with this lockfile from changing models.

        Raises:
            ReconcileError: another run has the lease.
        """
        return self._store.lease()

    def flush(self) -> None:
        """Save the lock if it changed; without models no file is created.

        Raises:
            LockConflict: other runs kept saving in between.
            ReconcileError: the lockfile cannot be written, or is no longer valid.
        """
        if self.lock is self._saved or not (self.lock.models or self._saved.models):
            return
        self._save()
        self._saved = self.lock
        self._saved_at = self._clock()

    def reload(self) -> None:
        """Read the lockfile again, and fold the events of this run into it.

        Raises:
            ReconcileError: it cannot be read, or belongs to another target.
        """
        text = self._rebase()
        if text is not None and self._writer.dumps(self.lock) == text:
            self._saved = self.lock

    def mark_changed(self) -> None:
        """Make the next flush write the lock although nothing was recorded, because a store redacted what it read."""
        self._saved = replace(self._saved)

    def _save(self) -> None:
        for _ in range(_MAX_ATTEMPTS):
            with suppress(LockConflict):
                self._rebase()
                text = self._writer.dumps(self.lock)
                self._store.write(text)
                self._text = text
                return
        raise LockConflict(
            f"{self._store.path} cannot be saved: another run saved it first, {_MAX_ATTEMPTS} times in a row",
            "run the command again; trainings that were started continue and are found",
        )

    def _rebase(self) -> str | None:
        """Fold the events of this run into the saved lock if another run changed it, and return the text found."""
        found = self._store.read()
        if found is not None and found != self._text:
            saved = loads(found, str(self._store.path))
            check_same_owner(saved, self.lock, str(self._store.path))
            self.lock = reduce(record, self._events, saved)
            self._text = found
        return found
