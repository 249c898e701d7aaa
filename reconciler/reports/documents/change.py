"""What a command did to a model by hand, or would do: taken over, forgotten, or its training stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Capabilities, Target
from reconciler.domain.plan import Action
from reconciler.reports.documents.plan_and_result import Document, envelope, filled
from reconciler.reports.documents.serving import next_action, outlook
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, counted, plain, told
from reconciler.reports.text.plan import target_line

Command = Literal["adopt", "forget", "cancel"]
ChangeOutcome = Literal["planned", "done", "unchanged"]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a model, or what would.

    ``generations`` are those that it is about. ``manifest`` is the file that was written, as shown, where one was.
    ``notes`` are sentences about what follows. ``published`` names the pointer that tells applications, where that was
    told, and ``next`` is what the next apply would do about the manifest.
    """

    command: Command
    name: str
    outcome: ChangeOutcome
    lockfile: str
    generations: Sequence[LockedGeneration] = ()
    manifest: str = ""
    notes: Sequence[str] = ()
    published: str = ""
    next: Sequence[Action] = ()


def change_document(change: Change, target: Target, capabilities: Capabilities, *, root: str = "") -> Document:
    """What became of a model (schema: change)."""
    return {
        **envelope("Change", target, capabilities, root),
        "command": change.command,
        "name": change.name,
        "outcome": change.outcome,
        "lockfile": change.lockfile,
        **filled({"manifest": change.manifest, "published": change.published}),
        "generations": [_generation(one) for one in change.generations],
        "notes": list(change.notes),
        "next": [next_action(action) for action in change.next],
    }


def _generation(one: LockedGeneration) -> Document:
    return {"key": one.key, "state": one.state.value, **filled({"remote": one.remote})}


_LABEL_WIDTH: Final = 12
_HEADLINES: Final[Mapping[tuple[str, str], tuple[Role, str]]] = {
    ("adopt", "done"): ("good", "{name}: taken over, nothing was trained"),
    ("forget", "planned"): ("warning", "{name}: {count} would be managed no longer; nothing is deleted"),
    ("forget", "done"): ("good", "{name}: {count} managed no longer; nothing was deleted"),
    ("cancel", "planned"): ("warning", "{name}: {count} would be stopped"),
    ("cancel", "done"): ("good", "{name}: {count} stopped"),
    ("cancel", "unchanged"): ("muted", "{name}: nothing of it is in training; nothing was changed"),
}
_NOUNS: Final[Mapping[str, str]] = {"cancel": "training"}


def change_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Change document: what was done, or would be, and below to which generations, and what follows."""
    role, headline = _HEADLINES[document["command"], document["outcome"]]
    count = counted(len(document["generations"]), _NOUNS.get(document["command"], "generation"))
    lines = [
        target_line(document, style),
        style(role, terminal_safe(headline.format(name=document["name"], count=count))),
    ]
    for label, text in _details(document):
        for margin, line in told(f"  {label:<{_LABEL_WIDTH}}", text, width):
            lines.append(style("muted", margin) + line)
    return "\n".join(lines)


def _details(document: Document) -> Iterator[tuple[str, str]]:
    for one in document["generations"]:
        yield "generation", " ".join(filter(None, (one["key"], one["state"], one.get("remote", ""))))
    if "manifest" in document:
        yield "manifest", document["manifest"]
    for note in document["notes"]:
        yield "note", note
    if document["outcome"] == "done":
        yield "recorded", document["lockfile"]
        if "published" in document:
            yield "published", document["published"]
    for action in document["next"]:
        yield "next apply", outlook(action)
