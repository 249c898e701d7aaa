"""Which files the user's paths stand for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.core.problems import UsageError

STDIN = "-"
_SUFFIXES = frozenset({".yaml", ".yml"})
_TARGET_FILE = re.compile(r"reconcile(\.(?P<name>[^.]+))?\.yaml")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file to read: where it is, how it is shown, and whether the user named the file itself."""

    path: Path
    shown: str
    named: bool


def target_file_name(target: str) -> str:
    """The name of the file that describes this target."""
    return "reconcile.yaml" if target == "default" else f"reconcile.{target}.yaml"


def target_name(file: Path) -> str | None:
    """The target that a file of this name describes, or ``None`` when it is the name of no target file."""
    found = _TARGET_FILE.fullmatch(file.name)
    return (found["name"] or "default") if found else None


def absolute(path: str, cwd: Path) -> Path:
    """The path without ``.`` and ``..``, symbolic links left as they are."""
    return Path(os.path.normpath(cwd / path))


def require_existing(paths: Iterable[str], cwd: Path) -> None:
    """Raise UsageError for a path that is not there."""
    for path in paths:
        if path != STDIN and not (cwd / path).exists():
            raise UsageError(f"{path} does not exist", "name a manifest, or a folder with manifests")


def discover(paths: Iterable[str], cwd: Path, root_file: str) -> tuple[ManifestFile, ...]:
    """The YAML files that these paths stand for, each once, in the order of the paths and sorted within folders.

    Hidden files and folders below a path are left out, target files too, and folders that hold a ``root_file`` of
    their own: those are roots in their own right.
    """
    files: dict[Path, ManifestFile] = {}
    for given in paths:
        if given == STDIN:
            continue
        path = absolute(given, cwd)
        for file in _expand(given, path, root_file):
            key = Path(os.path.realpath(file.path))
            if file.named or key not in files:
                files[key] = file
    return tuple(files.values())


def is_everything(files: Iterable[ManifestFile], root: Path, root_file: str, group: str) -> bool:
    """Whether no other file below a root speaks of the API group: then these files are all that is declared there."""
    read = {os.path.realpath(file.path) for file in files}
    others = (path for path in _walk(root, root_file) if os.path.realpath(path) not in read)
    return not any(path.is_file() and group.encode() in path.read_bytes() for path in others)


def _expand(given: str, path: Path, root_file: str) -> Iterator[ManifestFile]:
    if path.is_dir():
        for file in _walk(path, root_file):
            yield ManifestFile(file, str(Path(given) / file.relative_to(path)), named=False)
    else:
        yield ManifestFile(path, str(Path(given)), named=True)


def _walk(folder: Path, root_file: str) -> Iterator[Path]:
    pending = _entries(folder)
    while pending:
        path = pending.pop()
        if path.is_dir() and not path.is_symlink():
            if not (path / root_file).exists():
                pending += _entries(path)
        elif path.suffix in _SUFFIXES and target_name(path) is None:
            yield path


def _entries(folder: Path) -> list[Path]:
    """What is not hidden in a folder, the last first."""
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), reverse=True)
