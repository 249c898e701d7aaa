"""Documents that were saved as JSON, by ``--report x.json`` or ``--format json``: read and held to their schemas."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from reconciler.domain.errors import ReconcileError
from reconciler.manifests.schema_validation import SCHEMA_KINDS, validator

VERSION: Final = 1
_SAVED_PLAN: Final = "SavedPlan"
_ORIGIN: Final = "name a file that --report x.json or --format json wrote"
_AGAIN: Final = "write it anew with --report x.json"
_LONGEST: Final = 2**28
"""Bytes of a file that are read; documents of a thousand models have less than a twentieth of that."""


def read_document(path: Path, shown: str, kinds: Collection[str]) -> dict[str, Any]:
    """The document of one of these kinds in a file, which has the shape that its schema says; ``shown`` names the file.

    Of a saved plan it is the plan.

    Raises:
        ReconcileError: when the file cannot be read, is cut off, or holds another document or one of a newer version.
    """
    document: Any = _parsed(_text(path, shown), shown)
    kind = _kind_of(document, shown)
    _require_known(document["version"], kind, shown, {*kinds, _SAVED_PLAN})
    _require_valid(document, kind, shown)
    drawn: dict[str, Any] = document["plan"] if kind == _SAVED_PLAN else document
    if drawn is not document:
        _require_valid(drawn, "Plan", shown)
    return drawn


def _text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LONGEST + 1)
    except OSError as error:
        raise ReconcileError(f"{shown} cannot be read: {error.strerror}", _ORIGIN) from error
    if len(content) > _LONGEST:
        raise ReconcileError(f"{shown} has more than {_LONGEST} bytes, as no document of reconcile has", _ORIGIN)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReconcileError(f"{shown} is no text in UTF-8", _ORIGIN) from error


def _parsed(text: str, shown: str) -> Any:
    if not text.strip():
        raise ReconcileError(f"{shown} is empty", _AGAIN)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise ReconcileError(f"{shown} ends in the middle of its JSON", _AGAIN) from error
        place = f"line {error.lineno}, column {error.colno}"
        raise ReconcileError(f"{shown} is no JSON ({error.msg}: {place})", _ORIGIN) from error
    except (ValueError, RecursionError) as error:
        raise ReconcileError(f"{shown} is no JSON that can be read ({error})", _ORIGIN) from error


def _kind_of(document: Any, shown: str) -> str:
    """The kind that a document says it is of."""
    if not isinstance(document, dict):
        raise ReconcileError(f"{shown} is JSON, and no document of reconcile", _ORIGIN)
    if {"version", "target", "models"} <= document.keys() and "kind" not in document:
        raise ReconcileError(f"{shown} is a lockfile", "reconcile status shows what it records")
    if not isinstance(document.get("kind"), str) or not isinstance(document.get("version"), int):
        raise ReconcileError(f"{shown} is JSON, and no document of reconcile", _ORIGIN)
    return str(document["kind"])


def _require_known(version: int, kind: str, shown: str, kinds: Collection[str]) -> None:
    if version > VERSION:
        raise ReconcileError(
            f"{shown} has version {version}, and this reconcile reads up to {VERSION}", "upgrade reconcile"
        )
    if kind not in kinds or kind not in SCHEMA_KINDS:
        raise ReconcileError(f"{shown} is of the kind {kind}", f"the kinds are {', '.join(sorted(kinds))}")


def _require_valid(document: Any, kind: str, shown: str) -> None:
    error = next(validator(kind).iter_errors(document), None)
    if error:
        raise ReconcileError(f"{shown} is no {kind} as reconcile writes it: {error.json_path} is odd", _AGAIN)
