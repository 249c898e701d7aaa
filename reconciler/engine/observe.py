"""Looking at the service before anything is done: what is there, what follows from it, and whether that can be done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from reconciler.domain.access import Permission
from reconciler.domain.errors import AccessError
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import Dataset, Handle, Manifest, RemoteModel, State
from reconciler.domain.plan import Kind, Plan
from reconciler.domain.ports import Clock, Objects, Provider, UnmanagedModels
from reconciler.planning.dataset_versions import remote_paths
from reconciler.planning.generations import EXPECTED_STATES, find_live_model, shared_remotes
from reconciler.planning.planner import plan
from reconciler.planning.world import Observation, World

PASSING_ERRORS = frozenset({"UNREACHABLE", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED"})
"""Codes of a ServiceError that say nothing about what was asked for, and that may be gone a minute later."""
_A = TypeVar("_A")
_T = TypeVar("_T")


async def observe(provider: Provider, lock: Lock, *, concurrency: int, progress: bool) -> Observation:
    """What the service shows now.

    Absence is proved: a recorded generation that the list lacks is asked for by name. A training that the list shows as
    ended is asked for once more through its operation, which alone tells why it failed.

    Raises:
        ServiceError: when the service refuses or cannot be reached.
        AccessError: when it does not let us in.
    """
    models = {model.remote: model for model in await provider.list(progress=progress)}
    expected = [one for model in lock.models.values() for one in model.generations if one.state in EXPECTED_STATES]
    asked = [one for one in expected if one.remote not in models or _just_ended(one, models[one.remote])]
    answers = await bounded(provider.observe, map(_handle, asked), concurrency)
    gone = set()
    for one, answer in zip(asked, answers, strict=True):
        if answer is not None:
            models[one.remote] = _merged(answer, models.get(one.remote))
        elif one.remote not in models:
            gone.add(one.remote)
    return Observation(models, frozenset(gone))


def _just_ended(one: LockedGeneration, model: RemoteModel) -> bool:
    return one.state is State.CREATING and model.state is not State.CREATING


def _handle(one: LockedGeneration) -> Handle:
    """The operation is worth reading only while the outcome is unknown."""
    return Handle(one.remote, one.operation if one.state is State.CREATING else None)


def _merged(answer: RemoteModel, listed: RemoteModel | None) -> RemoteModel:
    """An operation's result is the model as it was when the training ended; what the list says is newer."""
    if listed is None:
        return answer
    return replace(
        listed,
        snapshots=answer.snapshots or listed.snapshots,
        completed_steps=answer.completed_steps,
        total_steps=answer.total_steps,
        failure=answer.failure,
    )


async def bounded(call: Callable[[_A], Awaitable[_T]], arguments: Iterable[_A], concurrency: int) -> list[_T]:
    """The answers to these calls, in order, with at most so many under way at once; the first error ends them all."""
    gate = asyncio.Semaphore(concurrency)

    async def one(argument: _A) -> _T:
        async with gate:
            return await call(argument)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(argument)) for argument in arguments]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def look(provider: Provider, world: World, clock: Clock, *, progress: bool) -> tuple[Observation, Plan]:
    """What the service shows, and the plan that follows; base models are looked up when something is to be created.

    Raises:
        ServiceError: when the service refuses or cannot be reached.
        AccessError: when it does not let us in.
    """
    seen = await observe(provider, world.lock, concurrency=world.target.limits.concurrency, progress=progress)
    seen = await with_permissions(provider, replace(world, observation=seen))
    made = plan(replace(world, observation=seen, now=clock()))
    wanted = frozenset(
        one.source.base_model for one in made.of_kind(Kind.CREATE) if one.source and one.source.base_model
    )
    untunable = await provider.preflight(wanted) if wanted else {}
    if not untunable:
        return seen, made
    seen = replace(seen, untunable=untunable)
    return seen, plan(replace(world, observation=seen, now=clock()))


async def with_permissions(provider: Provider, world: World) -> Observation:
    """The observation with the permissions of those models whose access is declared; what was read is not read again.

    Raises as :func:`look`.
    """
    seen = world.observation
    known = seen.permissions.keys() | seen.unreadable.keys()
    wanted = sorted(shared_remotes(world) - known)

    async def read(remote: str) -> tuple[Permission, ...] | AccessError:
        try:
            return await provider.access(remote)
        except AccessError as error:  # about this one model: everything else goes on
            return error

    found = dict(zip(wanted, await bounded(read, wanted, world.target.limits.concurrency), strict=True))
    closed = {remote: str(answer) for remote, answer in found.items() if isinstance(answer, AccessError)}
    read_now = {remote: answer for remote, answer in found.items() if not isinstance(answer, AccessError)}
    return replace(seen, permissions={**seen.permissions, **read_now}, unreadable={**seen.unreadable, **closed})


async def pin(objects: Objects, manifests: Sequence[Manifest], concurrency: int) -> dict[str, Dataset]:
    """The data sets in Cloud Storage that the manifests name, as they are now, by address.

    Raises:
        ServiceError: when Cloud Storage cannot be reached.
        AccessError: when nobody is logged in.
    """
    uris = sorted(remote_paths(manifests))
    return dict(zip(uris, await bounded(objects.pin, uris, concurrency), strict=True))


async def observe_generation(
    provider: Provider, generation: LockedGeneration, scope: str, name: str
) -> RemoteModel | None:
    """Return the live model of a recorded generation; ``None`` if it is gone, or another model has its remote name."""
    live = await provider.observe(Handle(generation.remote))
    return find_live_model(generation, scope, name, Observation({generation.remote: live})) if live else None


async def observe_all(provider: Provider, world: World, *, progress: bool, unmanaged: bool) -> Observation:
    """What the service shows, with the base models of what is declared and of what serves looked up. Changes nothing.

    ``unmanaged`` includes unmanaged models that the service's list leaves out. Raises as :func:`look`.
    """
    seen = await observe(provider, world.lock, concurrency=world.target.limits.concurrency, progress=progress)
    others = await provider.list_unmanaged() if unmanaged and isinstance(provider, UnmanagedModels) else ()
    seen = replace(seen, models={model.remote: model for model in others} | dict(seen.models))
    seen = await with_permissions(provider, replace(world, observation=seen))
    served = (one.source for model in world.lock.models.values() if (one := model.generation(model.serving)))
    sources = (*(manifest.source for manifest in world.manifests), *served)
    wanted = frozenset(one.base_model for one in sources if one.base_model)
    untunable = await provider.preflight(wanted) if wanted else {}
    return replace(seen, untunable=untunable)
