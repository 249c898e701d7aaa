"""Targets reports, which list the targets of a root with their states, and reports of a command on several targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec.structs import replace

from reconciler.domain.document import Count, Key, ManifestName, NonEmpty, Record, Report, Time
from reconciler.domain.errors import ExitStatus, ReconcileError
from reconciler.domain.lock import EARLIEST, Lock, StageName, parse_time
from reconciler.domain.model import State
from reconciler.domain.plan import Kind, Plan, Reason
from reconciler.reports.documents.change import ChangeReport, ServingReport
from reconciler.reports.documents.doctor import ErrorProblem, ErrorReport, ValidationReport, error_report
from reconciler.reports.documents.drift import DriftReport
from reconciler.reports.documents.history import HistoryReport
from reconciler.reports.documents.plan import PlanReport
from reconciler.reports.documents.status import StatusReport

ModelState = Literal["failed", "held", "pending", "training", "orphaned", "unselected", "inSync"]
TargetCondition = Literal["invalid", "failed", "held", "pending", "training", "inSync", "unknown"]


class ListedModel(Record, frozen=True, kw_only=True):
    """One model of a target: a selected manifest, or a recorded model without one."""

    name: ManifestName
    state: ModelState
    """`failed` if its last training failed; `held` if an action is held, as after failed checks; `pending` if the
    manifest is ahead of the lockfile; `training`; `orphaned` if no manifest declares it; `unselected` if the target
    does not select its manifest; `inSync` otherwise."""
    serving: Key = ""
    """The key of the serving generation; omitted if there is none."""
    stages: Mapping[StageName, Key] = {}
    """The keys of the serving generations of the stages after the first one."""
    reason: str = ""
    """Why it is held, failed or pending; omitted if it is in sync."""


class ModelCounts(Record, frozen=True, kw_only=True):
    """The number of models in each state."""

    serving: Count
    """Models with a serving generation, in any state."""
    in_sync: Count
    """Models whose manifests match the lockfile."""
    pending: Count
    """Models whose manifests are ahead of the lockfile."""
    training: Count
    """Models with a training in progress."""
    held: Count
    """Models with an action that is held."""
    failed: Count
    """Models whose last training failed."""
    orphaned: Count
    """Recorded models that no manifest declares."""
    unselected: Count
    """Recorded models whose manifests the target does not select."""


class ListedTarget(Record, frozen=True, kw_only=True):
    """One target of a root, by its file, its manifests and its lockfile; the service is not queried."""

    name: NonEmpty
    """The target's name, as in `--target NAME`."""
    file: NonEmpty
    """The target file."""
    state: TargetCondition
    """The most severe state of its models; `invalid` if it or its manifests have errors, `unknown` if its
    lockfile is in a bucket, which is not read."""
    provider: str = ""
    """The provider; omitted if the target file is invalid."""
    label: str = ""
    """The display name of the service."""
    simulated: bool = False
    """Whether the service simulates training."""
    scope: str = ""
    """The scope."""
    project: str = ""
    """The Google Cloud project."""
    location: str = ""
    """The location of the service."""
    stages: tuple[StageName, ...] = ()
    """The names of its stages, in order; omitted without stages."""
    lockfile: str = ""
    """The path or the address of its lockfile."""
    last_change: Time = ""
    """The latest time in the lockfile: RFC 3339; omitted if nothing is recorded."""
    manifests: tuple[ManifestName, ...] = ()
    """The manifests that it selects."""
    counts: ModelCounts | None = None
    """The number of its models in each state; omitted if they are unknown."""
    models: tuple[ListedModel, ...] = ()
    """Its models, by name."""
    problems: tuple[ErrorProblem, ...] = ()
    """The errors and warnings in the target file and its manifests."""


class TargetsReport(Report, frozen=True, kw_only=True, tag="Targets"):
    """All targets of a root with their states, by the lockfiles: the output of `reconcile targets --format json`."""

    exit_status: ExitStatus
    """The exit status of the command: 1 if a target is invalid."""
    targets: tuple[ListedTarget, ...]
    """The targets, by name."""


_FAILED: Final = frozenset({Reason.FAILED, Reason.CANCELLED})
_UNREAD: Final = frozenset({Reason.SOAK_UNKNOWN, Reason.REQUESTED_UNREADY})
"""Why a request for a stage is held in a plan for which the service was not queried."""
_SEVERITY: Final[tuple[ModelState, ...]] = (
    "failed",
    "held",
    "pending",
    "training",
    "orphaned",
    "unselected",
    "inSync",
)


