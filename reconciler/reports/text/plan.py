"""The plan for people: a tree of manifest files, their models, and what would be done to each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from reconciler.reports.documents.dataset_diff import data_changes_lines
from reconciler.reports.documents.plan_and_result import Document
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, age, counted, duration, folded, minute, plain, size, told, value

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
_NAME_WIDTH: Final = 21
"""Columns of a name with the space after it; longer names push their own line alone."""

_OUTCOMES: Final[Mapping[str, str]] = {
    "NotFound": "",
    "ContentChanged": "the content changed; whatever serves now goes on serving until this one is ready",
    "Missing": "the recorded one is gone from the service",
    "RetryRequested": "attempt {attempt}, as --retry asks",
    "ReplaceRequested": "attempt {attempt}, as --replace asks; what serves now goes on serving until this one is ready",
    "ParentChanged": "its parent changed; whatever serves now goes on serving until this one is ready",
    "Ready": "it is ready, and serves from now on",
}
_REACH: Final = {
    "endpoint": "service at",
    "storageEndpoint": "Cloud Storage at",
    "bucket": "data sets to",
    "lock": "lockfile",
    "serviceAccount": "trainings run as",
    "kmsKeyName": "encrypted with",
    "publish": "what serves told in",
}
"""What a reviewer should see of a target whatever the plan is, as it says where data goes."""
_COUNTED_ALWAYS: Final = ("create", "update", "delete")
_COUNTED_ELSE: Final = ("adopt", "check", "promote")
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
Detail = tuple[str, str]


def target_line(document: Document, style: Style = plain, width: int | None = None) -> str:
    """Which target the document is about, folded to ``width`` columns; it says so when training is simulated there."""
    target = document["target"]
    simulated = " (simulated training)" if document["simulated"] else ""
    where = [f"{field} {target[field]}" for field in ("project", "location", "scope") if field in target]
    text = f"{target['name']}: {target['label']}{simulated}, {', '.join(where)}"
    return "\n".join(style("heading", head + line) for head, line in folded("Target ", terminal_safe(text), width))


def plan_text(document: Document, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """A Plan document as a tree, folded to ``width`` columns; ``verbose`` lists the models in sync too."""
    shown = [one for one in document["actions"] if verbose or one["reason"] != "InSync"]
    lines = [target_line(document, style, width), *_reach(document["target"], width, style)]
    explained: dict[str, str] = {}
    for file, actions in groupby(shown, key=lambda action: action["file"]):
        lines.append(terminal_safe(display_path(file, document["target"].get("root", ""))))
        for action in actions:
            lines.extend(_action(action, explained, width, style))
    lines.extend(data_changes_lines(document, width=width, style=style))
    lines.extend(_remarks(document, width, style, verbose=verbose))
    return "\n".join([*lines, *plan_totals(document, width=width, style=style)])


def _reach(target: Document, width: int | None, style: Style) -> Iterator[str]:
    for label, text in reach_details(target):
        for margin, line in told(f"  {label:<{_NAME_WIDTH + 2}}", text, width):
            yield f"{style('muted', margin)}{line}"


def reach_details(target: Document) -> Iterator[Detail]:
    """Label and text of where data and requests go, and as whom trainings run."""
    shown = {field: target[field] for field in _REACH if field in target}
    if shown.get("storageEndpoint") == shown.get("endpoint"):
        shown.pop("storageEndpoint", None)
    return ((_REACH[field], text) for field, text in shown.items())


def display_path(file: str, root: str) -> str:
    """A manifest's path as the user would write it, from its path relative to the root."""
    if file == "-":
        return "standard input"
    return file if root in {"", "."} else f"{root.rstrip('/')}/{file}"


def _action(action: Document, explained: dict[str, str], width: int | None, style: Style) -> Iterator[str]:
    symbol, role = SYMBOLS[action["action"]]
    head = terminal_safe(f"  {symbol} {action['name']:<{_NAME_WIDTH - 2}}  ")
    for margin, line in told(head, action_verb(action), width):
        yield f"{style(role, margin)}{line}".rstrip()
    for label, text in action_details(action, explained):
        lead = f"      {label:<{_NAME_WIDTH - 2}}"
        for margin, line in told(lead, text, width):
            yield f"{style('muted', margin)}{line}".rstrip()


def action_verb(action: Document) -> str:
    """What an action does, and to which generation: ``create number-generator-3kq7w2ma``, ``held: Failed``."""
    if action["action"] == "hold":
        return f"held: {action['reason']}"
    if action["action"] == "noop":
        return "in sync" if action["reason"] == "InSync" else f"kept: {action['reason']}"
    what = action.get("key") or action.get("remote", "")
    if "checks" in action and action["action"] == "check":
        return f"check {what}: {counted(action['checks'], 'check')}"
    return f"wait for {what}: it is training" if action["reason"] == "Training" else f"{action['action']} {what}"


def action_details(action: Document, explained: dict[str, str]) -> Iterator[Detail]:
    """Label and text of each detail of an action; ``explained`` notes who has told a message first."""
    because = _OUTCOMES.get(action["reason"], "") if action["action"] in {"create", "promote"} else ""
    if because:
        yield "why", because.format(attempt=action["attempt"])
    if "message" in action:
        first = explained.setdefault(action["message"], action["name"])
        yield "why", action["message"] if first == action["name"] else f"the same as {first}"
    if action["action"] == "hold" and "key" in action:
        yield "generation", action["key"]
    for number, change in enumerate(action.get("changes", ())):
        line = f"{change['field']}: {value(change.get('live'))} → {value(change.get('declared'))}"
        yield "" if number else "changes", line
    if "training" in action:
        yield from _create(action, action["training"])
    if "deletion" in action:
        yield from _deletion(action["deletion"])


