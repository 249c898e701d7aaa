"""Verify offline that a lockfile has a ready generation for each manifest (``validate --locked``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.domain.errors import Problem
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Manifest, State
from reconciler.domain.plan import Observation
from reconciler.planning.generations import choose_generation, resolve_generations, satisfies
from reconciler.planning.lineage import ParentGeneration, parents_first, recorded_parent, source_name, with_source
from reconciler.planning.live_proof import Owner
from reconciler.planning.observed_events import apply_moved

_OFFLINE = Observation()


def verify_locked(manifests: Iterable[Manifest], scope: str, lock: Lock, lockfile: str) -> Iterator[Problem]:
    """Return a problem for each manifest without a ready recorded generation of exactly its content."""
    ready: dict[str, ParentGeneration] = {}
    manifests = tuple(manifests)
    lock = apply_moved(lock, manifests)
    for declared in parents_first(manifests):
        name = declared.source.tuned_model
        parent = (ready.get(name) or recorded_parent(Owner(scope, name), lock, _OFFLINE)) if name else None
        manifest = with_source(declared, parent)
        model = lock.models.get(manifest.name) or LockedModel(manifest.file)
        generations = resolve_generations(Owner(scope, manifest.name), model, _OFFLINE, ())
        matching = tuple(generation for generation in generations if satisfies(generation, manifest))
        chosen = choose_generation(matching, model.serving_key, model.rejected)
        if chosen and chosen.state is State.ACTIVE:
            ready[manifest.name] = ParentGeneration(manifest.name, chosen.key, source_name(chosen))
        states = {generation.state for generation in matching}
        serving = model.serving_generation
        if chosen is None and State.ACTIVE in states and not (serving and serving.state is State.ACTIVE):
            gone = f"and {serving.key} is recorded as {serving.state}" if serving else "and no other one is serving"
            yield Problem(
                place=manifest.place,
                path="metadata.name",
                message=f"{lockfile} has no generation of {manifest.name} that may serve: the one with this content was"
                f" rolled back, {gone}",
                remedy=f"change the manifest, or promote a generation with reconcile promote {manifest.name}",
            )
        if State.ACTIVE not in states:
            recorded = f"recorded: {', '.join(sorted(states))}" if states else "none is recorded"
            yield Problem(
                place=manifest.place,
                path="metadata.name",
                message=f"{lockfile} has no ready generation of {manifest.name} with this content ({recorded})",
                remedy="run reconcile apply where training is allowed, and commit the lockfile",
            )
