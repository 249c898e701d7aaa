"""What a page shows of each model: its curves, generations, scores, changes and history, picked from a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final

from reconciler.domain.identity import same_number
from reconciler.domain.lock import parse_time
from reconciler.reports.documents.envelope import Document, display_path
from reconciler.reports.html.loss_chart import Chart, Losses, chart
from reconciler.reports.text.check import score_details
from reconciler.reports.text.format import Role, counted, elapsed, loss, value

_STANDINGS: Final[Mapping[str, tuple[str, Role]]] = {
    "INTENDED": ("intended", "wait"),
    "CREATING": ("training", "wait"),
    "ACTIVE": ("ready", "muted"),
    "FAILED": ("failed", "error"),
    "CANCELLED": ("cancelled", "error"),
    "MISSING": ("missing", "error"),
    "DELETED": ("deleted", "muted"),
}
_ENDS: Final[Mapping[str, tuple[str, Role]]] = {"FAILED": ("failed", "error"), "CANCELLED": ("cancelled", "error")}
"""How a training ends that does not complete."""
_SIDES: Final = ("before", "after")


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs from the generation before; an empty side means that it was not there."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One row of a model's table; texts are empty where something is not known.

    ``rank`` is the place among the generations, 0 for the newest; ``drawn`` whether the chart has its curve.
    ``since`` is the key of the one before, ``changes`` are in what it differs from that, ``compared`` says whether the
    inputs of both are known.
    """

    key: str
    rank: int
    drawn: bool
    standing: str
    role: Role
    steps: str
    loss: str
    checks: str
    passed: bool | None
    source: str
    dataset: str
    hyperparameters: str
    why: str
    since: str
    changes: tuple[Change, ...]
    compared: bool


@dataclass(frozen=True, slots=True)
class CheckScore:
    """How one check went with one generation.

    Shares are from 0 to 1; ``minimum`` and ``interval`` (of 95 % confidence) are ``None`` where they are not known, and
    so is ``passed``.
    """

    share: float | None
    passed: bool | None
    minimum: float | None = None
    interval: tuple[float, float] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Miss:
    """An answer that did not pass."""

    check: str
    key: str
    prompt: str
    answer: str
    why: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Checks down, generations across, newest first; a score is ``None`` where a check was not run or not told of."""

    keys: tuple[str, ...]
    rows: tuple[tuple[str, tuple[CheckScore | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a generation; ``time`` is empty where nobody noted when."""

    time: str
    what: str
    role: Role
    key: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A model's part of a page; ``anchor`` is its id there."""

    anchor: str
    name: str
    manifest: str
    serving: str
    chart: Chart | None
    generations: tuple[Generation, ...]
    scores: Scores | None
    misses: tuple[Miss, ...]
    timeline: tuple[Happening, ...]


def models_of(document: Document) -> tuple[Model, ...]:
    """A part for each model of which the document knows more than one line."""
    reports = _reports(document)
    root = document["target"].get("root", "")
    found = {one["name"]: one for one in _portraits(document)}
    for name in reports:
        found.setdefault(name, {"name": name, "generations": []})
    models = (
        _model(f"model-{position}", found[name], reports.get(name, {}), root)
        for position, name in enumerate(sorted(found), start=1)
    )
    return tuple(models) if document["kind"] != "Check" else tuple(_beside_scores(models))


def _beside_scores(models: Iterable[Model]) -> Iterator[Model]:
    """The models with more to tell than scores, where these stand in the table already."""
    return (replace(model, scores=None) for model in models if model.misses)


def _portraits(document: Document) -> list[Document]:
    """The portraits of a document; a Status or History document without them tells much the same itself."""
    if "portraits" in document:
        portraits: list[Document] = document["portraits"]
        return portraits
    if document["kind"] == "Status":
        return [{**one, "serving": one.get("serving", {}).get("key", "")} for one in document["models"]]
    return [_from_history(document)] if document["kind"] == "History" else []


def _from_history(document: Document) -> Document:
    generations = [_from_entry(one) for one in document["generations"]]
    serving = next((one["key"] for one in generations if one.get("role") == "serving"), "")
    return {
        "name": document["name"],
        "manifest": document["manifest"],
        "serving": serving,
        "generations": generations,
    }


def _from_entry(entry: Document) -> Document:
    rejected = {"rejected": True} if entry.get("role") == "rejected" else {}
    return {**entry, "hyperparameters": {"effective": entry.get("hyperparameters", {})}, **rejected}


def _reports(document: Document) -> dict[str, dict[str, Document]]:
    """Whole check reports by model and generation: what this run has measured, before what was recorded."""
    found: dict[str, dict[str, Document]] = {}
    for model in document["models"] if document["kind"] in {"Result", "Check"} else ():
        if "checks" in model:
            found.setdefault(model["name"], {})[model.get("key", "")] = model["checks"]
    return found


