"""Result documents: the outcome of a run for each model, folded from its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final

from msgspec import Meta
from msgspec.structs import replace

from reconciler.domain.checks import CheckResults
from reconciler.domain.document import Count, Key, ManifestName, NonEmpty, Position, Record, Remote, TableEnum
from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import Lock, StageName
from reconciler.domain.model import Capabilities, DroppedExamples, Target
from reconciler.domain.plan import REQUESTED_HOLDS, Action, Kind, Plan, Reason
from reconciler.domain.target_option import for_target
from reconciler.planning.costs import Billing, billing_of
from reconciler.planning.events import Cancelled, Checked, Completed, Deleted, Event, Failed, Promoted, Refused, Updated
from reconciler.reports.documents.envelope import Loss, Places, TargetReport, number, target_summary
from reconciler.reports.documents.plan import DataBase, LockfileChange
from reconciler.reports.documents.status import RecordedDetails


class Outcome(TableEnum):
    """The outcome of a run for one model.

    This is the table of outcomes, in the order in which they are counted: each row has the name and what it means.
    """

    meaning: str

    READY = "ready", "it is ready and serving, or can be promoted"
    CHECKED = "checked", "its checks ran, and it was not promoted in this run"
    UPDATED = "updated", "it was patched in place"
    DELETED = "deleted", "generations of it were deleted, and nothing else happened"
    TRAINING = "training", "it is still training"
    FAILED = "failed", "its training failed"
    HELD = "held", "it is held"
    REFUSED = "refused", "an action failed"
    PENDING = "pending", "it has pending actions"
    IN_SYNC = "inSync", "it is in sync"
    ORPHANED = "orphaned", "no manifest declares it: it is an orphan"


class HeldStage(Record, frozen=True):
    """A stage after the first one whose requested promotion is held."""

    stage: StageName
    """The name of the stage."""
    reason: Reason
    """The reason why it is held; a stable name."""
    key: Key = ""
    """The key of the requested generation."""
    message: str = ""
    """A sentence for the reader."""

    @property
    def fails(self) -> bool:
        """Whether the run fails because of it: nothing but a user can resolve the hold."""
        return self.reason not in REQUESTED_HOLDS


class ModelOutcome(Record, frozen=True):
    """The outcome of one manifest."""

    name: ManifestName
    state: Outcome
    """The outcome."""
    reason: Reason | None = None
    """The reason why it is held; a stable name."""
    key: Key = ""
    remote: Remote = ""
    steps: Count | None = None
    """The total number of training steps."""
    final_loss: Loss | None = None
    """The mean loss of the last step."""
    billing: Billing | None = None
    """The estimated cost of the training, and the actual one."""
    message: str = ""
    """A sentence for the reader."""
    dropped_examples: DroppedExamples | None = None
    """The examples of its training that the service dropped or truncated."""
    checks: CheckResults | None = None
    """The results of the checks that ran."""
    deleted: tuple[NonEmpty, ...] = ()
    """The keys of the generations that were deleted."""
    held_stages: tuple[HeldStage, ...] = ()
    """The held promotions to later stages, if something else is the outcome."""
    file: str = ""
    """The manifest's path relative to the root; `-` is standard input."""
    line: Position | None = None
    """The line of the manifest's name, counted from 1; omitted for orphans."""
    column: Position | None = None
    """The column of the manifest's name, counted from 1."""


class ResultReport(TargetReport, frozen=True, kw_only=True, tag="Result"):
    """The result of a run.

    The output of `reconcile apply --format json`, `reconcile wait --format json` and `reconcile prune --format json`.
    """

    exit_status: ExitStatus
    """The exit status of the process."""
    requests: Count
    """The number of requests that were sent to the service."""
    seconds: Annotated[float, Meta(ge=0)]
    """The duration of the run in seconds."""
    summary: Mapping[Outcome, Count]
    """The number of models with each outcome; outcomes without models are omitted."""
    models: tuple[ModelOutcome, ...]
    """The outcome of every manifest, by name."""
    notices: tuple[str, ...]
    """Notices about the whole run."""
    unmanaged: Count
    """The number of unmanaged models at the service; they are never changed."""
    unpublished: str = ""
    """Why the pointer could not be published; omitted if it was, or if the target publishes nothing."""
    base: DataBase | None = None
    """The commit that the lockfile was compared with (`apply --base REF`)."""
    decisions: tuple[LockfileChange, ...] | None = None
    """The decisions in the lockfile that differed from `base` when the run began; present only with `--base`."""
    model_details: RecordedDetails = ()


