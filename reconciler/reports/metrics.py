"""Write the result of a command in Prometheus' text format, as node exporter's textfile collector reads it.

Every sample has the labels ``command`` and ``target``: the collector refuses two files with the same sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.document import Document
from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import Lock, parse_time
from reconciler.domain.model import State
from reconciler.domain.plan import Kind, Reason
from reconciler.reports.documents.drift import DriftReport
from reconciler.reports.documents.envelope import kind_of, target_of
from reconciler.reports.documents.plan import PlanReport
from reconciler.reports.documents.result import Outcome, ResultReport
from reconciler.reports.documents.status import StatusReport
from reconciler.reports.documents.targets import CombinedReport

PREFIX: Final = "reconcile_"

METRICS: Final[Mapping[str, str]] = {
    "last_run_timestamp_seconds": "When the command last ended, as seconds since 1970.",
    "last_run_exit_status": "The exit status of the last run.",
    "failed_models": "Models whose training or action failed.",
    "held_models": "Models with an action that is held.",
    "drifted_models": "Models with drift of any cause.",
    "out_of_band_models": "Models with drift that were changed at the service.",
    "pending_models": "Models whose manifest or lockfile has changes that are not applied.",
    "orphaned_models": "Recorded models that no manifest declares.",
    "training_models": "Models that are recorded as training.",
    "oldest_training_age_seconds": "The time since the oldest training started that is recorded as in progress.",
    "base_model_retirement_days": "Days until the base model of the serving generation is retired; negative after it.",
    "suspension_expired": "1 for a model whose suspension has run out.",
}
"""The metrics, all of them gauges, without their prefix: the order in the file, and the help text."""

_FAILED: Final = frozenset({Reason.FAILED, Reason.CANCELLED, Reason.CHECKS_FAILED, Reason.DEADLINE_EXCEEDED})
_CHANGES: Final = frozenset({Kind.CREATE, Kind.UPDATE, Kind.ADOPT, Kind.CHECK, Kind.PROMOTE, Kind.DELETE})


class Recorded(Struct, frozen=True):
    """What a command knows beside its document: the recorded state at its end, and the catalog of base models."""

    lock: Lock
    catalog: ModelCatalog


class Run(Struct, frozen=True):
    """The run of a command; ``target`` is the name of its target, empty if it has none."""

    command: str
    target: str
    ended: datetime
    exit_status: ExitStatus


class Sample(Struct, frozen=True):
    """One value; ``metric`` is a key of :data:`METRICS`."""

    metric: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def metrics(document: Document, run: Run, recorded: Mapping[str, Recorded] = MappingProxyType({})) -> str:
    """Return the file of a run; a count that the command does not know is omitted.

    ``recorded`` has what is known about each target, by its name.
    """
    if not isinstance(document, CombinedReport):
        return exposition(_samples(document, run, recorded))
    runs = (
        (result.report, replace(run, target=result.target, exit_status=result.exit_status))
        for result in document.reports
    )
    return exposition(sample for report, part in runs for sample in _samples(report, part, recorded))


def _samples(document: Document, run: Run, recorded: Mapping[str, Recorded]) -> Iterator[Sample]:
    target = target_of(document)
    name = target.name if target else run.target
    samples = [*_run_samples(run), *_counts(document), *_suspensions(document)]
    if known := recorded.get(name):
        samples += [*_trainings(known.lock, run.ended), *_retirements(known, run.ended)]
    common = (("command", run.command), ("target", name))
    yield from (Sample(sample.metric, sample.value, (*common, *sample.labels)) for sample in samples)


def exposition(samples: Iterable[Sample]) -> str:
    """Return samples in the text format, grouped by metric."""
    order = list(METRICS)
    ordered = sorted(samples, key=lambda sample: (order.index(sample.metric), sample.labels))
    lines = []
    for metric, group in groupby(ordered, key=lambda sample: sample.metric):
        lines += [f"# HELP {PREFIX}{metric} {METRICS[metric]}", f"# TYPE {PREFIX}{metric} gauge"]
        for sample in group:
            labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in sample.labels)
            lines.append(f"{PREFIX}{metric}{{{labels}}} {sample.value:.15g}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _run_samples(run: Run) -> Iterator[Sample]:
    yield Sample("last_run_timestamp_seconds", run.ended.timestamp())
    yield Sample("last_run_exit_status", run.exit_status)


def _trainings(lock: Lock, now: datetime) -> Iterator[Sample]:
    running = [
        (name, parse_time(generation.create_time))
        for name, model in lock.models.items()
        for generation in model.generations
        if generation.state is State.CREATING
    ]
    times = [time for _, time in running if time]
    yield Sample("training_models", len({name for name, _ in running}))
    yield Sample("oldest_training_age_seconds", max(0.0, (now - min(times)).total_seconds()) if times else 0)


def _retirements(recorded: Recorded, now: datetime) -> Iterator[Sample]:
    first = recorded.lock.target.first_stage if recorded.lock.target else ""
    for name, model in recorded.lock.models.items():
        for stage, key in model.serving_by_stage.items():
            generation = model.generation(key)
            base_model = generation.source.base_model if generation else ""
            known = recorded.catalog.models.get(base_model)
            if known and known.retirement:
                where = (("stage", stage or first),) if stage or first else ()
                labels = (("model", name), ("base_model", base_model), *where)
                yield Sample("base_model_retirement_days", (known.retirement - now.date()).days, labels)


def _suspensions(document: Document) -> Iterator[Sample]:
    for finding in document.findings if isinstance(document, DriftReport) else ():
        if finding.kind is DriftClass.SUSPENSION_EXPIRED:
            yield Sample("suspension_expired", 1, (("model", finding.name),))


def _counts(document: Document) -> Iterator[Sample]:
    count = _COUNTS.get(kind_of(document))
    yield from (Sample(metric, len(names)) for metric, names in (count(document) if count else {}).items())


def _plan(report: PlanReport) -> Mapping[str, set[str]]:
    holds = [action for action in report.actions if action.action is Kind.HOLD]
    return {
        "failed_models": {action.name for action in holds if action.reason in _FAILED},
        "held_models": {action.name for action in holds},
        "pending_models": {action.name for action in report.actions if action.action in _CHANGES},
        "orphaned_models": {action.name for action in report.actions if action.reason is Reason.ORPHANED},
    }


def _drift(report: DriftReport) -> Mapping[str, set[str]]:
    def names(found: Iterable[Finding]) -> set[str]:
        return {finding.name or finding.remote for finding in found}

    drifted = [finding for finding in report.findings if finding.severity == "drift"]
    return {
        "failed_models": names(finding for finding in report.findings if finding.kind is DriftClass.FAILED),
        "drifted_models": names(drifted),
        "out_of_band_models": names(finding for finding in drifted if finding.cause == "outOfBand"),
        "pending_models": names(finding for finding in drifted if finding.cause == "pending"),
        "orphaned_models": names(finding for finding in report.findings if finding.kind is DriftClass.ORPHANED),
    }


def _result(report: ResultReport) -> Mapping[str, set[str]]:
    def names(*outcomes: Outcome) -> set[str]:
        return {model.name for model in report.models if model.state in outcomes}

    return {
        "failed_models": names(Outcome.FAILED, Outcome.REFUSED),
        "held_models": names(Outcome.HELD) | {model.name for model in report.models if model.held_stages},
        "pending_models": names(Outcome.PENDING),
        "orphaned_models": names(Outcome.ORPHANED),
    }


def _status(report: StatusReport) -> Mapping[str, set[str]]:
    ended = {State.FAILED, State.CANCELLED}
    newest = {model.name: model.generations[0].state for model in report.models if model.generations}
    return {"failed_models": {name for name, state in newest.items() if state in ended}}


_COUNTS: Final[Mapping[str, Callable[[Any], Mapping[str, set[str]]]]] = {
    "Drift": _drift,
    "Plan": _plan,
    "Result": _result,
    "Status": _status,
}
