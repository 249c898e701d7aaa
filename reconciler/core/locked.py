"""What a lockfile alone can promise, without asking a service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.core.generations import Observation, known_generations, satisfies
from reconciler.core.lock import Lock
from reconciler.core.model import Manifest, State
from reconciler.core.problems import Problem

_OFFLINE = Observation()


def not_ready(manifests: Iterable[Manifest], scope: str, lock: Lock, lockfile: str) -> Iterator[Problem]:
    """A problem for each manifest for which the lock names no ready generation with exactly the declared content."""
    for manifest in manifests:
        generations = known_generations(manifest.name, scope, lock.models.get(manifest.name), _OFFLINE, ())
        states = {one.state for one in generations if satisfies(one, manifest)}
        if State.ACTIVE not in states:
            yield Problem(
                place=manifest.place,
                path="metadata.name",
                message=f"{lockfile} names no ready generation of {manifest.name} with this content ({_found(states)})",
                remedy="run reconcile apply where training is allowed, and commit the lockfile",
            )


def _found(states: set[State]) -> str:
    return f"it has one that is {', '.join(sorted(states))}" if states else "it has none at all"
