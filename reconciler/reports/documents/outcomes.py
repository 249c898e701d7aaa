"""What became of each manifest, folded from the events of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.domain.lock import Lock
from reconciler.planning.events import (
    Cancelled,
    Checked,
    Completed,
    Deleted,
    Event,
    Failed,
    Promoted,
    Refused,
    Updated,
)
from reconciler.reports.documents.plan_and_result import Outcome


class Outcomes:
    """A sink of the event stream; ``lock`` gives the lock as it is when an event is told."""

    def __init__(self, lock: Callable[[], Lock]) -> None:
        self._lock = lock
        self._by_name: dict[str, Outcome] = {}

    def __call__(self, event: Event) -> None:
        """Take note of an event that decides what became of a manifest; a failure or a refusal is not overwritten."""
        outcome = self._outcome(event)
        before = self._by_name.get(outcome.name) if outcome else None
        if outcome and before and outcome.state == "deleted":
            self._by_name[outcome.name] = _with_deleted(before, outcome)
        elif outcome and not (before and before.state in {"failed", "refused"}):
            self._by_name[outcome.name] = _with_checks(outcome, before)

    def all(self) -> tuple[Outcome, ...]:
        """The outcomes so far, one a manifest."""
        return tuple(self._by_name.values())

    def _outcome(self, event: Event) -> Outcome | None:
        match event:
            case Completed(name, key, _) | Promoted(name, key, _):
                return self._about(name, key, Outcome(name, "ready"))
            case Updated(name, key, fields):
                return self._about(name, key, Outcome(name, "updated", message=", ".join(fields)))
            case Checked(name, key, report):
                return replace(self._about(name, key, Outcome(name, "checked")), checks=report)
            case _:
                return self._end(event)

    def _end(self, event: Event) -> Outcome | None:
        """What went wrong, or was deleted."""
        match event:
            case Failed(name, key, _) | Cancelled(name, key, _):
                return self._about(name, key, Outcome(name, "failed", message=_why(event)))
            case Deleted(name, key, _):
                return Outcome(name, "deleted", deleted=(key,))
            case Refused(name, error, _):
                return Outcome(name, "refused", message=str(error))
            case _:
                return None

    def _about(self, name: str, key: str, outcome: Outcome) -> Outcome:
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


def _with_deleted(before: Outcome, outcome: Outcome) -> Outcome:
    """That generations were deleted is told of whatever else became of a model."""
    return replace(before, deleted=(*before.deleted, *outcome.deleted))


def _with_checks(outcome: Outcome, before: Outcome | None) -> Outcome:
    """What was learnt by checks stays known whatever becomes of the generation."""
    known = before.checks if before and before.key == outcome.key else None
    outcome = replace(outcome, deleted=before.deleted) if before else outcome
    return outcome if outcome.checks else replace(outcome, checks=known)
