"""The rules of ``forget`` and ``cancel``: which models they accept, and the notes for the user."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedStage
from reconciler.domain.model import Capabilities, Manifest, State
from reconciler.domain.target_option import for_target

CANCELLATION = "cancellation"
"""The feature of services that keep a record of a canceled training; others delete the model."""


def require_forgettable(name: str, model: LockedModel) -> None:
    """Refuse a model that is protected, or that may have a training whose start was not confirmed.

    Raises:
        ReconcileError: naming the reason.
    """
    if model.protect:
        raise ReconcileError(
            f"{name} is protected",
            "restore its manifest without spec.lifecycle.protect, run reconcile apply, and remove the manifest again",
        )
    for generation in model.generations:
        if generation.state is State.INTENDED:
            raise ReconcileError(
                f"an earlier run requested {generation.key} and did not receive the outcome",
                "run reconcile wait first, which looks for it",
            )


def has_permanent_marks(capabilities: Capabilities) -> bool:
    """Return whether marks cannot be removed, because descriptions are immutable."""
    return "description" not in capabilities.mutable


def forget_notes(name: str, lock: Lock, *, marked: bool, unread: str = "") -> Iterator[str]:
    """Return the notes for forgetting a model.

    ``marked`` means that its generations keep their marks, and ``unread`` why a manifest may declare it nevertheless.
    """
    model = lock.models[name]
    if unread:
        yield f"a manifest may declare it: {unread}; remove that too, or an apply that reads it trains a new model"
    for key in sorted(model.served_keys):
        yield f"{key} is serving, and still answers requests to its remote name"
    for generation in trainings_in_progress(model, None):
        yield f"the training of {generation.key} continues"
    newest = model.serving_generation or next(iter(model.generations), None)
    if newest and newest.remote and not marked:
        yield for_target(f"to manage it again, run reconcile adopt {name} {newest.remote}")
    if marked:
        yield f"the models keep their marks: they are candidates, and a manifest named {name} adopts them again"
    for child in _children(name, lock):
        yield f"{child} is tuned from it, and is not changed"


def stage_notes(stage: str, record: LockedStage) -> Iterator[str]:
    """Return the notes for dropping the record of a removed stage."""
    if record.serving:
        yield f"{record.serving} was serving in {stage}; prune may delete it once nothing else needs it"
    if record.requested:
        yield f"the requested promotion of {record.requested} is dropped"
    if record.published:
        yield f"the published pointer of {stage} is not deleted: delete it when no application reads it"


def _children(name: str, lock: Lock) -> Iterator[str]:
    forgotten = lock.models[name].generations
    keys = {generation.key for generation in forgotten}
    remotes = {generation.remote for generation in forgotten} - {""}
    for child, model in sorted(lock.models.items()):
        sources = [generation.source for generation in model.generations]
        if child != name and any(source.key in keys or source.remote in remotes for source in sources):
            yield child


def trainings_in_progress(model: LockedModel, key: str | None) -> tuple[LockedGeneration, ...]:
    """Return the generations that are recorded as training; with a key only that one."""
    training = (generation for generation in model.generations if generation.state is State.CREATING)
    return tuple(generation for generation in training if key in {None, generation.key})


def require_cancellable(
    name: str, model: LockedModel, manifest: Manifest | None, capabilities: Capabilities, now: datetime
) -> None:
    """Refuse to cancel trainings of a suspended model, or of a protected one if that deletes it.

    Raises:
        ReconcileError: naming the reason.
    """
    suspension = manifest.lifecycle.suspension(now) if manifest else None
    if manifest and suspension:
        raise ReconcileError(
            f"{name} is suspended{suspension}: spec.lifecycle.suspend in {manifest.place.file} prevents every change",
            "remove it first",
        )
    protected = model.protect or bool(manifest and manifest.lifecycle.protect)
    if protected and CANCELLATION not in capabilities.features:
        raise ReconcileError(
            f"{name} is protected, and {capabilities.label} can cancel a training only by deleting its model",
            "remove spec.lifecycle.protect first",
        )


def cancel_notes(name: str, capabilities: Capabilities) -> Iterator[str]:
    """Return the notes for canceling the trainings of a model."""
    if CANCELLATION not in capabilities.features:
        yield f"{capabilities.label} can cancel a training only by deleting its model"
    yield for_target(f"it is trained again only if its inputs change, or with reconcile apply --retry {name}")
