"""Run a command on several targets of a root, with one report and one exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from reconciler.commands._project import CommandInput, CommandResult
from reconciler.domain.document import Document
from reconciler.domain.errors import ExitStatus, InterruptedRun, Problem, ReconcileError
from reconciler.environment import Environment
from reconciler.manifests.discovery import ALL_TARGETS, DEFAULT, find_targets, given_paths, require_existing

if TYPE_CHECKING:
    from reconciler.commands._output import Output
    from reconciler.commands._project import RecordedProject
    from reconciler.reports.documents.targets import TargetResult


def target_names(environment: Environment, paths: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """Return the root of these paths, and the names of its targets.

    Raises:
        UsageError: when a path does not exist, or no directory at or above the first one has a target.
    """
    given = given_paths(paths, environment.cwd)
    require_existing(given, environment.cwd)
    return find_targets(given[0], environment.cwd)


def finish_targets(
    environment: Environment,
    output: Output,
    command_input: CommandInput,
    names: Sequence[str],
    run: Callable[[CommandInput], CommandResult[Any]],
    command: str,
) -> ExitStatus:
    """Print the result of a command on the targets that ``--target`` named, and return its exit status.

    A target on which the command fails has an Error document in the combined report, and hides no other target.
    """
    if ALL_TARGETS in names:
        names = target_names(environment, command_input.paths)[1]
    elif len(names) < 2:  # noqa: PLR2004 - one target, or the default one
        return output.finish(run(replace(command_input, target=names[0] if names else None)))
    from reconciler.reports.documents.targets import combined_report, failed_target

    results: list[TargetResult] = []
    warnings: list[Problem] = []
    projects: list[RecordedProject] = []
    for name in dict.fromkeys(names):
        try:
            result = run(replace(command_input, target=name))
        except ReconcileError as error:
            results.append(failed_target(command, name, error))
        else:
            results.append(_result(name, result))
            warnings += result.warnings
            projects += result.projects
    report = combined_report(command, results)
    found = tuple(dict.fromkeys(warnings))
    return output.finish(CommandResult(report, report.exit_status, found, projects=tuple(projects)))


def finish_models(
    output: Output,
    command_input: CommandInput,
    names: Sequence[str],
    run: Callable[[str], CommandResult[Any]],
    command: str,
) -> ExitStatus:
    """Print the result of a command for each of these models, and return its exit status.

    The command is run for one model after another. A model for which it fails has an Error document in the combined
    report; only an interruption stops the others.
    """
    if len(names) == 1:
        return output.finish(run(names[0]))
    from reconciler.reports.documents.targets import combined_report, failed_target

    results: list[TargetResult] = []
    warnings: list[Problem] = []
    for name in names:
        try:
            result = run(name)
        except ReconcileError as error:
            results.append(failed_target(command, command_input.target or DEFAULT, error, name))
            if isinstance(error, InterruptedRun):
                break
        else:
            results.append(replace(_result(result.document.target.name, result), model=name))
            warnings += result.warnings
    report = combined_report(command, results)
    return output.finish(CommandResult(report, report.exit_status, tuple(dict.fromkeys(warnings))))


def _result(name: str, result: CommandResult[Document]) -> TargetResult:
    from reconciler.reports.documents.targets import TargetResult

    return TargetResult(target=name, exit_status=result.exit_status, report=result.document)  # type: ignore[arg-type] # one of the reports
