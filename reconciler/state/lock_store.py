"""Store the text of a lockfile in a file; writes are atomic."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.domain.errors import ReconcileError
from reconciler.state.lockfile import dumps, loads

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from reconciler.domain.ports import LockStore


_NEW_FILE_MODE = 0o644


class LockFile:
    """A lockfile on disk; a symbolic link is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str | None:
        """Return the text, or ``None`` when the file does not exist; raises ReconcileError when it cannot be read."""
        with _os_errors(self.path, "read"):
            try:
                _require_regular(self.path)
                return self.path.read_bytes().decode()
            except FileNotFoundError:
                return None
            except UnicodeDecodeError as error:
                raise ReconcileError(
                    f"{self.path} is not UTF-8 text",
                    "restore it from version control, or delete it and run reconcile refresh",
                ) from error

    def write(self, text: str) -> bool:
        """Replace the text atomically, and return whether it changed; raises ReconcileError when writing fails."""
        with _os_errors(self.path, "written"):
            real = Path(os.path.realpath(self.path))
            _require_regular(real)
            data = text.encode()
            if real.exists() and real.read_bytes() == data:
                return False
            _replace(real, data)
            return True

    def check_writable(self) -> None:
        """Raise the ReconcileError that :meth:`write` would raise for missing folders and permissions."""
        with _os_errors(self.path, "written"):
            real = Path(os.path.realpath(self.path))
            _require_regular(real)
            if not stat.S_ISDIR(real.parent.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(real.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def lease(self) -> AbstractContextManager[None]:
        """Return a context manager that does nothing: a file belongs to one checkout."""
        return nullcontext()


def _require_regular(path: Path) -> None:
    """Raise OSError for a path that exists and is not a regular file: opening a pipe can block forever."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")


def _replace(path: Path, data: bytes) -> None:
    import tempfile  # slow, and only needed to write

    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _NEW_FILE_MODE
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def _os_errors(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "check the permissions of the file and its folder, and the free disk space"
        raise ReconcileError(f"{path} cannot be {verb}: {error.strerror}", remedy) from error


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
