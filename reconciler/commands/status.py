"""``reconcile status``: show the recorded state, and on request the live one."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._model_details import add_model_details, recorded_models
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
)
from reconciler.domain.access import effective_access
from reconciler.domain.errors import ServiceError, UsageError
from reconciler.domain.model import State
from reconciler.engine.observe import bounded
from reconciler.environment import Environment
from reconciler.planning.events import Disappeared, record
from reconciler.planning.generations import Observation, find_vanished
from reconciler.providers.registry import connect
from reconciler.reports.documents.status import Reach, Shared, status_document
from reconciler.reports.text.documents import status_text

if TYPE_CHECKING:
    from reconciler.commands._project import Project
    from reconciler.domain.access import Permission
    from reconciler.domain.lock import Lock
    from reconciler.domain.ports import Provider


def status(env: Environment, what: CommandInput, *, live: bool, access: str | None = None) -> CommandResult:
    """What the lockfile holds; with ``live`` also what the service shows of it.

    ``access`` is an e-mail address, of which the service is asked what it can reach.

    Raises:
        UsageError: for an address where models have no permissions of their own.
    """
    project = open_project(env, what, strict=False)
    if access:
        _require_permissions(project)
    asked = live or access
    observed, reach = _asked(env, project, what, live=live, access=access) if asked else (Observation(), None)
    lock = _without_the_vanished(project.lock, observed)
    document = status_document(
        lock,
        project.target,
        project.capabilities,
        project.lockfile,
        live=recorded_models(project.lock, project.target.scope, observed) if live else None,
        reach=reach,
        root=project.root,
    )
    return CommandResult(
        add_model_details(document, lock, project.target.scope, observed) if what.model_details else document
    )


def _asked(
    env: Environment, project: Project, what: CommandInput, *, live: bool, access: str | None
) -> tuple[Observation, Reach | None]:
    """What the service shows, as far as it is to be asked."""
    from reconciler.commands._runner import EventLoop
    from reconciler.engine.observe import observe

    async def ask() -> tuple[Observation, Reach | None]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as provider:
            concurrency = project.target.limits.concurrency
            seen = await observe(provider, project.lock, concurrency=concurrency, progress=True) if live else None
            return seen or Observation(), await reach(provider, project, access) if access else None

    with EventLoop() as session:
        return session.run(ask())


def _require_permissions(project: Project) -> None:
    if "access" not in project.capabilities.features:
        raise UsageError(
            f"--access: {project.capabilities.label} knows no permissions of single models; IAM says who may use them",
            f"see gcloud projects get-iam-policy {project.target.project or 'PROJECT'}",
        )


def _without_the_vanished(lock: Lock, observed: Observation) -> Lock:
    """The lock as it would record this observation's losses."""
    return reduce(record, (Disappeared(name, one.key) for name, one in find_vanished(lock, observed)), lock)


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
    return Reach(
        address, tuple((one, None if answer is None else effective_access(answer, address)) for one, answer in found)
    )


@click.command("status")
@_options.manifest_options
@_options.output_options
@_options.reports
@click.option("--live", is_flag=True, help="Also ask the service what it shows of the recorded models.")
@click.option(
    "--access",
    type=_options.address,
    metavar="ADDRESS",
    help="Also ask the service which of the recorded models that e-mail address can reach.",
)
@_options.environment
def command(env: Environment, /, *, live: bool, access: str | None, **values: Any) -> int:
    """Show what the lockfile records of each model."""
    output = output_of(values)
    what = replace(input_of(values), model_details=bool(output.reports))
    answer = status(env, what, live=live, access=access)
    output.result(answer.document, lambda style, width: status_text(answer.document, width=width, style=style))
    return answer.exit_status
