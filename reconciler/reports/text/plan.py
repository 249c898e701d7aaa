"""Draw a Plan document: manifest files, their models, the actions, and changes of data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from msgspec import convert

from reconciler.reports.documents.envelope import Document, TargetSummary, display_path
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import (
    LABEL_WIDTH,
    Detail,
    Layout,
    Role,
    age,
    counted,
    duration,
    minute,
    signed_head,
    size,
    value,
)

SYMBOLS: Final[Mapping[str, tuple[str, Role]]] = {
    "create": ("+", "create"),
    "update": ("~", "update"),
    "wait": ("…", "wait"),
    "adopt": ("<", "promote"),
    "check": ("?", "wait"),
    "promote": (">", "promote"),
    "delete": ("-", "delete"),
    "hold": ("!", "hold"),
    "noop": ("=", "muted"),
}
_KEEPS_SERVING: Final = "the current generation keeps serving until this one is ready"
_REASONS: Final[Mapping[str, str]] = {
    "ContentChanged": f"the content changed; {_KEEPS_SERVING}",
    "Missing": "the recorded generation no longer exists at the service",
    "RetryRequested": "attempt {attempt}, requested with --retry",
    "ReplaceRequested": f"attempt {{attempt}}, requested with --replace; {_KEEPS_SERVING}",
    "ParentChanged": f"the parent changed; {_KEEPS_SERVING}",
    "Ready": "the training completed",
}
"""Reasons of creations and promotions, where the action alone does not explain itself."""
_DESTINATIONS: Final = {
    "endpoint": "service endpoint",
    "storageEndpoint": "storage endpoint",
    "bucket": "data set bucket",
    "lock": "lockfile",
    "serviceAccount": "service account",
    "kmsKeyName": "encryption key",
    "publish": "published pointer",
}
"""Fields of a target that a reviewer must see in every plan, because they determine where data goes."""
_COUNTED_ALWAYS: Final = ("create", "update", "delete")
_COUNTED_ELSE: Final = ("adopt", "check", "promote")
_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def target_line(document: Document, layout: Layout) -> str:
    """Return the line about the target of a document, in the color of a heading."""
    target = {name: value for name, value in document["target"].items() if name in TargetSummary.__struct_fields__}
    return report_heading(convert(target, TargetSummary), layout, simulated=document["simulated"])


def report_heading(target: TargetSummary, layout: Layout, *, simulated: bool) -> str:
    """Return the line about the target of a report, in the color of a heading."""
    where = {"project": target.project, "location": target.location, "scope": target.scope}
    places = ", ".join(f"{field} {value}" for field, value in where.items() if value)
    text = f"{target.name}: {target.label}{' (simulated training)' if simulated else ''}, {places}"
    return "\n".join(layout.style("heading", line) for line in layout.lines("Target ", text))


def plan_text(document: Document, layout: Layout) -> str:
    """Return a Plan document as a tree; a verbose layout includes models that are in sync."""
    shown = [action for action in document["actions"] if layout.verbose or action["reason"] != "InSync"]
    destinations = destination_details(document["target"])
    lines = [target_line(document, layout), *layout.details(destinations, indent=2, columns=LABEL_WIDTH + 4)]
    explained: dict[str, str] = {}
    for file, actions in groupby(shown, key=lambda action: action["file"]):
        lines.append(terminal_safe(display_path(file, document["target"].get("root", ""))))
        for action in actions:
            symbol, role = SYMBOLS[action["action"]]
            lines += layout.lines(signed_head(symbol, action["name"]), action_phrase(action), role)
            lines += layout.details(action_details(action, explained))
    lines += _data_changes(document, layout)
    if document["notices"]:
        lines.append(notices_text(document, layout))
    kept = document.get("kept", ()) if layout.verbose else ()
    lines += layout.sentences(
        "muted", *(f"{model['key']} of {model['name']} is kept: {model['reason']}" for model in kept)
    )
    lines += layout.sentences("muted", *unchanged_models(document))
    return "\n".join([*lines, *plan_totals(document, layout)])


def destination_details(target: Document) -> Iterator[Detail]:
    """Yield label and text of where data and requests go, and which service account trainings use."""
    shown = {field: target[field] for field in _DESTINATIONS if field in target}
    if shown.get("storageEndpoint") == shown.get("endpoint"):
        shown.pop("storageEndpoint", None)
    return ((_DESTINATIONS[field], text) for field, text in shown.items())


def action_phrase(action: Document) -> str:
    """Return an action and its generation in a few words: ``create numbers-3kq7w2ma``, ``held: Failed``."""
    if action["action"] == "hold":
        return f"held: {action['reason']}"
    if action["action"] == "noop":
        return "in sync" if action["reason"] == "InSync" else f"kept: {action['reason']}"
    generation = action.get("key") or action.get("remote", "")
    if "checks" in action and action["action"] == "check":
        return f"check {generation}: {counted(action['checks'], 'check')}"
    waiting = f"wait for {generation}: training in progress"
    return waiting if action["reason"] == "Training" else f"{action['action']} {generation}"


def action_details(action: Document, explained: dict[str, str]) -> Iterator[Detail]:
    """Yield label and text of each detail of an action.

    ``explained`` maps messages to the first model with them: a later model refers to that one.
    """
    reason = _REASONS.get(action["reason"], "") if action["action"] in {"create", "promote"} else ""
    if reason:
        yield "why", reason.format(attempt=action["attempt"])
    if "message" in action:
        first = explained.setdefault(action["message"], action["name"])
        yield "why", action["message"] if first == action["name"] else f"same as {first}"
    if action["action"] == "hold" and "key" in action:
        yield "generation", action["key"]
    for number, change in enumerate(action.get("changes", ())):
        line = f"{change['field']}: {value(change.get('live'))} → {value(change.get('declared'))}"
        yield "" if number else "changes", line
    if "training" in action:
        yield from _training_details(action, action["training"])
    if "deletion" in action:
        yield from _deletion_details(action["deletion"])


def _deletion_details(deletion: Document) -> Iterator[Detail]:
    ago = f", {age(deletion['ageSeconds'])} ago" if "ageSeconds" in deletion else ""
    yield "created", f"{minute(deletion['createTime'])}{ago}" if "createTime" in deletion else "at an unknown time"
    yield "served", _serving_time(deletion)
    yield "frees", _freed(deletion)


def _serving_time(deletion: Document) -> str:
    if "servedFrom" not in deletion:
        return "since an unknown time, still serving" if "serves" in deletion else "no serving time is recorded"
    begin = minute(deletion["servedFrom"])
    if "serves" in deletion:
        return f"since {begin}, still serving"
    until = f" until {minute(deletion['servedUntil'])}" if "servedUntil" in deletion else ""
    return f"from {begin}{until}"


def _freed(deletion: Document) -> str:
    data = [counted(deletion["examples"], "example")] if "examples" in deletion else []
    data += [size(deletion["bytes"])] if "bytes" in deletion else []
    trained = f" that was trained on {', '.join(data)}" if data else ""
    checkpoints = deletion.get("checkpoints")
    endpoints = f", and {counted(checkpoints, 'checkpoint')} with endpoints" if checkpoints else ""
    return f"the model{trained}{endpoints}"


def _training_details(action: Document, training: Document) -> Iterator[Detail]:
    if "baseModel" in action:
        yield "base model", action["baseModel"]
    if "source" in action:
        yield "tuned from", _source(action)
    yield "data set", _dataset(action, training["examples"])
    if "validationDataset" in action:
        yield "validation", action["validationDataset"]
    if "checks" in action:
        yield "checks", f"{counted(action['checks'], 'check')} before promotion"
    yield "training", _training(training, action.get("hyperparameters", {}))


def _source(action: Document) -> str:
    source = action["source"]
    if "tunedModel" not in source:
        return str(source["remote"])
    parent = f"{source['tunedModel']} (generation {source['generation']})"
    return f"{parent}, after its promotion" if "after" in action else parent


def _dataset(action: Document, examples: int) -> str:
    parts = [action.get("dataset", "inline")]
    parts += [counted(examples, "example")] if examples else []
    parts += [size(action["dataBytes"])] if "dataBytes" in action else []
    parts += [f"generation {action['dataGeneration']}"] if "dataGeneration" in action else []
    return ", ".join(parts)


def _training(training: Document, declared: Mapping[str, Any]) -> str:
    if "steps" not in training:
        further = "".join(f"{name} {amount}; " for name, amount in declared.items() if name != "epochCount")
        epochs = f"{counted(training['epochs'], 'epoch')}; " if "epochs" in training else ""
        return f"{epochs}{further}the service chooses the number of steps"
    epochs = f"{counted(training['epochs'], 'epoch')} {_TIMES} batch {training['batch']}"
    about = "about " if training["estimated"] else ""
    time = f", about {duration(training['seconds'])}" if "seconds" in training else ""
    chosen = " (the service chooses undeclared values)" if training["estimated"] else ""
    return f"{epochs} = {about}{counted(training['steps'], 'step')}{time}{chosen}"


def notices_text(document: Document, layout: Layout) -> str:
    """Return the notices of a document; empty without notices."""
    lines = (line for notice in document["notices"] for line in layout.lines("Note: ", notice, "warning"))
    return "\n".join(lines)


def unchanged_models(document: Document) -> Iterator[str]:
    """Yield a sentence each about unmanaged models and candidates, which a plan never changes."""
    unmanaged, candidates = document.get("unmanaged", 0), document.get("candidates", 0)
    if unmanaged:
        yield f"{counted(unmanaged, 'unmanaged model is', 'unmanaged models are')} not changed."
    if candidates:
        yield f"{counted(candidates, 'candidate is', 'candidates are')} not declared here and not changed."


def plan_totals(document: Document, layout: Layout) -> Iterator[str]:
    """Yield the last lines of a plan: how many models are in sync, and how many actions of each kind follow."""
    if not has_actions(document):
        yield from layout.sentences("good", plan_summary(document))
        return
    in_sync = _count_in_sync(document)
    if in_sync:
        yield f"{counted(in_sync, 'model is', 'models are')} in sync."
    yield from layout.lines("Plan: ", plan_summary(document), "heading")


def has_actions(document: Document) -> bool:
    """Return whether a Plan document has actions apart from models that are in sync or no longer declared."""
    return any(action["action"] != "noop" for action in document["actions"])


def plan_summary(document: Document) -> str:
    """Return the totals of a Plan document in one line, such as ``1 to create, 0 to update, 0 to delete.``."""
    kept = document.get("kept")
    if has_actions(document):
        return " ".join(_counts(document["summary"], _COUNTED_ALWAYS if kept is None else ("delete",)))
    if kept is not None:
        return f"Nothing to delete. {counted(len(kept), 'generation is', 'generations are')} kept."
    in_sync = _count_in_sync(document)
    return f"No changes. {counted(in_sync, 'model matches its manifest', 'models match their manifests')}."


def _count_in_sync(document: Document) -> int:
    return sum(action["reason"] == "InSync" for action in document["actions"])


def _counts(summary: Mapping[str, Any], always: tuple[str, ...]) -> Iterator[str]:
    kinds = [*always, *(kind for kind in _COUNTED_ELSE if summary[kind])]
    yield ", ".join(f"{summary[kind]} to {kind}" for kind in kinds) + "."
    about = "About " if summary["estimated"] else ""
    if summary["steps"]:
        yield f"{about}{counted(summary['steps'], 'training step')}."
    if summary["wait"]:
        yield f"{counted(summary['wait'], 'training')} in progress."
    if summary["hold"]:
        yield f"{summary['hold']} held."


_MINUS: Final = "\N{MINUS SIGN}"
_FINDINGS: Final = (
    ("duplicates", "new duplicate", ""),
    (
        "contradictions",
        "new contradiction (same input, different output)",
        "new contradictions (same input, different output)",
    ),
    ("leaked", "held-out input is in the training data", "held-out inputs are in the training data"),
)


def _example(example: Document) -> str:
    if "conversation" in example:
        return value(example["conversation"])
    return f"{value(example['input'])}: {value(example['output'])}"


_SIGNS: Final[Mapping[str, tuple[str, Role, Callable[[Document], str]]]] = {
    "added": ("+", "create", _example),
    "removed": (_MINUS, "delete", _example),
    "changed": (
        "~",
        "update",
        lambda example: f"{value(example['input'])}: {value(example['before'])} → {value(example['after'])}",
    ),
    "duplicate": ("=", "warning", _example),
    "contradiction": (
        "!",
        "warning",
        lambda example: f"{value(example['input'])}: {' or '.join(map(value, example['outputs']))}",
    ),
    "leaked": ("?", "warning", lambda example: f"{value(example['input'])} (check {example['check']})"),
}


def sample_text(sample: Document) -> tuple[str, str]:
    """Return the sign and the text of a sample of a data change."""
    sign, _, text = _SIGNS[sample["change"]]
    return sign, text(sample)


def change_counts(found: Document) -> str:
    """Return ``+14 −2 ~3`` for counts of added, removed and changed examples."""  # noqa: RUF002 - as printed
    return f"+{found['added']} {_MINUS}{found['removed']} ~{found['changed']}"


def data_change_counts(change: Document) -> str:
    """Return the counts of a data change; empty where the data sets were not compared or are equal."""
    counts = any(change.get(field) for field in ("added", "removed", "changed"))
    return f"{change_counts(change)} examples" if counts else ""


def data_change_remarks(change: Document) -> Iterator[str]:
    """Yield what else is known of a data change: new duplicates, contradictions and leaks, and its note."""
    for field, singular, plural in _FINDINGS:
        if field in change:
            yield counted(change[field], singular, plural)
    if "note" in change:
        yield change["note"]


def data_change_text(change: Document) -> str:
    """Return a data change on one line: the data set and its use, the counts and the remarks."""
    uses = {"training": "", "validation": " (validation)", "check": f" (check {change.get('check', '')})"}
    parts = "; ".join(filter(None, [data_change_counts(change), *data_change_remarks(change)]))
    return f"{change.get('path', 'inline examples')}{uses[change['use']]}: {parts}"


def _data_changes(document: Document, layout: Layout) -> Iterator[str]:
    if "commit" not in document.get("base", {}):
        return
    ref, changes = document["base"]["ref"], document["dataChanges"]
    if not changes:
        yield from layout.lines("Data sets: ", f"same as in {ref}", "heading")
        return
    yield from layout.lines("Data changes since ", f"{ref}:", "heading")
    for change in changes:
        yield from layout.lines(
            f"    {terminal_safe(change['name']):<{LABEL_WIDTH}}  ", data_change_text(change), "muted"
        )
        for sample in change.get("samples", ()):
            sign, text = sample_text(sample)
            head = f"{'':{LABEL_WIDTH + 6}}{sign} "
            yield from layout.lines(head, text, _SIGNS[sample["change"]][1])
