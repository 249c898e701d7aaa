"""``reconcile validate``: report every problem of the input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, load_project, read_workspace
from reconciler.domain.errors import InvalidInput, Problem
from reconciler.domain.exit_status import ExitStatus
from reconciler.environment import Environment
from reconciler.reports.documents.doctor import validation_report
from reconciler.reports.writer import render_text


def validate(environment: Environment, command_input: CommandInput, *, locked: bool) -> CommandResult:
    """Return every problem of the input; with ``locked``, also manifests without a ready recorded generation."""
    try:
        workspace = read_workspace(environment, command_input)
    except InvalidInput as error:
        return CommandResult(validation_report(error.problems, 0, 0), ExitStatus.ERROR)
    if workspace.errors:
        document = validation_report(workspace.problems, workspace.files, len(workspace.manifests))
        return CommandResult(document, ExitStatus.ERROR)
    selected = command_input.selection.select(workspace.manifests)
    unready: Iterable[Problem] = ()
    if locked:
        from reconciler.planning.verify_locked import verify_locked

        project = load_project(environment, workspace, command_input)
        unready = verify_locked(project.manifests, project.target.scope, project.lock, project.lockfile)
    document = validation_report([*workspace.problems, *unready], workspace.files, len(selected))
    return CommandResult(document, ExitStatus.OK if document.valid else ExitStatus.ERROR)


@click.command("validate", epilog=_options.examples("validate", "validate specs --locked"))
@_options.manifest_options
@_options.output_options
@click.option("--locked", is_flag=True, help="Also fail if the lockfile lacks a ready generation for a manifest.")
@_options.environment
def command(environment: Environment, /, *, locked: bool, **values: Any) -> int:
    """Check manifests, target and data sets. Offline.

    Reports every problem at once.
    """
    output = output_of(values)
    result = validate(environment, input_of(values), locked=locked)
    output.result(result.document, lambda style, _: render_text(result.document, style=style))
    return result.exit_status
