"""``reconcile targets``: list the targets of a root with their states. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import output_of
from reconciler.commands._project import CommandInput, CommandResult, load_project, read_workspace
from reconciler.commands._session import display_path
from reconciler.commands._targets import target_names
from reconciler.domain.errors import ExitStatus, InvalidInput, ReconcileError
from reconciler.environment import Environment
from reconciler.manifests.discovery import target_file_name
from reconciler.providers.registry import capabilities_of
from reconciler.reports.documents.doctor import error_report
from reconciler.reports.documents.targets import (
    ListedTarget,
    TargetsReport,
    last_change,
    listed_models,
    model_counts,
    worst_state,
)


def targets(environment: Environment, paths: tuple[str, ...]) -> CommandResult[TargetsReport]:
    """Return the targets of the root of these paths, with the states that their files and lockfiles show.

    Raises:
        UsageError: when a path does not exist, or no directory at or above it has a target.
    """
    root, names = target_names(environment, paths)
    listed = tuple(_listed(environment, paths, root, name) for name in names)
    invalid = any(target.state == "invalid" for target in listed)
    status = ExitStatus.ERROR if invalid else ExitStatus.OK
    return CommandResult(TargetsReport(exit_status=status, targets=listed), status)


def _listed(environment: Environment, paths: tuple[str, ...], root: Path, name: str) -> ListedTarget:
    file = display_path(root / target_file_name(name), environment.cwd)
    try:
        return _state(environment, CommandInput(paths=paths, target=name), file)
    except ReconcileError as error:
        problems = error_report(error, "targets", name).problems
        return ListedTarget(name=name, file=file, state="invalid", problems=problems)


def _state(environment: Environment, command_input: CommandInput, file: str) -> ListedTarget:
    workspace = read_workspace(environment, command_input)
    target = workspace.target
    capabilities = capabilities_of(target)
    facts: dict[str, Any] = {
        "name": target.name,
        "file": file,
        "provider": target.provider,
        "label": capabilities.label,
        "simulated": capabilities.simulated,
        "scope": target.scope,
        "project": target.project or "",
        "location": target.location or "",
        "stages": tuple(stage.name for stage in target.stages),
        "lockfile": target.lock or display_path(workspace.lockfile, environment.cwd),
        "manifests": tuple(manifest.name for manifest in workspace.manifests),
        "problems": error_report(InvalidInput(workspace.problems), "targets").problems,
    }
    if workspace.errors:
        return ListedTarget(state="invalid", **facts)
    if target.lock:
        return ListedTarget(state="unknown", **facts)
    project = load_project(environment, workspace, command_input)
    models = listed_models(project.plan(), project.lock, workspace.unselected)
    return ListedTarget(
        state=worst_state(models),
        counts=model_counts(models),
        models=models,
        last_change=last_change(project.lock),
        **facts,
    )


@click.command(
    "targets", epilog=_options.examples("targets", "targets specs --format json", "targets --report targets.html")
)
@_options.paths
@_options.format_option
@_options.output_options
@_options.reports
@_options.environment
def command(environment: Environment, /, *, paths: tuple[str, ...], **values: Any) -> int:
    """List the targets of a root with their states.

    The states are those of the lockfiles; no service is contacted. With -v, also lists models that are in sync.
    """
    output = output_of(values)
    return output.finish(targets(environment, paths))
