"""One stream of events feeds the lockfile and everybody who watches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce

from reconciler.domain.errors import LockConflict
from reconciler.domain.lock import Lock, check_same_owner
from reconciler.domain.ports import Clock, LockStore
from reconciler.planning.events import Event, EventSink, record
from reconciler.state.lockfile import dumps, loads

SAVE_INTERVAL = timedelta(seconds=1)
_RIVALS = 5
"""How many times in a row others may be faster at saving; each of them saved something, so the lot moves on."""


class Recorder:
    """Folds events into the lock, saves it when it changed (at most once a second, and on flush), tells sinks.

    Another run may have saved in between: then this run's events are folded into what that one left.
    """

    def __init__(self, lock: Lock, store: LockStore, clock: Clock, sinks: Sequence[EventSink] = ()) -> None:
        """``sinks`` are called with every event, after it was recorded."""
        self.lock = lock
        self._store = store
        self._clock = clock
        self._sinks = sinks
        self._events: list[Event] = []
        self._saved = lock
        self._text: str | None = None  # what the lock was last folded into, or saved as
        self._last: datetime | None = None

    def emit(self, *events: Event) -> None:
        """Record events, save when it is time, and pass them on; several of them are saved together or not at all."""
        for event in events:
            before, self.lock = self.lock, record(self.lock, event)
            if self.lock is not before:
                self._events.append(event)
        if self._last is None or self._clock() - self._last >= SAVE_INTERVAL:
            self.flush()
        for event in events:
            for sink in self._sinks:
                sink(event)

    def lease(self) -> AbstractContextManager[object]:
        """Keep other runs from changing things meanwhile, where they share the lockfile.

        Raises:
            ReconcileError: when another run does that already.
        """
        return self._store.lease()

    def flush(self) -> None:
        """Save what is not saved yet; a lock without models is not worth a file.

        Raises:
            LockConflict: when others were faster again and again.
            ReconcileError: when the lockfile cannot be written, or was made unreadable meanwhile.
        """
        if self.lock is self._saved or not (self.lock.models or self._saved.models):
            return
        self._save_among_rivals()
        self._saved = self.lock
        self._last = self._clock()

    def reread(self) -> None:
        """Take up what another run has saved since the lockfile was read.

        Raises:
            ReconcileError: when it cannot be read, or belongs to something else by now.
        """
        text = self._take_up()
        if text is not None and dumps(self.lock) == text:
            self._saved = self.lock

    def rewrite(self) -> None:
        """Have the next flush write the lock, also where nothing was recorded: a store may give less than it holds."""
        self._saved = replace(self._saved)

    def _save_among_rivals(self) -> None:
        for _ in range(_RIVALS):
            with suppress(LockConflict):
                return self._save()
        raise LockConflict(
            f"{self._store.path} cannot be saved: {_RIVALS} times in a row another run was faster",
            "run again: what this run began goes on, and is found",
        )

    def _take_up(self) -> str | None:
        """Fold this run's events into what is saved, where another run saved it; the text that was found."""
        found = self._store.read()
        if found is not None and found != self._text:
            rival = loads(found, str(self._store.path))
            check_same_owner(rival, self.lock, str(self._store.path))
            self.lock = reduce(record, self._events, rival)
            self._text = found
        return found

    def _save(self) -> None:
        self._take_up()
        text = dumps(self.lock)
        self._store.write(text)
        self._text = text
