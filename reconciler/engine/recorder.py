"""One stream of events feeds the lockfile and everybody who watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from reconciler.core.events import Event, record
from reconciler.core.lock import Lock
from reconciler.core.lock_text import dumps
from reconciler.core.ports import Clock

SAVE_INTERVAL = timedelta(seconds=1)


class Recorder:
    """Folds events into the lock, saves it when it changed (at most once a second, and on flush), tells sinks."""

    def __init__(
        self, lock: Lock, save: Callable[[str], object], clock: Clock, sinks: Sequence[Callable[[Event], None]] = ()
    ) -> None:
        """``save`` takes the lockfile's whole text; ``sinks`` are called with every event, after it was recorded."""
        self.lock = lock
        self._save = save
        self._clock = clock
        self._sinks = sinks
        self._saved = lock
        self._last: datetime | None = None

    def emit(self, event: Event) -> None:
        """Record an event, save when it is time, and pass it on."""
        self.lock = record(self.lock, event)
        if self._last is None or self._clock() - self._last >= SAVE_INTERVAL:
            self.flush()
        for sink in self._sinks:
            sink(event)

    def flush(self) -> None:
        """Save what is not saved yet; a lock without models is not worth a file."""
        if self.lock is not self._saved and self.lock.models:
            self._save(dumps(self.lock))
            self._saved = self.lock
            self._last = self._clock()
