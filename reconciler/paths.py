"""Files of ours, and those that they name, lie inside the repository: a link must not make us tell of any other."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import shorten

_LEADS_OUT = "leads out of the repository"


def repository_of(root: Path) -> Path:
    """The nearest folder at or above the root that holds ``.git``, else the root itself; resolved.

    A root that is itself reached through a symbolic link belongs to the repository that the link is in.
    """
    folder = root.absolute()
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder).resolve()


def find_file(named: str, folder: Path, repository: Path) -> Path:
    """The regular file that a path in a file in ``folder`` names.

    Raises ReconcileError with what is wrong and what to do when it is absolute, leads out of the repository (symbolic
    links followed) or is no file.
    """
    return _find(named, folder, repository, fault)


def find_place(named: str, folder: Path, repository: Path) -> Path:
    """The path of a regular file that is there or can be made, as :func:`find_file` gives those that are there."""
    return _find(named, folder, repository, _fault_of_place)


def _find(named: str, folder: Path, repository: Path, fault_of: Callable[[Path, Path], tuple[str, str] | None]) -> Path:
    shown = shorten(named)
    if PurePosixPath(named).is_absolute() or PureWindowsPath(named).drive:
        raise ReconcileError(f"{shown} is an absolute path", "write it relative to this file")
    if "\0" in named:
        raise ReconcileError("the path holds a NUL character", "delete it")
    try:
        path = _real(folder / named)
        found = fault_of(path, repository)
    except OSError as error:
        raise ReconcileError(f"{shown} cannot be read: {error.strerror}", "see to the file") from error
    if found:
        message, remedy = found
        raise ReconcileError(f"{shown} {message}", remedy)
    return path


def require_inside(path: Path, repository: Path) -> None:
    """Raise ReconcileError for a path, of something or of nothing yet, that links lead out of the repository."""
    if not _real(path).is_relative_to(repository):
        raise ReconcileError(f"{path} {_LEADS_OUT}", f"delete the link, or have it point into {repository}")


def fault(path: Path, repository: Path) -> tuple[str, str] | None:
    """Why a path is no regular file inside the repository (symbolic links followed), and what to do.

    Raises OSError when that cannot be told.
    """
    real = _real(path)
    if not real.is_relative_to(repository):
        return _LEADS_OUT, f"keep the file inside {repository.name}"
    if real.is_symlink():
        return "is a loop of symbolic links", "name a file"
    if real.is_dir():
        return "is a folder", "name a file in it"
    if not real.exists():
        return "leads to a file that does not exist" if path.is_symlink() else "does not exist", _near(real)
    return None if real.is_file() else ("is no regular file", "name a file")


def _fault_of_place(path: Path, repository: Path) -> tuple[str, str] | None:
    """Why no regular file can be at this path; raises OSError when that cannot be told."""
    if path.exists() or path.is_symlink() or not path.is_relative_to(repository):
        return fault(path, repository)
    return None if path.parent.is_dir() else ("is in a folder that does not exist", "make the folder, or mend the path")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _near(path: Path) -> str:
    there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    return f"did you mean {near[0]}, in the same folder?" if near else "mend the path, or add the file"
