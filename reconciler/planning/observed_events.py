"""What an observation says of the recorded generations, as the events that record it."""

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
    """Return the events since the lock was recorded; none if so many models are gone that live state is not trusted.

    The sources of the manifests must name their parent generations. An intended generation that no manifest asks for
    and that does not exist is withdrawn.
    """
    scope, observation = world.scope, world.observation
    if is_suspicious(world.lock, observation):
        return
    manifests = {manifest.name: manifest for manifest in world.manifests}
    marked = marked_models(world)
    for name, model in world.lock.models.items():
        known = resolve_generations(name, scope, model, observation, marked.get(name, ()))
        counting = {one.key: one for one in known}
        for one in model.generations:
            found = counting[one.key]
            if found.locked is None and found.live:
                yield Adopted(name, model.manifest, _taken_up(one, found.live))
            elif one.state is not State.INTENDED:
                yield from _changes(name, one, found, observation)
            elif _is_moot(one, manifests.get(name), scope, complete=world.request.complete):
                yield Withdrawn(name, one.key)


def _taken_up(one: LockedGeneration, live: RemoteModel) -> LockedGeneration:
    """What was intended, or lost to a training of another run, as the training that counts for its key."""
    taken = LockedGeneration(
        key=one.key,
        remote=live.remote,
        spec=one.spec,
        attempt=one.attempt,
        origin=one.origin if one.state is State.INTENDED else "adopted",
        state=live.state,
        source=one.source,
        dataset=one.dataset,
        declared=one.declared,
        preamble=one.preamble,
        total_steps=total_steps(one.dataset.examples, live.hyperparameters),
    )
    return update_observed(taken, live)


def _changes(name: str, one: LockedGeneration, found: ResolvedGeneration, observation: Observation) -> Iterator[Event]:
    live = found.live
    if found.state is State.DELETED:
        return
    if live is None:
        if one.remote in observation.gone and one.state in EXPECTED_STATES:
            yield Disappeared(name, one.key)
    elif live.state is State.CREATING:
        total = live.total_steps or one.total_steps or total_steps(one.dataset.examples, live.hyperparameters)
        yield Progressed(name, one.key, live, total)
    elif live.state is not one.state:
        yield _ENDS.get(live.state, Completed)(name, one.key, live)


def _is_moot(intended: LockedGeneration, manifest: Manifest | None, scope: str, *, complete: bool) -> bool:
    if manifest is None:
        return complete
    if manifest.source.tuned_model and not manifest.source.key:
        return False  # its parent is held, so nobody knows what it will ask for
    return desired_content(manifest, scope, intended.attempt).mark().spec != intended.spec
