"""Read and write the JSON documents that commands save: reports and saved plans."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import ValidationError, convert

from reconciler.domain.document import VERSION, Document, json_text
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.files import check_writable, write_errors, write_file
from reconciler.manifests.schema_validation import validator
from reconciler.state.json_reader import check_version

TypeOf = Callable[[str], type[Document] | None]
"""Returns the type of a kind of document, ``None`` if it has none yet."""
_DocumentT = TypeVar("_DocumentT", bound=Document)
_FIELD: Final = re.compile(r" - at `(.+)`$")
"""The path at the end of the errors of msgspec."""
_MANIFEST_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_PLAN_KIND: Final = re.compile(rb'"kind"\s*:\s*"(SavedPlan|Plan)"')
_MAX_BYTES: Final = 2**28
"""The largest file that is read; a document of a thousand models is less than a twentieth of that."""
_NAME_DOCUMENT: Final = "pass a file written by --report FILE.json, --format json or plan --out"
_WRITE_AGAIN: Final = "write it again with --report x.json"
_PLAN_AGAIN: Final = "write it again with reconcile plan --out"


def read_document(path: Path, shown: str, kinds: Collection[str], type_of: TypeOf) -> Document | dict[str, Any]:
    """Return the document of one of these kinds in a file; without a type, it is checked against its schema.

    ``shown`` is the name of the file in messages.

    Raises:
        ReconcileError: the file cannot be read, is truncated, or contains another document or a newer version.
    """
    document = _read_json(path, shown, _WRITE_AGAIN)
    kind = _kind_of(document, shown)
    check_version(document["version"], VERSION, shown)
    if kind not in kinds:
        expected = ", ".join(sorted(kinds))
        raise ReconcileError(f"{shown}: invalid kind {kind}: expected one of {expected}", _NAME_DOCUMENT)
    kind_type = type_of(kind)
    if kind_type:
        return _converted(document, kind_type, shown, _WRITE_AGAIN)
    _require_valid(document, kind, shown, _WRITE_AGAIN)
    return document


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


def read_saved_plan(path: Path, shown: str, kind: type[_DocumentT]) -> _DocumentT:
    """Return a saved plan as its type ``kind``; ``shown`` is its name in messages.

    Raises:
        UsageError: it is a report of a plan, which has too few details to apply.
        ReconcileError: it cannot be read, is truncated, or is another document or a newer version.
    """
    document = _read_json(path, shown, _PLAN_AGAIN)
    if document.get("kind") == "Plan":
        raise UsageError(f"{shown}: a report of a plan cannot be applied", _PLAN_AGAIN)
    version = document.get("version")
    if isinstance(version, int):
        check_version(version, VERSION, shown)
    return _converted(document, kind, shown, _PLAN_AGAIN)


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
        write_file(path, f"{json_text(plan, ascii_only=True)}\n".encode())


def _read_json(path: Path, shown: str, remedy: str) -> dict[str, Any]:
    text = _read_text(path, shown)
    if not text.strip():
        raise ReconcileError(f"{shown}: empty file", remedy)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise ReconcileError(f"{shown}: truncated JSON", remedy) from error
        raise ReconcileError(
            f"{shown}:{error.lineno}:{error.colno}: invalid JSON: {error.msg}", _NAME_DOCUMENT
        ) from error
    except (ValueError, RecursionError) as error:
        raise ReconcileError(f"{shown}: invalid JSON: {error}", _NAME_DOCUMENT) from error
    if not isinstance(document, dict):
        raise ReconcileError(f"{shown}: not a document of reconcile", _NAME_DOCUMENT)
    return document


def _read_text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ReconcileError(f"{shown} cannot be read: {error.strerror}", _NAME_DOCUMENT) from error
    if len(content) > _MAX_BYTES:
        raise ReconcileError(f"{shown}: larger than {_MAX_BYTES} bytes, the limit for documents", _NAME_DOCUMENT)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReconcileError(f"{shown} is not UTF-8 text", _NAME_DOCUMENT) from error


def _kind_of(document: dict[str, Any], shown: str) -> str:
    if {"version", "target", "models"} <= document.keys() and "kind" not in document:
        raise ReconcileError(f"{shown}: is a lockfile", "run reconcile status to show its records")
    if not isinstance(document.get("kind"), str) or not isinstance(document.get("version"), int):
        raise ReconcileError(f"{shown}: not a document of reconcile", _NAME_DOCUMENT)
    return str(document["kind"])


def _converted(document: dict[str, Any], kind: type[_DocumentT], shown: str, remedy: str) -> _DocumentT:
    try:
        return convert(document, kind)
    except (ValidationError, UnicodeEncodeError) as error:  # the latter for half of a surrogate pair
        place = _FIELD.search(str(error))
        path, name = place[1] if place else "$", kind.__struct_config__.tag
        raise ReconcileError(f"{shown}: {path}: does not match the schema of {name}", remedy) from error


def _require_valid(document: Any, kind: str, shown: str, remedy: str) -> None:
    error = next(validator(kind).iter_errors(document), None)
    if error:
        raise ReconcileError(f"{shown}: {error.json_path}: does not match the schema of {kind}", remedy)
