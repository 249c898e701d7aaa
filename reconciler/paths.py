"""Paths that stay inside the repository, so that a symbolic link cannot expose other files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import shorten, suggest

_OUTSIDE = "outside the repository"


def repository_of(root: Path) -> Path:
    """Return the nearest directory at or above the root that contains ``.git``, else the root; resolved.

    A root that is reached through a symbolic link belongs to the repository that contains the link.
    """
    return (git_repository_of(root) or root.absolute()).resolve()


def git_repository_of(folder: Path) -> Path | None:
    """Return the nearest directory at or above a folder that contains ``.git``; ``None`` outside of git."""
    start = folder.absolute()
    for parent in (start, *start.parents):
        if os.path.exists(f"{parent}/.git"):  # noqa: PTH110 - three times as quick as with a path for each
            return parent
    return None


def find_file(relative: str, directory: Path, repository: Path) -> Path:
    """Return the regular file that a path in a file in ``directory`` refers to.

    Raises ReconcileError if the path is absolute, leads out of the repository (symbolic links are followed) or is not
    a regular file.
    """
    return _find(relative, directory, repository, file_problem)


def find_writable(relative: str, directory: Path, repository: Path) -> Path:
    """Return the path of a regular file that exists or can be created, with the errors of :func:`find_file`."""
    return _find(relative, directory, repository, _creation_problem)


def _find(
    relative: str, directory: Path, repository: Path, find_problem: Callable[[Path, Path], tuple[str, str] | None]
) -> Path:
    shown = shorten(relative)
    if PurePosixPath(relative).is_absolute() or PureWindowsPath(relative).drive:
        raise ReconcileError(f'invalid path "{shown}": expected a relative path', "make it relative to this file")
    if "\0" in relative:
        raise ReconcileError("invalid path: contains a NUL character", "remove it")
    try:
        path = _real(as_on_disk(directory, relative))
        problem = find_problem(path, repository)
    except OSError as error:
        raise ReconcileError(f"cannot read {shown}: {error.strerror}", "check its permissions") from error
    if problem:
        message, remedy = problem
        raise ReconcileError(f"{shown}: {message}", remedy)
    return path


def require_inside(path: Path, repository: Path) -> None:
    """Raise ReconcileError if symbolic links lead the path, which need not exist, out of the repository."""
    if not _real(path).is_relative_to(repository):
        raise ReconcileError(f"{path}: {_OUTSIDE}", f"remove the link, or point it into {repository}")


def escaping_link(path: Path) -> Path | None:
    """Return the link at or above a path that leads out of the git repository it is in; ``None`` if there is none.

    Links outside of repositories are the user's own.
    """
    path = path.absolute()
    if os.path.realpath(path) == str(path):  # without links
        return None
    for part in reversed((path, *path.parents)):
        if part.is_symlink():
            repository = git_repository_of(_real(part.parent))
            if repository and not _real(part).is_relative_to(repository):
                return part
    return None


def require_no_escape(path: Path, shown: object) -> None:
    """Raise ReconcileError if a link in a repository leads the path, which a user names, out of it."""
    link = escaping_link(path)
    if link:
        raise ReconcileError(f"{shown}: {_OUTSIDE}: {link.name} is a symbolic link", "remove the link")


def require_file(path: Path, shown: str) -> None:
    """Raise ReconcileError unless a path that a user names is a regular file, also behind allowed links."""
    try:
        require_no_escape(path, shown)
        problem = file_problem(path, Path(path.absolute().anchor), shown.removesuffix(path.name))
    except OSError as error:
        raise ReconcileError(f"{shown}: cannot be read: {error.strerror}", "check its permissions") from error
    if problem:
        raise ReconcileError(f"{shown}: {problem[0]}", problem[1].replace("set the path of", "name"))


def file_problem(path: Path, repository: Path, folder: str = "") -> tuple[str, str] | None:
    """Return why a path is not a regular file inside the repository, and the remedy; ``None`` if it is one.

    Symbolic links are followed. ``folder`` is what the remedy begins the name of a similar file with.

    Raises OSError if the path cannot be examined.
    """
    real = _real(path)
    if not real.is_relative_to(repository):
        return _OUTSIDE, f"move the file into {repository.name}"
    if real.is_symlink():
        return "loop of symbolic links", "set the path of a file"
    if real.is_dir():
        return "is a directory", "set the path of a file in it"
    if not real.exists():
        submodule = _missing_submodule(real, repository)
        if submodule:
            return f"no such file: the submodule {submodule} is empty", f"run `git submodule update --init {submodule}`"
        return "broken symbolic link" if path.is_symlink() else "no such file", _suggest_sibling(real, folder)
    return None if real.is_file() else ("not a regular file", "set the path of a regular file")


def _creation_problem(path: Path, repository: Path) -> tuple[str, str] | None:
    """Return why no regular file can exist at this path; raises OSError if it cannot be examined."""
    if path.exists() or path.is_symlink() or not path.is_relative_to(repository):
        return file_problem(path, repository)
    return None if path.parent.is_dir() else ("no such directory", "create the directory, or fix the path")


def as_on_disk(directory: Path, relative: str) -> Path:
    """Return a path in a directory with the Unicode normalization of the names on disk, which macOS and git change."""
    if relative.isascii() or (directory / relative).exists():
        return directory / relative
    from unicodedata import normalize  # only needed here

    path = directory
    for part in Path(relative).parts:
        exact = path / part
        if not part.isascii() and not os.path.lexists(exact) and path.is_dir():
            form = normalize("NFC", part)
            exact = next((child for child in path.iterdir() if normalize("NFC", child.name) == form), exact)
        path = exact
    return path


_SUBMODULE = re.compile(r"^\s*path\s*=\s*(\S.*?)\s*$", re.MULTILINE)


def _missing_submodule(path: Path, repository: Path) -> str:
    """Return the submodule that a missing file belongs to, if it is not checked out; else an empty string."""
    try:
        declared = _SUBMODULE.findall((repository / ".gitmodules").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    folders = [
        parent.relative_to(repository).as_posix() for parent in path.parents if parent.is_relative_to(repository)
    ]
    return next((name for name in declared if name in folders and not (repository / name / ".git").exists()), "")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _suggest_sibling(path: Path, folder: str) -> str:
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    return suggest(path.name, siblings, prefix=folder, otherwise="fix the path, or add the file")
