"""Build the section of each model in a page: curves, generations, scores, changes and timeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final

from msgspec import Struct, convert
from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, CheckResults, RecordedChecks
from reconciler.domain.identity import same_number
from reconciler.domain.lock import parse_time
from reconciler.reports.documents.envelope import Document, display_path
from reconciler.reports.html.loss_chart import Chart, Losses, chart
from reconciler.reports.text.check import score_details
from reconciler.reports.text.format import Role, counted, elapsed, loss, value

_STATES: Final[Mapping[str, tuple[str, Role]]] = {
    "INTENDED": ("intended", "wait"),
    "CREATING": ("training", "wait"),
    "ACTIVE": ("ready", "muted"),
    "FAILED": ("failed", "error"),
    "CANCELLED": ("cancelled", "error"),
    "MISSING": ("missing", "error"),
    "DELETED": ("deleted", "muted"),
}
_ENDS: Final[Mapping[str, tuple[str, Role]]] = {"FAILED": ("failed", "error"), "CANCELLED": ("cancelled", "error")}
"""Word and role of trainings that did not complete."""
_SIDES: Final = ("before", "after")


class InputChange(Struct, frozen=True):
    """A field that differs from the generation before; an empty side means that the field was not set."""

    field: str
    before: str
    after: str


class GenerationRow(Struct, frozen=True):
    """A row of the table of generations; unknown texts are empty.

    ``rank`` is the place among the generations, 0 for the newest, and ``drawn`` whether the chart has its curve.
    ``changes`` are the differences from ``since``, the key of the generation before; ``compared`` is whether the inputs
    of both are known.
    """

    key: str
    rank: int
    drawn: bool
    state: str
    role: Role
    steps: str
    loss: str
    checks: str
    passed: bool | None
    source: str
    dataset: str
    hyperparameters: str
    reason: str
    since: str
    changes: tuple[InputChange, ...]
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


class WrongAnswer(Struct, frozen=True):
    """An answer that did not pass."""

    check: str
    key: str
    prompt: str
    answer: str
    why: str


class ScoreTable(Struct, frozen=True):
    """Checks down, generations across, newest first; a score is ``None`` if the check was not run or not recorded."""

    keys: tuple[str, ...]
    rows: tuple[tuple[str, tuple[CheckScore | None, ...]], ...]


class TimelineEvent(Struct, frozen=True):
    """An event of a generation; ``time`` is empty if it was not recorded."""

    time: str
    event: str
    role: Role
    key: str
    note: str = ""


class ModelSection(Struct, frozen=True):
    """The section of a model in a page; ``anchor`` is its id."""

    anchor: str
    name: str
    manifest: str
    serving: str
    chart: Chart | None
    generations: tuple[GenerationRow, ...]
    scores: ScoreTable | None
    misses: tuple[WrongAnswer, ...]
    timeline: tuple[TimelineEvent, ...]


def model_sections(document: Document) -> tuple[ModelSection, ...]:
    """Return a section for each model with more than one line of content."""
    reports = _reports(document)
    root = document["target"].get("root", "")
    found = {model["name"]: model for model in _model_details(document)}
    for name in reports:
        found.setdefault(name, {"name": name, "generations": []})
    models = (
        _model(f"model-{position}", found[name], reports.get(name, {}), root)
        for position, name in enumerate(sorted(found), start=1)
    )
    return tuple(models) if document["kind"] != "Check" else tuple(_without_scores(models))


def _without_scores(models: Iterable[ModelSection]) -> Iterator[ModelSection]:
    """Yield the models with content besides scores, which the table above already has."""
    return (replace(model, scores=None) for model in models if model.misses)


def _model_details(document: Document) -> list[Document]:
    """Return the model details of a document; a Status or History document has most of them itself."""
    if "modelDetails" in document:
        details: list[Document] = document["modelDetails"]
        return details
    if document["kind"] == "Status":
        return [{**model, "serving": model.get("serving", {}).get("key", "")} for model in document["models"]]
    return [_from_history(document)] if document["kind"] == "History" else []


def _from_history(document: Document) -> Document:
    generations = [_from_history_generation(generation) for generation in document["generations"]]
    serving = next((generation["key"] for generation in generations if generation.get("role") == "serving"), "")
    return {
        "name": document["name"],
        "manifest": document["manifest"],
        "serving": serving,
        "generations": generations,
    }


def _from_history_generation(generation: Document) -> Document:
    rejected = {"rejected": True} if generation.get("role") == "rejected" else {}
    return {**generation, "hyperparameters": {"effective": generation.get("hyperparameters", {})}, **rejected}


def _reports(document: Document) -> dict[str, dict[str, CheckResults]]:
    """Return complete check reports by model and generation."""
    found: dict[str, dict[str, CheckResults]] = {}
    for model in document["models"] if document["kind"] in {"Result", "Check"} else ():
        if "checks" in model:
            found.setdefault(model["name"], {})[model.get("key", "")] = convert(model["checks"], CheckResults)
    return found


def _model(anchor: str, details: Document, reports: Mapping[str, CheckResults], root: str) -> ModelSection:
    generations: list[Document] = details["generations"]
    serving = details.get("serving") or ""
    drawing = chart([Losses(generation["key"], _points(generation)) for generation in generations])
    return ModelSection(
        anchor=anchor,
        name=details["name"],
        manifest=display_path(details["manifest"], root) if "manifest" in details else "",
        serving=serving,
        chart=drawing,
        generations=tuple(_generations(generations, serving, drawing, reports)),
        scores=_scores(generations, reports),
        misses=tuple(_misses(generations, reports)),
        timeline=_timeline(generations),
    )


def _points(generation: Document) -> tuple[tuple[float, float], ...]:
    return tuple((step, height) for step, height in generation.get("curve", ()))


def _generations(
    generations: list[Document], serving: str, drawing: Chart | None, reports: Mapping[str, CheckResults]
) -> Iterator[GenerationRow]:
    drawn = {line.key for line in drawing.lines} if drawing else frozenset[str]()
    keys = [generation["key"] for generation in generations]
    newest_serving = keys.index(serving) if serving in keys else len(keys)
    for rank, (generation, before) in enumerate(zip_longest(generations, generations[1:])):
        state, role = _state(generation, serving, superseded=rank > newest_serving)
        report, recorded = reports.get(generation["key"]), generation.get("checks")
        checks = report or (convert(recorded, RecordedChecks) if recorded else None)
        yield GenerationRow(
            key=generation["key"],
            rank=rank,
            drawn=generation["key"] in drawn,
            state=state,
            role=role,
            steps=str(generation.get("totalSteps", "")),
            loss=loss(generation["finalLoss"]) if "finalLoss" in generation else "",
            checks=f"{checks.passed} of {checks.passed + checks.failed}" if checks else "",
            passed=not checks.failed if checks else None,
            source=_source(generation.get("source", {})),
            dataset=_dataset(generation.get("dataset", {})),
            hyperparameters=", ".join(
                f"{name} {value(amount)}" for name, amount in sorted(_hyperparameters(generation).items())
            ),
            reason=generation.get("rejection") or generation.get("error", {}).get("message", ""),
            since=before["key"] if before else "",
            changes=tuple(_changes(before, generation)) if before else (),
            compared=bool(before and "dataset" in before and "dataset" in generation),
        )


def _state(generation: Document, serving: str, *, superseded: bool) -> tuple[str, Role]:
    if generation["key"] == serving:
        return "serving", "good"
    if "rejected" in generation:
        return "rejected", "error"
    if generation["state"] != "ACTIVE":
        return _STATES[generation["state"]]
    if superseded:
        return "superseded", "muted"
    return ("held: checks failed", "hold") if generation.get("checks", {}).get("failed") else _STATES["ACTIVE"]


def _source(source: Document) -> str:
    if "tunedModel" in source:
        return f"{source['tunedModel']} (generation {source.get('generation', 'unknown')})"
    return str(source.get("baseModel") or source.get("generation") or source.get("remote", ""))


def _dataset(dataset: Document) -> str:
    return ", ".join([dataset.get("path", "inline"), *_examples(dataset)]) if dataset else ""


def _examples(dataset: Document) -> list[str]:
    return [counted(dataset["examples"], "example")] if "examples" in dataset else []


def _hyperparameters(generation: Document) -> dict[str, Any]:
    """Return the effective hyperparameters, and declared ones that the service does not report."""
    recorded = generation.get("hyperparameters", {})
    return {**recorded.get("declared", {}), **recorded.get("effective", {})}


def _changes(older: Document, newer: Document) -> Iterator[InputChange]:
    if "changes" in newer:
        yield from _compared_changes(newer["changes"])
        return
    if "source" in older and "source" in newer and older["source"] != newer["source"]:
        yield InputChange("tuned from", _source(older["source"]), _source(newer["source"]))
    yield from _hyperparameter_changes(older, newer)
    if "dataset" in older and "dataset" in newer and older["dataset"]["digest"] != newer["dataset"]["digest"]:
        yield _data_change(older["dataset"], newer["dataset"])


def _data_change(older: Document, newer: Document) -> InputChange:
    """Return the difference of two data sets, with the path only if it changed."""
    moved = older.get("path") != newer.get("path")
    return InputChange("data set", *(_digest_text(dataset, moved=moved) for dataset in (older, newer)))


def _digest_text(dataset: Document, *, moved: bool) -> str:
    path = [dataset.get("path", "inline")] if moved else []
    return ", ".join([*path, *_examples(dataset), value(dataset["digest"])])


def _compared_changes(changes: Document) -> Iterator[InputChange]:
    """Yield the changes that a History document has, with the number of changed examples."""
    if "source" in changes:
        yield InputChange("tuned from", *(_source(changes["source"][side]) for side in _SIDES))
    for change in changes.get("hyperparameters", ()):
        yield InputChange(change["name"], *(value(change[side]) if side in change else "" for side in _SIDES))
    if "dataset" in changes:
        yield _data_change(*(changes["dataset"][side] for side in _SIDES))
        counts = changes["dataset"].get("examples", {})
        for change in ("added", "removed", "changed"):
            if counts.get(change):
                yield InputChange(f"examples {change}", "", str(counts[change]))
    if "preamble" in changes:
        yield InputChange("preamble", *(changes["preamble"][side] for side in _SIDES))


def _hyperparameter_changes(older: Document, newer: Document) -> Iterator[InputChange]:
    """Yield changes as ``planning.history`` finds them: a value that only the service reports is not compared."""
    sides = [generation.get("hyperparameters", {}) for generation in (older, newer)]
    declared = {name for side in sides for name in side.get("declared", {})}
    effective = set(sides[0].get("effective", {})) & set(sides[1].get("effective", {}))
    old, new = _hyperparameters(older), _hyperparameters(newer)
    for name in sorted(declared | effective):
        before, after = old.get(name), new.get(name)
        if before is None or after is None or not same_number(before, after):
            yield InputChange(name, *("" if amount is None else value(amount) for amount in (before, after)))


def _scores(generations: Iterable[Document], reports: Mapping[str, CheckResults]) -> ScoreTable | None:
    by_key: dict[str, dict[str, CheckScore]] = {}
    for key, report in reports.items():
        by_key[key] = {result.name: score_of(result) for result in report.results}
    for generation in generations:
        if "checks" in generation and generation["key"] not in by_key:
            by_key[generation["key"]] = _recorded(generation["checks"])
    order = [generation["key"] for generation in generations]
    shown = {key: scores for key, scores in by_key.items() if scores}
    keys = sorted(shown, key=lambda key: order.index(key) if key in order else -1)
    names = list(dict.fromkeys(name for key in keys for name in shown[key]))
    rows = tuple((name, tuple(shown[key].get(name) for key in keys)) for name in names)
    return ScoreTable(tuple(keys), rows) if rows else None


def score_of(result: CheckResult) -> CheckScore:
    """Return the result of a check of this run."""
    return CheckScore(
        share=result.score,
        passed=result.passed,
        minimum=result.minimum,
        interval=result.interval,
        text="; ".join(score_details(result)),
    )


def _recorded(checks: Document) -> dict[str, CheckScore]:
    """Return the results that the lockfile keeps: shares of evaluations and failed checks."""
    failed = {failure["check"] for failure in checks.get("failures", ())}
    shares = checks.get("scores", {})
    names = [*shares, *sorted(failed - shares.keys())]
    return {name: CheckScore(shares.get(name), _verdict(name, failed, checks)) for name in names}


def _verdict(name: str, failed: set[str], checks: Document) -> bool | None:
    if name in failed:
        return False
    return True if len(failed) == checks["failed"] else None


def _misses(generations: Iterable[Document], reports: Mapping[str, CheckResults]) -> Iterator[WrongAnswer]:
    for key, report in reports.items():
        for result in report.results:
            for miss in result.misses:
                yield WrongAnswer(result.name, key, miss.prompt, miss.answer, miss.reason)
    for generation in generations:
        for miss in generation.get("checks", {}).get("failures", ()) if generation["key"] not in reports else ():
            yield WrongAnswer(miss["check"], generation["key"], miss["prompt"], miss["answer"], "")


def _timeline(generations: Iterable[Document]) -> tuple[TimelineEvent, ...]:
    """Return the events, latest first; events without a time are last."""
    everything = [event for generation in generations for event in _events(generation)]
    return tuple(sorted(everything, key=lambda event: _seconds(event.time), reverse=True))


def _events(generation: Document) -> Iterator[TimelineEvent]:
    key = generation["key"]
    if "rejected" in generation:
        yield TimelineEvent("", "rejected", "error", key, generation.get("rejection", ""))
    if "promoteTime" in generation:
        yield TimelineEvent(generation["promoteTime"], "promoted", "promote", key)
    if "completeTime" in generation:
        took = _seconds(generation["completeTime"]) - _seconds(generation.get("createTime", ""))
        note = f"after {elapsed(took)}" if 0 <= took < float("inf") else ""
        yield TimelineEvent(
            generation["completeTime"], *_ENDS.get(generation["state"], ("completed", "good")), key, note
        )
    elif generation["state"] in _ENDS:
        yield TimelineEvent("", *_ENDS[generation["state"]], key)
    if "createTime" in generation:
        yield TimelineEvent(generation["createTime"], "created", "create", key)


def _seconds(time: str) -> float:
    """Return seconds since 1970, or minus infinity for an unknown or invalid time."""
    try:
        moment = parse_time(time)
    except ValueError:
        moment = None
    return moment.timestamp() if moment and moment.tzinfo else float("-inf")
