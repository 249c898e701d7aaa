"""The generations of one manifest and what changed between them: as a document, and for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import REMOTE_SCHEME, Capabilities, Dataset, Target
from reconciler.planning.dataset_diff import ExampleChanges
from reconciler.planning.history import Changes, HistoryEntry
from reconciler.reports.documents.dataset_diff import changed_document, changed_text, example_document, example_text
from reconciler.reports.documents.plan_and_result import Document, envelope, filled, number
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, counted, folded, plain, steps_and_loss, told, value
from reconciler.reports.text.plan import display_path, target_line
from reconciler.state.lockfile import checks_json, source_json


@dataclass(frozen=True, slots=True)
class History:
    """What is told of a manifest ``name``; ``manifest`` is its file relative to the root. Entries are newest first."""

    name: str
    manifest: str
    entries: tuple[HistoryEntry, ...]


def history_document(
    history: History, target: Target, capabilities: Capabilities, lockfile: str, *, root: str = ""
) -> Document:
    """Every recorded generation of a manifest (schema: history); ``lockfile`` is its path as shown to the user."""
    return {
        **envelope("History", target, capabilities, root),
        "lockfile": lockfile,
        "name": history.name,
        "manifest": history.manifest,
        "generations": [_entry(entry) for entry in history.entries],
    }


def _entry(entry: HistoryEntry) -> Document:
    one = entry.generation
    shown = filled(
        {
            "key": one.key,
            "remote": one.remote,
            "state": one.state.value,
            "role": entry.role,
            "rejection": one.rejection,
            "origin": one.origin,
            "createTime": one.create_time,
            "completeTime": one.complete_time,
            "promoteTime": one.promote_time,
            "totalSteps": one.total_steps,
            "finalLoss": number(one.final_loss),
            "error": {"code": one.failure.code, "message": one.failure.message} if one.failure else None,
            "source": source_json(one.source),
            "hyperparameters": _hyperparameters(one),
            "dataset": _dataset(one.dataset),
            "preamble": one.preamble,
            "checks": checks_json(one.checks) if one.checks else None,
        }
    )
    return {**shown, "attempt": one.attempt, **({"changes": _changes(one, entry.changes)} if entry.changes else {})}


def _hyperparameters(one: LockedGeneration) -> Document:
    """Those that count: the effective ones, and the declared ones that the service has not told of."""
    return {**one.declared, **one.effective}


def _dataset(dataset: Dataset) -> Document:
    return filled(
        {
            "path": dataset.path,
            "digest": dataset.digest,
            "examples": dataset.examples or None,
            "generation": dataset.generation,
        }
    )


def _changes(one: LockedGeneration, changes: Changes) -> Document:
    since = changes.since
    return filled(
        {
            "since": since.key,
            "source": _both(source_json(since.source), source_json(one.source)) if changes.source else None,
            "hyperparameters": [
                filled({"name": change.name, "before": change.before, "after": change.after})
                for change in changes.hyperparameters
            ],
            "dataset": _data_changes(since.dataset, one.dataset, changes) if changes.dataset else None,
            "preamble": _both(since.preamble, one.preamble) if changes.preamble else None,
        }
    )


def _both(before: object, after: object) -> Document:
    return {"before": before, "after": after}


def _data_changes(before: Dataset, after: Dataset, changes: Changes) -> Document:
    there = dict(zip(("before", "after"), changes.available, strict=True))
    return filled(
        {
            **_both(_dataset(before), _dataset(after)),
            "examples": _example_changes(changes.examples) if changes.examples else None,
            "missing": [side for side, available in there.items() if not available],
        }
    )


def _example_changes(changes: ExampleChanges) -> Document:
    return {
        "added": changes.added,
        "removed": changes.removed,
        "changed": changes.changed,
        "samples": {
            "added": [example_document(one) for one in changes.some_added],
            "removed": [example_document(one) for one in changes.some_removed],
            "changed": [changed_document(one) for one in changes.some_changed],
        },
    }


_LABEL_WIDTH: Final = 21
_MINUTES: Final = len("2026-01-31T12:34")
_SIGNS: Final[Mapping[str, tuple[str, Role]]] = {
    "serving": (">", "promote"),
    "rejected": ("x", "error"),
    "held": ("!", "hold"),
    "": (" ", "muted"),
}
_MINUS: Final = "\N{MINUS SIGN}"
_NOT_AT_HAND: Final[Mapping[tuple[str, ...], str]] = {
    ("before",): "the old data set is no longer at hand",
    ("after",): "this data set is no longer at hand",
    ("before", "after"): "neither data set is at hand any longer",
}
Detail = tuple[str, str]


def history_text(document: Document, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """A History document: each generation with how it did and what changed; ``verbose`` shows some examples too."""
    lines = [target_line(document, style, width), *_plain_lines(_headline(document), width)]
    for one in document["generations"]:
        lines.extend(_generation(one, width, style, verbose=verbose))
    recorded = f"As {document['lockfile']} records it; the service was not asked."
    return "\n".join([*lines, *(style("muted", line) for line in _plain_lines(recorded, width))])


def _headline(document: Document) -> str:
    if not document["generations"]:
        return f"No generation of {document['name']} is recorded yet; run reconcile apply first."
    manifest = display_path(document["manifest"], document["target"].get("root", ""))
    return f"{document['name']} ({manifest}): {counted(len(document['generations']), 'generation')}, newest first"


def _plain_lines(text: str, width: int | None) -> Iterator[str]:
    return (margin + line for margin, line in folded("", terminal_safe(text), width))


def _generation(one: Document, width: int | None, style: Style, *, verbose: bool) -> Iterator[str]:
    sign, role = _SIGNS[one.get("role", "")]
    head = f"  {sign} {terminal_safe(one['key']):<{_LABEL_WIDTH - 2}}  "
    for margin, line in told(head, generation_state(one), width):
        yield f"{style(role, margin) if margin.strip() else margin}{line}".rstrip()
    for label, text in generation_details(one, verbose=verbose):
        for margin, line in told(f"      {label:<{_LABEL_WIDTH - 2}}", text, width):
            yield f"{style('muted', margin)}{line}".rstrip()


def generation_state(one: Document) -> str:
    """How a generation of a History document stands, in a few words."""
    standing = one.get("role", "")
    if standing == "serving":
        since = f" since {_minute(one['promoteTime'])}" if "promoteTime" in one else ""
        return f"{one['state']}, serving{since}"
    reason = {"rejected": one.get("rejection", ""), "held": "its checks failed"}.get(standing, "")
    return f"{one['state']}{', ' if standing else ''}{standing}{': ' if reason else ''}{reason}"


def generation_details(one: Document, *, verbose: bool = False) -> Iterator[Detail]:
    """Label and text of each detail of a generation of a History document; ``verbose`` shows some examples too."""
    yield one["origin"], _origin(one)
    trained = steps_and_loss(one.get("totalSteps"), one.get("finalLoss"))
    if trained:
        yield "training", trained
    if "error" in one:
        yield "error", one["error"]["message"] or "the service does not tell why"
    if "checks" in one:
        yield from _checks(one["checks"])
    if "changes" in one:
        yield from _labelled("changed", _changed(one, verbose=verbose))
    else:
        yield from _labelled("begun with", _inputs(one))


def _labelled(label: str, texts: Iterator[str]) -> Iterator[Detail]:
    for text in texts:
        yield label, text
        label = ""


def _origin(one: Document) -> str:
    created = _minute(one["createTime"]) if "createTime" in one else "at an unknown time"
    promoted = f", last promoted {_minute(one['promoteTime'])}" if "promoteTime" in one else ""
    attempt = f", attempt {one['attempt']}" if one["attempt"] else ""
    return f"{created}{promoted if one.get('role') != 'serving' else ''}{attempt}"


def _minute(time: str) -> str:
    return time[:_MINUTES].replace("T", " ")


def _checks(checks: Document) -> Iterator[Detail]:
    scores = "".join(f"; {name} {100 * share:.3g} %" for name, share in checks.get("scores", {}).items())
    yield "checks", f"{checks['passed']} of {checks['passed'] + checks['failed']} passed{scores}"
    for miss in checks.get("failures", ()):
        yield "", f"{miss['check']}: {value(miss['prompt'])} was answered with {value(miss['answer'])}"


def _inputs(one: Document) -> Iterator[str]:
    yield _source(one["source"])
    dataset = one["dataset"]
    examples = f", {counted(dataset['examples'], 'example')}" if "examples" in dataset else ""
    yield f"data set {dataset.get('path', 'inline')}{examples}"
    numbers = [f"{name} {value(amount)}" for name, amount in sorted(one.get("hyperparameters", {}).items())]
    if numbers:
        yield ", ".join(numbers)


def _source(source: Document) -> str:
    if "baseModel" in source:
        return f"base model {source['baseModel']}"
    parent = source.get("generation") or source.get("remote", "")
    return f"tuned model {parent}"


def _changed(one: Document, *, verbose: bool) -> Iterator[str]:
    changes = one["changes"]
    if "source" in changes:
        yield f"{_source(changes['source']['before'])} → {_source(changes['source']['after'])}"
    for change in changes.get("hyperparameters", ()):
        yield f"{change['name']} {value(change.get('before'))} → {value(change.get('after'))}"
    if "preamble" in changes:
        before, after = changes["preamble"]["before"], changes["preamble"]["after"]
        yield f"preamble {value(before or None)} → {value(after or None)}"
    if "dataset" in changes:
        yield _data(changes)
        if verbose:
            yield from _samples(changes["dataset"].get("examples", {}).get("samples", {}))
    if changes.keys() == {"since"}:
        yield "nothing but the attempt: it was trained once more"


def _data(changes: Document) -> str:
    data = changes["dataset"]
    before, after = data["before"], data["after"]
    paths = [one.get("path", "inline") for one in (before, after)]
    name = paths[1] if paths[0] == paths[1] else " → ".join(paths)
    found = data.get("examples")
    if found and not (found["added"] or found["removed"] or found["changed"]):
        count = counted(after["examples"], "example") if "examples" in after else "examples"
        return f"data set {name}: the same {count}{'' if 'preamble' in changes else ', in another order'}"
    return f"data set {name}: {_how_many(before, after)}; {_which(data)}"


def _how_many(before: Document, after: Document) -> str:
    if "examples" not in before or "examples" not in after:
        return "another one"
    old, new = before["examples"], after["examples"]
    return counted(new, "example") if old == new else f"{old} → {counted(new, 'example')}"


def _which(data: Document) -> str:
    if "examples" in data:
        found = data["examples"]
        return f"+{found['added']} {_MINUS}{found['removed']} ~{found['changed']}"
    if any(data[side].get("path", "").startswith(REMOTE_SCHEME) for side in ("before", "after")):
        return "what stands in Cloud Storage is not compared"
    return f"which ones changed is not known: {_NOT_AT_HAND[tuple(data['missing'])]}"


def _samples(samples: Document) -> Iterator[str]:
    for sign, one in [
        *(("+", one) for one in samples.get("added", ())),
        *((_MINUS, one) for one in samples.get("removed", ())),
    ]:
        yield f"  {sign} {example_text(one)}"
    for one in samples.get("changed", ()):
        yield f"  ~ {changed_text(one)}"
