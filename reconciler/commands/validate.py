"""``reconcile validate``: report every problem of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    load_project,
    read_workspace,
)
from reconciler.domain.errors import ExitStatus, InvalidInput, Problem
from reconciler.environment import Environment
from reconciler.planning.verify_locked import verify_locked
from reconciler.reports.documents.plan_and_result import validation_document
from reconciler.reports.text.documents import validation_text

if TYPE_CHECKING:
    from collections.abc import Iterable


def validate(env: Environment, what: CommandInput, *, locked: bool) -> CommandResult:
    """Every problem of the input; with ``locked`` also what the lockfile does not promise yet."""
    try:
        workspace = read_workspace(env, what)
    except InvalidInput as error:
        return CommandResult(validation_document(error.problems, 0, 0), ExitStatus.ERROR)
    if workspace.errors:
        return CommandResult(
            validation_document(workspace.problems, workspace.files, len(workspace.manifests)), ExitStatus.ERROR
        )
    chosen = what.selection.select(workspace.manifests)
    unready: Iterable[Problem] = ()
    if locked:
        project = load_project(env, workspace, what)
        unready = verify_locked(project.manifests, project.target.scope, project.lock, project.lockfile)
    document = validation_document([*workspace.problems, *unready], workspace.files, len(chosen))
    return CommandResult(document, ExitStatus.OK if document["valid"] else ExitStatus.ERROR)


@click.command("validate")
@_options.manifest_options
@_options.output_options
@click.option(
    "--locked", is_flag=True, help="Also fail unless the lockfile names a ready generation for each manifest."
)
@_options.environment
def command(env: Environment, /, *, locked: bool, **values: Any) -> int:
    """Report every problem of the manifests, the target and the data sets. Asks no service."""
    output = output_of(values)
    answer = validate(env, input_of(values), locked=locked)
    output.result(answer.document, lambda style, _: validation_text(answer.document, style=style))
    return answer.exit_status
