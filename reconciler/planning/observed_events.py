"""The events by which a lockfile follows its manifests (new names, claimed data sets) and the live state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.document import Scalar, builtins_of
from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel
from reconciler.domain.model import Manifest, RemoteModel, State
from reconciler.domain.plan import Action, FieldChange, Kind, Observation, Reason, World
from reconciler.planning import events
from reconciler.planning.generations import (
    EXPECTED_STATES,
    ResolvedGeneration,
    desired_content,
    is_suspicious,
    marked_models,
    owners_of,
    resolve_generations,
    resolve_recorded,
)
from reconciler.planning.training_time import total_steps

_ENDS: Mapping[State, type[events.Failed | events.Cancelled]] = {
    State.FAILED: events.Failed,
    State.CANCELLED: events.Cancelled,
}


def observed_events(world: World) -> Iterator[events.Event]:
    """Return the events that record the live state; none if the observation is suspicious and not accepted.

    The sources of the manifests must name their parent generations. An intended training is withdrawn if it does not
    exist and no manifest asks for it. Records of trainings that ended are corrected only in a run that promotes: a pull
    request that changed them would have to explain it.
    """
    if is_suspicious(world.lock, world.observation) and not world.request.accept_missing:
        return
    changes = tuple(_state_events(world))
    yield from changes
    if world.request.promotes:
        ended = replace(world, lock=reduce(events.record, changes, world.lock))
        yield from (correction.event for correction in find_corrections(ended))


def _state_events(world: World) -> Iterator[events.Event]:
    scope, observation = world.scope, world.observation
    manifests = {manifest.name: manifest for manifest in world.manifests}
    marked, owners = marked_models(world), owners_of(world)
    for name, model in world.lock.models.items():
        generations = resolve_generations(owners.owner(name), model, observation, marked.get(name, ()))
        by_key = {generation.key: generation for generation in generations}
        for recorded in model.generations:
            found = by_key[recorded.key]
            if found.mismatch:
                continue  # a record that is not proved is left for a person to restore
            if found.locked is None and found.live:
                yield events.Adopted(name, model.manifest, _adopted(recorded, found.live))
            elif recorded.state is not State.INTENDED:
                yield from _changes(name, recorded, found, observation)
            elif _is_obsolete(recorded, manifests.get(name), scope, complete=world.request.complete):
                yield events.Withdrawn(name, recorded.key)


class Correction(Struct, frozen=True):
    """A record that its live model proves, and the facts in which it differs; ``file`` is its manifest.

    ``declared`` is the recorded value.
    """

    event: events.Corrected
    file: str
    changes: tuple[FieldChange, ...]


def find_corrections(world: World) -> Iterator[Correction]:
    """Yield the corrections of all records of trainings whose end is recorded.

    What the live model shows replaces the record. The preamble is not part of a live model: it is that of the manifest
    that declares the same data, or else the recorded one. Creation times and hyperparameters stay: they prove models
    that lost their mark, and ``drift`` compares them.
    """
    if is_suspicious(world.lock, world.observation):
        return
    manifests, owners = {manifest.name: manifest for manifest in world.manifests}, owners_of(world)
    for name, model in world.lock.models.items():
        for recorded in model.generations:
            found = resolve_recorded(recorded, owners.owner(name), world.observation)
            if found.live is None or found.state is State.CREATING or found.state is not recorded.state:
                continue
            event = correction_of(name, recorded, found.live, manifests.get(name))
            corrected = event.correct(recorded)
            changes = tuple(_differences("", builtins_of(recorded), builtins_of(corrected)))
            if changes:
                yield Correction(event, model.manifest, changes)


def correction_of(
    name: str, recorded: LockedGeneration, live: RemoteModel, manifest: Manifest | None
) -> events.Corrected:
    """Return the event that gives a record the facts of the live model, which proves it."""
    return events.Corrected(name, recorded.key, live, declared_preamble(recorded, manifest))


def declared_preamble(recorded: LockedGeneration, manifest: Manifest | None) -> str | None:
    """Return the preamble of a manifest that declares the data of a generation; ``None`` for other data."""
    same = manifest is not None and bool(manifest.dataset.digest) and recorded.dataset.digest == manifest.dataset.digest
    return manifest.preamble if manifest and same else None


def _differences(path: str, recorded: Any, live: Any) -> Iterator[FieldChange]:
    """Yield the corrected facts that differ, by path; facts that only inform may be missing in the record."""
    if isinstance(recorded, dict) or isinstance(live, dict):
        recorded, live = recorded or {}, live or {}
        for field in sorted(recorded.keys() | live.keys()):
            yield from _differences(f"{path}.{field}".lstrip("."), recorded.get(field), live.get(field))
    elif recorded != live and path.startswith(_USED if recorded in (None, "") else _USED + _INFORMING):
        yield FieldChange(path, _shown(live), _shown(recorded))


def _shown(value: Any) -> Scalar | None:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


_USED: Final = ("preamble", "providerData", "resources")
"""Facts that requests use."""
_INFORMING: Final = (
    "billableTokens",
    "completeTime",
    "droppedExamples",
    "error",
    "evaluations",
    "experiment",
    "finalLoss",
    "totalSteps",
)
"""Facts that reports show."""


def apply_corrections(world: World) -> World:
    """Return the world with the facts that the live models show."""
    corrections = (correction.event for correction in find_corrections(world))
    return replace(world, lock=reduce(events.record, corrections, world.lock))


def correction_actions(world: World) -> Iterator[Action]:
    """Return the corrections as actions of a plan; they are carried out first."""
    if not world.request.promotes:
        return
    for correction in find_corrections(world):
        name, event = correction.event.name, correction.event
        yield Action(
            name,
            correction.file,
            Kind.ADOPT,
            Reason.RECORD_DIFFERS,
            key=event.key,
            remote=event.model.remote,
            message=describe_correction(correction),
        )


def describe_correction(correction: Correction) -> str:
    """Return which facts of a record differ, and what happens."""
    named = "; ".join(
        f"{change.field} is {json.dumps(change.live)}, recorded {json.dumps(change.declared)}"
        for change in correction.changes
    )
    return f"the lockfile differs from the service: {named}; the present value is recorded"


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
        hyperparameters=LockedHyperparameters(recorded.hyperparameters.declared),
        preamble=recorded.preamble,
        total_steps=total_steps(recorded.dataset.examples, live.hyperparameters),
    )
    return events.update_observed(generation, live)


def _changes(
    name: str, recorded: LockedGeneration, found: ResolvedGeneration, observation: Observation
) -> Iterator[events.Event]:
    live = found.live
    if recorded.state is State.DELETING:
        # One that still exists may be on its way out: only prune, refresh or a promotion decides about it.
        if found.state is State.DELETED:
            yield events.Deleted(name, recorded.key, recorded.remote)
        return
    if found.state is State.DELETED:
        return
    if live is None:
        if recorded.remote in observation.gone and recorded.state in EXPECTED_STATES:
            yield events.Disappeared(name, recorded.key)
    elif live.state is State.CREATING:
        calculated = total_steps(recorded.dataset.examples, live.hyperparameters)
        yield events.Progressed(name, recorded.key, live, live.total_steps or recorded.total_steps or calculated)
    elif live.state is not recorded.state:
        yield _ENDS.get(live.state, events.Completed)(name, recorded.key, live)


def _is_obsolete(intended: LockedGeneration, manifest: Manifest | None, scope: str, *, complete: bool) -> bool:
    if manifest is None:
        return complete
    if manifest.source.tuned_model and not manifest.source.key:
        return False  # the parent is held, so the desired content is unknown
    return desired_content(manifest, scope, intended.attempt).mark().spec != intended.spec


Moved = events.Renamed | events.Claimed


def find_moved(lock: Lock, manifests: Iterable[Manifest]) -> tuple[Moved, ...]:
    """Return the events by which a lockfile follows its manifests; the service is not changed.

    The records of a former name move to the present one. The first data set that is declared for a generation with
    unknown data is a claim: it is recorded as its training data, so that a later change of the data set is a change.
    """
    return tuple(event for manifest in manifests for event in _events(lock, manifest))


def apply_moved(lock: Lock, manifests: Iterable[Manifest]) -> Lock:
    """Return the lockfile after the events of :func:`find_moved`."""
    return reduce(events.record, find_moved(lock, manifests), lock)


def declared_names(manifests: Iterable[Manifest]) -> frozenset[str]:
    """Return all present and former names of manifests; models with these names are not orphans."""
    return frozenset(name for manifest in manifests for name in manifest.names)


def moved_actions(lock: Lock, manifests: Iterable[Manifest]) -> Iterator[Action]:
    """Return the events of :func:`find_moved` as actions of a plan; they are carried out first."""
    by_name = {manifest.name: manifest for manifest in manifests}
    for event in find_moved(lock, by_name.values()):
        manifest = by_name[event.name]
        if isinstance(event, events.Renamed):
            former = lock.models[event.former]
            reason, key, message = Reason.RENAMED, former.serving_key or "", _describe_rename(former, event)
        else:
            reason, key, message = Reason.DATA_CLAIMED, event.key, _describe_claim(manifest)
        yield Action(manifest.name, manifest.file, Kind.ADOPT, reason, key=key, message=message)


def _events(lock: Lock, manifest: Manifest) -> Iterator[Moved]:
    for former in manifest.formerly:
        if former in lock.models and has_content(lock.models[former]):
            event = events.Renamed(manifest.name, former, manifest.file)
            lock = events.record(lock, event)
            yield event
    model = lock.models.get(manifest.name)
    for generation in model.generations if model else ():
        declares = bool(manifest.dataset.digest) and not manifest.dataset.unknown
        if generation.dataset.unknown and (declares or generation.preamble != manifest.preamble):
            dataset = manifest.dataset if declares else generation.dataset
            yield events.Claimed(manifest.name, generation.key, dataset, manifest.preamble)


def has_content(model: LockedModel) -> bool:
    """Return whether more is recorded than the keys in the published pointers."""
    return bool(model.generations or model.barred_keys)


def _describe_rename(former: LockedModel, event: events.Renamed) -> str:
    count = len(former.generations)
    records = "its generation is" if count == 1 else f"its {count} generations are"
    return f"recorded as {event.former} before: {records} moved to {event.name}, nothing is trained"


def _describe_claim(manifest: Manifest) -> str:
    claim = manifest.dataset.path or "the inline examples"
    if manifest.dataset.unknown:
        claim = "spec.dataset.preamble"
    return f"its training data is unknown: {claim} is recorded as a claim, nothing is trained"
