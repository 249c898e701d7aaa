"""What a lockfile alone can promise, without asking a service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.domain.errors import Problem
from reconciler.domain.lock import Lock
from reconciler.domain.model import Manifest, State
from reconciler.planning.generations import Observation, choose_generation, resolve_generations, satisfies
from reconciler.planning.lineage import ParentGeneration, parents_first, recorded_parent, source_name, with_source
from reconciler.planning.moved import with_carried

_OFFLINE = Observation()


def verify_locked(manifests: Iterable[Manifest], scope: str, lock: Lock, lockfile: str) -> Iterator[Problem]:
    """A problem for each manifest for which the lock names no ready generation with exactly the declared content."""
    ready: dict[str, ParentGeneration] = {}
    manifests = tuple(manifests)
    lock = with_carried(lock, manifests)
    for declared in parents_first(manifests):
        parent = declared.source.tuned_model
        manifest = with_source(declared, _parent(parent, ready, scope, lock) if parent else None)
        locked = lock.models.get(manifest.name)
        generations = resolve_generations(manifest.name, scope, locked, _OFFLINE, ())
        satisfying = [one for one in generations if satisfies(one, manifest)]
        found = choose_generation(
            tuple(satisfying), locked.serving if locked else None, locked.rejected if locked else ()
        )
        if found and found.state is State.ACTIVE:
            ready[manifest.name] = ParentGeneration(manifest.name, found.key, source_name(found))
        states = {one.state for one in satisfying}
        if State.ACTIVE not in states:
            yield Problem(
                place=manifest.place,
                path="metadata.name",
                message=f"{lockfile} names no ready generation of {manifest.name} with this content ({_found(states)})",
                remedy="run reconcile apply where training is allowed, and commit the lockfile",
            )


def _parent(name: str, ready: Mapping[str, ParentGeneration], scope: str, lock: Lock) -> ParentGeneration:
    return ready.get(name) or recorded_parent(name, scope, lock, _OFFLINE)


def _found(states: set[State]) -> str:
    return f"it has one that is {', '.join(sorted(states))}" if states else "it has none at all"
