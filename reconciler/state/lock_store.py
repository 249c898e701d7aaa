"""The lockfile as a file: whole or not at all. What its text means is the core's affair."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.domain.errors import ReconcileError
from reconciler.planning.redaction import discreet_lock
from reconciler.state.lockfile import dumps, loads

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from reconciler.domain.ports import LockStore


_NEW_FILE_MODE = 0o644


class LockFile:
    """A lockfile; a path that is a symbolic link stands for the file that it points at."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str | None:
        """The text of the lockfile, or ``None`` when there is none; raises ReconcileError when it cannot be read."""
        with _explained(self.path, "read"):
            try:
                _require_regular(self.path)
                return self.path.read_bytes().decode()
            except FileNotFoundError:
                return None
            except UnicodeDecodeError as error:
                raise ReconcileError(
                    f"{self.path} is not UTF-8 text", "restore it from version control, or delete it: it is rebuilt"
                ) from error

    def write(self, text: str) -> bool:
        """Replace the text at once, if it differs; whether it did. Raises ReconcileError when that cannot be done."""
        with _explained(self.path, "written"):
            real = Path(os.path.realpath(self.path))
            _require_regular(real)
            data = text.encode()
            if real.exists() and real.read_bytes() == data:
                return False
            _replace(real, data)
            return True

    def check_writable(self) -> None:
        """Raise the ReconcileError that :meth:`write` would, as far as that can be told without writing."""
        with _explained(self.path, "written"):
            real = Path(os.path.realpath(self.path))
            _require_regular(real)
            if not stat.S_ISDIR(real.parent.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(real.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def lease(self) -> AbstractContextManager[None]:
        """Nothing to keep: a file belongs to one checkout."""
        return nullcontext()


def _require_regular(path: Path) -> None:
    """Refuse what is there and no file: to open a pipe would wait for its other end, maybe for ever."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")


def _replace(path: Path, data: bytes) -> None:
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
def _explained(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "see to the permissions of the file and its folder, and to the space on the disk"
        raise ReconcileError(f"{path} cannot be {verb}: {error.strerror}", remedy) from error


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
