"""Asking the service what somebody can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.core.model import State
from reconciler.core.problems import ServiceError
from reconciler.core.reaching import reached
from reconciler.engine.observe import bounded
from reconciler.render.access import Reach, Shared

if TYPE_CHECKING:
    from reconciler.app.project import Project
    from reconciler.core.access import Permission
    from reconciler.core.ports import Provider


async def reach(provider: Provider, project: Project, address: str) -> Reach:
    """What an address may do with every generation that was recorded as ready; those that are gone are named.

    Raises:
        ServiceError: when the service refuses or cannot be reached.
        AccessError: when it does not let us in, or does not show us a model's permissions.
    """
    shared = [
        Shared(name, one.key, one.remote, serving=model.serving == one.key)
        for name, model in sorted(project.lock.models.items())
        for one in model.generations
        if one.state is State.ACTIVE
    ]

    async def permissions(one: Shared) -> tuple[Permission, ...] | None:
        try:
            return await provider.access(one.remote)
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise
            return None

    answers = await bounded(permissions, shared, project.target.limits.concurrency)
    found = zip(shared, answers, strict=True)
    return Reach(address, tuple((one, None if answer is None else reached(answer, address)) for one, answer in found))
