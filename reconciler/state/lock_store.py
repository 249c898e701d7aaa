"""Store the text of a lockfile in a file; writes are atomic."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import decode_utf8
from reconciler.files import check_writable, remove_leftovers, write_errors, write_file
from reconciler.paths import require_no_escape
from reconciler.secrets import redact
from reconciler.state.lockfile import dumps, loads

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from reconciler.domain.ports import LockStore


class LockFile:
    """A lockfile on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str | None:
        """Return the text, or ``None`` when the file does not exist; raises ReconcileError when it cannot be read."""
        require_no_escape(self.path, self.path)
        try:
            _require_regular(self.path)
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ReconcileError(
                f"{self.path} cannot be read: {error.strerror}", "check the permissions of the file and its folder"
            ) from error
        return decode_utf8(data, str(self.path), "restore it from git, or save it as UTF-8")

    def write(self, text: str) -> bool:
        """Replace the text atomically, and return whether it changed; raises ReconcileError when writing fails."""
        with write_errors(self.path):
            _require_regular(self.path)
            data = redact(text).encode()
            if self.path.exists() and self.path.read_bytes() == data:
                remove_leftovers(self.path)
                return False
            write_file(self.path, data)
            return True

    def check_writable(self) -> None:
        """Raise the ReconcileError that :meth:`write` would raise for missing folders and permissions."""
        with write_errors(self.path):
            _require_regular(self.path)
            check_writable(self.path)

    def lease(self) -> AbstractContextManager[None]:
        """Return a context manager that does nothing: a file belongs to one checkout."""
        return nullcontext()


def _require_regular(path: Path) -> None:
    """Raise OSError for a path that exists and is not a regular file: opening a pipe can block forever."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")


class RedactedLockStore:
    """A lock store without the prompts and answers of failed checks, which an earlier policy may have recorded."""

    def __init__(self, store: LockStore) -> None:
        self._store = store
        self.write = store.write
        self.check_writable = store.check_writable
        self.lease = store.lease

    @property
    def path(self) -> object:
        """The name of the store in messages."""
        return self._store.path

    def read(self) -> str | None:
        """Return the redacted text; an invalid text is returned as it is, and its reader reports the error."""
        text = self._store.read()
        try:
            lock = loads(text or "", str(self.path))
        except ReconcileError:
            return text
        from reconciler.planning.redaction import redact_lock

        redacted = redact_lock(lock)
        return text if redacted is lock else dumps(redacted)
