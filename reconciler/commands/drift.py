"""``reconcile drift``: report differences between desired, live and recorded state. Changes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

import click
from msgspec import Struct

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of, targets_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    details_of,
    open_project,
    pin_datasets,
)
from reconciler.commands._rollout import promotion_requests, publisher_of
from reconciler.commands._targets import finish_targets
from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.plan import Observation, Request
from reconciler.domain.text import join_names, suggest
from reconciler.engine.observe import observe_all
from reconciler.environment import Environment
from reconciler.planning.datasets import missing_dataset_notices
from reconciler.planning.drift import drift, with_severities
from reconciler.planning.generations import is_suspicious
from reconciler.planning.planner import describe_suspicion
from reconciler.reports.documents.drift import DriftReport, drift_report

if TYPE_CHECKING:
    from reconciler.providers.spec import ConnectedProvider


UnmanagedDetail = Literal["all", "none", "summary"]
CLASSES: Final = tuple(kind for kind in DriftClass if kind is not DriftClass.IN_SYNC)
"""The classes that ``--fail-on`` accepts."""
_DEFAULT_CLASSES: Final = ", ".join(kind for kind in CLASSES if kind.severity == "drift")
_OTHER_CLASSES: Final = ", ".join(kind for kind in CLASSES if kind.severity == "note")
_STDIN: Final = "-"


class DriftOptions(Struct, frozen=True):
    """``fail_on`` replaces the default classes that fail; ``exit_zero`` ignores them for the exit status.

    ``unmanaged`` selects whether unmanaged models are listed, omitted or counted.
    """

    fail_on: frozenset[DriftClass] | None = None
    exit_zero: bool = False
    unmanaged: UnmanagedDetail = "summary"


def class_of(text: str) -> DriftClass:
    """Return the class of that name, without regard to case.

    Raises:
        UsageError: when there is no such class.
    """
    by_name = {kind.lower(): kind for kind in CLASSES}
    name = text.strip().lower()
    if name not in by_name:
        remedy = suggest(name.capitalize(), CLASSES, otherwise=f"expected one of {join_names(CLASSES)}")
        raise UsageError(f"--fail-on {text}: unknown drift class", remedy)
    return by_name[name]


def find_drift(
    environment: Environment, command_input: CommandInput, options: DriftOptions
) -> CommandResult[DriftReport]:
    """Return all differences between desired, live and recorded state.

    Raises:
        InvalidInput: for problems of the input.
        ReconcileError: when so many models are gone at once that the project or the credentials are probably wrong.
    """
    project = open_project(environment, command_input)
    progress = command_input.model_details
    project, observation = _observe(project, progress=progress, unmanaged=options.unmanaged != "none")
    if is_suspicious(project.lock, observation):
        raise ReconcileError(describe_suspicion(project.lock, observation))
    request = Request(complete=project.complete, unread=project.unread())
    started = promotion_requests(project).withhold(project)
    findings = (
        *drift(started.world(observation, request), where=_command_arguments(command_input)),
        *_pointers(project),
    )
    unmanaged = sum(finding.kind is DriftClass.UNMANAGED for finding in findings)
    report = drift_report(
        with_severities(_reported(findings, options.unmanaged), options.fail_on),
        project.target,
        project.capabilities,
        project.lockfile,
        unmanaged=None if options.unmanaged == "none" else unmanaged,
        places=project.places,
        notices=_notices(project),
        exit_zero=options.exit_zero,
        root=project.root,
        model_details=details_of(project, project.lock, observation) if progress else (),
    )
    return CommandResult(report, report.exit_status, project.workspace.problems, projects=(project,))


def _pointers(project: Project) -> Iterator[Finding]:
    """Yield a finding for each published pointer that was changed out-of-band."""
    for publisher in publisher_of(project).each:
        if error := publisher.conflict(project.lock):
            yield Finding(
                kind=DriftClass.MODIFIED,
                message=error.message,
                severity=DriftClass.MODIFIED.severity,
                cause="outOfBand",
                file=publisher.shown,
                field="published",
                remedy=error.remedy,
            )


def _observe(project: Project, *, progress: bool, unmanaged: bool) -> tuple[Project, Observation]:
    async def work(service: ConnectedProvider) -> tuple[Project, Observation]:
        pinned = await pin_datasets(project, service)
        return pinned, await observe_all(service, pinned.world(), progress=progress, unmanaged=unmanaged)

    return project.session.query(work)


def _reported(findings: Iterable[Finding], unmanaged: UnmanagedDetail) -> Iterable[Finding]:
    return (finding for finding in findings if unmanaged == "all" or finding.kind is not DriftClass.UNMANAGED)


def _command_arguments(command_input: CommandInput) -> str:
    """Return the arguments with which further commands select the same paths and target."""
    paths = [path for path in command_input.paths if path != _STDIN]
    return shlex.join([*paths, *(("--target", command_input.target) if command_input.target else ())])


def _notices(project: Project) -> tuple[str, ...]:
    partial = (
        "only some of the manifests were read, so orphans and candidates are not reported; "
        f"to include them, name the whole root {project.root or '.'} without --label, --only and --exclude"
    )
    return (*missing_dataset_notices(project.manifests), *(() if project.complete else (partial,)))


@click.command("drift", epilog=_options.examples("drift", "drift --fail-on Missing,Failed --report drift.xml"))
@_options.targets_options
@_options.output_options
@_options.reports
@_options.monitoring
@click.option(
    "--fail-on",
    multiple=True,
    metavar="CLASS,...",
    help=f"Classes of findings that exit with status 2. Repeatable. Default: {_DEFAULT_CLASSES}. Other classes: "
    f"{_OTHER_CLASSES}.",
)
@click.option("--exit-zero", is_flag=True, help="Exit with status 0 even if there is drift.")
@click.option(
    "--unmanaged",
    type=click.Choice(["all", "none", "summary"]),
    default="summary",
    show_default=True,
    help="Unmanaged models: list all, report none, or count them.",
)
@_options.environment
def command(
    environment: Environment, /, *, fail_on: tuple[str, ...], exit_zero: bool, unmanaged: Any, **values: Any
) -> int:
    """Report differences between manifests, lockfile and service.

    Finds out-of-band changes, and manifests that are not applied. Changes nothing. Exit status 2 means drift.
    """
    _options.require_compatible((exit_zero and bool(fail_on), "--exit-zero", "--fail-on"))
    output, names = output_of(values), targets_of(values)
    classes = frozenset(class_of(name) for text in fail_on for name in text.split(",")) or None
    options = DriftOptions(fail_on=classes, exit_zero=exit_zero, unmanaged=unmanaged)
    command_input = input_of(values, model_details=bool(output.reports))

    def run(command_input: CommandInput) -> CommandResult[DriftReport]:
        return find_drift(environment, command_input, options)

    return finish_targets(environment, output, command_input, names, run, "drift")
