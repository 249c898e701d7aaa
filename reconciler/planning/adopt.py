"""Records of generations from their manifest, mark and live model, and which models ``adopt`` accepts."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.identity import Content, key_of, same_value
from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters
from reconciler.domain.model import UNKNOWN_DATA, Dataset, Manifest, Mark, RemoteModel, Source, State
from reconciler.domain.plan import Observation
from reconciler.planning.events import update_observed
from reconciler.planning.generations import desired_content, resolve_recorded, satisfies
from reconciler.planning.live_proof import Owner
from reconciler.planning.training_time import total_steps

_MOST_ATTEMPTS = 20
"""How many attempts a forgotten generation is looked for."""


def requested_generation(manifest: Manifest, mark: Mark, *, remote: str, state: State) -> LockedGeneration:
    """Return the record of a training that is about to be requested, or was."""
    return LockedGeneration(
        key=key_of(mark),
        remote=remote,
        spec=mark.spec,
        attempt=mark.attempt,
        origin="created",
        state=state,
        source=manifest.source.recorded,
        dataset=replace(manifest.dataset, claimed=False),
        hyperparameters=LockedHyperparameters(manifest.hyperparameters),
        preamble=manifest.preamble,
    )


def adopted_generation(manifest: Manifest, mark: Mark, live: RemoteModel) -> LockedGeneration:
    """Return the record of a live model with this mark that matches its manifest."""
    requested = requested_generation(manifest, mark, remote=live.remote, state=live.state)
    dataset = Dataset(mark.data) if manifest.dataset.unknown else requested.dataset
    adopted = replace(
        requested,
        origin="adopted",
        dataset=replace(dataset, claimed=mark.data != dataset.digest),
        total_steps=total_steps(manifest.dataset.examples, live.hyperparameters),
    )
    return update_observed(adopted, live)


def outdated_generation(mark: Mark, source: Source, live: RemoteModel) -> LockedGeneration:
    """Return the record of a live model with this mark that no manifest matches.

    The path of its data set, the declared hyperparameters and the preamble are unknown.
    """
    found = LockedGeneration(
        key=key_of(mark),
        remote=live.remote,
        spec=mark.spec,
        attempt=mark.attempt,
        origin="adopted",
        state=live.state,
        source=source,
        dataset=Dataset(mark.data),
        total_steps=live.total_steps,
    )
    return update_observed(found, live)


def first_generation(name: str, scope: str, live: RemoteModel) -> LockedGeneration:
    """Return an unmanaged model as the first generation of a manifest.

    Its content is that of the manifest that ``adopt`` writes: the live source, no hyperparameters and unknown data.
    """
    source = live.source or Source()
    return outdated_generation(Content(scope, name, source, {}, UNKNOWN_DATA).mark(), source, live)


def mark_of_forgotten(manifest: Manifest, scope: str, remote: str) -> Mark | None:
    """Return the mark that a model had if it was made from this manifest and its id is its key; else ``None``."""
    marks = (desired_content(manifest, scope, attempt).mark() for attempt in range(_MOST_ATTEMPTS))
    return next((mark for mark in marks if key_of(mark) == remote.rpartition("/")[2]), None)


def require_made_from(live: RemoteModel, manifest: Manifest) -> None:
    """Refuse a model with the id of a generation of this manifest, and other content.

    Raises:
        ReconcileError: when its source or hyperparameters differ.
    """
    same = live.source is not None and manifest.source.is_same(live.source)
    effective = live.hyperparameters
    if not same or any(
        name not in effective or not same_value(value, effective[name])
        for name, value in manifest.hyperparameters.items()
    ):
        raise ReconcileError(
            f"{live.remote} was not made from {manifest.name} at {manifest.place}: its source or hyperparameters"
            " differ",
            "rename the manifest, which trains a model with another id",
        )


def require_adoptable(live: RemoteModel, scope: str, lock: Lock, other_locks: Iterable[Lock] = ()) -> None:
    """Refuse a model that is managed, by this or another target or scope, or that is not ready.

    Raises:
        ReconcileError: naming the owner, or what is missing.
    """
    _require_unrecorded(live, lock, "the lockfile")
    for other in other_locks:
        where = f"the lockfile of target {other.target.name}" if other.target else "another lockfile"
        _require_unrecorded(live, other, where)
    if live.mark and live.mark.scope == scope:
        raise ReconcileError(
            f"{live.remote} is already managed: it has the mark of {live.mark.name} in this scope",
            f"run reconcile apply with a manifest named {live.mark.name}, which adopts it",
        )
    if live.mark:
        raise ReconcileError(
            f"{live.remote} is managed in the scope {live.mark.scope}: it has the mark of {live.mark.name}",
            "ask the owners of that scope to stop managing it",
        )
    if live.state is not State.ACTIVE:
        wait = live.state not in {State.FAILED, State.CANCELLED}
        raise ReconcileError(
            f"{live.remote} cannot be adopted: its state is {live.state}",
            "wait until it is ready" if wait else "adopt a model that is ready",
        )
    if live.source is None:
        raise ReconcileError(
            f"{live.remote} cannot be adopted: the service does not report its base model or parent",
            "train a new model from a manifest",
        )


def _require_unrecorded(live: RemoteModel, lock: Lock, where: str) -> None:
    for name, model in lock.models.items():
        if any(generation.remote == live.remote and generation.is_same(live) for generation in model.generations):
            raise ReconcileError(
                f"{live.remote} is already managed: {where} records it as a generation of {name}",
                f"to use another name, rename that manifest and add metadata.formerly: [{name}]",
            )


def require_match(generation: LockedGeneration, manifest: Manifest, scope: str) -> None:
    """Refuse a model that does not match its existing manifest.

    Raises:
        ReconcileError: when its source or hyperparameters differ.
    """
    if not satisfies(resolve_recorded(generation, Owner(scope, manifest.name), Observation()), manifest):
        raise ReconcileError(
            f"{generation.remote} does not match {manifest.name} at {manifest.place}",
            "set spec.baseModel, spec.source and spec.hyperparameters to the values that it was trained with",
        )
