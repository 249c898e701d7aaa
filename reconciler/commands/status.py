"""``reconcile status``: show the recorded state, and with ``--live`` the live state."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from datetime import timedelta
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
    find_orphans,
    live_models,
    open_recorded,
    select_recorded,
)
from reconciler.commands._session import EventLoop
from reconciler.commands._targets import finish_targets
from reconciler.domain.access import effective_access
from reconciler.domain.errors import ExitStatus, InterruptedRun, ReconcileError, ServiceError, UsageError
from reconciler.domain.model import State
from reconciler.domain.plan import Observation
from reconciler.domain.text import terminal_safe
from reconciler.environment import Environment
from reconciler.reports.documents.status import AccessReport, SharedGeneration, StatusReport, status_report

if TYPE_CHECKING:
    from reconciler.commands._output import Output
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
        orphans=find_orphans(project),
        now=environment.clock(),
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


def _watch(environment: Environment, output: Output, seconds: float, show: Callable[[], ExitStatus]) -> ExitStatus:
    """Show the state until Ctrl-C: on a terminal the last one, on other streams each one that differs from the last.

    The first error ends the command. Later ones are shown, because the lockfile may be in the middle of a merge.
    """
    output.say(lambda _style, _width: f"Updated every {seconds:g} s. Press Ctrl-C to stop.")
    shown = _shown(show)
    click.echo(shown, nl=False, color=True)
    with EventLoop() as loop, suppress(KeyboardInterrupt, InterruptedRun):
        while True:
            loop.run(environment.sleeper(seconds))
            try:
                text = _shown(show)
            except ReconcileError as error:
                text = f"Error: {terminal_safe(str(error))}\n"
            if text != shown:
                click.clear()  # only a terminal
                click.echo(f"{'' if sys.stdout.isatty() else chr(10)}{text}", nl=False, color=True)
            shown = text
    return ExitStatus.OK


class _Captured(io.StringIO):
    """Standard output whose text is compared before it is printed, with the width and the color of the original."""

    def __init__(self) -> None:
        super().__init__()
        self._stream = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override] # the base has no encoding, and declares a variable
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()


def _shown(show: Callable[[], ExitStatus]) -> str:
    with redirect_stdout(_Captured()) as text:
        show()
    return text.getvalue()


@click.command(
    "status", epilog=_options.examples("status --live", "status --live --watch", "status --access ada@example.com")
)
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
@click.option("-w", "--watch", is_flag=True, help="Show the state again when it changes, until Ctrl-C.")
@click.option(
    "--interval",
    type=_options.interval,
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="How often --watch looks for changes.",
)
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    live: bool,
    access: str | None,
    watch: bool,
    interval: timedelta,
    **values: Any,
) -> int:
    """Show what the lockfile records of each model."""
    if watch and values["format"] == "json":
        raise UsageError("--watch excludes --format json", "remove one of them, or run reconcile apply --events FILE")
    output, names = output_of(values), targets_of(values)
    command_input = input_of(values, model_details=bool(output.reports))

    def run(command_input: CommandInput) -> CommandResult[StatusReport]:
        return status(environment, command_input, live=live, access=access)

    def show() -> ExitStatus:
        return finish_targets(environment, output, command_input, names, run, "status")

    return _watch(environment, output, interval.total_seconds(), show) if watch else show()
