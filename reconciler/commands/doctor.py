"""``reconcile doctor``: check files, credentials, service and lockfile of a target. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, load_project, read_workspace
from reconciler.commands._session import EventLoop, display_root
from reconciler.domain.errors import AccessError, ExitStatus, InvalidInput, Problem, ReconcileError, ServiceError
from reconciler.domain.model import REMOTE_SCHEME
from reconciler.domain.target_option import for_target
from reconciler.environment import Environment
from reconciler.manifests.discovery import DEFAULT, target_file_name
from reconciler.providers.registry import capabilities_of, catalog_of, provider_spec
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext, ProviderContext
from reconciler.reports.documents.doctor import DoctorFinding, DoctorReport, DoctorTarget, doctor_report
from reconciler.reports.text.format import counted

if TYPE_CHECKING:
    from reconciler.commands._project import Project
    from reconciler.domain.model import Target
    from reconciler.manifests.workspace import Workspace


class Report:
    """The findings so far; ``exit_status`` is that of the first failure."""

    def __init__(self) -> None:
        self.findings: list[DoctorFinding] = []
        self.exit_status = ExitStatus.OK
        self._causes: dict[str, str] = {}

    def check(self, name: str, run: Callable[[], Diagnosis], after: tuple[str, ...] = ()) -> None:
        """Run a check, or skip it if a check in ``after`` failed or was skipped."""
        cause = next((self._causes[earlier] for earlier in after if earlier in self._causes), None)
        if cause:
            self._causes[name] = cause
            self._add(name, Diagnosis(f"skipped, because {cause} failed", status="skipped"))
            return
        try:
            diagnosis = run()
        except ReconcileError as error:
            self._fail(name, ExitStatus.ACCESS if isinstance(error, AccessError) else ExitStatus.ERROR)
            diagnosis = Diagnosis(error.message if error.remedy else str(error), error.remedy, "failed")
        else:
            if diagnosis.status == "failed":
                self._fail(name, ExitStatus.ERROR)
        self._add(name, diagnosis)

    def _fail(self, name: str, status: ExitStatus) -> None:
        self.exit_status = self.exit_status or status
        self._causes[name] = name

    def _add(self, name: str, diagnosis: Diagnosis) -> None:
        self.findings.append(DoctorFinding(name, diagnosis.status, diagnosis.message, diagnosis.remedy))


_CHECKS = ("manifests", "credentials", "service", "list", "lockfile")
"""The checks that are skipped when the target cannot be read, so that its provider is unknown."""


def doctor(environment: Environment, command_input: CommandInput) -> CommandResult[DoctorReport]:
    """Check everything that the target needs; a failed check becomes a finding with its remedy.

    Raises:
        UsageError: when there is no target.
    """
    report = Report()
    try:
        workspace = read_workspace(environment, command_input)
    except InvalidInput as error:
        problems = _target_problems(error.problems, command_input)
        report.check("target", lambda: _invalid_target(problems))
        for name in _CHECKS:
            report.check(name, lambda: _invalid_target(problems), after=("target",))
        return CommandResult(doctor_report(None, report.findings, report.exit_status), report.exit_status)
    target = workspace.target
    with EventLoop() as loop:
        report.check("target", lambda: _check_target(workspace))
        report.check("manifests", lambda: _check_manifests(workspace))
        context = ProviderContext(
            environment, target, workspace.root, command_input.allow_endpoints, command_input.allow_folders
        )
        _check_provider(report, loop, context, workspace)
        after = ("credentials",) if target.lock else ()
        report.check("lockfile", lambda: _check_lockfile(loop, environment, command_input, workspace), after)
        if target.publishes:
            report.check(
                "pointers", lambda: _check_pointers(loop, environment, command_input, workspace), ("lockfile",)
            )
    examined = DoctorTarget(target, capabilities_of(target), display_root(workspace.root, environment.cwd))
    return CommandResult(doctor_report(examined, report.findings, report.exit_status), report.exit_status)


def _check_provider(report: Report, loop: EventLoop, context: ProviderContext, workspace: Workspace) -> None:
    """Run the checks of the target's provider."""
    spec = provider_spec(workspace.target.provider)
    base_models = frozenset(manifest.source.base_model for manifest in workspace.manifests)
    shared = DoctorContext(context, spec.connect, base_models, partial(catalog_of, workspace.target, workspace.root))
    try:
        for check in spec.doctor_checks():
            report.check(check.name, partial(_run, loop, check, shared), check.after)
    finally:
        loop.run(shared.aclose())


