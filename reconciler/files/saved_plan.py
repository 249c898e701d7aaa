"""The file of a saved plan: recognised, read and written."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from reconciler.core.problems import ReconcileError, UsageError
from reconciler.files.schema import validator

VERSION: Final = 1
SAVED_PLAN: Final = "SavedPlan"
_MANIFESTS: Final = frozenset({".yaml", ".yml"})
_KIND: Final = re.compile(rb'"kind"\s*:\s*"(SavedPlan|Plan)"')
_LONGEST: Final = 2**26
_AGAIN: Final = "make it anew with reconcile plan --out"


def is_plan(path: Path) -> bool:
    """Whether a path is a file that holds a plan, whole or not; a manifest in JSON is none."""
    if path.suffix in _MANIFESTS or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(2**10)
    except OSError:
        return False
    return head.lstrip().startswith(b"{") and _KIND.search(head) is not None


def read_saved_plan(path: Path, shown: str) -> dict[str, Any]:
    """The document of a saved plan, which has the shape that its schema says; ``shown`` names it in messages.

    Raises:
        ReconcileError: when it cannot be read, is cut off, is another document, or was saved by a newer version.
    """
    document = _parsed(path, shown)
    if document.get("kind") == "Plan":
        raise UsageError(f"{shown} is a report of a plan, which says too little to be carried out", _AGAIN)
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ReconcileError(
            f"{shown} has version {version}, and this reconcile reads up to {VERSION}", "upgrade reconcile"
        )
    parts = ((SAVED_PLAN, document), ("Plan", document.get("plan")))
    error = next((error for kind, part in parts for error in validator(kind).iter_errors(part)), None)
    if error:
        raise ReconcileError(f"{shown} is no saved plan of reconcile: {error.json_path} is odd", _AGAIN)
    return document


def _parsed(path: Path, shown: str) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            document: Any = json.loads(stream.read(_LONGEST))
    except OSError as error:
        raise ReconcileError(f"{shown} cannot be read: {error.strerror}", "see to its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ReconcileError(f"{shown} is no complete JSON ({error})", _AGAIN) from error
    if not isinstance(document, dict):
        raise ReconcileError(f"{shown} is no saved plan of reconcile", _AGAIN)
    return document


def check_place(path: Path, shown: str) -> None:
    """Whether a plan can be saved there, before any work is done for it.

    Raises:
        UsageError: when it cannot be written, or something else stands there.
    """
    writable = os.access(path if path.exists() else path.parent, os.W_OK) and not path.is_dir()
    if not writable:
        raise UsageError(f"--out {shown} cannot be written", "name a file in a folder that is there and writable")
    if path.suffix in _MANIFESTS:
        raise UsageError(f"--out {shown} has the name of a manifest", "name a file that ends in .json")
    if path.is_file() and path.stat().st_size and not is_plan(path):
        raise UsageError(f"--out {shown} would write over a file that is no plan", "name another file")


def write_saved_plan(path: Path, shown: str, document: dict[str, Any]) -> None:
    """Write a saved plan.

    Raises:
        ReconcileError: when that fails.
    """
    try:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ReconcileError(f"--out {shown} cannot be written: {error.strerror}", "name another file") from error
