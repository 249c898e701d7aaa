"""Build Refresh documents: how a refresh changed the lockfile."""

from __future__ import annotations

import json
from collections.abc import Iterator

from msgspec import Struct

from reconciler.domain.exit_status import ExitStatus
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.envelope import Document, envelope, filled
from reconciler.state.lockfile import dumps


class RefreshResult(Struct, frozen=True):
    """The record ``before`` and ``after`` a refresh.

    ``merged`` means that ``before`` was merged from the sides of a git conflict. ``changed`` means that the file
    differs from the result, and ``written`` that it was written.
    """

    before: Lock
    after: Lock
    lockfile: str
    changed: bool
    written: bool
    merged: bool = False
    notices: tuple[str, ...] = ()


def refresh_document(
    result: RefreshResult, target: Target, capabilities: Capabilities, *, exit_status: ExitStatus, root: str = ""
) -> Document:
    """Return a Refresh document: changes of the lockfile (schema: refresh)."""
    return {
        **envelope("Refresh", target, capabilities, root),
        "lockfile": result.lockfile,
        "exitStatus": int(exit_status),
        "changed": result.changed,
        "written": result.written,
        "merged": result.merged,
        "models": list(_models(_recorded(result.before), _recorded(result.after))),
        "notices": list(result.notices),
    }


def _recorded(lock: Lock) -> Document:
    """Return the models as the lockfile has them."""
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
    return {generation["key"]: generation for generation in (model or {}).get("generations", [])}


def _kind(old: Document | None, new: Document | None) -> str:
    if old is None:
        return "added"
    return "changed" if new else "removed"


def _fields(old: Document | None, new: Document | None, *omitted: str) -> list[str]:
    """Return the names of fields that differ; none if a side is missing."""
    if old is None or new is None:
        return []
    names = (old.keys() | new.keys()) - set(omitted)
    return sorted(name for name in names if old.get(name) != new.get(name))


def _generations(before: Document, after: Document) -> Iterator[Document]:
    for key in (*after, *(key for key in before if key not in after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        states = {side: generation["state"] for side, generation in (("before", old), ("state", new)) if generation}
        if states.get("before") == states.get("state"):
            del states["before"]
        yield {
            "key": key,
            "change": _kind(old, new),
            **states,
            **filled({"remote": (new or old or {}).get("remote"), "fields": _fields(old, new, "state")}),
        }
