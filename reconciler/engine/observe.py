"""Looking at the service: one list for everything, and by name what the list lacks or cannot tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from reconciler.core.generations import EXPECTED_STATES, Observation
from reconciler.core.lock import Lock, LockedGeneration
from reconciler.core.model import Handle, RemoteModel, State
from reconciler.core.ports import Provider

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
