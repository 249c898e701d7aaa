"""What a refresh made of the lockfile: as a versioned document, and for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.plan_and_result import Document, envelope, filled
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, counted, plain, told
from reconciler.reports.text.plan import target_line
from reconciler.state.lockfile import dumps

_SYMBOLS: Final[Mapping[str, tuple[str, Role]]] = {
    "added": ("+", "create"),
    "changed": ("~", "update"),
    "removed": ("-", "delete"),
}


@dataclass(frozen=True, slots=True)
class Refreshed:
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
    told: Refreshed, target: Target, capabilities: Capabilities, *, exit_status: ExitStatus, root: str = ""
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


def refresh_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Refresh document: what became of the lockfile, what is different in it, and what is to be known about that."""
    lines = [target_line(document, style, width), *(line for _, line in told("", _headline(document), width))]
    for indent, change, name, text in _entries(document):
        symbol, role = _SYMBOLS[change]
        head = f"{indent}{symbol} {terminal_safe(name)}"
        for margin, line in told(f"{head}  " if text else head, text, width):
            lines.append(margin.replace(symbol, style(role, symbol), 1) + line)
    for notice in document["notices"]:
        lines += [style("warning", margin) + line for margin, line in told("note: ", notice, width)]
    return "\n".join(lines)


def _headline(document: Document) -> str:
    file, count = document["lockfile"], counted(len(document["models"]), "model")
    if not document["changed"]:
        return f"{file} is as manifests and service have it; nothing to write"
    if document["merged"]:
        written = f"are united; git add {file}" if document["written"] else "would be united"
        return f"{file}: both sides of a merge {written}. Since then, {count} changed."
    return f"{file} {'is' if document['written'] else 'would be'} written, with {count} changed"


def _entries(document: Document) -> Iterator[tuple[str, str, str, str]]:
    """A line for each model and generation: its indent, what happened to it, its name, and more."""
    for model in document["models"]:
        yield "  ", model["change"], model["name"], ", ".join(model.get("fields", []))
        for one in model.get("generations", []):
            yield "      ", one["change"], one["key"], _generation(one)


def _generation(one: Document) -> str:
    if one["change"] == "removed":
        return "no longer recorded"
    state = f"{one['before']} → {one['state']}" if "before" in one else one["state"]
    return ": ".join([state, *filter(None, [", ".join(one.get("fields", []))])])
