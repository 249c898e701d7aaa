"""``reconcile status``: show the recorded state, and with ``--live`` the live state."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of, targets_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    RecordedProject,
    details_of,
    live_models,
    open_recorded,
    select_recorded,
)
from reconciler.commands._targets import finish_targets
from reconciler.domain.access import effective_access
from reconciler.domain.errors import ServiceError, UsageError
from reconciler.domain.model import State
from reconciler.domain.plan import Observation
from reconciler.environment import Environment
from reconciler.reports.documents.status import AccessReport, SharedGeneration, StatusReport, status_report

if TYPE_CHECKING:
    from reconciler.domain.access import Permission
    from reconciler.domain.lock import Lock
    from reconciler.domain.ports import Provider
    from reconciler.providers.spec import ConnectedProvider


def status(
    environment: Environment, command_input: CommandInput, *, live: bool, access: str | None = None
) -> CommandResult[StatusReport]:
    """Return the recorded state; with ``live``, also the live state of the recorded models.

    ``access`` is an email address; the result then has the models that it can reach.

    Raises:
        UsageError: for an address, when models of this provider have no permissions of their own.
    """
    project = select_recorded(open_recorded(environment, command_input))
    if access:
        _require_permissions(project)
    observation, reach = _query(project, live=live, access=access) if live or access else (Observation(), None)
    lock = _record_vanished(project.lock, observation) if live else project.lock
    scope = project.target.scope
    report = status_report(
        lock,
        project.target,
        project.capabilities,
        project.lockfile,
        live=live_models(project.lock, scope, observation) if live else None,
        reach=reach,
        root=project.root,
        model_details=details_of(project, lock, observation) if command_input.model_details else (),
    )
    return CommandResult(report, projects=(project,))


def _record_vanished(lock: Lock, observation: Observation) -> Lock:
    """Return the lock with the generations as missing that are gone."""
    from reconciler.planning.events import Disappeared, record
    from reconciler.planning.generations import find_vanished

    vanished = (Disappeared(name, generation.key) for name, generation in find_vanished(lock, observation))
    return reduce(record, vanished, lock)


def _require_permissions(project: RecordedProject) -> None:
    if "access" not in project.capabilities.features:
        raise UsageError(
            f"--access is not supported: in {project.capabilities.label}, IAM grants access to all models of a project",
            f"see gcloud projects get-iam-policy {project.target.project or 'PROJECT'}",
        )


def _query(project: RecordedProject, *, live: bool, access: str | None) -> tuple[Observation, AccessReport | None]:
    from reconciler.engine.observe import observe

    async def work(service: ConnectedProvider) -> tuple[Observation, AccessReport | None]:
        concurrency = project.target.limits.concurrency
        observation = Observation()
        if live:
            observation = await observe(service, project.lock, concurrency=concurrency, progress=True)
        return observation, await reach(service, project, access) if access else None

    return project.session.query(work)


async def reach(provider: Provider, project: RecordedProject, address: str) -> AccessReport:
    """Return the access of an address to every generation recorded as ready, and which of them are gone.

    Raises:
        ServiceError: when the service refuses or cannot be reached.
        AccessError: when the credentials do not allow reading a model's permissions.
    """
    from reconciler.engine.observe import run_bounded

    shared = [
        SharedGeneration(name, generation.key, generation.remote, model.serves(generation.key))
        for name, model in sorted(project.lock.models.items())
        for generation in model.generations
        if generation.state is State.ACTIVE
    ]

    async def permissions(generation: SharedGeneration) -> tuple[Permission, ...] | None:
        try:
            return await provider.access(generation.remote)
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise
            return None

    answers = await run_bounded(permissions, shared, project.target.limits.concurrency)
    return AccessReport(
        address,
        tuple(
            (generation, None if answer is None else effective_access(answer, address))
            for generation, answer in zip(shared, answers, strict=True)
        ),
    )


@click.command("status", epilog=_options.examples("status --live", "status --access ada@example.com"))
@_options.targets_options
@_options.output_options
@_options.reports
@_options.metrics
@click.option("--live", is_flag=True, help="Also show the live state of the recorded models.")
@click.option(
    "--access",
    type=_options.address,
    metavar="ADDRESS",
    help="Also show which of the recorded models this email address can reach.",
)
@_options.environment
def command(environment: Environment, /, *, live: bool, access: str | None, **values: Any) -> int:
    """Show what the lockfile records of each model."""
    output, names = output_of(values), targets_of(values)
    command_input = input_of(values, model_details=bool(output.reports))

    def run(command_input: CommandInput) -> CommandResult[StatusReport]:
        return status(environment, command_input, live=live, access=access)

    return finish_targets(environment, output, command_input, names, run, "status")
