"""A lockfile in which no prompts and answers are read or written, for targets that show no examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core.discretion import discreet_lock
from reconciler.core.lock_text import dumps, loads
from reconciler.core.problems import ReconcileError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from reconciler.core.ports import LockStore


class DiscreetLock:
    """A lock store that gives the failures of checks to nobody: an earlier policy may have let some in."""

    def __init__(self, store: LockStore) -> None:
        self._store = store

    @property
    def path(self) -> object:
        """What names the store in messages."""
        return self._store.path

    def read(self) -> str | None:
        """The text without them; one that cannot be read is left to whoever takes it apart."""
        text = self._store.read()
        try:
            lock = loads(text or "", str(self.path))
        except ReconcileError:
            return text
        discreet = discreet_lock(lock)
        return text if discreet is lock else dumps(discreet)

    def write(self, text: str) -> bool:
        """Replace the text, in which there are none; whether it differed."""
        return self._store.write(text)

    def check_writable(self) -> None:
        """Raise the ReconcileError that :meth:`write` would."""
        self._store.check_writable()

    def lease(self) -> AbstractContextManager[object]:
        """Keep other runs from changing things meanwhile."""
        return self._store.lease()
