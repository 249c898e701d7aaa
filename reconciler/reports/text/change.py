"""Draw Change, Serving, Resolve and Refresh documents: what a command changed in the lockfile or looked up there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.domain.plan import Kind
from reconciler.reports.documents.envelope import Document
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Detail, Layout, Role, counted
from reconciler.reports.text.plan import target_line

_LABEL_WIDTH: Final = 12
_SUMMARIES: Final[Mapping[tuple[str, str], tuple[Role, str]]] = {
    ("adopt", "done"): ("good", "adopted; nothing was trained"),
    ("forget", "planned"): ("warning", "{generations} will no longer be managed; nothing is deleted"),
    ("forget", "done"): ("good", "{generations} no longer managed; nothing was deleted"),
    ("cancel", "planned"): ("warning", "{trainings} will be canceled"),
    ("cancel", "done"): ("good", "{trainings} canceled"),
    ("cancel", "unchanged"): ("muted", "no training in progress; nothing was changed"),
}
"""Role and text of each command and outcome of a Change document."""
_NEXT_ACTIONS: Final[Mapping[str, str]] = {
    Kind.CREATE: "trains {key}",
    Kind.UPDATE: "updates {key}",
    Kind.WAIT: "waits for {key}, which is training",
    Kind.ADOPT: "adopts {key}",
    Kind.CHECK: "checks {key}",
    Kind.PROMOTE: "promotes {key}",
    Kind.DELETE: "cancels {key}",
    Kind.HOLD: "holds the manifest ({reason})",
}


def change_text(document: Document, layout: Layout) -> str:
    """Return a Change document: what was or will be changed, the generations, and what the next apply does."""
    role, summary = _SUMMARIES[document["command"], document["outcome"]]
    count = len(document["generations"])
    counts = {"generations": counted(count, "generation"), "trainings": counted(count, "training")}
    details = [("generation", _generation_line(generation)) for generation in document["generations"]]
    if "manifest" in document:
        details.append(("manifest", document["manifest"]))
    details += [("note", note) for note in document["notes"]]
    details += _recorded(document, changed=document["outcome"] == "done")
    return _summary_with_details(document, role, summary.format(**counts), details, layout)


def _generation_line(generation: Document) -> str:
    return " ".join(filter(None, (generation["key"], generation["state"], generation.get("remote", ""))))


def serving_text(document: Document, layout: Layout) -> str:
    """Return a Serving document: the serving generation, rejected generations, and what the next apply does."""
    key = document["serving"]["key"]
    summary = f"{key} is now serving" if document["changed"] else f"{key} is already serving; nothing was changed"
    if document["changed"] and "before" in document:
        summary += f" instead of {document['before']}"
    details = [("remote", document["serving"]["remote"])]
    details += [("rejected", _rejected_line(rejected)) for rejected in document["rejected"]]
    details += _recorded(document, changed=document["changed"])
    return _summary_with_details(document, "good", summary, details, layout)


def _rejected_line(rejected: Document) -> str:
    return ": ".join(filter(None, (rejected["key"], rejected.get("reason"))))


def _recorded(document: Document, *, changed: bool) -> Iterator[Detail]:
    if changed:
        yield "recorded", document["lockfile"]
        if "published" in document:
            yield "published", document["published"]
    for action in document["next"]:
        yield "next apply", _next_action(action)


def _next_action(action: Document) -> str:
    phrase = _NEXT_ACTIONS.get(action["action"], "makes no change")
    phrase = phrase.format(key=action.get("key", "the model"), reason=action["reason"])
    parts = (action.get("name"), phrase, action.get("message"))
    return ": ".join(filter(None, parts))


def _summary_with_details(document: Document, role: Role, summary: str, details: list[Detail], layout: Layout) -> str:
    lines = [target_line(document, layout), layout.style(role, terminal_safe(f"{document['name']}: {summary}"))]
    return "\n".join([*lines, *layout.details(details, indent=2, columns=_LABEL_WIDTH)])


def resolve_text(document: Document, _layout: Layout, *, bare: bool = False) -> str:
    """Return a Resolve document: a line with name and remote name for each model; ``bare`` omits the names."""
    models = document["models"]
    column = max((len(model["name"]) for model in models), default=0)
    heads = ["" if bare else f"{model['name']:<{column}}  " for model in models]
    return "\n".join(terminal_safe(f"{head}{model['remote']}") for head, model in zip(heads, models, strict=True))


_CHANGES: Final[Mapping[str, tuple[str, Role]]] = {
    "added": ("+", "create"),
    "changed": ("~", "update"),
    "removed": ("-", "delete"),
}


def refresh_text(document: Document, layout: Layout) -> str:
    """Return a Refresh document: whether the lockfile was written, and a line for each changed model and generation."""
    role: Role = "heading" if document["changed"] else "good"
    lines = [target_line(document, layout), *layout.sentences(role, _refresh_summary(document))]
    for indent, change, name, text in _refreshed(document):
        symbol, color = _CHANGES[change]
        head = f" {terminal_safe(name)}{'  ' if text else ''}"
        lines += layout.lines(f"{indent}{symbol}{head}", text, colored=f"{indent}{layout.style(color, symbol)}{head}")
    for notice in document["notices"]:
        lines += layout.lines("note: ", notice, "warning")
    return "\n".join(lines)


def _refresh_summary(document: Document) -> str:
    file, count = document["lockfile"], counted(len(document["models"]), "model")
    if not document["changed"]:
        return f"{file} matches the manifests and live state; nothing to write"
    if not document["merged"]:
        return f"{file} {'was' if document['written'] else 'would be'} written: {count} changed"
    merged = f"was merged; run git add {file}" if document["written"] else "would be merged"
    return f"{file} {merged}. {count} changed since the merge."


def _refreshed(document: Document) -> Iterator[tuple[str, str, str, str]]:
    """Yield indent, change, name and details for each model and generation."""
    for model in document["models"]:
        yield "  ", model["change"], model["name"], ", ".join(model.get("fields", []))
        for generation in model.get("generations", []):
            yield "      ", generation["change"], generation["key"], _refreshed_generation(generation)


def _refreshed_generation(generation: Document) -> str:
    if generation["change"] == "removed":
        return "no longer recorded"
    state = generation["state"]
    state = f"{generation['before']} → {state}" if "before" in generation else state
    return ": ".join(filter(None, [state, ", ".join(generation.get("fields", []))]))
