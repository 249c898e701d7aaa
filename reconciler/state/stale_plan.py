"""Compare a saved plan with the current facts and plan, to find out whether it is stale.

Facts and plans are compared as the JSON documents of the saved plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from reconciler.domain.errors import Place
from reconciler.domain.lock import Lock, limits_by_name
from reconciler.domain.model import Manifest, Target
from reconciler.domain.plan import EFFECTS, FOLLOW_UPS, Kind

Json = Mapping[str, Any]
_TARGET_FIELDS: Final = {
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
    "publish": "publish",
    "policy.publicAccess": "public_access",
}
"""The attributes of a target that a plan depends on, by wire name; not the pace of the embedded service."""


def plan_facts(manifests: Sequence[Manifest], target: Target, lock: Lock) -> dict[str, Any]:
    """Return what a plan depends on besides live state, which its actions contain."""
    names = sorted({name for manifest in manifests for name in manifest.names} & lock.models.keys())
    fields = {name: getattr(target, attribute) for name, attribute in _TARGET_FIELDS.items()}
    settings = {f"{target.provider}.{name}": _scalar(value) for name, value in target.settings.items()}
    limits = {f"limits.{name}": limit for name, limit in limits_by_name(target).items()}
    return {
        "target": {name: value for name, value in {**fields, **settings, **limits}.items() if value not in (None, "")},
        "manifests": {
            manifest.name: {"content": _content(manifest), "data": manifest.dataset.digest} for manifest in manifests
        },
        "recorded": {name: _recorded(lock, name) for name in names},
    }


def _scalar(value: object) -> str | int:
    return value if isinstance(value, str | int) else json.dumps(value, sort_keys=True)


def _content(manifest: Manifest) -> str:
    """Return the digest of everything that a manifest declares with its data sets, without its place in the file."""
    declared = msgspec.json.encode(replace(manifest, place=Place("")), order="sorted")
    return f"sha256:{hashlib.sha256(declared).hexdigest()}"


def _recorded(lock: Lock, name: str) -> dict[str, Any]:
    model = lock.models[name]
    return {"rejected": sorted(model.rejected), **({"serving": model.serving} if model.serving else {})}


def fact_changes(saved: Json, current: Json) -> Iterator[str]:
    """Yield a phrase for each fact that changed since the plan was saved."""
    yield from _target_changes(saved["target"], current["target"])
    yield from _manifest_changes(saved["manifests"], current["manifests"])
    yield from _recorded_changes(saved["recorded"], current["recorded"])


def _target_changes(saved: Json, current: Json) -> Iterator[str]:
    for name in sorted(saved.keys() | current.keys()):
        if saved.get(name) != current.get(name):
            yield f"{name} of the target changed from {_shown(saved.get(name))} to {_shown(current.get(name))}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _manifest_changes(saved: Json, current: Json) -> Iterator[str]:
    for name in sorted(saved.keys() | current.keys()):
        if name not in current:
            yield f"manifest {name} was removed"
        elif name not in saved:
            yield f"manifest {name} was added"
        elif saved[name]["data"] != current[name]["data"]:
            yield f"the data set of {name} changed"
        elif saved[name] != current[name]:
            yield f"manifest {name} changed"


def _recorded_changes(saved: Json, current: Json) -> Iterator[str]:
    unrecorded: Json = {"rejected": []}
    for name in sorted(saved.keys() | current.keys()):
        before, after = saved.get(name, unrecorded), current.get(name, unrecorded)
        if before.get("serving") != after.get("serving"):
            serving = f"from {before.get('serving', 'none')} to {after.get('serving', 'none')}"
            yield f"the serving generation of {name} changed {serving}"
        if before["rejected"] != after["rejected"]:
            yield f"the rejected generations of {name} changed"


def action_changes(saved: Json, current: Json) -> Iterator[str]:
    """Yield a phrase for the first difference between two Plan documents of each generation.

    A training that the saved plan waited for can have completed: actions that follow from that are expected.
    """
    before, after = _effects(saved), _effects(current)
    expected = {
        (action.get("key"), kind)
        for action in saved["actions"]
        if action["action"] == Kind.WAIT
        for kind in FOLLOW_UPS[Kind.WAIT]
    }
    reported: set[str] = set()
    for identity in sorted(before.keys() | after.keys(), key=_action_order):
        _, key, kind, _ = identity
        old, new = before.get(identity), after.get(identity)
        same = old and new and _compared(old) == _compared(new)
        if not same and key not in reported and (key, kind) not in expected:
            reported.add(key)  # further differences follow from this one
            yield _changed(old, new, current) if old else _added(new or {})


def _effects(plan: Json) -> dict[tuple[str, str, str, str], Json]:
    """Return the actions that change something, by manifest, generation, kind and model."""
    effects = (action for action in plan["actions"] if action["action"] in EFFECTS)
    return {
        (action["name"], action.get("key", ""), action["action"], action.get("remote", "")): action
        for action in effects
    }


def _action_order(identity: tuple[str, str, str, str]) -> tuple[str, str, int, str]:
    name, key, kind, remote = identity
    return name, key, _KIND_ORDER[Kind(kind)], remote


def _compared(action: Json) -> Json:
    return {field: action[field] for field in _COMPARED_FIELDS if field in action}


_COMPARED_FIELDS: Final = ("attempt", "baseModel", "source", "after", "hyperparameters", "changes", "checks")


def _changed(old: Json, new: Json | None, current: Json) -> str:
    """Return why a saved action is no longer planned as it was."""
    subject = old.get("key") or old.get("remote", "")
    if new:
        return f"{subject} changed: {_fields(new)}"
    actions = [action for action in current["actions"] if action["name"] == old["name"]]
    held = next((action for action in actions if action["action"] == Kind.HOLD), None)
    created = any(action.get("key") == subject and action is not held for action in actions)
    if old["action"] == Kind.CREATE and created:
        return f"model {subject} was already created"
    if held:
        return f"{old['name']} is now held: {held['reason']}" + (f", {held['message']}" if "message" in held else "")
    return _NO_LONGER_PLANNED[Kind(old["action"])].format(subject)


def _added(new: Json) -> str:
    subject = new.get("key") or new.get("remote", "")
    if new["action"] == Kind.CREATE and new["reason"] == "Missing":
        return f"a model of {new['name']} is missing: {subject} would be trained"
    return _NEWLY_PLANNED[Kind(new["action"])].format(subject, _fields(new))


def _fields(action: Json) -> str:
    return ", ".join(change["field"] for change in action.get("changes", ())) or "its training inputs"


_KIND_ORDER: Final = {kind: position for position, kind in enumerate(Kind)}
_NO_LONGER_PLANNED: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "{} would no longer be trained",
    Kind.UPDATE: "{} was already updated",
    Kind.ADOPT: "{} was already adopted",
    Kind.CHECK: "the checks of {} would no longer run",
    Kind.PROMOTE: "{} would no longer be promoted",
    Kind.DELETE: "{} was already deleted",
}
_NEWLY_PLANNED: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "{} would be trained",
    Kind.UPDATE: "{} changed: {}",
    Kind.ADOPT: "model {} was created",
    Kind.CHECK: "the checks of {} would run",
    Kind.PROMOTE: "{} would be promoted",
    Kind.DELETE: "{} would be deleted",
}
