"""Looking at the service before anything is done: what is there, what follows from it, and whether that can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core.access import Permission
from reconciler.core.generations import Observation, shared_remotes
from reconciler.core.lock import Lock
from reconciler.core.model import Dataset, Manifest, Target
from reconciler.core.pinning import addresses
from reconciler.core.plan import Kind, Plan, Request
from reconciler.core.planner import plan
from reconciler.core.ports import Clock, Neighbours, Objects, Provider
from reconciler.core.problems import AccessError
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
    seen = await with_permissions(provider, seen, manifests, lock, target)

    def planned(observation: Observation) -> Plan:
        return plan(manifests, observation, lock, target, request, provider.capabilities, clock())

    made = planned(seen)
    wanted = frozenset(
        one.source.base_model for one in made.of_kind(Kind.CREATE) if one.source and one.source.base_model
    )
    untunable = await provider.preflight(wanted) if wanted else {}
    if not untunable:
        return seen, made
    seen = replace(seen, untunable=untunable)
    return seen, planned(seen)


async def with_permissions(
    provider: Provider, seen: Observation, manifests: Sequence[Manifest], lock: Lock, target: Target
) -> Observation:
    """The observation with the permissions of those models whose access is declared; what was read is not read again.

    Raises as :func:`look`.
    """
    known = seen.permissions.keys() | seen.unreadable.keys()
    wanted = sorted(shared_remotes(manifests, target.scope, lock, seen) - known)

    async def read(remote: str) -> tuple[Permission, ...] | AccessError:
        try:
            return await provider.access(remote)
        except AccessError as error:  # about this one model: everything else goes on
            return error

    found = dict(zip(wanted, await bounded(read, wanted, target.limits.concurrency), strict=True))
    closed = {remote: str(answer) for remote, answer in found.items() if isinstance(answer, AccessError)}
    read_now = {remote: answer for remote, answer in found.items() if not isinstance(answer, AccessError)}
    return replace(seen, permissions={**seen.permissions, **read_now}, unreadable={**seen.unreadable, **closed})


async def pin(objects: Objects, manifests: Sequence[Manifest], concurrency: int) -> dict[str, Dataset]:
    """The data sets in Cloud Storage that the manifests name, as they are now, by address.

    Raises:
        ServiceError: when Cloud Storage cannot be reached.
        AccessError: when nobody is logged in.
    """
    uris = sorted(addresses(manifests))
    return dict(zip(uris, await bounded(objects.pin, uris, concurrency), strict=True))


async def look_around(
    provider: Provider, manifests: Sequence[Manifest], lock: Lock, target: Target, *, progress: bool, foreign: bool
) -> Observation:
    """What the service shows, with the base models of what is declared and of what serves looked up. Changes nothing.

    ``foreign`` asks for the models of others, too, where a list of ours leaves them out. Raises as :func:`look`.
    """
    seen = await observe(provider, lock, concurrency=target.limits.concurrency, progress=progress)
    others = await provider.others() if foreign and isinstance(provider, Neighbours) else ()
    seen = replace(seen, models={model.remote: model for model in others} | dict(seen.models))
    seen = await with_permissions(provider, seen, manifests, lock, target)
    served = (one.source for model in lock.models.values() if (one := model.generation(model.serving)))
    sources = (*(one.source for one in manifests), *served)
    wanted = frozenset(one.base_model for one in sources if one.base_model)
    untunable = await provider.preflight(wanted) if wanted else {}
    return replace(seen, untunable=untunable)