def listed_models(plan: Plan, lock: Lock, unselected: Iterable[str]) -> tuple[ListedModel, ...]:
    """Return the models of a plan that was made from the lockfile, and the recorded ones that are not selected."""
    models: dict[str, ListedModel] = {}
    for action in plan.actions:
        state = _state(action.kind, action.reason)
        known = models.get(action.name)
        if known is None or _SEVERITY.index(state) < _SEVERITY.index(known.state):
            reason = "" if state == "inSync" else ": ".join(filter(None, [action.reason, action.message]))
            models[action.name] = ListedModel(name=action.name, state=state, reason=reason)
    for name in unselected:
        if name in lock.models:
            models.setdefault(name, ListedModel(name=name, state="unselected"))
    return tuple(_with_serving(model, lock) for _, model in sorted(models.items()))


def _with_serving(model: ListedModel, lock: Lock) -> ListedModel:
    recorded = lock.models.get(model.name)
    stages = recorded.serving_by_stage if recorded else {}
    serving = stages.pop("", "")  # of the first stage
    return replace(model, serving=serving, stages=stages)


def _state(kind: Kind, reason: Reason) -> ModelState:
    if reason in _FAILED:
        return "failed"
    match kind:
        case Kind.HOLD:
            return "pending" if reason in _UNREAD else "held"
        case Kind.WAIT:
            return "training"
        case Kind.NOOP:
            return "orphaned" if reason is Reason.ORPHANED else "inSync"
        case _:
            return "pending"


def model_counts(models: Iterable[ListedModel]) -> ModelCounts:
    """Return the number of models in each state."""
    listed = tuple(models)
    states = Counter(model.state for model in listed)
    return ModelCounts(
        serving=sum(bool(model.serving) for model in listed),
        in_sync=states["inSync"],
        pending=states["pending"],
        training=states["training"],
        held=states["held"],
        failed=states["failed"],
        orphaned=states["orphaned"],
        unselected=states["unselected"],
    )


def worst_state(models: Iterable[ListedModel]) -> TargetCondition:
    """Return the most severe state of models; orphans and unselected models are in sync with what is declared."""
    states = {model.state for model in models}
    conditions: tuple[TargetCondition, ...] = ("failed", "held", "pending", "training")
    return next((condition for condition in conditions if condition in states), "inSync")


def last_change(lock: Lock) -> str:
    """Return the latest time that a lockfile records; empty if there is none."""
    times = (
        time
        for model in lock.models.values()
        for generation in model.generations
        for time in (generation.create_time, generation.complete_time, generation.promote_time)
        if time and generation.state is not State.INTENDED
    )
    return max(times, key=lambda time: parse_time(time) or EARLIEST, default="")


AnyReport = (
    PlanReport
    | DriftReport
    | StatusReport
    | ValidationReport
    | HistoryReport
    | ServingReport
    | ChangeReport
    | ErrorReport
)


class TargetResult(Record, frozen=True, kw_only=True):
    """The result of the command on one target, or for one model of it."""

    target: NonEmpty
    """The target's name."""
    model: ManifestName = ""
    """The model's name, if the command was run for several models."""
    exit_status: ExitStatus
    """The exit status that the command would have for this target or model alone."""
    report: AnyReport
    """The document of the command, or an Error document if it failed."""


class CombinedReport(Report, frozen=True, kw_only=True, tag="Combined"):
    """The results of one command on several targets or for several models.

    It is the output of `plan`, `drift`, `status` or `validate` with `--target all`, and of `history`, `promote`,
    `rollback` or `cancel` with several names.
    """

    command: NonEmpty
    """The name of the command, such as `plan`."""
    exit_status: ExitStatus
    """The exit status of the command: the most severe one of its targets or models."""
    reports: tuple[TargetResult, ...]
    """The result on each target or for each model, in the order in which they were named."""


WORST_FIRST: Final = (
    ExitStatus.INTERRUPTED,
    ExitStatus.USAGE,
    ExitStatus.ERROR,
    ExitStatus.ACCESS,
    ExitStatus.STILL_TRAINING,
    ExitStatus.CHANGES,
    ExitStatus.OK,
)
"""The exit statuses, the most severe one first."""


def combined_report(command: str, results: Iterable[TargetResult]) -> CombinedReport:
    """Return the report of a command on several targets."""
    reports = tuple(results)
    worst = min((result.exit_status for result in reports), key=WORST_FIRST.index, default=ExitStatus.OK)
    return CombinedReport(command=command, exit_status=worst, reports=reports)


def failed_target(command: str, target: str, error: ReconcileError, model: str = "") -> TargetResult:
    """Return the result of a command that failed on one target, or for one model."""
    report = error_report(error, command, target)
    return TargetResult(target=target, model=model, exit_status=error.exit_status, report=report)
