"""render."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import output_of
from reconciler.commands._project import CommandResult
from reconciler.environment import Environment
from reconciler.reports.text.documents import KINDS, text_of
from reconciler.state.document_files import read_document

if TYPE_CHECKING:
    from reconciler.environment import Environment


def render(env: Environment, file: str) -> CommandResult:
    """The document in a file, which has the shape that its schema says; of a saved plan, the plan.

    Raises:
        ReconcileError: when it cannot be read, or is none of reconcile's.
    """
    return CommandResult(read_document(env.cwd / file, file, KINDS))


@click.command("render")
@click.argument("file")
@_options.format_option
@_options.output_options
@_options.reports
@_options.environment
def command(env: Environment, /, file: str, **values: Any) -> int:
    """Draw a document that an earlier run saved as JSON in FILE, as text and as reports. Asks no service.

    A saved plan is drawn as the plan that it holds.
    """
    output = output_of(values)
    answer = render(env, file)
    document = answer.document
    output.result(
        document,
        lambda style, width: text_of(document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status
