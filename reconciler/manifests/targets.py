"""Targets: which root a path belongs to, and which target is meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.domain.errors import UsageError
from reconciler.domain.lock import OWNER_FIELDS
from reconciler.domain.model import REMOTE_SCHEME
from reconciler.manifests.discovery import STDIN, absolute, target_file_name, target_name
from reconciler.manifests.schema import choices

DEFAULT = "default"
EMBEDDED = "embedded"
VERTEX = "vertex"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


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
    if not _NAME.fullmatch(target):
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


def rivalries(ours: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str, str]]:
    """The field of our spec, what the other target does about the same thing, and what to do; theirs may be wrong."""
    lock, their_lock = ours.get("lock"), theirs.get("lock")
    publish, they_publish = _real(ours, folder), _real(theirs, folder)
    if all(ours.get(name) == theirs.get(name) for name in OWNER_FIELDS):
        yield "scope", "has the same provider, project, location and scope", "give each a scope of its own"
    if lock and lock == their_lock:
        yield "lock", "has the same lockfile", "give each a lockfile of its own"
    if lock and lock == they_publish:
        yield "lock", "publishes what serves there", "give each a name of its own"
    if publish and publish == they_publish:
        yield "publish", "publishes what serves there too", "give each a name of its own"
    if publish and publish == their_lock:
        yield "publish", "keeps its lockfile there", "give each a name of its own"


def _real(spec: Mapping[str, Any], folder: Path) -> str:
    publish = published_at(spec, folder)
    return publish if publish.startswith(REMOTE_SCHEME) else publish and os.path.realpath(publish)


def published_at(spec: Mapping[str, Any], folder: Path) -> str:
    """The absolute path of the file, or the address of the object; empty where there is none. The spec may be wrong."""
    publish = spec.get("publish")
    if not isinstance(publish, str) or not publish or "\0" in publish:
        return ""
    return publish if publish.startswith(REMOTE_SCHEME) else str(folder / publish)
