"""Paths that files of ours name: relative to that file, and inside the repository."""

from __future__ import annotations

import difflib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from reconciler.core.problems import ReconcileError
from reconciler.files.explain import shortened


def repository_of(root: Path) -> Path:
    """The nearest folder at or above the root that holds ``.git``, else the root itself; resolved."""
    resolved = root.resolve()
    return next((folder for folder in (resolved, *resolved.parents) if (folder / ".git").exists()), resolved)


def find_file(named: str, folder: Path, repository: Path) -> Path:
    """The regular file that a path in a file in ``folder`` names.

    Raises ReconcileError with what is wrong and what to do when it is absolute, leads out of the repository (symbolic
    links followed) or is no file.
    """
    if PurePosixPath(named).is_absolute() or PureWindowsPath(named).drive:
        raise ReconcileError(f"{named} is an absolute path", "write it relative to this file")
    if "\0" in named:
        raise ReconcileError("the path holds a NUL character", "delete it")
    try:
        path = Path(os.path.realpath(folder / named))
        if not path.is_relative_to(repository):
            raise ReconcileError(f"{named} leads out of the repository", f"keep the file inside {repository.name}")
        _check_file(path, named)
    except OSError as error:
        raise ReconcileError(f"{shortened(named)} cannot be read: {error.strerror}", "see to the file") from error
    return path


def _check_file(path: Path, named: str) -> None:
    if path.is_symlink():
        raise ReconcileError(f"{named} is a loop of symbolic links", "name a file")
    if path.is_dir():
        raise ReconcileError(f"{named} is a folder", "name a file in it")
    if not path.exists():
        raise ReconcileError(f"{named} does not exist", _near(path))
    if not path.is_file():
        raise ReconcileError(f"{named} is no regular file", "name a file")


def _near(path: Path) -> str:
    there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    return f"did you mean {near[0]}?" if near else "mend the path, or add the file"