def _model(anchor: str, portrait: Document, reports: Mapping[str, Document], root: str) -> Model:
    generations: list[Document] = portrait["generations"]
    serving = portrait.get("serving") or ""
    drawing = chart([Losses(one["key"], _points(one)) for one in generations])
    return Model(
        anchor=anchor,
        name=portrait["name"],
        manifest=display_path(portrait["manifest"], root) if "manifest" in portrait else "",
        serving=serving,
        chart=drawing,
        generations=tuple(_generations(generations, serving, drawing, reports)),
        scores=_scores(generations, reports),
        misses=tuple(_misses(generations, reports)),
        timeline=_timeline(generations),
    )


def _points(one: Document) -> tuple[tuple[float, float], ...]:
    return tuple((step, height) for step, height in one.get("curve", ()))


def _generations(
    generations: list[Document], serving: str, drawing: Chart | None, reports: Mapping[str, Document]
) -> Iterator[Generation]:
    drawn = {line.key for line in drawing.lines} if drawing else frozenset[str]()
    keys = [one["key"] for one in generations]
    newest_serving = keys.index(serving) if serving in keys else len(keys)
    for rank, (one, before) in enumerate(zip_longest(generations, generations[1:])):
        standing, role = _standing(one, serving, superseded=rank > newest_serving)
        checks = reports.get(one["key"]) or one.get("checks")
        yield Generation(
            key=one["key"],
            rank=rank,
            drawn=one["key"] in drawn,
            standing=standing,
            role=role,
            steps=str(one.get("totalSteps", "")),
            loss=loss(one["finalLoss"]) if "finalLoss" in one else "",
            checks=f"{checks['passed']} of {checks['passed'] + checks['failed']}" if checks else "",
            passed=not checks["failed"] if checks else None,
            source=_source(one.get("source", {})),
            dataset=_dataset(one.get("dataset", {})),
            hyperparameters=", ".join(f"{name} {value(amount)}" for name, amount in sorted(_numbers(one).items())),
            why=one.get("rejection") or one.get("error", {}).get("message", ""),
            since=before["key"] if before else "",
            changes=tuple(_changes(before, one)) if before else (),
            compared=bool(before and "dataset" in before and "dataset" in one),
        )


def _standing(one: Document, serving: str, *, superseded: bool) -> tuple[str, Role]:
    if one["key"] == serving:
        return "serving", "good"
    if "rejected" in one:
        return "rejected", "error"
    if one["state"] != "ACTIVE":
        return _STANDINGS[one["state"]]
    if superseded:
        return "superseded", "muted"
    return ("held: its checks failed", "hold") if one.get("checks", {}).get("failed") else _STANDINGS["ACTIVE"]


def _source(source: Document) -> str:
    if "tunedModel" in source:
        return f"{source['tunedModel']} (generation {source.get('generation', 'unknown')})"
    return str(source.get("baseModel") or source.get("generation") or source.get("remote", ""))


def _dataset(dataset: Document) -> str:
    return ", ".join([dataset.get("path", "inline"), *_examples(dataset)]) if dataset else ""


def _examples(dataset: Document) -> list[str]:
    return [counted(dataset["examples"], "example")] if "examples" in dataset else []


def _numbers(one: Document) -> dict[str, Any]:
    """The hyperparameters that count: the effective ones, and declared ones that the service has not told of."""
    told = one.get("hyperparameters", {})
    return {**told.get("declared", {}), **told.get("effective", {})}


def _changes(older: Document, newer: Document) -> Iterator[Change]:
    if "changes" in newer:
        yield from _told_changes(newer["changes"])
        return
    if "source" in older and "source" in newer and older["source"] != newer["source"]:
        yield Change("tuned from", _source(older["source"]), _source(newer["source"]))
    yield from _number_changes(older, newer)
    if "dataset" in older and "dataset" in newer and older["dataset"]["digest"] != newer["dataset"]["digest"]:
        yield _data_change(older["dataset"], newer["dataset"])


def _data_change(older: Document, newer: Document) -> Change:
    """Both data sets as far as they differ: the path only where it is another one."""
    moved = older.get("path") != newer.get("path")
    return Change("data set", *(_exact(one, moved=moved) for one in (older, newer)))


def _exact(dataset: Document, *, moved: bool) -> str:
    path = [dataset.get("path", "inline")] if moved else []
    return ", ".join([*path, *_examples(dataset), value(dataset["digest"])])


