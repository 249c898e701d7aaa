"""The events by which a lockfile follows an observation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Manifest, RemoteModel, State
from reconciler.planning.events import (
    Adopted,
    Cancelled,
    Completed,
    Disappeared,
    Event,
    Failed,
    Progressed,
    Withdrawn,
    update_observed,
)
from reconciler.planning.generations import (
    EXPECTED_STATES,
    ResolvedGeneration,
    desired_content,
    is_suspicious,
    marked_models,
    resolve_generations,
)
from reconciler.planning.training_time import total_steps
from reconciler.planning.world import Observation, World

_ENDS: Mapping[State, type[Failed | Cancelled]] = {State.FAILED: Failed, State.CANCELLED: Cancelled}


def observed_events(world: World) -> Iterator[Event]:
    """Return the events that record the live state; none if the observation is suspicious.

    The sources of the manifests must name their parent generations. An intended training is withdrawn if it does not
    exist and no manifest asks for it.
    """
    scope, observation = world.scope, world.observation
    if is_suspicious(world.lock, observation):
        return
    manifests = {manifest.name: manifest for manifest in world.manifests}
    marked = marked_models(world)
    for name, model in world.lock.models.items():
        generations = resolve_generations(name, scope, model, observation, marked.get(name, ()))
        by_key = {generation.key: generation for generation in generations}
        for recorded in model.generations:
            found = by_key[recorded.key]
            if found.locked is None and found.live:
                yield Adopted(name, model.manifest, _adopted(recorded, found.live))
            elif recorded.state is not State.INTENDED:
                yield from _changes(name, recorded, found, observation)
            elif _is_obsolete(recorded, manifests.get(name), scope, complete=world.request.complete):
                yield Withdrawn(name, recorded.key)


def _adopted(recorded: LockedGeneration, live: RemoteModel) -> LockedGeneration:
    """Return the training that counts for a key, in place of one that was intended, or that another run replaced."""
    generation = LockedGeneration(
        key=recorded.key,
        remote=live.remote,
        spec=recorded.spec,
        attempt=recorded.attempt,
        origin=recorded.origin if recorded.state is State.INTENDED else "adopted",
        state=live.state,
        source=recorded.source,
        dataset=recorded.dataset,
        declared=recorded.declared,
        preamble=recorded.preamble,
        total_steps=total_steps(recorded.dataset.examples, live.hyperparameters),
    )
    return update_observed(generation, live)


def _changes(
    name: str, recorded: LockedGeneration, found: ResolvedGeneration, observation: Observation
) -> Iterator[Event]:
    live = found.live
    if found.state is State.DELETED:
        return
    if live is None:
        if recorded.remote in observation.gone and recorded.state in EXPECTED_STATES:
            yield Disappeared(name, recorded.key)
    elif live.state is State.CREATING:
        calculated = total_steps(recorded.dataset.examples, live.hyperparameters)
        yield Progressed(name, recorded.key, live, live.total_steps or recorded.total_steps or calculated)
    elif live.state is not recorded.state:
        yield _ENDS.get(live.state, Completed)(name, recorded.key, live)


def _is_obsolete(intended: LockedGeneration, manifest: Manifest | None, scope: str, *, complete: bool) -> bool:
    if manifest is None:
        return complete
    if manifest.source.tuned_model and not manifest.source.key:
        return False  # the parent is held, so the desired content is unknown
    return desired_content(manifest, scope, intended.attempt).mark().spec != intended.spec
