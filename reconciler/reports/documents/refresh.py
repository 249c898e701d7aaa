"""Build Refresh documents: how a refresh changed the lockfile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.envelope import Document, envelope, filled
from reconciler.state.lockfile import dumps


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """A lock ``before`` and ``after`` a refresh; ``merged`` says that the former was united from the sides of a merge.

    ``changed`` says that the lockfile differs from what it is to be, and ``written`` that it was written.
    """

    before: Lock
    after: Lock
    lockfile: str
    changed: bool
    written: bool
    merged: bool = False
    notices: tuple[str, ...] = ()


def refresh_document(
    told: RefreshResult, target: Target, capabilities: Capabilities, *, exit_status: ExitStatus, root: str = ""
) -> Document:
    """What a refresh changed in the lockfile, or would change (schema: refresh)."""
    return {
        **envelope("Refresh", target, capabilities, root),
        "lockfile": told.lockfile,
        "exitStatus": int(exit_status),
        "changed": told.changed,
        "written": told.written,
        "merged": told.merged,
        "models": list(_models(_recorded(told.before), _recorded(told.after))),
        "notices": list(told.notices),
    }


def _recorded(lock: Lock) -> Document:
    """The models as the lockfile spells them."""
    models: Document = json.loads(dumps(lock))["models"]
    return models


def _models(before: Document, after: Document) -> Iterator[Document]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        generations = list(_generations(_by_key(old), _by_key(new)))
        yield {
            "name": name,
            "change": _kind(old, new),
            **filled({"fields": _fields(old, new, "generations"), "generations": generations}),
        }


def _by_key(model: Document | None) -> Document:
    return {one["key"]: one for one in (model or {}).get("generations", [])}


def _kind(old: Document | None, new: Document | None) -> str:
    if old is None:
        return "added"
    return "changed" if new else "removed"


def _fields(old: Document | None, new: Document | None, *left_out: str) -> list[str]:
    """The names of the fields that differ; none where there is nothing to compare."""
    if old is None or new is None:
        return []
    names = (old.keys() | new.keys()) - set(left_out)
    return sorted(name for name in names if old.get(name) != new.get(name))


def _generations(before: Document, after: Document) -> Iterator[Document]:
    for key in (*after, *(one for one in before if one not in after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        states = {side: one["state"] for side, one in (("before", old), ("state", new)) if one}
        if states.get("before") == states.get("state"):
            del states["before"]
        yield {
            "key": key,
            "change": _kind(old, new),
            **states,
            **filled({"remote": (new or old or {}).get("remote"), "fields": _fields(old, new, "state")}),
        }
