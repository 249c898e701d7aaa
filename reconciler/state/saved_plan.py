"""Whether a plan that was saved is still what would be done: the facts that it was made from, and its decisions.

Facts and plans are compared as the JSON documents that they are saved as.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from reconciler.domain.errors import Place, ReconcileError, UsageError
from reconciler.domain.lock import Lock, limits_by_name
from reconciler.domain.model import Manifest, Target
from reconciler.domain.plan import EFFECTS, FOLLOW_UPS, Kind
from reconciler.manifests.schema_validation import validator

Json = Mapping[str, Any]
_TARGET: Final = {
    "name": "name",
    "provider": "provider",
    "scope": "scope",
    "project": "project",
    "location": "location",
    "apiVersion": "api_version",
    "endpoint": "endpoint",
    "storageEndpoint": "storage_endpoint",
    "bucket": "bucket",
    "lock": "lock",
    "serviceAccount": "service_account",
    "kmsKeyName": "kms_key",
    "publish": "publish",
    "policy.publicAccess": "public_access",
}
"""What a target decides about a run, by wire name; what it says of the embedded service's pace is no part of it."""


def facts_of(manifests: Sequence[Manifest], target: Target, lock: Lock) -> dict[str, Any]:
    """What a plan follows from besides what the service shows, which its actions tell."""
    names = sorted({name for manifest in manifests for name in manifest.names} & lock.models.keys())
    fields = {name: getattr(target, field) for name, field in _TARGET.items()}
    limits = {f"limits.{name}": limit for name, limit in limits_by_name(target).items()}
    return {
        "target": {name: value for name, value in {**fields, **limits}.items() if value not in (None, "")},
        "manifests": {one.name: {"content": _content(one), "data": one.dataset.digest} for one in manifests},
        "recorded": {name: _recorded(lock, name) for name in names},
    }


def _content(manifest: Manifest) -> str:
    """The digest of everything that a manifest declares, its data sets included, wherever it stands in its file."""
    declared = asdict(replace(manifest, place=Place("")))
    return f"sha256:{hashlib.sha256(json.dumps(declared, default=_plain, sort_keys=True).encode()).hexdigest()}"


def _plain(value: object) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def _recorded(lock: Lock, name: str) -> dict[str, Any]:
    model = lock.models[name]
    return {"rejected": sorted(model.rejected), **({"serving": model.serving} if model.serving else {})}


def changed_facts(then: Json, now: Json) -> Iterator[str]:
    """What has changed since, in words."""
    yield from _target_changes(then["target"], now["target"])
    yield from _manifest_changes(then["manifests"], now["manifests"])
    yield from _recorded_changes(then["recorded"], now["recorded"])


def _target_changes(then: Json, now: Json) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"the target's {name} was {_shown(then.get(name))}, and is {_shown(now.get(name))}"


def _shown(value: object) -> str:
    return "undeclared" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _manifest_changes(then: Json, now: Json) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if name not in now:
            yield f"the manifest {name} is gone"
        elif name not in then:
            yield f"the manifest {name} is new"
        elif then[name]["data"] != now[name]["data"]:
            yield f"the data set of {name} was changed"
        elif then[name] != now[name]:
            yield f"the manifest {name} was changed"


def _recorded_changes(then: Json, now: Json) -> Iterator[str]:
    nothing: Json = {"rejected": []}
    for name in sorted(then.keys() | now.keys()):
        before, after = then.get(name, nothing), now.get(name, nothing)
        if before.get("serving") != after.get("serving"):
            yield f"{after.get('serving', 'nothing')} serves {name} now, not {before.get('serving', 'nothing')}"
        if before["rejected"] != after["rejected"]:
            yield f"other generations of {name} are rejected than before"


def changed_decisions(then: Json, now: Json) -> Iterator[str]:
    """What one Plan document would do and another would not, in words.

    A training that was waited for may have ended: what follows from that was to be waited for.
    """
    before, after = _effects(then), _effects(now)
    awaited = {
        (one.get("key"), kind)
        for one in then["actions"]
        if one["action"] == Kind.WAIT
        for kind in FOLLOW_UPS[Kind.WAIT]
    }
    told: set[str] = set()
    for identity in sorted(before.keys() | after.keys(), key=lambda one: (*one[:2], _ORDER[Kind(one[2])], one[3])):
        old, new = before.get(identity), after.get(identity)
        same = old and new and _matter(old) == _matter(new)
        if not same and identity[1] not in told and identity[1:3] not in awaited:
            told.add(identity[1])  # the rest follows from that
            yield _decision(old, new, now) if old else _arisen(new or {})


def _effects(plan: Json) -> dict[tuple[str, str, str, str], Json]:
    """The actions that change something, by manifest, generation, kind and model."""
    effects = (one for one in plan["actions"] if one["action"] in EFFECTS)
    return {(one["name"], one.get("key", ""), one["action"], one.get("remote", "")): one for one in effects}


def _matter(action: Json) -> Json:
    """What of an action decides what is done."""
    return {field: action[field] for field in _MATTER if field in action}


_MATTER: Final = ("attempt", "baseModel", "source", "after", "hyperparameters", "changes", "checks")


def _decision(old: Json, new: Json | None, now: Json) -> str:
    """Why an action is not to be carried out any more as it was planned."""
    what = old.get("key") or old.get("remote", "")
    if new:
        return f"{what} was changed meanwhile: {_fields(new)}"
    same = [one for one in now["actions"] if one["name"] == old["name"]]
    held = next((one for one in same if one["action"] == Kind.HOLD), None)
    if old["action"] == Kind.CREATE and any(one.get("key") == what and one is not held for one in same):
        return f"the model {what} was created meanwhile"
    if held:
        return f"{old['name']} is held now: {held['reason']}" + (f", {held['message']}" if "message" in held else "")
    return _DONE[Kind(old["action"])].format(what)


def _arisen(new: Json) -> str:
    what = new.get("key") or new.get("remote", "")
    if new["action"] == Kind.CREATE and new["reason"] == "Missing":
        return f"a model of {new['name']} is gone: {what} would be created"
    return _ARISEN[Kind(new["action"])].format(what, _fields(new))


def _fields(action: Json) -> str:
    return ", ".join(change["field"] for change in action.get("changes", ())) or "what it is made from"


_ORDER: Final = {kind: position for position, kind in enumerate(Kind)}
_DONE: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "the model {} would not be created any more",
    Kind.UPDATE: "{} was updated meanwhile",
    Kind.ADOPT: "{} was recorded meanwhile",
    Kind.CHECK: "the checks of {} would not be run any more",
    Kind.PROMOTE: "{} would not be promoted any more",
    Kind.DELETE: "{} is gone already",
}
_ARISEN: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "the model {} would be created",
    Kind.UPDATE: "{} was changed meanwhile: {}",
    Kind.ADOPT: "the model {} was created meanwhile",
    Kind.CHECK: "the checks of {} would be run",
    Kind.PROMOTE: "{} would be promoted",
    Kind.DELETE: "{} would be deleted",
}

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