def _deletion(deletion: Document) -> Iterator[Detail]:
    ago = f", {age(deletion['ageSeconds'])} ago" if "ageSeconds" in deletion else ""
    yield "created", f"{minute(deletion['createTime'])}{ago}" if "createTime" in deletion else "at an unknown time"
    yield "served", _service(deletion)
    yield "frees", _freed(deletion)


def _service(deletion: Document) -> str:
    if "servedFrom" not in deletion:
        return "since an unknown time, and serves" if "serves" in deletion else "never, as far as is known"
    begun = minute(deletion["servedFrom"])
    if "serves" in deletion:
        return f"since {begun}, and serves"
    until = f" until {minute(deletion['servedUntil'])}" if "servedUntil" in deletion else ""
    return f"from {begun}{until}"


def _freed(deletion: Document) -> str:
    data = [counted(deletion["examples"], "example")] if "examples" in deletion else []
    data += [size(deletion["bytes"])] if "bytes" in deletion else []
    trained = f" that was trained on {', '.join(data)}" if data else ""
    checkpoints = deletion.get("checkpoints")
    endpoints = f", and {counted(checkpoints, 'checkpoint')} with endpoints" if checkpoints else ""
    return f"the model{trained}{endpoints}"


def _create(action: Document, training: Document) -> Iterator[Detail]:
    if "baseModel" in action:
        yield "base model", action["baseModel"]
    if "source" in action:
        yield "tuned from", _source(action)
    yield "data set", _dataset(action, training["examples"])
    if "validationDataset" in action:
        yield "validation", action["validationDataset"]
    if "checks" in action:
        yield "checks", f"{counted(action['checks'], 'check')} before it serves"
    yield "training", _training(training, action.get("hyperparameters", {}))


def _source(action: Document) -> str:
    source = action["source"]
    parent = (
        f"{source['tunedModel']} (generation {source['generation']})" if "tunedModel" in source else source["remote"]
    )
    return f"{parent}, once that serves" if "after" in action else str(parent)


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
        return f"{epochs}{further}the service chooses how many steps"
    size = f"{counted(training['epochs'], 'epoch')} {_TIMES} batch {training['batch']}"
    about = "about " if training["estimated"] else ""
    time = f", about {duration(training['seconds'])}" if "seconds" in training else ""
    chosen = " (the service chooses what is not declared)" if training["estimated"] else ""
    return f"{size} = {about}{counted(training['steps'], 'step')}{time}{chosen}"


def notices_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """The notices of a Plan document, a line each, folded to ``width`` columns; empty where there are none."""
    return "\n".join(
        style("warning", margin) + line
        for notice in document["notices"]
        for margin, line in folded("Note: ", terminal_safe(notice), width)
    )


def _remarks(document: Document, width: int | None, style: Style, *, verbose: bool) -> Iterator[str]:
    if document["notices"]:
        yield notices_text(document, width=width, style=style)
    if verbose:
        for one in document.get("kept", ()):
            why = f"{one['key']} of {one['name']} is kept: {one['reason']}"
            yield from (style("muted", line) for _, line in folded("", terminal_safe(why), width))
    for sentence in left_alone(document):
        yield from (style("muted", line) for _, line in folded("", sentence, width))


def left_alone(document: Document) -> Iterator[str]:
    """What a Plan document says of the models that no manifest here describes."""
    unmanaged, candidates = document["unmanaged"], document["candidates"]
    if unmanaged:
        verbs = "is unmanaged and stays" if unmanaged == 1 else "are unmanaged and stay"
        yield f"{counted(unmanaged, 'foreign model')} {verbs} untouched."
    if candidates:
        verbs = "belongs" if candidates == 1 else "belong"
        yield f"{counted(candidates, 'model')} of this scope {verbs} to no manifest here; left alone."


def plan_totals(document: Document, *, width: int | None = None, style: Style = plain) -> Iterator[str]:
    """What a Plan document comes to: everything is in sync, or how much is to be done."""
    if not has_actions(document):
        yield style("good", plan_summary(document))
        return
    in_sync = _in_sync(document)
    if in_sync:
        yield f"{counted(in_sync, 'model is', 'models are')} in sync."
    for margin, line in folded("Plan: ", plan_summary(document), width):
        yield style("heading", margin) + line


def has_actions(document: Document) -> bool:
    """Whether a Plan document holds more than models in sync and those that are no longer declared."""
    return any(action["action"] != "noop" for action in document["actions"])


def plan_summary(document: Document) -> str:
    """What a Plan document comes to, in one line: ``1 to create, 0 to update, 0 to delete.`` and the like."""
    kept = document.get("kept")
    if kept is not None and not has_actions(document):
        return f"Nothing is to be deleted: {counted(len(kept), 'generation is', 'generations are')} kept."
    if not has_actions(document):
        return f"Everything is in sync: {counted(_in_sync(document), 'model')}."
    return " ".join(_counts(document["summary"], _COUNTED_ALWAYS if kept is None else ("delete",)))


def _in_sync(document: Document) -> int:
    return sum(action["reason"] == "InSync" for action in document["actions"])


def _counts(summary: Mapping[str, Any], always: tuple[str, ...]) -> Iterator[str]:
    kinds = [*always, *(kind for kind in _COUNTED_ELSE if summary[kind])]
    yield ", ".join(f"{summary[kind]} to {kind}" for kind in kinds) + "."
    about = "About " if summary["estimated"] else ""
    if summary["steps"]:
        yield f"{about}{counted(summary['steps'], 'training step')}."
    if summary["wait"]:
        yield f"{summary['wait']} in training."
    if summary["hold"]:
        yield f"{summary['hold']} held."
