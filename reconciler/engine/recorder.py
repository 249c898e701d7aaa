"""Record events: fold them into the lock, save the lockfile, and pass them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import reduce

from reconciler.domain.document import RunInfo
from reconciler.domain.errors import LockConflict
from reconciler.domain.lock import DecidedAction, Decision, Lock, check_same_owner, format_time
from reconciler.domain.ports import Clock, LockStore
from reconciler.planning.events import Decided, Event, EventSink, record
from reconciler.state.lockfile import LockWriter, loads

SAVE_INTERVAL = timedelta(seconds=1)
_MAX_ATTEMPTS = 5
"""How often saving is tried while other runs save in between; each conflict means that another run made progress."""


class Recorder:
    """Folds events into the lock, saves it at most once a second and on flush, and calls the sinks.

    When another run saved the lockfile in between, the events of this run that are not saved yet are folded into what
    that run saved. Saved events are forgotten: another run may have undone them since.
    """

    def __init__(
        self,
        lock: Lock,
        store: LockStore,
        clock: Clock,
        sinks: Sequence[EventSink] = (),
        run: Callable[[], RunInfo | None] = lambda: None,
    ) -> None:
        """``sinks`` are called with each event after it was recorded; ``run`` returns who runs the command."""
        self.lock = lock
        self._store = store
        self._writer = LockWriter()
        self._clock = clock
        self._sinks = sinks
        self._run = run
        self._events: list[Event] = []  # that are not saved yet
        self._saved = lock
        self._text: str | None = None  # the text of the lockfile when it was last read or saved
        self._saved_at: datetime | None = None
        self._must_save = False
        self._leased = False

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

    def decided(
        self,
        action: DecidedAction,
        model: str = "",
        generation: str = "",
        *,
        before: str = "",
        stage: str = "",
        reason: str = "",
    ) -> Decided:
        """Return the event of a decision, which is emitted with the events that carry it out."""
        run = self._run()
        return Decided(
            Decision(
                time=format_time(self._clock()),
                action=action,
                model=model,
                generation=generation,
                before=before,
                stage=stage,
                actor=run.actor if run else "",
                commit=run.commit if run else "",
                reason=reason,
            )
        )

    @contextmanager
    def lease(self) -> Iterator[bool]:
        """Keep other runs with this lockfile from changes while this run decides, acts and saves.

        The lockfile is read again before, and saved after. Gives whether another run has changed it since it was last
        read or saved. Inside of another lease, nothing is read or saved.

        Raises:
            ReconcileError: another run has the lease, or the lockfile cannot be read or saved.
        """
        if self._leased:
            yield False
            return
        with self._store.lease():
            changed = self.reload()
            self._leased = True
            try:
                yield changed
            finally:
                self._leased = False
                self.flush()

    def flush(self) -> None:
        """Save the lock if it changed; without models no file is created.

        Raises:
            LockConflict: other runs kept saving in between.
            ReconcileError: the lockfile cannot be written, or is no longer valid.
        """
        unchanged = self.lock is self._saved and not self._must_save
        if unchanged or not (self.lock.models or self._saved.models):
            return
        self._save()
        self._saved_at = self._clock()

    def reload(self) -> bool:
        """Read the lockfile again, fold the unsaved events of this run into it, and return whether it has changed.

        Raises:
            ReconcileError: it cannot be read, or belongs to another target.
        """
        known = self._saved
        self._rebase()
        return self._saved is not known

    def must_save(self) -> None:
        """Make the next flush write the lock although nothing was recorded, because a store redacted what it read."""
        self._must_save = True

    def _save(self) -> None:
        for _ in range(_MAX_ATTEMPTS):
            with suppress(LockConflict), self._store.saving():
                self._rebase()
                text = self._writer.dumps(self.lock)
                self._store.write(text)
                self._text, self._saved, self._must_save = text, self.lock, False
                self._events.clear()
                return
        raise LockConflict(
            f"{self._store.path} cannot be saved: another run saved it first, {_MAX_ATTEMPTS} times in a row",
            "run the command again; trainings that were started continue and are found",
        )

    def _rebase(self) -> None:
        """Read the lockfile, and fold the unsaved events of this run into it if another run has changed it."""
        found = self._store.read()
        if found is None or found == self._text:
            return
        self._text = found
        saved = loads(found, str(self._store.path))
        check_same_owner(saved, self.lock, str(self._store.path))
        if saved != self._saved:
            self._saved = saved
            self.lock = reduce(record, self._events, saved)
