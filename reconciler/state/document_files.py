"""Read and write the JSON documents that commands save: reports and saved plans."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeVar

from reconciler.domain.document import VERSION, Document, builtins_of
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.model import API_GROUP, API_VERSION
from reconciler.domain.target_option import for_target
from reconciler.domain.text import shorten
from reconciler.files import check_writable, write_errors, write_file
from reconciler.paths import require_no_escape
from reconciler.redaction import redact_free_texts
from reconciler.state.json_decoder import MAX_BYTES, JsonSource

_DocumentT = TypeVar("_DocumentT", bound=Document)
_MANIFEST_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_PLAN_KIND: Final = re.compile(rb'"kind"\s*:\s*"(SavedPlan|Plan)"')
_NAME_DOCUMENT: Final = "pass a file written by --report FILE.json, --format json or plan --out"
_WRITE_AGAIN: Final = "write it again with --report x.json"
_MOST_SEARCHED: Final = 2**20
"""The bytes of a file in which a manifest must have its API group; the limit of YAML files."""
_PLAN_AGAIN: Final = "write it again with reconcile plan --out"
_FIX_FAULTS: Final = "fix the rule; schemas/faults.schema.json describes the file"


def read_document(path: Path, shown: str, kinds: Collection[str], type_of: Callable[[str], type[Document]]) -> Document:
    """Return the document of one of these kinds in a file; ``type_of`` returns the type of a kind.

    ``shown`` is the name of the file in messages.

    Raises:
        ReconcileError: the file cannot be read, is truncated, or contains another document or a newer version.
    """
    source, document = _read_json(path, shown, _WRITE_AGAIN)
    kind = _kind_of(source, document)
    source.require_version(document, VERSION)
    if kind not in kinds:
        expected = ", ".join(sorted(kinds))
        raise source.error(["kind"], f"invalid kind {shorten(kind)}: expected one of {expected}", _NAME_DOCUMENT)
    return source.convert(document, type_of(kind))


def is_plan(path: Path) -> bool:
    """Whether a path is a file with a plan, complete or not; a manifest in JSON is not a plan."""
    if path.suffix in _MANIFEST_SUFFIXES or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(2**10)
    except OSError:
        return False
    return start.lstrip().startswith(b"{") and _PLAN_KIND.search(start) is not None


def require_manifest(path: Path, shown: str) -> None:
    """Check that a file without the extension of manifests is one in JSON, and not a plan that was damaged.

    Raises:
        UsageError: no manifest can be in the file.
    """
    if path.suffix in _MANIFEST_SUFFIXES or not path.is_file():
        return
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_SEARCHED)
    except OSError as error:
        raise ReconcileError(f"{shown} cannot be read: {error.strerror}", "check its permissions") from error
    if API_GROUP.encode() not in content:
        raise UsageError(
            f"{shown}: not a saved plan, and not a manifest: it has no apiVersion {API_VERSION}",
            f"{_PLAN_AGAIN}, or pass a manifest, or a directory with manifests",
        )


def read_saved_plan(path: Path, shown: str, kind: type[_DocumentT]) -> _DocumentT:
    """Return a saved plan as its type ``kind``; ``shown`` is its name in messages.

    Raises:
        UsageError: it is a report of a plan, which has too few details to apply.
        ReconcileError: it cannot be read, is truncated, or is another document or a newer version.
    """
    source, document = _read_json(path, shown, for_target(_PLAN_AGAIN))
    if _kind_of(source, document) == "Plan":
        raise UsageError(f"{shown}: a report of a plan cannot be applied", _PLAN_AGAIN)
    source.require_version(document, VERSION)
    return source.convert(document, kind)


def read_faults(path: Path, shown: str, kind: type[_DocumentT]) -> _DocumentT:
    """Return the rules of ``reconcile emulator --faults`` as their type ``kind``; ``shown`` is the file in messages.

    Raises:
        ReconcileError: the file cannot be read, or a rule is invalid.
    """
    source, document = _read_json(path, shown, _FIX_FAULTS, "pass a file with fault rules, see docs/emulator.md")
    source.require_version(document, VERSION)
    return source.convert(document, kind)


def check_plan_output(path: Path, shown: str) -> None:
    """Check that a plan can be saved to a path, before it is made.

    Raises:
        UsageError: the path is not writable, or is a manifest or another file.
    """
    with write_errors(f"--out {shown}", UsageError):
        check_writable(path)
    if path.suffix in _MANIFEST_SUFFIXES:
        raise UsageError(f"--out {shown}: {path.suffix} is the extension of manifests", "name a file with .json")
    if path.is_file() and path.stat().st_size and not is_plan(path):
        raise UsageError(f"--out {shown}: the existing file is not a plan", "name another file")


def write_saved_plan(path: Path, shown: str, plan: Document) -> None:
    """Write a saved plan; raises ReconcileError when writing fails."""
    with write_errors(f"--out {shown}"):
        write_file(path, f"{json.dumps(redact_free_texts(builtins_of(plan)), indent=2)}\n".encode())


def _read_json(
    path: Path, shown: str, remedy: str, expected: str = _NAME_DOCUMENT
) -> tuple[JsonSource, dict[str, Any]]:
    require_no_escape(path, shown)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReconcileError(f"{shown} cannot be read: {error.strerror}", expected) from error
    source = JsonSource(content, shown, remedy)
    document = source.parse()
    if not isinstance(document, dict):
        raise source.error([], "not a document of reconcile", expected)
    return source, document


def _kind_of(source: JsonSource, document: dict[str, Any]) -> str:
    if {"version", "target", "models"} <= document.keys() and "kind" not in document:
        raise source.error([], "is a lockfile", "run reconcile status to show its records")
    if not isinstance(document.get("kind"), str) or not isinstance(document.get("version"), int):
        raise source.error([], "not a document of reconcile", _NAME_DOCUMENT)
    return str(document["kind"])
