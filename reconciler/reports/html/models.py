"""Build the section of each model in a page: curves, generations, scores, changes and timeline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, CheckResults, RecordedChecks, describe_comparison
from reconciler.domain.document import Document
from reconciler.domain.identity import same_value
from reconciler.domain.lock import LockedHyperparameters, parse_time
from reconciler.domain.model import (
    Hyperparameters,
    HyperparameterValue,
    Source,
    State,
)
from reconciler.reports.documents.check import CheckReport
from reconciler.reports.documents.envelope import display_path, kind_of, target_of
from reconciler.reports.documents.history import GenerationChanges, HistoryGeneration, HistoryReport
from reconciler.reports.documents.result import ResultReport
from reconciler.reports.documents.status import (
    GenerationDetails,
    GenerationStatus,
    ModelDetails,
    StatusReport,
    TrainingData,
)
from reconciler.reports.html.loss_chart import Chart, Losses, chart
from reconciler.reports.text.check import COMPARED_MODELS, score_details
from reconciler.reports.text.format import Detail, Role, checkpoint_text, counted, elapsed, value
from reconciler.reports.text.status import training_text

_STATES: Final[Mapping[State, tuple[str, Role]]] = {
    State.INTENDED: ("intended", "wait"),
    State.CREATING: ("training", "wait"),
    State.ACTIVE: ("ready", "muted"),
    State.FAILED: ("failed", "error"),
    State.CANCELLED: ("cancelled", "error"),
    State.MISSING: ("missing", "error"),
    State.DELETING: ("being deleted", "wait"),
    State.DELETED: ("deleted", "muted"),
}
_ENDS: Final = {state: _STATES[state] for state in (State.FAILED, State.CANCELLED)}
"""Word and role of trainings that did not complete."""


_Generation = GenerationDetails | GenerationStatus | HistoryGeneration
_InputChange = tuple[str, str, str]
"""A field that differs from the generation before, and both sides; an empty side means that the field was not set."""
_WrongAnswer = tuple[str, str, str, str, str]
"""The check, the key of the generation, the prompt, the answer and the problem."""
_DifferentAnswers = tuple[str, str, str, tuple[tuple[str, bool] | None, ...]]
"""The check, the key of the generation, the prompt, and the answers of COMPARED_MODELS and whether each is correct."""
_TimelineEvent = tuple[str, str, Role, str, str]
"""The time (empty if it was not recorded), the event, its role, the key of the generation and a note."""


class GenerationRow(Struct, frozen=True):
    """A row of the table of generations; unknown texts are empty.

    ``drawn`` is whether the chart has its curve. ``progress`` is what a training does, and how far it is. ``inputs``
    are labels and texts. ``changes`` are the differences from ``since``, the key of the generation before; ``compared``
    is whether the inputs of both are known.
    """

    generation: _Generation
    drawn: bool
    state: str
    role: Role
    progress: str
    checks: CheckResults | RecordedChecks | None
    inputs: tuple[Detail, ...]
    since: str
    changes: tuple[_InputChange, ...]
    compared: bool


class CheckScore(Struct, frozen=True):
    """The result of one check with one generation.

    Shares are from 0 to 1; ``minimum``, ``interval`` (95 % confidence) and ``passed`` are ``None`` if unknown.
    """

    share: float | None
    passed: bool | None
    minimum: float | None = None
    interval: tuple[float, float] | None = None
    text: str = ""


class ScoreTable(Struct, frozen=True):
    """Checks down, generations across, newest first; a score is ``None`` if the check was not run or not recorded."""

    keys: tuple[str, ...]
    rows: tuple[tuple[str, tuple[CheckScore | None, ...]], ...]


class ModelSection(Struct, frozen=True):
    """The section of a model in a page; ``anchor`` is its id."""

    anchor: str
    name: str
    manifest: str
    serving: str
    chart: Chart | None
    generations: tuple[GenerationRow, ...]
    scores: ScoreTable | None
    misses: tuple[_WrongAnswer, ...]
    different: tuple[_DifferentAnswers, ...]
    timeline: tuple[_TimelineEvent, ...]


def model_sections(document: Document) -> tuple[ModelSection, ...]:
    """Return a section for each model with more than one line of content."""
    reports = _reports(document)
    models = {model.name: model for model in _models(document)}
    for name in reports:
        models.setdefault(name, _Model(name))
    target = target_of(document)
    sections = (
        _section(f"model-{position}", models[name], reports.get(name, {}), target.root if target else "")
        for position, name in enumerate(sorted(models), start=1)
    )
    return (
        tuple(sections)
        if kind_of(document) != "Check"
        else tuple(replace(model, scores=None) for model in sections if model.misses or model.different)
    )


class _Model(Struct, frozen=True):
    """What a document has of a model; ``serving`` is the key of its serving generation."""

    name: str
    manifest: str = ""
    serving: str = ""
    generations: tuple[_Generation, ...] = ()


def _models(document: Document) -> Iterator[_Model]:
    """Yield the models of a document; a Status or History report without model details has most of them itself."""
    details: tuple[ModelDetails, ...] = getattr(document, "model_details", ())
    for model in details:
        yield _Model(model.name, model.manifest, model.serving, model.generations)
    if isinstance(document, StatusReport) and not details:
        for status in document.models:
            serving = status.serving.key if status.serving else ""
            yield _Model(status.name, status.manifest, serving, status.generations)
    if isinstance(document, HistoryReport):
        serving = next((known.key for known in document.generations if known.role == "serving"), "")
        yield _Model(document.name, document.manifest, serving, document.generations)


def _reports(document: Document) -> dict[str, dict[str, CheckResults]]:
    """Return complete check reports by model and generation."""
    found: dict[str, dict[str, CheckResults]] = {}
    for model in document.models if isinstance(document, CheckReport | ResultReport) else ():
        if model.checks:
            found.setdefault(model.name, {})[model.key] = model.checks
    return found


def _section(anchor: str, model: _Model, reports: Mapping[str, CheckResults], root: str) -> ModelSection:
    curves = [(known.key, known.curve if isinstance(known, GenerationDetails) else ()) for known in model.generations]
    drawing = chart([Losses(key, curve) for key, curve in curves])
    return ModelSection(
        anchor=anchor,
        name=model.name,
        manifest=display_path(model.manifest, root) if model.manifest else "",
        serving=model.serving,
        chart=drawing,
        generations=tuple(_generations(model, drawing, reports)),
        scores=_scores(model.generations, reports),
        misses=tuple(_misses(model.generations, reports)),
        different=tuple(_different(reports)),
        timeline=_timeline(model.generations),
    )


def _generations(model: _Model, drawing: Chart | None, reports: Mapping[str, CheckResults]) -> Iterator[GenerationRow]:
    drawn = {line.key for line in drawing.lines} if drawing else frozenset[str]()
    keys = [generation.key for generation in model.generations]
    newest_serving = keys.index(model.serving) if model.serving in keys else len(keys)
    for rank, (generation, before) in enumerate(zip_longest(model.generations, model.generations[1:])):
        state, role = _state(generation, model.serving, superseded=rank > newest_serving)
        yield GenerationRow(
            generation=generation,
            drawn=generation.key in drawn,
            state=state,
            role=role,
            progress="" if isinstance(generation, HistoryGeneration) else training_text(generation),
            checks=reports.get(generation.key) or generation.checks,
            inputs=_inputs(generation),
            since=before.key if before else "",
            changes=tuple(_changes(before, generation)) if before else (),
            compared=before is not None and not isinstance(generation, GenerationStatus),
        )


def _inputs(generation: _Generation) -> tuple[Detail, ...]:
    checkpoint = (("checkpoint", generation.checkpoint),) if generation.checkpoint else ()
    if isinstance(generation, GenerationStatus):
        return checkpoint
    hyperparameters = sorted(_hyperparameters(generation).items())
    return (
        ("tuned from", _source(generation.source)),
        *checkpoint,
        ("data set", ", ".join([generation.dataset.path or "inline", *_examples(generation.dataset)])),
        ("with", ", ".join(f"{name} {value(amount)}" for name, amount in hyperparameters)),
    )


def _state(generation: _Generation, serving: str, *, superseded: bool) -> tuple[str, Role]:
    stages = [use.stage for use in generation.stages if use.use == "serving"]
    if generation.key == serving or stages:
        return f"serving in {', '.join(stages)}" if stages else "serving", "good"
    if generation.rejected:
        return "rejected", "error"
    if generation.state is not State.ACTIVE:
        return _STATES[generation.state]
    if superseded:
        return "superseded", "muted"
    held = generation.checks and generation.checks.failed
    return ("held: checks failed", "hold") if held else _STATES[State.ACTIVE]


def _source(source: Source) -> str:
    checkpoint = f", checkpoint {source.checkpoint}" if source.checkpoint else ""
    if source.tuned_model:
        return f"{source.tuned_model} (generation {source.key or 'unknown'}{checkpoint})"
    return (source.base_model or source.key or source.remote) + checkpoint


def _examples(dataset: TrainingData) -> list[str]:
    return [counted(dataset.examples, "example")] if dataset.examples else []


def _hyperparameters(generation: _Generation) -> Hyperparameters:
    """Return the effective hyperparameters, and declared ones that the service does not report."""
    match generation:
        case HistoryGeneration():
            return generation.hyperparameters
        case GenerationDetails(hyperparameters=LockedHyperparameters(declared=declared, effective=effective)):
            return {**declared, **effective}
        case _:
            return {}


def _changes(older: _Generation, newer: _Generation) -> Iterator[_InputChange]:
    if isinstance(newer, HistoryGeneration) and newer.changes:
        yield from _compared_changes(newer.changes)
    if isinstance(older, GenerationDetails) and isinstance(newer, GenerationDetails):
        if older.source != newer.source:
            yield "tuned from", _source(older.source), _source(newer.source)
        yield from _hyperparameter_changes(older, newer)
        if older.dataset.digest != newer.dataset.digest:
            yield _data_change(older.dataset, newer.dataset)


def _data_change(older: TrainingData, newer: TrainingData) -> _InputChange:
    """Return the difference of two data sets, with the path only if it changed."""
    moved = older.path != newer.path
    return "data set", _digest_text(older, moved=moved), _digest_text(newer, moved=moved)


def _digest_text(dataset: TrainingData, *, moved: bool) -> str:
    path = [dataset.path or "inline"] if moved else []
    return ", ".join([*path, *_examples(dataset), value(dataset.digest)])


def _compared_changes(changes: GenerationChanges) -> Iterator[_InputChange]:
    """Yield the changes that a History report has, with the number of changed examples."""
    if changes.source:
        yield "tuned from", _source(changes.source.before), _source(changes.source.after)
    for change in changes.hyperparameters:
        yield change.name, _amount(change.before), _amount(change.after)
    if changes.dataset:
        yield _data_change(changes.dataset.before, changes.dataset.after)
    if changes.dataset and (found := changes.dataset.examples):
        for change_kind, count in (("added", found.added), ("removed", found.removed), ("changed", found.changed)):
            if count:
                yield f"examples {change_kind}", "", str(count)
    if changes.preamble:
        yield "preamble", changes.preamble.before, changes.preamble.after


def _amount(amount: HyperparameterValue | None) -> str:
    return "" if amount is None else value(amount)


def _hyperparameter_changes(older: GenerationDetails, newer: GenerationDetails) -> Iterator[_InputChange]:
    """Yield changes as ``planning.history`` finds them: a value that only the service reports is not compared."""
    sides = [generation.hyperparameters or LockedHyperparameters() for generation in (older, newer)]
    declared = {name for side in sides for name in side.declared}
    old, new = _hyperparameters(older), _hyperparameters(newer)
    for name in sorted(declared | (set(sides[0].effective) & set(sides[1].effective))):
        before, after = old.get(name), new.get(name)
        if before is None or after is None or not same_value(before, after):
            yield name, _amount(before), _amount(after)


def _scores(generations: Iterable[_Generation], reports: Mapping[str, CheckResults]) -> ScoreTable | None:
    by_key: dict[str, dict[str, CheckScore]] = {}
    for key, report in reports.items():
        by_key[key] = {result.name: score_of(result) for result in report.results}
    for generation in generations:
        if generation.checks and generation.key not in by_key:
            by_key[generation.key] = _recorded(generation.checks)
    order = [generation.key for generation in generations]
    shown = {key: scores for key, scores in by_key.items() if scores}
    keys = sorted(shown, key=lambda key: order.index(key) if key in order else -1)
    names = list(dict.fromkeys(name for key in keys for name in shown[key]))
    rows = tuple((name, tuple(shown[key].get(name) for key in keys)) for name in names)
    return ScoreTable(tuple(keys), rows) if rows else None


def score_of(result: CheckResult) -> CheckScore:
    """Return the result of a check of this run."""
    text = "; ".join(score_details(result))
    return CheckScore(result.score, result.passed, result.minimum, result.interval, text)


def _recorded(checks: RecordedChecks) -> dict[str, CheckScore]:
    """Return the results that the lockfile keeps: shares of evaluations and failed checks."""
    failed = {miss.check for miss in checks.misses}
    names = [*checks.scores, *sorted(failed - checks.scores.keys())]
    return {
        name: CheckScore(checks.scores.get(name), _verdict(name, failed, checks), text=_compared(name, checks))
        for name in names
    }


def _compared(name: str, checks: RecordedChecks) -> str:
    score, comparisons = checks.scores.get(name, 0.0), checks.comparisons.get(name, ())
    return "; ".join(describe_comparison(score, comparison) for comparison in comparisons)


def _verdict(name: str, failed: set[str], checks: RecordedChecks) -> bool | None:
    if name in failed:
        return False
    return True if len(failed) == checks.failed and not checks.warned else None


def _misses(generations: Iterable[_Generation], reports: Mapping[str, CheckResults]) -> Iterator[_WrongAnswer]:
    for key, report in reports.items():
        for result in report.results:
            for miss in result.misses:
                yield result.name, key, miss.prompt, miss.answer, miss.reason
    for generation in generations:
        if generation.checks and generation.key not in reports:
            for recorded in generation.checks.misses:
                yield recorded.check, generation.key, recorded.prompt, recorded.answer, ""


def _different(reports: Mapping[str, CheckResults]) -> Iterator[_DifferentAnswers]:
    for key, report in reports.items():
        for result in report.results:
            for row in result.rows:
                answers = {str(answer.model): (answer.answer, answer.passed) for answer in row.answers}
                yield result.name, key, row.prompt, tuple(answers.get(model) for model in COMPARED_MODELS)


def _timeline(generations: Iterable[_Generation]) -> tuple[_TimelineEvent, ...]:
    """Return the events, latest first; events without a time are last.

    Some times are in whole seconds and others are not: within a second, the events of a generation keep their order.
    """
    everything = [event for generation in generations for event in _events(generation)]
    return tuple(sorted(everything, key=lambda event: _whole_seconds(event[0]), reverse=True))


def _events(generation: _Generation) -> Iterator[_TimelineEvent]:
    key, created, completed = generation.key, generation.create_time, generation.complete_time
    if generation.rejected:
        yield "", "rejected", "error", key, generation.rejection
    promotions = [use for use in generation.stages if use.use == "serving" and use.since]
    for use in promotions:
        yield use.since, f"promoted to {use.stage}", "promote", key, ""
    if generation.promote_time and generation.promote_time not in {use.since for use in promotions}:
        yield generation.promote_time, "promoted", "promote", key, checkpoint_text(generation.checkpoint).strip()
    if completed:
        took = _seconds(completed) - _seconds(created)
        note = f"after {elapsed(took)}" if 0 <= took < float("inf") else ""
        yield completed, *_ENDS.get(generation.state, ("completed", "good")), key, note
    elif generation.state in _ENDS:
        yield "", *_ENDS[generation.state], key, ""
    if created:
        yield created, "created", "create", key, ""


def _whole_seconds(time: str) -> float:
    seconds = _seconds(time)
    return seconds if math.isinf(seconds) else math.floor(seconds)


def _seconds(time: str) -> float:
    """Return seconds since 1970, or minus infinity for an unknown or invalid time."""
    try:
        moment = parse_time(time)
    except ValueError:
        moment = None
    return moment.timestamp() if moment and moment.tzinfo else float("-inf")