def result_report(
    *,
    plan: Plan,
    target: Target,
    capabilities: Capabilities,
    outcomes: Iterable[ModelOutcome],
    requests: int,
    seconds: float,
    exit_status: ExitStatus,
    unpublished: str = "",
    root: str = "",
    places: Places = MappingProxyType({}),
    promotes: bool = True,
) -> ResultReport:
    """Return the report of what a run of apply, wait or prune did.

    ``plan`` is the remaining plan. It has the state of manifests without an outcome and the remaining actions of
    others. In a run that ``promotes`` nothing, a generation that only lacks its promotion is ready. ``unpublished`` is
    the reason why the pointer was not written. ``requests`` were sent to the service in ``seconds``.
    """
    models: dict[str, ModelOutcome] = {}
    outcomes = tuple(outcomes)
    changed = {(outcome.name, outcome.key) for outcome in outcomes}
    held: dict[str, list[Action]] = {}
    for action in plan.actions:
        if action.stage and action.kind is Kind.HOLD:
            held.setdefault(action.name, []).append(action)
    rest = (action for action in plan.actions if action not in held.get(action.name, ()))
    for action in sorted(rest, key=lambda action: (action.name, action.key) in changed):  # the last one counts
        remaining = _remaining(action, promotes=promotes)
        if remaining.state not in SETTLED or action.name not in models:  # a hold stays beside what is in sync
            models[action.name] = remaining
    for outcome in outcomes:
        models[outcome.name] = _merged(outcome, models.get(outcome.name))
    for name, stages in held.items():
        models[name] = _with_stages(models.get(name), stages)
    files = {action.name: action.file for action in plan.actions}
    return ResultReport(
        simulated=capabilities.simulated,
        target=target_summary(target, capabilities, root),
        exit_status=exit_status,
        requests=requests,
        seconds=round(seconds, 3),
        summary=dict(sorted(Counter(model.state for model in models.values()).items())),
        models=tuple(_placed(models[name], files.get(name, ""), places) for name in sorted(models)),
        notices=plan.notices,
        unmanaged=plan.unmanaged,
        unpublished=unpublished,
    )


def _placed(model: ModelOutcome, file: str, places: Places) -> ModelOutcome:
    place = places.get(model.name) if file else None
    return replace(model, file=file, line=place.line if place else None, column=place.column if place else None)


_REMAINING_WORK: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "not trained yet; run reconcile apply",
    Kind.UPDATE: "differs from the manifest; run reconcile apply",
    Kind.CHECK: "the checks were not run; run reconcile apply",
    Kind.PROMOTE: "ready but not serving; run reconcile apply",
}
_UNPROMOTED: Final = "not promoted; run reconcile apply"
_STATES: Final[Mapping[Kind, Outcome]] = {
    Kind.HOLD: Outcome.HELD,
    Kind.WAIT: Outcome.TRAINING,
    Kind.NOOP: Outcome.IN_SYNC,
}
SETTLED: Final = frozenset({Outcome.IN_SYNC, Outcome.ORPHANED})
"""Outcomes of models that the run did not have to change."""


def _remaining(action: Action, *, promotes: bool) -> ModelOutcome:
    """Return the outcome of a model whose remaining action is this one."""
    if action.kind is Kind.PROMOTE and not promotes:
        return ModelOutcome(
            action.name, Outcome.READY, key=action.key, remote=action.remote, message=for_target(_UNPROMOTED)
        )
    orphaned = action.reason is Reason.ORPHANED
    return ModelOutcome(
        name=action.name,
        state=Outcome.ORPHANED if orphaned else _STATES.get(action.kind, Outcome.PENDING),
        reason=action.reason if action.kind is Kind.HOLD else None,
        key=action.key,
        remote=action.remote,
        message=action.message or _remaining_work(action),
    )


def _with_stages(outcome: ModelOutcome | None, held: Sequence[Action]) -> ModelOutcome:
    """Return the outcome with the promotions that are held; a model that nothing else happened to is held itself."""
    stages = tuple(HeldStage(action.stage, action.reason, action.key, action.message) for action in held)
    if outcome is not None and outcome.state not in SETTLED:
        return replace(outcome, held_stages=stages)
    failing = next((position for position, stage in enumerate(stages) if stage.fails), 0)
    others = (*stages[:failing], *stages[failing + 1 :])
    return replace(_remaining(held[failing], promotes=True), held_stages=others)


