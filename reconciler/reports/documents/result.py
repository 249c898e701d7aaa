"""Build Result documents: the outcome of a run for each model, folded from its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import CheckResults
from reconciler.domain.document import builtins_of
from reconciler.domain.exit_status import ExitStatus
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Target
from reconciler.domain.plan import Action, Kind, Plan, Reason
from reconciler.planning.events import Cancelled, Checked, Completed, Deleted, Event, Failed, Promoted, Refused, Updated
from reconciler.reports.documents.envelope import Document, Places, envelope, filled, number, place_fields

OutcomeState = Literal[
    "ready", "checked", "updated", "deleted", "training", "failed", "held", "refused", "pending", "inSync", "orphaned"
]


class ModelOutcome(Struct, frozen=True):
    """The outcome of a run for one manifest.

    ``steps`` are those of the whole training, ``final_loss`` is its last mean loss. ``message`` is the reason of a
    failure or refusal, or the updated fields. ``checks`` are those that were run, ``deleted`` the keys of deleted
    generations.
    """

    name: str
    state: OutcomeState
    key: str = ""
    remote: str = ""
    steps: int | None = None
    final_loss: float | None = None
    message: str = ""
    checks: CheckResults | None = None
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
    """Return a Result document: what a run of apply or wait did (schema: result).

    ``plan`` is the remaining plan. It has the state of manifests without an outcome and the remaining actions of
    others. ``unpublished`` is the reason why the pointer was not written. ``requests`` were sent to the service in
    ``seconds``.
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


_REMAINING_WORK: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "not trained yet; run reconcile apply",
    Kind.UPDATE: "differs from the manifest; run reconcile apply",
    Kind.CHECK: "the checks were not run; run reconcile apply",
    Kind.PROMOTE: "ready but not serving; run reconcile apply",
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
            "message": action.message or _remaining_work(action),
        }
    )


def _remaining_work(action: Action) -> str:
    """Return what remains for a model; if it waits for its parent, the parent comes first."""
    if action.kind is Kind.CREATE and action.after:
        return f"tuned from {action.after}, which is not serving yet; fix its parent, then run reconcile apply"
    return _REMAINING_WORK.get(action.kind, "")


def _merged(outcome: Document, left: Document | None) -> Document:
    """Return the outcome, or what remains for the model."""
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
            "checks": builtins_of(outcome.checks) if outcome.checks else None,
            "deleted": list(outcome.deleted),
        }
    )


class Outcomes:
    """Collects the outcome of each manifest from events; ``lock`` returns the current record."""

    def __init__(self, lock: Callable[[], Lock]) -> None:
        self._lock = lock
        self._by_name: dict[str, ModelOutcome] = {}

    def __call__(self, event: Event) -> None:
        """Note an event that determines an outcome; a failure or refusal is not overwritten."""
        outcome = self._outcome(event)
        before = self._by_name.get(outcome.name) if outcome else None
        if outcome and before and outcome.state == "deleted":
            self._by_name[outcome.name] = _with_deleted(before, outcome)
        elif outcome and not (before and before.state in {"failed", "refused"}):
            self._by_name[outcome.name] = _with_checks(outcome, before)

    def all(self) -> tuple[ModelOutcome, ...]:
        """Return the outcomes so far, one for each manifest."""
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
        """Return the outcome of a failure or deletion."""
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
        model = self._lock().models.get(name)  # events can precede the record
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
        return "the training was canceled"
    return event.model.failure.message if event.model.failure else "the service reports no reason"


def _with_deleted(before: ModelOutcome, outcome: ModelOutcome) -> ModelOutcome:
    """Return the outcome with further deleted generations."""
    return replace(before, deleted=(*before.deleted, *outcome.deleted))


def _with_checks(outcome: ModelOutcome, before: ModelOutcome | None) -> ModelOutcome:
    """Return the outcome with results of checks that are already known."""
    known = before.checks if before and before.key == outcome.key else None
    outcome = replace(outcome, deleted=before.deleted) if before else outcome
    return outcome if outcome.checks else replace(outcome, checks=known)
