"""Which documents of a file concern us, and which are mistakes."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.domain.errors import Place, Problem, UsageError
from reconciler.domain.model import API_GROUP, API_VERSION
from reconciler.domain.text import shorten
from reconciler.manifests.schema_validation import choices, kind, shown, suggest
from reconciler.manifests.yaml_parser import Document, Parsed, parse
from reconciler.paths import fault

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


TUNED_MODEL = "TunedModel"
TARGET = "Target"
_KINDS = (TUNED_MODEL, TARGET)
_ALIKE = 0.85
"""How much another group resembles ours (difflib's ratio) when it is taken for a slip of the pen."""


def read(path: Path, shown_path: str, repository: Path) -> Parsed:
    """The documents of a file; one that cannot be read, or must not because it lies elsewhere, is a problem."""
    try:
        found = fault(path, repository)
        if not found:
            return parse(path.read_bytes(), shown_path)
    except OSError as error:
        found = f"cannot be read: {error.strerror}", "see to the file"
    return Parsed(shown_path, (), (Problem(Place(shown_path), "", *found),))


def expand_lists(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, with those in a ``kind: List`` (as kubectl writes them) in its place."""
    for document in documents:
        value = document.value
        if isinstance(value, dict) and value.get("kind") == "List" and isinstance(value.get("items"), list):
            for index in range(len(value["items"])):
                yield document.child(["items", index])
        else:
            yield document


def is_foreign(document: Document) -> bool:
    """Whether the document is some other tool's: of another API group, and not by a slip of the pen."""
    version = _text(document, "apiVersion")
    group = version.partition("/")[0]
    if group == API_GROUP or not version or not _text(document, "kind"):
        return False
    return not difflib.get_close_matches(group, [API_GROUP], cutoff=_ALIKE)


def misfits(document: Document) -> list[Problem]:
    """What is wrong with a document that is not foreign, as far as its apiVersion and kind go."""
    if not isinstance(document.value, dict):
        message = f"the document is {kind(document.value)}, where a mapping is expected"
        return [Problem(document.place([]), "", message, f"begin it with apiVersion: {API_VERSION}")]
    found = [_misfit(document, "apiVersion", (API_VERSION,)), _misfit(document, "kind", _KINDS)]
    return [problem for problem in found if problem]


def foreign(document: Document) -> Problem:
    """The problem with a foreign document in a file that was named."""
    version = _text(document, "apiVersion")
    place = document.place(["apiVersion"])
    return Problem(
        place, "apiVersion", f"{shorten(version)} is not ours", f"name files with {API_VERSION} documents only"
    )


def _misfit(document: Document, field: str, allowed: tuple[str, ...]) -> Problem | None:
    value: Any = document.value.get(field)
    if field not in document.value:
        return Problem(document.place([]), field, "is missing", f"begin the document with {field}: {allowed[0]}")
    if not isinstance(value, str):
        return Problem(document.place([field]), field, f"must be a text, is {shown(value)}", f"write {allowed[0]}")
    if value not in allowed:
        return Problem(document.place([field]), field, f"{shorten(value)} is not known", suggest(value, allowed))
    return None


def _text(document: Document, field: str) -> str:
    value = document.value.get(field) if isinstance(document.value, dict) else None
    return value if isinstance(value, str) else ""


DEFAULT = "default"


EMBEDDED = "embedded"


_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Root:
    """A root: its folder, and its target file, or ``None`` for the built-in target ``embedded``."""

    folder: Path
    file: Path | None


def find_root(path: str, target: str, cwd: Path) -> Root:
    """The root of a path: the nearest folder at or above it with this target's file.

    The path ``-`` stands for the working folder. The target ``embedded`` needs no file; without one, the root is the
    folder of the path. Raises UsageError when there is no such target.
    """
    if not _TARGET_NAME.fullmatch(target):
        raise UsageError(f'"{target}" is no name of a target', "use letters, digits, hyphens and underscores")
    start = cwd if path == STDIN else absolute(path, cwd)
    folder = start if start.is_dir() else start.parent
    for candidate in (folder, *folder.parents):
        file = candidate / target_file_name(target)
        if file.is_file():
            return Root(candidate, file)
    if target == EMBEDDED:
        return Root(folder, None)
    raise _no_target(target, "the working folder" if path == STDIN else path, folder)


def target_files(folder: Path) -> list[Path]:
    """The target files in a folder, sorted."""
    return sorted(file for file in folder.glob("reconcile*.yaml") if target_name(file))


def _no_target(target: str, shown: str, folder: Path) -> UsageError:
    known = next(
        (names for one in (folder, *folder.parents) if (names := list(map(target_name, target_files(one))))), []
    )
    there = choices(target, (name for name in known if name))
    message = f"there is no target {target}: neither {shown} nor a folder above it holds {target_file_name(target)}"
    if there:
        return UsageError(message, f"choose one that is there with --target: {there}")
    remedy = "run `reconcile init` to make one, or use `--target embedded`, which needs no file"
    return UsageError(message, remedy)
