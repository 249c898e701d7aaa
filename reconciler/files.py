"""Write files: every output of a command reaches the disk here.

A file is written beside its target under a temporary name, and then renamed: a reader sees the old content or the new
one, also after a crash or on a full disk. A symbolic link is never written through, because a repository may contain
one that leads to another file; and nothing is written into the directory of git, whose hooks and settings are programs.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final, Literal

from reconciler.domain.errors import ReconcileError
from reconciler.paths import escaping_link

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks; leftovers remain there
    fcntl = None  # type: ignore[assignment]  # tested before each use

_PERMISSIONS: Final = "check the permissions of the file and its folder"
_SPACE: Final = "free disk space, then run the command again"
_FOLDER: Final = "name a file in an existing, writable directory"
_GENERAL: Final = f"{_PERMISSIONS}, and the free disk space"
_REMEDIES: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.EACCES: _PERMISSIONS,
        errno.EPERM: _PERMISSIONS,
        errno.EROFS: _PERMISSIONS,
        errno.ENOSPC: _SPACE,
        errno.EDQUOT: _SPACE,
        errno.EFBIG: _SPACE,
        errno.ENOENT: _FOLDER,
        errno.ENOTDIR: _FOLDER,
        errno.EISDIR: _FOLDER,
        errno.ELOOP: "remove the link, or name another file",
        errno.EEXIST: "move the file away, or name another file",
    }
)
_STREAM_FOLDERS: Final = frozenset({Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")})
_NAME_SHOWN: Final = 60
"""The characters of a file name that its temporary name has; both fit the 255 bytes of a name."""
_HOLDER_SHOWN: Final = 200
"""The bytes of a lock's description that are read."""


class _UnsafeError(OSError):
    """A path that is not written, although it could be; it has a remedy of its own."""

    def __init__(self, number: int, text: str, remedy: str) -> None:
        super().__init__(number, text)
        self.remedy = remedy


@contextmanager
def write_errors(shown: object, kind: type[ReconcileError] = ReconcileError) -> Iterator[None]:
    """Turn an OSError into ``SHOWN cannot be written: CAUSE; REMEDY``."""
    try:
        yield
    except OSError as error:
        remedy = error.remedy if isinstance(error, _UnsafeError) else _REMEDIES.get(error.errno or 0, _GENERAL)
        raise kind(f"{shown} cannot be written: {error.strerror}", remedy) from error


