"""Build Result documents: the outcome of a run for each model, folded from its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from reconciler.domain.checks import CheckReport
from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Target
from reconciler.domain.plan import Action, Kind, Plan, Reason
from reconciler.planning.events import Cancelled, Checked, Completed, Deleted, Event, Failed, Promoted, Refused, Updated
from reconciler.reports.documents.check import checks_report
from reconciler.reports.documents.envelope import Document, Places, envelope, filled, number, place_fields

OutcomeState = Literal[
    "ready", "checked", "updated", "deleted", "training", "failed", "held", "refused", "pending", "inSync", "orphaned"
]


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """What became of one manifest in a run.

    ``steps`` are those of the whole training, ``final_loss`` its last mean loss. ``message`` is a sentence for people:
    why it failed or was refused, which fields were updated. ``checks`` are those that were run, ``deleted`` the keys of
    the generations that were deleted.
    """

    name: str
    state: OutcomeState
    key: str = ""
    remote: str = ""
    steps: int | None = None
    final_loss: float | None = None
    message: str = ""
    checks: CheckReport | None = None
    deleted: tuple[str, ...] = ()


def result_document(
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
) -> Document:
    """What a run of apply or wait did (schema: result).

    ``unpublished`` says why applications could not be told what serves.

    ``plan`` is the plan that is left at the end. It tells of every manifest that no outcome tells of, and what is still
    to be done about those that one does. ``requests`` were sent to the service, ``seconds`` went by.
    """
    models = {model["name"]: model for model in map(_left, plan.actions)}
    for outcome in outcomes:
        models[outcome.name] = _merged(_outcome(outcome), models.get(outcome.name))
    files = {action.name: {"file": action.file} | place_fields(action.name, places) for action in plan.actions}
    return {
        **envelope("Result", target, capabilities, root),
        "exitStatus": int(exit_status),
        "requests": requests,
        "seconds": round(seconds, 3),
        "summary": dict(sorted(Counter(model["state"] for model in models.values()).items())),
        "models": [models[name] | files.get(name, {}) for name in sorted(models)],
        "notices": list(plan.notices),
        "unmanaged": plan.unmanaged,
        **filled({"unpublished": unpublished}),
    }


_UNDONE: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "it is not there, and nobody trains it; run reconcile apply",
    Kind.UPDATE: "it differs from what is declared; run reconcile apply",
    Kind.CHECK: "its checks have not been run; run reconcile apply",
    Kind.PROMOTE: "it is ready, and does not serve yet; run reconcile apply",
}
_LEFT: Final[Mapping[Kind, OutcomeState]] = {Kind.HOLD: "held", Kind.WAIT: "training", Kind.NOOP: "inSync"}
_SETTLED: Final = frozenset({"inSync", "orphaned"})


def _left(action: Action) -> Document:
    state = "orphaned" if action.reason is Reason.ORPHANED else _LEFT.get(action.kind, "pending")
    return filled(
        {
            "name": action.name,
            "state": state,
            "reason": action.reason.value if action.kind is Kind.HOLD else "",
            "key": action.key,
            "remote": action.remote,
            "message": action.message or _undone(action),
        }
    )


def _undone(action: Action) -> str:
    """What is left to do about a model; its parent comes first, where that is what it waits for."""
    if action.kind is Kind.CREATE and action.after:
        return f"it is tuned from {action.after}, which does not serve yet; see to that one, and run reconcile apply"
    return _UNDONE.get(action.kind, "")


def _merged(outcome: Document, left: Document | None) -> Document:
    """The outcome, unless something is left to do about the model: then that is what became of it."""
    if left is None or left["state"] in _SETTLED or outcome["state"] == "refused":
        return outcome
    if outcome["state"] == "failed":
        return {**outcome, **{name: left[name] for name in ("reason", "message") if name in left}}
    return {**outcome, **left} if left.get("key") == outcome.get("key") else left


def _outcome(outcome: ModelOutcome) -> Document:
    return filled(
        {
            "name": outcome.name,
            "state": outcome.state,
            "key": outcome.key,
            "remote": outcome.remote,
            "steps": outcome.steps,
            "finalLoss": number(outcome.final_loss),
            "message": outcome.message,
            "checks": checks_report(outcome.checks) if outcome.checks else None,
            "deleted": list(outcome.deleted),
        }
    )


class Outcomes:
    """A sink of the event stream; ``lock`` gives the lock as it is when an event is told."""

    def __init__(self, lock: Callable[[], Lock]) -> None:
        self._lock = lock
        self._by_name: dict[str, ModelOutcome] = {}

    def __call__(self, event: Event) -> None:
        """Take note of an event that decides what became of a manifest; a failure or a refusal is not overwritten."""
        outcome = self._outcome(event)
        before = self._by_name.get(outcome.name) if outcome else None
        if outcome and before and outcome.state == "deleted":
            self._by_name[outcome.name] = _with_deleted(before, outcome)
        elif outcome and not (before and before.state in {"failed", "refused"}):
            self._by_name[outcome.name] = _with_checks(outcome, before)

    def all(self) -> tuple[ModelOutcome, ...]:
        """The outcomes so far, one a manifest."""
        return tuple(self._by_name.values())

    def _outcome(self, event: Event) -> ModelOutcome | None:
        match event:
            case Completed(name, key, _) | Promoted(name, key, _):
                return self._about(name, key, ModelOutcome(name, "ready"))
            case Updated(name, key, fields):
                return self._about(name, key, ModelOutcome(name, "updated", message=", ".join(fields)))
            case Checked(name, key, report):
                return replace(self._about(name, key, ModelOutcome(name, "checked")), checks=report)
            case _:
                return self._end(event)

    def _end(self, event: Event) -> ModelOutcome | None:
        """What went wrong, or was deleted."""
        match event:
            case Failed(name, key, _) | Cancelled(name, key, _):
                return self._about(name, key, ModelOutcome(name, "failed", message=_why(event)))
            case Deleted(name, key, _):
                return ModelOutcome(name, "deleted", deleted=(key,))
            case Refused(name, error, _):
                return ModelOutcome(name, "refused", message=str(error))
            case _:
                return None

    def _about(self, name: str, key: str, outcome: ModelOutcome) -> ModelOutcome:
        model = self._lock().models.get(name)  # what is not recorded yet may be changed before it is
        generation = model.generation(key) if model else None
        if generation is None:
            return replace(outcome, key=key)
        return replace(
            outcome,
            key=key,
            remote=generation.remote,
            steps=generation.total_steps,
            final_loss=generation.final_loss,
        )


def _why(event: Failed | Cancelled) -> str:
    if isinstance(event, Cancelled):
        return "the training was cancelled"
    return event.model.failure.message if event.model.failure else "the service does not tell why"


def _with_deleted(before: ModelOutcome, outcome: ModelOutcome) -> ModelOutcome:
    """That generations were deleted is told of whatever else became of a model."""
    return replace(before, deleted=(*before.deleted, *outcome.deleted))


def _with_checks(outcome: ModelOutcome, before: ModelOutcome | None) -> ModelOutcome:
    """What was learnt by checks stays known whatever becomes of the generation."""
    known = before.checks if before and before.key == outcome.key else None
    outcome = replace(outcome, deleted=before.deleted) if before else outcome
    return outcome if outcome.checks else replace(outcome, checks=known)
