"""Where a target says that applications are told what serves: a file in the repository, or an object in a bucket."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.core.model import REMOTE_SCHEME
from reconciler.core.problems import ReconcileError
from reconciler.files.effective import mapping
from reconciler.files.repository import find_place, repository_of
from reconciler.files.shorten import shortened
from reconciler.files.targets import EMBEDDED

Finding = tuple[str, str]
"""What is wrong, and what to do."""

# As that of a lockfile in a bucket, in the schema.
_OBJECT = re.compile(
    r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._=+-]*)*/[A-Za-z0-9_][A-Za-z0-9._=+-]*\.json"
)
_LOCKFILE = re.compile(r"reconcile(\.[^.]+)?\.lock\.json")
_OTHERS_FOLDERS = frozenset({".git", ".reconcile"})
_OWN_NAME = "give it a name of its own, as in serving.json"


def published_at(spec: Mapping[str, Any], folder: Path) -> str:
    """The absolute path of the file, or the address of the object; empty where there is none. The spec may be wrong."""
    publish = spec.get("publish")
    if not isinstance(publish, str) or not publish or "\0" in publish:
        return ""
    return publish if publish.startswith(REMOTE_SCHEME) else str(folder / publish)


def publish_faults(spec: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """Everything that is wrong with ``publish`` in a target file in this folder; the spec may break its schema."""
    publish = spec.get("publish")
    if not isinstance(publish, str) or not publish:
        return
    if publish.startswith(REMOTE_SCHEME):
        yield from _object_faults(publish, spec)
    else:
        yield from _file_faults(publish, spec, folder)


def _object_faults(publish: str, spec: Mapping[str, Any]) -> Iterator[Finding]:
    if spec.get("provider") == EMBEDDED:
        yield f"means nothing with provider {EMBEDDED}: nothing of it is in Cloud Storage", "name a file"
    elif not _OBJECT.fullmatch(publish):
        yield "is no address of a JSON object in Cloud Storage", "write gs://BUCKET/NAME.json, or the path of a file"
    elif publish == spec.get("lock"):
        yield "is the lockfile of this target", _OWN_NAME


def _file_faults(publish: str, spec: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    shown, repository = shortened(publish), repository_of(folder)
    try:
        path = find_place(publish, folder, repository)
    except ReconcileError as error:
        yield error.message, error.remedy
        return
    if path.suffix != ".json":
        yield f"{shown} is not named like the JSON file that it becomes", "write NAME.json"
    elif _OTHERS_FOLDERS.intersection(path.relative_to(repository).parts):
        yield f"{shown} is in a folder of git or of reconcile itself", "write it elsewhere"
    elif _LOCKFILE.fullmatch(path.name):
        yield f"{shown} is the name of a lockfile", _OWN_NAME
    elif _is_world(path, spec, folder):
        yield f"{shown} is the world of the embedded service", _OWN_NAME


def _is_world(path: Path, spec: Mapping[str, Any], folder: Path) -> bool:
    world = mapping(spec.get("embedded")).get("world")
    return isinstance(world, str) and "\0" not in world and path == (folder / world).resolve()
