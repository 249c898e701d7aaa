"""The command that examines a target: files, credentials, service, lockfile. It changes nothing anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from reconciler.commands import _options
from reconciler.commands._doctor_checks import Diagnosis, ServiceChecks, bucket, held_lease, may_lock, region
from reconciler.commands._event_loop import EventLoop
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, display_root, load_project, read_workspace
from reconciler.domain.errors import AccessError, ExitStatus, InvalidInput, Problem, ReconcileError
from reconciler.environment import Environment
from reconciler.manifests.discovery import DEFAULT, target_file_name
from reconciler.providers.registry import capabilities_of
from reconciler.reports.documents.doctor import Check, Examined, Finding, doctor_document, doctor_text
from reconciler.reports.text.format import counted

if TYPE_CHECKING:
    from reconciler.manifests.workspace import Workspace


class Report:
    """The findings so far; ``exit_status`` is that of the first failure."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.exit_status = ExitStatus.OK
        self._pointless: dict[Check, Check] = {}

    def check(self, name: Check, examine: Callable[[], Diagnosis], after: tuple[Check, ...] = ()) -> None:
        """Examine something, unless a check failed that it builds on."""
        cause = next((self._pointless[one] for one in after if one in self._pointless), None)
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

    def _fail(self, name: Check, status: ExitStatus) -> None:
        self.exit_status = self.exit_status or status
        self._pointless[name] = name

    def _add(self, name: Check, said: Diagnosis) -> None:
        self.findings.append(Finding(name, said.status, said.message, said.remedy))


Row: TypeAlias = tuple[Check, Callable[[], Diagnosis], tuple[Check, ...]]
"""A check, and those whose failure makes it pointless."""

_LATER: tuple[Check, ...] = ("manifests", "credentials", "service", "list", "lockfile")


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
        for name in _LATER:
            report.check(name, lambda: _unreadable(problems), after=("target",))
        return CommandResult(doctor_document(None, report.findings, report.exit_status), report.exit_status)
    with EventLoop() as session:
        examination = ServiceChecks(env, what, workspace, session)
        try:
            for name, examine, after in _rows(env, what, workspace, examination):
                report.check(name, examine, after)
        finally:
            examination.close()
    examined = Examined(workspace.target, capabilities_of(workspace.target), display_root(workspace.root, env.cwd))
    return CommandResult(doctor_document(examined, report.findings, report.exit_status), report.exit_status)


def _of_target(problems: tuple[Problem, ...], what: CommandInput) -> tuple[Problem, ...]:
    name = target_file_name(what.target or DEFAULT)
    return tuple(one for one in problems if Path(one.place.file).name == name) or problems


def _unreadable(problems: Iterable[Problem]) -> Diagnosis:
    return Diagnosis("\n".join(map(str, problems)), "correct the target's file", "failed")


def _rows(env: Environment, what: CommandInput, workspace: Workspace, examination: ServiceChecks) -> tuple[Row, ...]:
    files: tuple[Row, ...] = (
        ("target", lambda: _target(workspace), ()),
        ("manifests", lambda: _manifests(workspace), ()),
    )
    lockfile: Row = (
        "lockfile",
        lambda: _lockfile(env, what, examination),
        ("credentials",) if workspace.target.lock else (),
    )
    return (*files, *_ROWS[workspace.target.provider](examination), lockfile)


def _embedded(it: ServiceChecks) -> tuple[Row, ...]:
    return (
        ("service", it.store, ()),
        ("list", it.embedded_list, ("service",)),
        ("baseModels", it.base_models, ("list",)),
    )


def _generative_language(it: ServiceChecks) -> tuple[Row, ...]:
    return (*_remote(it), ("baseModels", it.base_models, ("list",)))


def _vertex(it: ServiceChecks) -> tuple[Row, ...]:
    return (*_remote(it), ("region", lambda: region(it), ()), ("bucket", lambda: bucket(it), ("credentials",)))


def _remote(it: ServiceChecks) -> tuple[Row, ...]:
    return (
        ("credentials", it.credentials, ()),
        ("service", it.reachable, ()),
        ("list", it.list, ("credentials", "service")),
    )


_ROWS: Mapping[str, Callable[[ServiceChecks], tuple[Row, ...]]] = {
    "embedded": _embedded,
    "generativelanguage": _generative_language,
    "vertex": _vertex,
}


def _target(workspace: Workspace) -> Diagnosis:
    file = workspace.target.file
    own = [problem for problem in workspace.errors if problem.place.file == file]
    return _unreadable(own) if own else Diagnosis(f"{file} is valid")


def _manifests(workspace: Workspace) -> Diagnosis:
    wrong = [problem for problem in workspace.errors if problem.place.file != workspace.target.file]
    if wrong:
        return Diagnosis(f"validate shows {counted(len(wrong), 'problem')}", "run reconcile validate", "warning")
    return Diagnosis(f"{counted(len(workspace.manifests), 'manifest is', 'manifests are')} valid")


def _lockfile(env: Environment, what: CommandInput, examination: ServiceChecks) -> Diagnosis:
    project = load_project(env, examination.workspace, what, strict=False)
    project.store.check_writable()
    if project.target.lock:
        may_lock(examination)
        held = held_lease(examination)
        if held:
            return Diagnosis(held.message, held.remedy, "warning")
    if project.lock.target is None:
        return Diagnosis(f"{project.lockfile} is not there yet; the first apply writes it")
    return Diagnosis(f"{project.lockfile} records {counted(len(project.lock.models), 'model')}, and can be written")


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
    output.result(answer.document, lambda style, width: doctor_text(answer.document, width=width, style=style))
    return answer.exit_status
