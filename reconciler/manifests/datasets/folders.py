"""Data sets of several files in a folder: as a manifest names them with wildcards, or as a user names the folder."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.text import join_names
from reconciler.manifests.datasets.hub_addresses import (
    CARD,
    FolderAddress,
    card_metadata,
    common_pattern,
    data_files,
    has_wildcards,
    matching,
    select_files,
)
from reconciler.paths import find_file, require_file

_MAX_CARD: Final = 2**18
_MOST_NAMES: Final = 6
_DIGITS: Final = re.compile(r"[0-9]+")


class FolderFiles(Struct, frozen=True):
    """The files of a data set in a folder by their names in messages; ``declared`` is a pattern of these and no others.

    ``folder`` is the folder that the names in ``relative`` are relative to.
    """

    folder: Path
    address: FolderAddress
    files: Mapping[str, Path]
    declared: FolderAddress

    @property
    def relative(self) -> dict[str, Path]:
        """The files by their paths in the folder."""
        return {file.relative_to(self.folder).as_posix(): file for file in self.files.values()}


def open_folder(cwd: Path, name: str) -> FolderFiles | None:
    """Return the files for training in a folder or of a pattern that a user names; ``None`` for the name of a file.

    Raises:
        ReconcileError: when the README of a folder or a link in it is invalid, or nothing matches the pattern.
        UsageError: when a folder has no data files, or several that are not parts of one data set.
    """
    is_folder = os.path.isdir(cwd / name)  # noqa: PTH112 - false also without access to the folder
    if not is_folder and (not has_wildcards(name) or os.path.lexists(cwd / name)):
        return None
    start, pattern = (posixpath.normpath(name), "") if is_folder else _split(name)
    folder, address = cwd / start, FolderAddress(start, pattern)
    listed = list(_listed(folder))
    if not data_files(listed):
        raise UsageError(f"{start}: is a directory without data files", "name a file")
    card = _card(folder) if CARD in listed and is_folder else ""
    names = select_files(address, listed, lambda: card)
    is_declared = pattern or (card_metadata(card) or {}).get("configs")
    if not is_declared and len({_DIGITS.sub("", name) for name in names}) > 1:
        shown = [str(FolderAddress(start, name)) for name in names]
        message = f"{start} has {len(names)} data files: {join_names(shown, _MOST_NAMES)}"
        raise UsageError(message, f"name one of them, such as {shlex.quote(shown[0])}, or several with wildcards")
    found = pattern or common_pattern(names, listed)
    if not found:
        message = f"{start}: no pattern stands for the {len(names)} files for training, and for no other"
        raise UsageError(message, "move the other files away")
    files = {str(FolderAddress(start, name)): folder / name for name in names}
    for shown_file, file in files.items():
        require_file(file, shown_file)
    return FolderFiles(folder, address, files, FolderAddress(start, found))


def find_files(path: str, directory: Path, repository: Path) -> dict[str, Path]:
    """Return the files that a path in a file in ``directory`` stands for, by their paths, in the order of these.

    A path with wildcards stands for the data files that match, unless a file has this name.

    Raises ReconcileError as :func:`~reconciler.paths.find_file`, or if no data file matches.
    """
    if not has_wildcards(path) or os.path.lexists(directory / path):
        return {path: find_file(path, directory, repository)}
    start, pattern = _split(posixpath.normpath(path))
    if PurePosixPath(path).is_absolute() or not Path(os.path.realpath(directory / start)).is_relative_to(repository):
        return {path: find_file(path, directory, repository)}  # which refuses it
    names = matching(data_files(_listed(directory / start)), [pattern])
    if not names:
        raise ReconcileError(f"{path}: no data file matches", "fix the pattern; * stands for a part of a name")
    files = [posixpath.normpath(posixpath.join(start, name)) for name in names]
    return {file: find_file(file, directory, repository) for file in files}


def expand_patterns(paths: Iterable[str], listed: Iterable[str]) -> list[str]:
    """Return paths; in place of one with wildcards, the files of the list that match it, if there are any."""
    paths = list(dict.fromkeys(paths))
    if not any(map(has_wildcards, paths)):
        return paths
    known = data_files(listed)
    return [found for path in paths for found in (has_wildcards(path) and matching(known, [path])) or [path]]


def _split(path: str) -> tuple[str, str]:
    """Return the folder before the first wildcard, and the rest of the path."""
    parts = PurePosixPath(path).parts
    first = next(index for index, part in enumerate(parts) if has_wildcards(part))
    return posixpath.join(*parts[:first]) if first else ".", posixpath.join(*parts[first:])


def _listed(folder: Path) -> Iterator[str]:
    """Yield the paths of the files in a folder, except in hidden ones; links to folders are not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            yield Path(os.path.relpath(os.path.join(parent, name), folder)).as_posix()  # noqa: PTH118 - faster


def _card(folder: Path) -> str:
    file = folder / CARD
    require_file(file, str(file))
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.read(_MAX_CARD)
