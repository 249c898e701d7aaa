"""Rebuild or update a lock from manifests and live state, and report what could not be rebuilt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Final

from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, record_target
from reconciler.domain.model import Manifest, Source, State
from reconciler.domain.plan import World
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names
from reconciler.planning import events
from reconciler.planning.adopt import adopted_generation, outdated_generation
from reconciler.planning.generations import (
    ResolvedGeneration,
    find_live_model,
    marked_models,
    owners_of,
    resolve_generations,
    satisfies,
)
from reconciler.planning.observed_events import find_moved, observed_events
from reconciler.state.published_pointer import without_pointer

_END_EVENTS: Final[Mapping[State, type[events.Completed | events.Failed | events.Cancelled]]] = {
    State.ACTIVE: events.Completed,
    State.FAILED: events.Failed,
    State.CANCELLED: events.Cancelled,
}
_MOST_NAMES: Final = 3
"""How many names a notice lists."""


def refresh_events(world: World) -> tuple[events.Event, ...]:
    """Return the events that bring a lock in line with manifests and live state; none promotes a generation.

    The manifests must name their parent generations. A manifest without a record gets every generation with its mark.
    One with a record gets only the generations that match it: others can belong to another branch.
    """
    found: tuple[events.Event, ...] = ()
    for step in (_manifest_events, observed_events, _undeleted, _completed_records, _adoptions):
        found += tuple(step(replace(world, lock=reduce(events.record, found, world.lock))))
    return found


def _manifest_events(world: World) -> Iterator[events.Event]:
    """Yield events for the target, renames and declarations; changed limits are left for the next plan to report."""
    if world.lock.target is None:
        yield events.Targeted(record_target(world.target))
    for event in find_moved(world.lock, world.manifests):
        yield event
        former = world.lock.models.get(event.former) if isinstance(event, events.Renamed) else None
        if isinstance(event, events.Renamed) and former:  # no pointer has the old name
            yield from without_pointer(world.target, event.former, former)
    yield from map(events.declared, world.manifests)


def _undeleted(world: World) -> Iterator[events.Event]:
    """Yield an event for each generation that an interrupted run wanted to delete, and that still exists."""
    owners = owners_of(world)
    for name, model in world.lock.models.items():
        for generation in model.generations:
            live = find_live_model(generation, owners.owner(name), world.observation)
            if live and generation.state is State.DELETING:
                yield events.Kept(name, generation.key, live.state)


def _completed_records(world: World) -> Iterator[events.Event]:
    """Yield events for trainings that ended as recorded, but whose record lacks details that the service returns."""
    owners = owners_of(world)
    for name, model in world.lock.models.items():
        for generation in model.generations:
            live = find_live_model(generation, owners.owner(name), world.observation)
            if live is None or live.state is not generation.state or live.state not in _END_EVENTS:
                continue
            if events.update_observed(generation, live) != generation:
                yield _END_EVENTS[live.state](name, generation.key, live)


def _adoptions(world: World) -> Iterator[events.Event]:
    unrecorded = tuple(_unrecorded(world))
    parents = _sources_by_remote(world.lock, unrecorded)
    for manifest, known in unrecorded:
        generation = _adopted(known, manifest, parents)
        if generation and (satisfies(known, manifest) or _has_no_record(world.lock, manifest.name)):
            yield events.Adopted(manifest.name, manifest.file, generation)
            yield events.declared(manifest)


def _has_no_record(lock: Lock, name: str) -> bool:
    return name not in lock.models or not lock.models[name].generations


def _unrecorded(world: World) -> Iterator[tuple[Manifest, ResolvedGeneration]]:
    """Yield the live generations with the mark of a manifest that the lock does not have."""
    marked, owners = marked_models(world), owners_of(world)
    for manifest in world.manifests:
        name, locked = manifest.name, world.lock.models.get(manifest.name)
        for known in resolve_generations(owners.owner(name), locked, world.observation, marked.get(name, ())):
            if known.locked is None:
                yield manifest, known


def _adopted(known: ResolvedGeneration, manifest: Manifest, parents: Mapping[str, Source]) -> LockedGeneration | None:
    """Return the record, or ``None`` where the service does not return the source of the generation."""
    if known.live is None:
        return None
    if satisfies(known, manifest):
        return adopted_generation(manifest, known.mark, known.live)
    source = known.source
    if source and source.remote in parents:
        source = replace(parents[source.remote], checkpoint=source.checkpoint)
    return outdated_generation(known.mark, source, known.live) if source else None


def _sources_by_remote(lock: Lock, unrecorded: Iterable[tuple[Manifest, ResolvedGeneration]]) -> dict[str, Source]:
    """Return the source that a child of each remote model has."""
    generations = [
        *(
            (manifest.name, known.key, known.remote, known.live.resources.model if known.live else "")
            for manifest, known in unrecorded
        ),
        *(
            (name, generation.key, generation.remote, generation.resources.model)
            for name, model in lock.models.items()
            for generation in model.generations
        ),
    ]
    return {
        remote: Source(tuned_model=name, key=key) for name, key, *remotes in generations for remote in remotes if remote
    }


def refresh_notices(before: Lock, world: World) -> Iterator[str]:
    """Yield notices about records that a refresh could not rebuild, models that it skipped, and lost models.

    ``before`` is the lock before the refresh; the world has the one after it.
    """
    after = world.lock
    rebuilt = [name for name in after.models if _has_no_record(before, name) and after.models[name].generations]
    if rebuilt:
        yield (
            for_target(
                f"{_names(rebuilt)}: rebuilt from the marks; no generation is serving, because promotions, rollbacks"
                " and check results are recorded only in the lockfile; restore an older lockfile, for example from git,"
                " or run reconcile apply, or reconcile promote NAME --to KEY"
            )
        )
    incomplete = [
        generation.key
        for name in rebuilt
        for generation in after.models[name].generations
        if not generation.dataset.path and not generation.dataset.examples
    ]
    if incomplete:
        yield f"{_names(incomplete)}: no manifest matches, so the path of the data set and the preamble are unknown"
    owners = owners_of(world)
    for stage, name, serving in _serving(after):
        shown = f"{serving.key}, the serving generation of {name}{f' in {stage}' if stage else ''},"
        if serving.state is State.MISSING:
            yield f"{shown} was not found at the service; {_lost(name, stage)}"
        live = find_live_model(serving, owners.owner(name), world.observation)
        if live and not live.is_deployed(serving.checkpoint):
            yield for_target(
                f"{shown} is not deployed: no endpoint has its model; run reconcile apply to deploy it again"
            )
    skipped = [known.key for _, known in _unrecorded(world)]
    if skipped:
        yield f"{_names(skipped)}: has the mark of this scope, but is not recorded: it can belong to another branch"
    known = {name for manifest in world.manifests for name in manifest.names} | after.models.keys()
    unknown = [name for name in marked_models(world) if name not in known]
    if unknown:
        yield f"{_names(unknown)}: models with the mark of this scope, but neither a manifest nor a record"


def _serving(lock: Lock) -> Iterator[tuple[str, str, LockedGeneration]]:
    """Yield the serving generations, with the stage, empty for the first one, and the model that they serve."""
    for name, model in lock.models.items():
        for stage, key in model.serving_by_stage.items():
            if generation := model.in_stage(stage).generation(key):
                yield stage, name, generation


def _lost(name: str, stage: str) -> str:
    if not stage:
        return for_target("run reconcile apply to fix this")
    return for_target(f"promote another one with reconcile promote {name} --stage {stage}")


def _names(names: Iterable[str]) -> str:
    return join_names(sorted(names), _MOST_NAMES)