def _remaining_work(action: Action) -> str:
    """Return what remains for a model; if it waits for its parent, the parent comes first."""
    if action.kind is Kind.CREATE and action.after:
        return for_target(
            f"tuned from {action.after}, which is not serving yet; fix its parent, then run reconcile apply"
        )
    return for_target(_REMAINING_WORK.get(action.kind, ""))


def _merged(outcome: ModelOutcome, remaining: ModelOutcome | None) -> ModelOutcome:
    """Return the outcome, or what remains for the model."""
    if remaining is None or remaining.state in SETTLED or outcome.state is Outcome.REFUSED:
        return outcome
    reason, message = remaining.reason or outcome.reason, remaining.message or outcome.message
    if outcome.state is Outcome.FAILED:
        return replace(outcome, reason=reason, message=message)
    if remaining.key != outcome.key:
        return remaining
    if remaining.state is Outcome.READY:
        return replace(outcome, message=message)
    remote = remaining.remote or outcome.remote
    return replace(outcome, state=remaining.state, reason=reason, remote=remote, message=message)


class Outcomes:
    """Collects the outcome of each manifest from events; ``lock`` returns the current record."""

    def __init__(self, lock: Callable[[], Lock]) -> None:
        self._lock = lock
        self._by_name: dict[str, ModelOutcome] = {}

    def __call__(self, event: Event) -> None:
        """Note an event that determines an outcome; a failure or refusal is not overwritten."""
        outcome = self._outcome(event)
        before = self._by_name.get(outcome.name) if outcome else None
        if outcome and before and outcome.state is Outcome.DELETED:
            self._by_name[outcome.name] = replace(before, deleted=(*before.deleted, *outcome.deleted))
        elif outcome and not (before and before.state in {Outcome.FAILED, Outcome.REFUSED}):
            self._by_name[outcome.name] = _with_checks(outcome, before)

    def all(self) -> tuple[ModelOutcome, ...]:
        """Return the outcomes so far, one for each manifest."""
        return tuple(self._by_name.values())

    def _outcome(self, event: Event) -> ModelOutcome | None:
        match event:
            case Completed(name, key, _) | Promoted(name, key, _):
                return self._about(name, key, ModelOutcome(name, Outcome.READY))
            case Updated(name, key, fields):
                return self._about(name, key, ModelOutcome(name, Outcome.UPDATED, message=", ".join(fields)))
            case Checked(name, key, report):
                return replace(self._about(name, key, ModelOutcome(name, Outcome.CHECKED)), checks=report)
            case _:
                return self._end(event)

    def _end(self, event: Event) -> ModelOutcome | None:
        """Return the outcome of a failure or deletion."""
        match event:
            case Failed(name, key, _) | Cancelled(name, key, _):
                return self._about(name, key, ModelOutcome(name, Outcome.FAILED, message=_why(event)))
            case Deleted(name, key, _):
                return ModelOutcome(name, Outcome.DELETED, deleted=(key,))
            case Refused(name, error, _):
                return ModelOutcome(name, Outcome.REFUSED, message=str(error))
            case _:
                return None

    def _about(self, name: str, key: str, outcome: ModelOutcome) -> ModelOutcome:
        model = self._lock().models.get(name)  # events can precede the record
        generation = model.generation(key) if model else None
        if generation is None:
            return replace(outcome, key=key)
        return replace(
            outcome,
            key=key,
            remote=generation.remote,
            steps=generation.total_steps,
            final_loss=number(generation.final_loss),
            billing=billing_of(generation),
            dropped_examples=generation.dropped_examples,
        )


def _why(event: Failed | Cancelled) -> str:
    if isinstance(event, Cancelled):
        return "the training was canceled"
    return event.model.failure.message if event.model.failure else "the service reports no reason"


def _with_checks(outcome: ModelOutcome, before: ModelOutcome | None) -> ModelOutcome:
    """Return the outcome with results of checks that are already known."""
    known = before.checks if before and before.key == outcome.key else None
    outcome = replace(outcome, deleted=before.deleted) if before else outcome
    return outcome if outcome.checks else replace(outcome, checks=known)
