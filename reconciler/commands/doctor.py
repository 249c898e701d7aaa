"""The command that examines a target: files, credentials, service, lockfile. It changes nothing anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._event_loop import EventLoop
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, display_root, load_project, read_workspace
from reconciler.domain.errors import AccessError, ExitStatus, InvalidInput, Problem, ReconcileError, ServiceError
from reconciler.environment import Environment
from reconciler.manifests.discovery import DEFAULT, target_file_name
from reconciler.providers.registry import capabilities_of, provider_spec
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext, ProviderContext
from reconciler.reports.documents.doctor import DoctorFinding, DoctorTarget, doctor_document
from reconciler.reports.text.format import counted
from reconciler.reports.writer import render_text

if TYPE_CHECKING:
    from reconciler.domain.model import Target
    from reconciler.manifests.workspace import Workspace


class Report:
    """The findings so far; ``exit_status`` is that of the first failure."""

    def __init__(self) -> None:
        self.findings: list[DoctorFinding] = []
        self.exit_status = ExitStatus.OK
        self._pointless: dict[str, str] = {}

    def check(self, name: str, examine: Callable[[], Diagnosis], after: tuple[str, ...] = ()) -> None:
        """Examine something, unless a check failed that it builds on."""
        cause = next((self._pointless[earlier] for earlier in after if earlier in self._pointless), None)
        if cause:
            self._pointless[name] = cause
            self._add(name, Diagnosis(f"not looked at, because of what failed above: {cause}", status="skipped"))
            return
        try:
            said = examine()
        except ReconcileError as error:
            access = isinstance(error, AccessError)
            self._fail(name, ExitStatus.ACCESS if access else ExitStatus.ERROR)
            said = Diagnosis(error.message if error.remedy else str(error), error.remedy, "failed")
        else:
            if said.status == "failed":
                self._fail(name, ExitStatus.ERROR)
        self._add(name, said)

    def _fail(self, name: str, status: ExitStatus) -> None:
        self.exit_status = self.exit_status or status
        self._pointless[name] = name

    def _add(self, name: str, said: Diagnosis) -> None:
        self.findings.append(DoctorFinding(name, said.status, said.message, said.remedy))


_CHECKS = ("manifests", "credentials", "service", "list", "lockfile")
"""The checks that are skipped when the target cannot be read, so that its provider is unknown."""


def doctor(env: Environment, what: CommandInput) -> CommandResult:
    """Examine everything that the target needs; what fails is a finding with its remedy.

    Raises:
        UsageError: when there is no target.
    """
    report = Report()
    try:
        workspace = read_workspace(env, what)
    except InvalidInput as error:
        problems = _of_target(error.problems, what)
        report.check("target", lambda: _unreadable(problems))
        for name in _CHECKS:
            report.check(name, lambda: _unreadable(problems), after=("target",))
        return CommandResult(doctor_document(None, report.findings, report.exit_status), report.exit_status)
    target = workspace.target
    with EventLoop() as loop:
        report.check("target", lambda: _target(workspace))
        report.check("manifests", lambda: _manifests(workspace))
        _check_provider(report, loop, env, what, workspace)
        after = ("credentials",) if target.lock else ()
        report.check("lockfile", lambda: _lockfile(loop, env, what, workspace), after)
    examined = DoctorTarget(target, capabilities_of(target), display_root(workspace.root, env.cwd))
    return CommandResult(doctor_document(examined, report.findings, report.exit_status), report.exit_status)


def _check_provider(
    report: Report, loop: EventLoop, env: Environment, what: CommandInput, workspace: Workspace
) -> None:
    """Run the checks of the target's provider."""
    spec = provider_spec(workspace.target.provider)
    base_models = frozenset(manifest.source.base_model for manifest in workspace.manifests)
    context = ProviderContext(env, workspace.target, workspace.root, what.allow_endpoints)
    shared = DoctorContext(context, spec.connect, base_models)
    try:
        for check in spec.doctor_checks():
            report.check(check.name, partial(_run, loop, check, shared), check.after)
    finally:
        loop.run(shared.aclose())


def _run(loop: EventLoop, check: DoctorCheck, shared: DoctorContext) -> Diagnosis:
    async def run() -> Diagnosis:
        return await check.run(shared)

    return loop.run(run())


def _of_target(problems: tuple[Problem, ...], what: CommandInput) -> tuple[Problem, ...]:
    name = target_file_name(what.target or DEFAULT)
    return tuple(one for one in problems if Path(one.place.file).name == name) or problems


def _unreadable(problems: Iterable[Problem]) -> Diagnosis:
    return Diagnosis("\n".join(map(str, problems)), "correct the target's file", "failed")


def _target(workspace: Workspace) -> Diagnosis:
    file = workspace.target.file
    own = [problem for problem in workspace.errors if problem.place.file == file]
    return _unreadable(own) if own else Diagnosis(f"{file} is valid")


def _manifests(workspace: Workspace) -> Diagnosis:
    wrong = [problem for problem in workspace.errors if problem.place.file != workspace.target.file]
    if wrong:
        return Diagnosis(f"validate shows {counted(len(wrong), 'problem')}", "run reconcile validate", "warning")
    return Diagnosis(f"{counted(len(workspace.manifests), 'manifest is', 'manifests are')} valid")


def _lockfile(loop: EventLoop, env: Environment, what: CommandInput, workspace: Workspace) -> Diagnosis:
    project = load_project(env, workspace, what, strict=False)
    project.store.check_writable()
    if project.target.lock:
        held = loop.run(_held_lease(env, project.target, what.allow_endpoints))
        if held:
            return Diagnosis(held.message, held.remedy, "warning")
    if project.lock.target is None:
        return Diagnosis(f"{project.lockfile} is not there yet; the first apply writes it")
    return Diagnosis(f"{project.lockfile} records {counted(len(project.lock.models), 'model')}, and can be written")


async def _held_lease(env: Environment, target: Target, allow_endpoints: frozenset[str]) -> ReconcileError | None:
    """Return the error of a run that finds the lease of a lockfile in a bucket held by another run.

    Raises:
        AccessError: if the account may not write the lockfile.
    """
    from reconciler.providers.google.bucket_lockfile import LEASE_SUFFIX, Lease
    from reconciler.providers.google.doctor import REPLACE, bucket_of, require_permissions
    from reconciler.providers.google.storage import open_storage

    lease = Lease(target.lock + LEASE_SUFFIX, clock=env.clock, sleep=env.sleeper, holder="doctor")
    async with open_storage(env, target, allow_endpoints) as storage:
        await require_permissions(storage, bucket_of(target.lock), REPLACE)
        try:
            await lease.find_expired(storage)
        except (AccessError, ServiceError):
            raise
        except ReconcileError as error:
            return error
    return None


@click.command("doctor")
@_options.paths
@_options.target
@_options.allow_endpoint
@_options.format_option
@_options.output_options
@_options.environment
def command(env: Environment, /, **values: Any) -> int:
    """Examine what the target needs: files, credentials, service, lockfile. Changes nothing anywhere.

    Each check that fails says what to do about it; checks that build on it are skipped.
    """
    output = output_of(values)
    answer = doctor(env, input_of(values))
    output.result(answer.document, lambda style, width: render_text(answer.document, width=width, style=style))
    return answer.exit_status
