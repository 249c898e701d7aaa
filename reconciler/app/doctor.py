"""The command that examines a target: files, credentials, service, lockfile. It changes nothing anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from reconciler.app.commands import Answer
from reconciler.app.doctor_report import Report, Said
from reconciler.app.doctor_service import Examination
from reconciler.app.doctor_vertex import bucket, held_lease, may_lock, region
from reconciler.app.environment import Environment
from reconciler.app.project import Input, project_of, read_workspace, shown_root
from reconciler.app.services import capabilities_of
from reconciler.app.session import Session
from reconciler.core.problems import InvalidInput, Problem
from reconciler.files.discover import target_file_name
from reconciler.files.targets import DEFAULT
from reconciler.render.doctor import Check, Examined, doctor_document
from reconciler.render.words import counted

if TYPE_CHECKING:
    from reconciler.files.workspace import Workspace

Row: TypeAlias = tuple[Check, Callable[[], Said], tuple[Check, ...]]
"""A check, and those whose failure makes it pointless."""

_LATER: tuple[Check, ...] = ("manifests", "credentials", "service", "list", "lockfile")


def doctor(env: Environment, what: Input) -> Answer:
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
        return Answer(doctor_document(None, report.findings, report.exit_status), report.exit_status)
    with Session() as session:
        examination = Examination(env, what, workspace, session)
        try:
            for name, examine, after in _rows(env, what, workspace, examination):
                report.check(name, examine, after)
        finally:
            examination.close()
    examined = Examined(workspace.target, capabilities_of(workspace.target), shown_root(workspace.root, env.cwd))
    return Answer(doctor_document(examined, report.findings, report.exit_status), report.exit_status)


def _of_target(problems: tuple[Problem, ...], what: Input) -> tuple[Problem, ...]:
    name = target_file_name(what.target or DEFAULT)
    return tuple(one for one in problems if Path(one.place.file).name == name) or problems


def _unreadable(problems: Iterable[Problem]) -> Said:
    return Said("\n".join(map(str, problems)), "correct the target's file", "failed")


def _rows(env: Environment, what: Input, workspace: Workspace, examination: Examination) -> tuple[Row, ...]:
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


def _embedded(it: Examination) -> tuple[Row, ...]:
    return (
        ("service", it.store, ()),
        ("list", it.embedded_list, ("service",)),
        ("baseModels", it.base_models, ("list",)),
    )


def _generative_language(it: Examination) -> tuple[Row, ...]:
    return (*_remote(it), ("baseModels", it.base_models, ("list",)))


def _vertex(it: Examination) -> tuple[Row, ...]:
    return (*_remote(it), ("region", lambda: region(it), ()), ("bucket", lambda: bucket(it), ("credentials",)))


def _remote(it: Examination) -> tuple[Row, ...]:
    return (
        ("credentials", it.credentials, ()),
        ("service", it.reachable, ()),
        ("list", it.list, ("credentials", "service")),
    )


_ROWS: Mapping[str, Callable[[Examination], tuple[Row, ...]]] = {
    "embedded": _embedded,
    "generativelanguage": _generative_language,
    "vertex": _vertex,
}


def _target(workspace: Workspace) -> Said:
    file = workspace.target.file
    own = [problem for problem in workspace.errors if problem.place.file == file]
    return _unreadable(own) if own else Said(f"{file} is valid")


def _manifests(workspace: Workspace) -> Said:
    wrong = [problem for problem in workspace.errors if problem.place.file != workspace.target.file]
    if wrong:
        return Said(f"validate shows {counted(len(wrong), 'problem')}", "run reconcile validate", "warning")
    return Said(f"{counted(len(workspace.manifests), 'manifest is', 'manifests are')} valid")


def _lockfile(env: Environment, what: Input, examination: Examination) -> Said:
    project = project_of(env, examination.workspace, what, strict=False)
    project.store.check_writable()
    if project.target.lock:
        may_lock(examination)
        held = held_lease(examination)
        if held:
            return Said(held.message, held.remedy, "warning")
    if project.lock.target is None:
        return Said(f"{project.lockfile} is not there yet; the first apply writes it")
    return Said(f"{project.lockfile} records {counted(len(project.lock.models), 'model')}, and can be written")
