"""history."""

from __future__ import annotations

from typing import Any

import click

from reconciler.app import history as looking_back
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.render.history import history_text


@click.command()
@click.argument("name")
@options.paths
@options.target
@options.allow_endpoint
@options.document_format
@options.voice
@options.environment
def history(env: Environment, /, name: str, **values: Any) -> int:
    """Show the generations of NAME, newest first, and what changed between them. Asks no service.

    Examples that were added, removed and changed are counted where the old data set still stands in the files or in the
    git history; -v shows some of them.
    """
    output = output_of(values)
    answer = looking_back.history(env, input_of(values), name)
    output.result(
        answer.document,
        lambda style, width: history_text(answer.document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status