def write_file(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace the content of a file, or create it; raises OSError.

    An existing file keeps its mode. A new one has the mode of the umask. A stream, such as ``/dev/stdout`` or a pipe,
    is written directly.
    """
    if is_stream(path):
        with path.open("wb") as stream:
            stream.writelines([content] if isinstance(content, bytes) else content)
        return
    mode = _check(path)
    with _temporary(path, content, mode) as temporary:
        temporary.replace(path)
    _sync(path.parent)


def create_file(path: Path, content: bytes | Path | Iterable[bytes]) -> None:
    """Create a file: of bytes, of blocks that are written as they are made, or as a copy if the content is a path.

    Raises FileExistsError if there is one, and OSError.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    _check(path)
    with _temporary(path, content, None) as temporary:
        try:
            path.hardlink_to(temporary)  # unlike a rename, it fails if another process has created the file
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                raise
            temporary.rename(path)  # a file system without hard links
    _sync(path.parent)


@contextmanager
def create_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside the path, which gets its name unless the body raises an exception.

    Raises OSError as :func:`check_folder`, also if another process has written into a folder of this name.
    """
    from shutil import rmtree  # only needed for folders

    check_folder(path)
    aside = path.with_name(f".{path.name[:_NAME_SHOWN]}.{os.urandom(4).hex()}.tmp")
    aside.mkdir()
    try:
        yield aside
        for written in (*aside.rglob("*"), aside):
            _sync(written)
        aside.rename(path)
    finally:
        rmtree(aside, ignore_errors=True)
    _sync(path.parent)


def check_folder(path: Path) -> None:
    """Raise the OSError that :func:`create_folder` would raise for a folder with files, or for its place."""
    require_safe(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise _UnsafeError(
            errno.EEXIST, "it exists, and is not an empty folder", "name a folder that does not exist yet"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_writable(path: Path) -> None:
    """Raise the OSError that :func:`write_file` would raise for a link, a missing folder or missing permissions.

    It removes the temporary files of runs that were killed while they wrote this file.
    """
    if not is_stream(path):
        _check(path)
        remove_leftovers(path)


def open_log(path: Path, mode: Literal["w", "a"]) -> IO[str]:
    """Open a file that grows while it is written, as UTF-8; raises OSError as :func:`write_file`."""
    if not is_stream(path):
        _check(path)
    return path.open(mode, encoding="utf-8", newline="\n")


def is_stream(path: Path) -> bool:
    """Return whether a path is a device, a pipe or a socket, or one of the process's own descriptors."""
    if path.is_symlink():
        return path.parent in _STREAM_FOLDERS
    return path.exists() and not path.is_file() and not path.is_dir()


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of runs that were killed while they wrote this file; others are locked."""
    if fcntl is None:
        return
    pattern = re.compile(rf"\.{re.escape(path.name[:_NAME_SHOWN])}\.[0-9a-f]{{8}}\.tmp")
    with suppress(OSError):
        leftovers = [file for file in path.parent.iterdir() if pattern.fullmatch(file.name)]
        for leftover in leftovers:
            _remove_unless_locked(leftover)


def acquire_lock(path: Path, holder: str, wait: Callable[[str], None]) -> int | None:
    """Take the kernel's lock of a file, and return the descriptor that holds it until it is closed.

    The end of the process releases the lock, and child processes do not inherit it.

    Args:
        path: The file, which is created if need be, and must not be removed.
        holder: A description of this run, which is written into the file.
        wait: Called with the description of the run that has the lock, before each further attempt.

    Returns:
        The descriptor, or ``None`` where the system or the file system has no such locks.

    Raises:
        OSError: the file cannot be created.
    """
    if fcntl is None:
        return None
    flags = os.O_CREAT | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDWR | flags, 0o666)
    except PermissionError:  # another user's, which can be locked nevertheless
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while not _try_lock(descriptor):
            wait(os.pread(descriptor, _HOLDER_SHOWN, 0).decode(errors="replace"))
        with suppress(OSError):  # the description matters less than the lock
            os.ftruncate(descriptor, os.pwrite(descriptor, holder.encode(), 0))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int) -> bool:
    """Return whether the lock is held now, or the system or the file system has no such locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}:
            raise
    return True


def _remove_unless_locked(leftover: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()
        finally:
            os.close(descriptor)


def _check(path: Path) -> int | None:
    """Raise OSError for a path that is not written; return the mode of an existing file."""
    require_safe(path)
    if not stat.S_ISDIR(path.parent.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    mode = None
    if path.exists():
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        mode = stat.S_IMODE(path.stat().st_mode) & 0o777
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return mode


def require_safe(path: Path) -> None:
    """Raise OSError for a symbolic link, for a folder that a link moves out of its repository, and for git's folder."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link")
    link = escaping_link(path)
    if link:
        raise OSError(errno.ELOOP, f"{link.name} is a symbolic link that leads out of the repository")
    real = Path(os.path.realpath(path.parent), path.name)
    if any(part.casefold() == ".git" for part in real.parts):
        raise _UnsafeError(errno.EPERM, "it is in the directory of git", "name a file outside of it")


@contextmanager
def _temporary(path: Path, content: bytes | Path | Iterable[bytes], mode: int | None) -> Iterator[Path]:
    """Return a locked file beside the path with the content; it is removed unless the body renames it."""
    remove_leftovers(path)
    temporary, descriptor = _open_temporary(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                temporary.chmod(mode)
            if isinstance(content, bytes):
                file.write(content)
            elif not isinstance(content, Path):
                file.writelines(content)
            else:
                from shutil import copyfileobj  # only needed for data sets

                with content.open("rb") as source:
                    copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows does not rename an open file
            yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


def _open_temporary(path: Path) -> tuple[Path, int]:
    """Create and lock a file beside the path; another run may take it for a leftover until it is locked."""
    while True:
        temporary = path.with_name(f".{path.name[:_NAME_SHOWN]}.{os.urandom(4).hex()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if _try_lock(descriptor) and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