def _told_changes(changes: Document) -> Iterator[Change]:
    """The changes that a History document tells of itself; it has compared the examples, too."""
    if "source" in changes:
        yield Change("tuned from", *(_source(changes["source"][side]) for side in _SIDES))
    for one in changes.get("hyperparameters", ()):
        yield Change(one["name"], *(value(one[side]) if side in one else "" for side in _SIDES))
    if "dataset" in changes:
        yield _data_change(*(changes["dataset"][side] for side in _SIDES))
        found = changes["dataset"].get("examples", {})
        for what in ("added", "removed", "changed"):
            if found.get(what):
                yield Change(f"examples {what}", "", str(found[what]))
    if "preamble" in changes:
        yield Change("preamble", *(changes["preamble"][side] for side in _SIDES))


def _number_changes(older: Document, newer: Document) -> Iterator[Change]:
    """As core.history compares them: what only the service told of one side is no change."""
    told = [one.get("hyperparameters", {}) for one in (older, newer)]
    declared = {name for one in told for name in one.get("declared", {})}
    effective = set(told[0].get("effective", {})) & set(told[1].get("effective", {}))
    old, new = _numbers(older), _numbers(newer)
    for name in sorted(declared | effective):
        before, after = old.get(name), new.get(name)
        if before is None or after is None or not same_number(before, after):
            yield Change(name, *("" if amount is None else value(amount) for amount in (before, after)))


def _scores(generations: Iterable[Document], reports: Mapping[str, Document]) -> Scores | None:
    by_key: dict[str, dict[str, CheckScore]] = {}
    for key, report in reports.items():
        by_key[key] = {one["name"]: score_of(one) for one in report["results"]}
    for one in generations:
        if "checks" in one and one["key"] not in by_key:
            by_key[one["key"]] = _recorded(one["checks"])
    order = [one["key"] for one in generations]
    told = {key: scores for key, scores in by_key.items() if scores}
    keys = sorted(told, key=lambda key: order.index(key) if key in order else -1)
    names = list(dict.fromkeys(name for key in keys for name in told[key]))
    rows = tuple((name, tuple(told[key].get(name) for key in keys)) for name in names)
    return Scores(tuple(keys), rows) if rows else None


def score_of(result: Document) -> CheckScore:
    """How a check went, as a document of this run tells it."""
    interval = result.get("interval")
    return CheckScore(
        share=result["score"],
        passed=result["passed"],
        minimum=result["minimum"],
        interval=(interval[0], interval[1]) if interval else None,
        text="; ".join(score_details(result)),
    )


def _recorded(checks: Document) -> dict[str, CheckScore]:
    """What the lockfile keeps: shares of evaluations, and which checks failed (all others passed, if none did)."""
    failed = {one["check"] for one in checks.get("failures", ())}
    shares = checks.get("scores", {})
    names = [*shares, *sorted(failed - shares.keys())]
    return {name: CheckScore(shares.get(name), _verdict(name, failed, checks)) for name in names}


def _verdict(name: str, failed: set[str], checks: Document) -> bool | None:
    if name in failed:
        return False
    return True if len(failed) == checks["failed"] else None


def _misses(generations: Iterable[Document], reports: Mapping[str, Document]) -> Iterator[Miss]:
    for key, report in reports.items():
        for result in report["results"]:
            for miss in result.get("misses", ()):
                yield Miss(result["name"], key, miss["prompt"], miss["answer"], miss["why"])
    for one in generations:
        for miss in one.get("checks", {}).get("failures", ()) if one["key"] not in reports else ():
            yield Miss(miss["check"], one["key"], miss["prompt"], miss["answer"], "")


def _timeline(generations: Iterable[Document]) -> tuple[Happening, ...]:
    """What happened, latest first; what was not noted when, last."""
    everything = [happening for one in generations for happening in _happenings(one)]
    return tuple(sorted(everything, key=lambda one: _seconds(one.time), reverse=True))


def _happenings(one: Document) -> Iterator[Happening]:
    key = one["key"]
    if "rejected" in one:
        yield Happening("", "rejected", "error", key, one.get("rejection", ""))
    if "promoteTime" in one:
        yield Happening(one["promoteTime"], "promoted", "promote", key)
    if "completeTime" in one:
        took = _seconds(one["completeTime"]) - _seconds(one.get("createTime", ""))
        note = f"after {elapsed(took)}" if 0 <= took < float("inf") else ""
        yield Happening(one["completeTime"], *_ENDS.get(one["state"], ("completed", "good")), key, note)
    elif one["state"] in _ENDS:
        yield Happening("", *_ENDS[one["state"]], key)
    if "createTime" in one:
        yield Happening(one["createTime"], "created", "create", key)


def _seconds(time: str) -> float:
    """Seconds since 1970, and minus infinity for a time that is unknown or none."""
    try:
        moment = parse_time(time)
    except ValueError:
        moment = None
    return moment.timestamp() if moment and moment.tzinfo else float("-inf")
