"""Rebuilding a lock from manifests and service: what it is brought up to date with, and what nobody can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import Final

from reconciler.domain.lock import Lock, LockedGeneration, record_target
from reconciler.domain.model import Manifest, RemoteModel, Source, State, Target
from reconciler.planning.events import (
    Adopted,
    Cancelled,
    Completed,
    Declared,
    Event,
    Failed,
    Published,
    Renamed,
    Targeted,
    observed,
    record,
)
from reconciler.planning.generations import (
    Observation,
    ResolvedGeneration,
    find_live_model,
    marked_models,
    resolve_generations,
    satisfies,
)
from reconciler.planning.moved import find_moved
from reconciler.planning.observed_events import observed_events
from reconciler.state.record import pieced_together, taken_up

_ENDS: Final[Mapping[State, type[Completed | Failed | Cancelled]]] = {
    State.ACTIVE: Completed,
    State.FAILED: Failed,
    State.CANCELLED: Cancelled,
}
_SOME: Final = 3
"""How many names a sentence tells."""


def refreshed(
    lock: Lock, observation: Observation, manifests: Iterable[Manifest], target: Target, *, complete: bool
) -> tuple[Event, ...]:
    """The events that bring a lock in line with manifests and service; none of them lets anything serve.

    ``manifests`` name the parent generations that they are tuned from. A manifest without a record gets every
    generation that bears its mark. To one with a record only what it asks for is added: other generations of ours may
    belong to another branch.
    """
    wanted = {manifest.name: manifest for manifest in manifests}
    events: tuple[Event, ...] = ()
    steps: tuple[Callable[[Lock], Iterator[Event]], ...] = (
        lambda now: _declared(now, wanted, target),
        lambda now: observed_events(now, observation, target.scope, wanted, complete=complete),
        lambda now: _facts(now, observation, target.scope),
        lambda now: _found(now, observation, wanted, target.scope),
    )
    for step in steps:
        events += tuple(step(reduce(record, events, lock)))
    return events


def _declared(lock: Lock, wanted: Mapping[str, Manifest], target: Target) -> Iterator[Event]:
    """Limits that the target has changed since stay unrecorded: the next plan is to tell of them."""
    if lock.target is None:
        yield Targeted(record_target(target))
    for event in find_moved(lock, wanted.values()):
        yield event
        if isinstance(event, Renamed) and not target.publish:
            yield Published(event.former, None)  # nobody is left to be told
    yield from map(_declaration, wanted.values())


def _declaration(manifest: Manifest) -> Declared:
    return Declared(manifest.name, manifest.file, manifest.lifecycle.protect)


def _facts(lock: Lock, observation: Observation, scope: str) -> Iterator[Event]:
    """What a service says of trainings that ended as recorded, and the record lacks or has otherwise."""
    for name, model in lock.models.items():
        for one in model.generations:
            live = find_live_model(one, scope, name, observation)
            if live and live.state is one.state and live.state in _ENDS and observed(one, live) != one:
                yield _ENDS[live.state](name, one.key, live)


def _found(lock: Lock, observation: Observation, wanted: Mapping[str, Manifest], scope: str) -> Iterator[Event]:
    parents = dict(_keys_by_remote(lock, observation, wanted.values(), scope))
    for name, known in _unrecorded(lock, observation, wanted.values(), scope):
        manifest = wanted[name]
        one = _recorded(known, manifest, parents)
        if one and (satisfies(known, manifest) or _is_without_record(lock, name)):
            yield Adopted(name, manifest.file, one)
            yield _declaration(manifest)


def _is_without_record(lock: Lock, name: str) -> bool:
    return name not in lock.models or not lock.models[name].generations


def _unrecorded(
    lock: Lock, observation: Observation, manifests: Iterable[Manifest], scope: str
) -> Iterator[tuple[str, ResolvedGeneration]]:
    """The generations that bear our mark and a manifest's name, and that the lock does not hold."""
    manifests = tuple(manifests)
    marked = marked_models(scope, observation, lock, manifests)
    for manifest in manifests:
        for known in resolve_generations(
            manifest.name, scope, lock.models.get(manifest.name), observation, marked.get(manifest.name, ())
        ):
            if known.locked is None:
                yield manifest.name, known


def _recorded(known: ResolvedGeneration, manifest: Manifest, parents: Mapping[str, Source]) -> LockedGeneration | None:
    """``None`` where the service does not say what a generation was tuned from, which every record does."""
    if known.live is None:
        return None
    if satisfies(known, manifest):
        return taken_up(manifest, known.mark, known.live)
    source = parents.get(known.source.remote, known.source) if known.source else None
    return pieced_together(known.mark, source, known.live) if source else None


def _keys_by_remote(
    lock: Lock, observation: Observation, manifests: Iterable[Manifest], scope: str
) -> Iterator[tuple[str, Source]]:
    """What a service calls the parent of a child, as the lock calls it."""
    for name, known in _unrecorded(lock, observation, manifests, scope):
        yield from ((remote, Source(tuned_model=name, key=known.key)) for remote in _remotes(known.remote, known.live))
    for name, model in lock.models.items():
        for one in model.generations:
            remotes = {one.remote, one.resources.model} - {""}
            yield from ((remote, Source(tuned_model=name, key=one.key)) for remote in remotes)


def _remotes(remote: str, live: RemoteModel | None) -> set[str]:
    return {remote, live.resources.model if live else ""} - {""}


def remarks(
    before: Lock, after: Lock, observation: Observation, manifests: Iterable[Manifest], scope: str
) -> Iterator[str]:
    """Sentences about what a refresh could not bring back, has left alone, or found lost."""
    manifests = tuple(manifests)
    rebuilt = [name for name in after.models if _is_without_record(before, name) and after.models[name].generations]
    if rebuilt:
        yield (
            f"{_named(rebuilt)}: found by the marks; what served, what was rolled back and how checks went is recorded "
            "nowhere else, so nothing serves until reconcile apply, or reconcile promote NAME --to KEY; if there is an "
            "older lockfile somewhere, such as in git, rather restore that"
        )
    bare = [one.key for name in rebuilt for one in after.models[name].generations if _is_bare(one)]
    if bare:
        yield f"{_named(bare)}: no manifest asks for it any more, so where its data was and its preamble are unknown"
    for name, model in after.models.items():
        serving = model.generation(model.serving)
        if serving and serving.state is State.MISSING:
            yield f"{serving.key}, which serves {name}, is gone from the service; run reconcile apply to mend that"
    others = [known.key for _, known in _unrecorded(after, observation, manifests, scope)]
    if others:
        yield f"{_named(others)}: left out although it bears our mark, as it may be another branch's"
    declared = {one for manifest in manifests for one in manifest.names} | after.models.keys()
    strays = [name for name in marked_models(scope, observation, after, manifests) if name not in declared]
    if strays:
        yield f"{_named(strays)}: models of that name bear our mark, and neither a manifest nor the lockfile knows it"


def _is_bare(one: LockedGeneration) -> bool:
    return not one.dataset.path and not one.dataset.examples


def _named(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join([*ordered[:_SOME], *([f"{len(ordered) - _SOME} more"] if len(ordered) > _SOME else [])])