def _run(loop: EventLoop, check: DoctorCheck, shared: DoctorContext) -> Diagnosis:
    async def run() -> Diagnosis:
        return await check.run(shared)

    return loop.run(run())


def _target_problems(problems: tuple[Problem, ...], command_input: CommandInput) -> tuple[Problem, ...]:
    """Return the problems in the target file, or else all problems."""
    name = target_file_name(command_input.target or DEFAULT)
    return tuple(problem for problem in problems if Path(problem.place.file).name == name) or problems


def _invalid_target(problems: Iterable[Problem]) -> Diagnosis:
    return Diagnosis("\n".join(map(str, problems)), "fix the target file", "failed")


def _check_target(workspace: Workspace) -> Diagnosis:
    file = workspace.target.file
    problems = [problem for problem in workspace.errors if problem.place.file == file]
    return _invalid_target(problems) if problems else Diagnosis(f"{file} is valid")


def _check_manifests(workspace: Workspace) -> Diagnosis:
    problems = [problem for problem in workspace.errors if problem.place.file != workspace.target.file]
    if problems:
        return Diagnosis(f"{counted(len(problems), 'problem')} found", for_target("run reconcile validate"), "warning")
    return Diagnosis(f"{counted(len(workspace.manifests), 'manifest is', 'manifests are')} valid")


def _check_lockfile(
    loop: EventLoop, environment: Environment, command_input: CommandInput, workspace: Workspace
) -> Diagnosis:
    project = load_project(environment, workspace, command_input, strict=False)
    project.store.check_writable()
    if project.target.lock:
        held = loop.run(_find_held_lease(project))
        if held:
            return Diagnosis(held.message, held.remedy, "warning")
    if project.lock.target is None:
        return Diagnosis(f"{project.lockfile} does not exist yet; the first apply writes it")
    return Diagnosis(f"{project.lockfile} records {counted(len(project.lock.models), 'model')}, and can be written")


def _pointers(target: Target) -> tuple[str, ...]:
    """Return where the published pointers of a target are, in the order of its stages."""
    stages = [stage.name for stage in target.stages] or [""]
    return tuple(filter(None, map(target.destination, stages)))


def _check_pointers(
    loop: EventLoop, environment: Environment, command_input: CommandInput, workspace: Workspace
) -> Diagnosis:
    from reconciler.commands._rollout import publisher_of
    from reconciler.providers.google.doctor import REPLACE, bucket_of, require_permissions

    project = load_project(environment, workspace, command_input, strict=False)
    buckets = {bucket_of(address) for address in _pointers(project.target) if address.startswith(REMOTE_SCHEME)}

    async def require_access() -> None:
        async with project.session.connect_storage() as storage:
            for bucket in sorted(buckets):
                await require_permissions(storage, bucket, REPLACE)

    if buckets:
        loop.run(require_access())
    publisher = publisher_of(project)
    publisher.check(project.lock)
    return Diagnosis(f"{publisher.shown} can be written")


async def _find_held_lease(project: Project) -> ReconcileError | None:
    """Return the error of a run that finds the lease of a lockfile in a bucket held by another run.

    Raises:
        AccessError: if the account may not write the lockfile.
    """
    from reconciler.providers.google.bucket_lockfile import LEASE_SUFFIX, Lease
    from reconciler.providers.google.doctor import REPLACE, bucket_of, require_permissions

    address, environment = project.target.lock, project.session.environment
    lease = Lease(address + LEASE_SUFFIX, clock=environment.clock, sleep=environment.sleeper, holder="doctor")
    async with project.session.connect_storage() as storage:
        await require_permissions(storage, bucket_of(address), REPLACE)
        try:
            await lease.find_expired(storage)
        except (AccessError, ServiceError):
            raise
        except ReconcileError as error:
            return error
    return None


@click.command("doctor", epilog=_options.examples("doctor", "doctor --target prod"))
@_options.model_options
@_options.environment
def command(environment: Environment, /, **values: Any) -> int:
    """Check what a target needs to work. Changes nothing.

    Checks files, credentials, service and lockfile. A check that fails prints its remedy; checks that depend on it are
    skipped.
    """
    output = output_of(values)
    return output.finish(doctor(environment, input_of(values)))
