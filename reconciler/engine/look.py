"""Looking at the service before anything is done: what is there, what follows from it, and whether that can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core.generations import Observation
from reconciler.core.lock import Lock
from reconciler.core.model import Dataset, Manifest, Target
from reconciler.core.pinning import addresses
from reconciler.core.plan import Kind, Plan, Request
from reconciler.core.planner import plan
from reconciler.core.ports import Clock, Objects, Provider
from reconciler.engine.observe import bounded, observe


async def look(
    provider: Provider,
    manifests: Sequence[Manifest],
    lock: Lock,
    target: Target,
    request: Request,
    clock: Clock,
    *,
    progress: bool,
) -> tuple[Observation, Plan]:
    """What the service shows, and the plan that follows; base models are looked up when something is to be created.

    Raises:
        ServiceError: when the service refuses or cannot be reached.
        AccessError: when it does not let us in.
    """
    seen = await observe(provider, lock, concurrency=target.limits.concurrency, progress=progress)

    def planned(observation: Observation) -> Plan:
        return plan(manifests, observation, lock, target, request, provider.capabilities, clock())

    made = planned(seen)
    wanted = frozenset(one.source.base_model for one in made.of_kind(Kind.CREATE) if one.source)
    untunable = await provider.preflight(wanted) if wanted else {}
    if not untunable:
        return seen, made
    seen = replace(seen, untunable=untunable)
    return seen, planned(seen)


async def pin(objects: Objects, manifests: Sequence[Manifest], concurrency: int) -> dict[str, Dataset]:
    """The data sets in Cloud Storage that the manifests name, as they are now, by address.

    Raises:
        ServiceError: when Cloud Storage cannot be reached.
        AccessError: when nobody is logged in.
    """
    uris = sorted(addresses(manifests))
    return dict(zip(uris, await bounded(objects.pin, uris, concurrency), strict=True))
