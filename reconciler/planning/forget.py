"""Letting go of what is managed, and stopping what trains: what is meant, and whether that may be."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, Manifest, State

CANCELLATION = "cancellation"
"""The feature of a service at which a training that is stopped leaves a record behind; elsewhere it is deleted."""


def require_forgettable(name: str, model: LockedModel) -> None:
    """Refuse to forget what is protected, and what may be training without anybody's knowing.

    Raises:
        ReconcileError: saying what is in the way.
    """
    if model.protect:
        raise ReconcileError(
            f"{name} is protected, and forgetting it would end that",
            f"lift the protection first: reconcile prune --unprotect {name}",
        )
    for one in model.generations:
        if one.state is State.INTENDED:
            raise ReconcileError(
                f"an earlier run asked the service for {one.key}, and did not learn the outcome",
                "run reconcile wait first, which looks for it",
            )


def keeps_marks(capabilities: Capabilities) -> bool:
    """Whether the service's marks cannot be taken away, as they stand in what nobody can change."""
    return "description" not in capabilities.mutable


def forgetting_notes(name: str, lock: Lock, *, marked: bool) -> Iterator[str]:
    """What whoever forgets a model should know; ``marked`` says that its generations go on bearing its mark."""
    model = lock.models[name]
    if model.serving:
        yield f"{model.serving} serves, and goes on answering those who call it by its remote name"
    training = [one.key for one in model.generations if one.state is State.CREATING]
    if training:
        yield f"{', '.join(training)} is still training, and goes on"
    if marked:
        yield (
            "they go on saying whose they are: they count as another checkout's, and a manifest that is called "
            f"{name} takes them up again"
        )
    for child in _children(name, lock):
        yield f"{child} is tuned from it, and goes on"


def _children(name: str, lock: Lock) -> Iterator[str]:
    forgotten = lock.models[name].generations
    keys, remotes = {one.key for one in forgotten}, {one.remote for one in forgotten} - {""}
    for other, model in sorted(lock.models.items()):
        sources = [one.source for one in model.generations]
        if other != name and any(one.key in keys or one.remote in remotes for one in sources):
            yield other


def in_flight(model: LockedModel, key: str | None) -> tuple[LockedGeneration, ...]:
    """The generations that train by the record; with a key, that one alone."""
    return tuple(one for one in model.generations if one.state is State.CREATING and key in {None, one.key})


def require_cancellable(name: str, model: LockedModel, manifest: Manifest | None, capabilities: Capabilities) -> None:
    """Refuse to stop the trainings of what is suspended, or protected where stopping one deletes it.

    Raises:
        ReconcileError: saying what is in the way.
    """
    if manifest and manifest.lifecycle.suspend:
        raise ReconcileError(
            f"{name} is suspended, and its trainings go on: spec.lifecycle.suspend in {manifest.place.file} blocks"
            " every write",
            "take it out first",
        )
    protected = model.protect or bool(manifest and manifest.lifecycle.protect)
    if protected and CANCELLATION not in capabilities.features:
        raise ReconcileError(
            f"{name} is protected, and {capabilities.label} knows no way to stop a training but to delete its model",
            "take spec.lifecycle.protect out first",
        )


def cancelling_notes(name: str, capabilities: Capabilities) -> Iterator[str]:
    """What whoever stops trainings should know."""
    if CANCELLATION not in capabilities.features:
        yield f"{capabilities.label} knows no way to stop a training but to delete the model that it makes"
    yield f"it is not trained again until its inputs change, or somebody says reconcile apply --retry {name}"
