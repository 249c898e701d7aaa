"""render."""

from __future__ import annotations

from typing import Any

import click

from reconciler.app import rendering
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import output_of
from reconciler.render.texts import text_of


@click.command()
@click.argument("file")
@options.document_format
@options.voice
@options.reports
@options.environment
def render(env: Environment, /, file: str, **values: Any) -> int:
    """Draw a document that an earlier run saved as JSON in FILE, as text and as reports. Asks no service.

    A saved plan is drawn as the plan that it holds.
    """
    output = output_of(values)
    answer = rendering.render(env, file)
    document = answer.document
    output.result(
        document,
        lambda style, width: text_of(document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status
