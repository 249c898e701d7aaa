"""Draw a plan: manifest files, their models, the actions, and changes of data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Final

from reconciler.domain.model import Hyperparameters, Source
from reconciler.domain.plan import Deletion, Kind, Reason, TrainingCost, TrainingEstimate, TrainingNeeds
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.envelope import display_path
from reconciler.reports.documents.plan import (
    DataChange,
    DataSample,
    LockfileChange,
    PlannedAction,
    PlanReport,
    PlanSummary,
    PlanTarget,
    SampleChange,
    cut,
)
from reconciler.reports.text.format import (
    LABEL_WIDTH,
    Detail,
    Layout,
    Role,
    age,
    counted,
    duration,
    minute,
    notices_text,
    report_heading,
    signed_head,
    size,
    unchanged_models,
    value,
)

SYMBOLS: Final[Mapping[Kind, tuple[str, Role]]] = {
    Kind.CREATE: ("+", "create"),
    Kind.UPDATE: ("~", "update"),
    Kind.WAIT: ("…", "wait"),
    Kind.ADOPT: ("<", "promote"),
    Kind.CHECK: ("?", "wait"),
    Kind.PROMOTE: (">", "promote"),
    Kind.DELETE: ("-", "delete"),
    Kind.HOLD: ("!", "hold"),
    Kind.NOOP: ("=", "muted"),
}
_REASONS: Final[Mapping[Reason, str]] = {
    Reason.CONTENT_CHANGED: "the content changed",
    Reason.MISSING: "the recorded generation no longer exists at the service",
    Reason.RETRY_REQUESTED: "attempt {attempt}, requested with --retry",
    Reason.REPLACE_REQUESTED: "attempt {attempt}, requested with --replace",
    Reason.PARENT_CHANGED: "the parent changed",
    Reason.READY: "the training completed",
}
"""Reasons of creations and promotions, where the action alone does not explain itself."""
_DESTINATIONS: Final = {
    "endpoint": "service endpoint",
    "serving_location": "serving location",
    "storage_endpoint": "storage endpoint",
    "bucket": "data set bucket",
    "lock": "lockfile",
    "service_account": "service account",
    "kms_key_name": "encryption key",
    "publish": "published pointer",
    "store": "model store",
    "inference_url": "inference server",
}
"""Fields of a target that a reviewer must see in every plan, because they determine where data goes."""
_COUNTED_ALWAYS: Final = ("create", "update", "delete")
_COUNTED_ELSE: Final = ("adopt", "check", "promote")
_FIELDS_SHOWN: Final = 5
_MINUS: Final = "\N{MINUS SIGN}"
_COUNT_SIGNS: Final = ("+", _MINUS, "~")
_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def plan_text(report: PlanReport, layout: Layout) -> str:
    """Return a plan as a tree; a verbose layout includes models that are in sync."""
    shown = [action for action in report.actions if layout.verbose or action.reason is not Reason.IN_SYNC]
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    lines += layout.details(destination_details(report.target), indent=2, columns=LABEL_WIDTH + 4)
    lines += _lock_changes(report, layout)
    explained: dict[str, str] = {}
    for file, actions in groupby(shown, key=lambda action: action.file):
        lines.append(terminal_safe(display_path(file, report.target.root)))
        for action in actions:
            symbol, role = SYMBOLS[action.action]
            lines += layout.lines(signed_head(symbol, action.name), action_phrase(action), role)
            lines += layout.details(action_details(action, explained))
    lines += _data_changes(report, layout)
    if report.notices:
        lines.append(notices_text(report.notices, layout))
    kept = report.kept if report.kept and layout.verbose else ()
    lines += layout.sentences("muted", *(f"{model.key} of {model.name} is kept: {model.reason}" for model in kept))
    lines += layout.sentences("muted", *unchanged_models(report.unmanaged, report.candidates))
    return "\n".join([*lines, *plan_totals(report, layout)])


def destination_details(target: PlanTarget) -> Iterator[Detail]:
    """Yield label and text of where data and requests go, and which service account trainings use."""
    for field, label in _DESTINATIONS.items():
        text = getattr(target, field)
        if text and not (field == "storage_endpoint" and text == target.endpoint):
            yield label, text


def action_phrase(action: PlannedAction) -> str:
    """Return an action and its generation in a few words: ``create numbers-3kq7w2ma``, ``held: Failed``."""
    match action.action:
        case Kind.HOLD:
            return f"held{f' in {action.stage}' if action.stage else ''}: {action.reason}"
        case Kind.NOOP:
            return "in sync" if action.reason is Reason.IN_SYNC else f"kept: {action.reason}"
        case Kind.CHECK if action.checks:
            stage = f" for {action.stage}" if action.stage else ""
            return f"check {action.generation}{stage}: {counted(action.checks, 'check')}, {_prompts(action)}"
        case Kind.PROMOTE if action.stage:
            return f"promote {action.generation} to {action.stage}"
        case _ if action.reason is Reason.TRAINING:
            return f"wait for {action.generation}: training in progress"
        case kind:
            return f"{kind} {action.generation}"


def _prompts(action: PlannedAction) -> str:
    return f"at most {counted(action.prompts, 'prompt')}"


def action_details(action: PlannedAction, explained: dict[str, str]) -> Iterator[Detail]:
    """Yield label and text of each detail of an action.

    ``explained`` maps messages to the first model with them: a later model refers to that one.
    """
    named = action.action in {Kind.CREATE, Kind.PROMOTE} and not action.stage
    reason = _REASONS.get(action.reason, "") if named else ""
    if reason:
        keeps = action.action is Kind.CREATE and action.serving
        until = "; the current generation keeps serving until this one is ready" if keeps else ""
        yield "why", reason.format(attempt=action.attempt) + until
    if action.message:
        first = explained.setdefault(action.message, action.name)
        yield "why", action.message if first == action.name else f"same as {first}"
    if action.action is Kind.HOLD and action.key:
        yield "generation", action.key
    if action.action in {Kind.PROMOTE, Kind.DELETE} and action.remote and action.key:
        yield "remote name", action.remote
    for number, change in enumerate(action.changes):
        yield "" if number else "changes", f"{change.field}: {value(change.live)} → {value(change.declared)}"
    if action.training:
        yield from _training_details(action, action.training)
    if action.deletion:
        yield from _deletion_details(action.deletion)


def planned_changes(action: PlannedAction, data: DataChange | None = None) -> Iterator[str]:
    """Yield what an action changes, from what to what: the generation, the fields, and the examples of the data set.

    ``data`` is how the training data differs from that of a base commit; without it, the numbers of examples are shown.
    """
    if action.serving:
        yield f"{action.serving} → {action.key}"
    fields = [change for change in action.changes if not change.field.startswith("dataset")]
    for change in fields[:_FIELDS_SHOWN]:
        name = change.field.removeprefix("hyperparameters.").removeprefix("sampling.")
        yield f"{name} {value(change.live)} → {value(change.declared)}"
    if len(fields) > _FIELDS_SHOWN:
        yield f"{len(fields) - _FIELDS_SHOWN} more fields"
    changed = {change.field: change for change in action.changes if change.field.startswith("dataset")}
    if not changed:
        return
    sides = changed.get("dataset.examples")
    if data and data.added is not None:
        counts = [f"{sign}{count}" for sign, count in zip(_COUNT_SIGNS, _counts_of(data), strict=True) if count]
        yield f"data {' '.join(counts)} examples" if counts else "data in another order"
    elif sides:
        yield f"data {value(sides.live)} → {value(sides.declared)} examples"
    else:
        yield "data changed"


def _counts_of(data: DataChange) -> tuple[int, int, int]:
    return data.added or 0, data.removed or 0, data.changed or 0


def _deletion_details(deletion: Deletion) -> Iterator[Detail]:
    ago = "" if deletion.age_seconds is None else f", {age(deletion.age_seconds)} ago"
    yield "created", f"{minute(deletion.create_time)}{ago}" if deletion.create_time else "at an unknown time"
    yield "served", _serving_time(deletion)
    yield "frees", _freed(deletion)


def _serving_time(deletion: Deletion) -> str:
    if not deletion.served_from:
        return "since an unknown time, still serving" if deletion.serves else "no serving time is recorded"
    begin = minute(deletion.served_from)
    if deletion.serves:
        return f"since {begin}, still serving"
    until = f" until {minute(deletion.served_until)}" if deletion.served_until else ""
    return f"from {begin}{until}"


def _freed(deletion: Deletion) -> str:
    data = [counted(deletion.examples, "example")] if deletion.examples else []
    data += [size(deletion.size)] if deletion.size else []
    trained = f" that was trained on {', '.join(data)}" if data else ""
    checkpoints = deletion.checkpoints
    endpoints = f", and {counted(checkpoints, 'checkpoint')} with endpoints" if checkpoints else ""
    return f"the model{trained}{endpoints}"


def _training_details(action: PlannedAction, training: TrainingEstimate) -> Iterator[Detail]:
    if action.base_model:
        yield "base model", action.base_model
    if action.source:
        yield "tuned from", _source(action.source, action.after)
    if action.method == "preference":
        yield "method", "preference: from pairs of a chosen and a rejected answer"
    yield "data set", _dataset(action, training.examples)
    if action.validation_dataset:
        yield "validation", action.validation_dataset
    if action.checks:
        yield "checks", f"{counted(action.checks, 'check')} before promotion, {_prompts(action)}"
    for name, setting in action.settings.items():
        shown = setting if isinstance(setting, str) else json.dumps(setting, ensure_ascii=False, sort_keys=True)
        yield name, cut(shown)
    yield "training", _training(training, action.hyperparameters)
    if training.cost and (training.cost.total or action.action is Kind.CREATE):
        yield "cost", _cost(training, training.cost)
    yield from _needs_details(training)


def _needs_details(needs: TrainingNeeds) -> Iterator[Detail]:
    """Yield what a check found out about a training."""
    if needs.trained_tokens:
        longest = f"; the longest example has {needs.longest_tokens:,}" if needs.longest_tokens else ""
        yield "tokens", f"{needs.trained_tokens:,} of {needs.tokens or 0:,} tokens are trained{longest}"
    device = f" on {needs.device}" if needs.device else ""
    for label, requirement, where in (("memory", needs.memory, device), ("disk", needs.disk, "")):
        if requirement:
            free = "" if requirement.available is None else f" of {size(requirement.available)} that are free"
            yield label, f"about {size(requirement.needed)}{free}{where}"
    weights = needs.weights
    if weights:
        amount = "" if weights.size is None else f"{size(weights.size)} "
        yield "weights", f"{amount}in {weights.source}" if weights.present else f"{amount}from {weights.source}"


def _cost(training: TrainingEstimate, cost: TrainingCost) -> str:
    about = "about " if training.tokens_estimated else ""
    billed = "" if cost.billable_tokens is None else f"{about}{cost.billable_tokens:,} billed tokens"
    if cost.total is None:
        return f"unknown: {cost.unknown}; {cost.remedy}{f' ({billed})' if billed else ''}"
    return f"{cost.total.approximate}: {billed} at {cost.price} a million"


def _source(source: Source, after: str) -> str:
    checkpoint = f"checkpoint {source.checkpoint}" if source.checkpoint else ""
    if not source.tuned_model:
        return " ".join(filter(None, (source.remote, checkpoint)))
    parent = f"{source.tuned_model} ({', '.join(filter(None, (f'generation {source.key}', checkpoint)))})"
    return f"{parent}, after its promotion" if after else parent


def _dataset(action: PlannedAction, examples: int) -> str:
    parts = [action.dataset or "inline"]
    parts += [counted(examples, "example")] if examples else []
    parts += [size(action.data_bytes)] if action.data_bytes else []
    parts += [f"generation {action.data_generation}"] if action.data_generation else []
    return ", ".join(parts)


def _training(training: TrainingEstimate, declared: Hyperparameters) -> str:
    epochs = "" if training.epochs is None else counted(training.epochs, "epoch")
    time = "" if training.seconds is None else f", about {duration(training.seconds)}"
    if training.steps is None:
        further = "".join(f"{name} {amount}; " for name, amount in declared.items() if name != "epochCount")
        return f"{epochs}{'; ' if epochs else ''}{further}the service chooses the number of steps{time}"
    about = "about " if training.estimated else ""
    chosen = " (the service chooses undeclared values)" if training.estimated else ""
    shown = training.effective or {}
    further = "".join(f"; {name} {amount}" for name, amount in shown.items() if name not in {"epochCount", "batchSize"})
    return f"{epochs} {_TIMES} batch {training.batch} = {about}{counted(training.steps, 'step')}{time}{chosen}{further}"


def plan_totals(report: PlanReport, layout: Layout) -> Iterator[str]:
    """Yield the last lines of a plan: how many models are in sync, and how many actions of each kind follow."""
    if not has_actions(report):
        yield from layout.sentences("good", plan_summary(report))
        return
    in_sync = _count_in_sync(report)
    if in_sync:
        yield f"{counted(in_sync, 'model is', 'models are')} in sync."
    yield from layout.lines("Plan: ", plan_summary(report), "heading")


def has_actions(report: PlanReport) -> bool:
    """Return whether a plan has actions apart from models that are in sync or no longer declared."""
    return any(action.action is not Kind.NOOP for action in report.actions)


def plan_summary(report: PlanReport) -> str:
    """Return the totals of a plan in one line, such as ``1 to create, 0 to update, 0 to delete.``."""
    kept = report.kept
    if has_actions(report):
        return " ".join(_counts(report.summary, _COUNTED_ALWAYS if kept is None else ("delete",)))
    if kept is not None:
        return f"Nothing to delete. {counted(len(kept), 'generation is', 'generations are')} kept."
    in_sync = _count_in_sync(report)
    return f"No changes. {counted(in_sync, 'model matches its manifest', 'models match their manifests')}."


def _count_in_sync(report: PlanReport) -> int:
    pending = {action.name for action in report.actions if action.reason is not Reason.IN_SYNC}  # perhaps in a stage
    return len({action.name for action in report.actions} - pending)


def _counts(summary: PlanSummary, always: tuple[str, ...]) -> Iterator[str]:
    kinds = [*always, *(kind for kind in _COUNTED_ELSE if getattr(summary, kind))]
    yield ", ".join(f"{getattr(summary, kind)} to {kind}" for kind in kinds) + "."
    about = "About " if summary.estimated else ""
    if summary.steps:
        yield f"{about}{counted(summary.steps, 'training step')}."
    if summary.cost:
        further = f", and {counted(summary.unknown_costs, 'training')} of unknown cost" if summary.unknown_costs else ""
        yield f"Cost: {summary.cost.approximate}{further}."
    elif summary.unknown_costs:
        yield "The cost is unknown."
    if summary.wait:
        yield f"{counted(summary.wait, 'training')} in progress."
    if summary.hold:
        yield f"{summary.hold} held."


def _example(sample: DataSample) -> str:
    return value(sample.conversation) if sample.conversation is not None else f"{_input(sample)}{value(sample.output)}"


def _input(sample: DataSample) -> str:
    return f"{value(sample.input)}: "


_SIGNS: Final[Mapping[SampleChange, tuple[str, Role, Callable[[DataSample], str]]]] = {
    "added": ("+", "create", _example),
    "removed": (_MINUS, "delete", _example),
    "changed": ("~", "update", lambda sample: f"{_input(sample)}{value(sample.before)} → {value(sample.after)}"),
    "duplicate": ("=", "warning", _example),
    "contradiction": ("!", "warning", lambda sample: f"{_input(sample)}{' or '.join(map(value, sample.outputs))}"),
    "leaked": ("?", "warning", lambda sample: f"{value(sample.input)} (check {sample.check})"),
}


def sample_text(sample: DataSample) -> tuple[str, str]:
    """Return the sign and the text of a sample of a data change."""
    sign, _, text = _SIGNS[sample.change]
    return sign, text(sample)


def change_counts(added: int, removed: int, changed: int) -> str:
    """Return ``+14 −2 ~3`` for counts of added, removed and changed examples."""  # noqa: RUF002 - as printed
    return f"+{added} {_MINUS}{removed} ~{changed}"


def data_change_counts(change: DataChange) -> str:
    """Return the counts of a data change; empty where the data sets were not compared or are equal."""
    counts = change.added or 0, change.removed or 0, change.changed or 0
    return f"{change_counts(*counts)} examples" if any(counts) else ""


def data_change_remarks(change: DataChange) -> Iterator[str]:
    """Yield what else is known of a data change: new duplicates, contradictions and leaks, and its note."""
    if change.duplicates:
        yield counted(change.duplicates, "new duplicate")
    if change.contradictions:
        meaning = "(same input, different output)"
        yield counted(change.contradictions, f"new contradiction {meaning}", f"new contradictions {meaning}")
    if change.leaked:
        where = "in the training data"
        yield counted(change.leaked, f"held-out input is {where}", f"held-out inputs are {where}")
    if change.note:
        yield change.note


def data_change_text(change: DataChange) -> str:
    """Return a data change on one line: the data set and its use, the counts and the remarks."""
    uses = {"training": "", "validation": " (validation)", "check": f" (check {change.check})"}
    parts = "; ".join(filter(None, [data_change_counts(change), *data_change_remarks(change)]))
    return f"{change.path or 'inline examples'}{uses[change.use]}: {parts}"


def lock_change_text(change: LockfileChange) -> str:
    """Return a change of the lockfile: the field, the old and new value, the remote model, and what is wrong."""
    remote = f" ({change.remote})" if change.remote and change.remote not in (change.before, change.after) else ""
    reason = f": {change.reason}" if change.reason else ""
    return f"{change.field}: {value(change.before)} → {value(change.after)}{remote}{reason}"


def _lock_changes(report: PlanReport, layout: Layout) -> Iterator[str]:
    since = f"since {report.base.ref}:" if report.base else ""
    titles: tuple[tuple[str, tuple[LockfileChange, ...] | None, Role], ...] = (
        ("Unexplained facts in the lockfile ", report.unexplained, "error"),
        ("Changed decisions in the lockfile ", report.decisions, "hold"),
    )
    for title, changes, role in titles:
        if changes:
            yield from layout.lines(title, since, "heading")
        for change in changes or ():
            place = f"{change.file}:{change.line}"
            yield from layout.lines(
                signed_head("!", change.name or "(target)"), f"{lock_change_text(change)}, {place}", role
            )


def _data_changes(report: PlanReport, layout: Layout) -> Iterator[str]:
    if not (report.base and report.base.commit) or report.data_changes is None:
        return
    if not report.data_changes:
        yield from layout.lines("Data sets: ", f"same as in {report.base.ref}", "heading")
        return
    yield from layout.lines("Data changes since ", f"{report.base.ref}:", "heading")
    for change in report.data_changes:
        yield from layout.lines(f"    {terminal_safe(change.name):<{LABEL_WIDTH}}  ", data_change_text(change), "muted")
        for sample in change.samples:
            sign, text = sample_text(sample)
            yield from layout.lines(f"{'':{LABEL_WIDTH + 6}}{sign} ", text, _SIGNS[sample.change][1])
