"""graph."""

from __future__ import annotations

from typing import Any

import click

from reconciler.app import drawing
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.render.graph import graph_mermaid, graph_text


@click.command()
@options.paths
@options.target
@click.option(
    "--format",
    type=click.Choice(["text", "mermaid", "json"]),
    default="text",
    show_default=True,
    help="How to print; GitHub, GitLab and many wikis draw mermaid.",
)
@options.voice
@options.environment
def graph(env: Environment, /, **values: Any) -> int:
    """Draw which model is tuned from which, and how each stands. Asks no service."""
    form = values["format"]
    output = output_of(values)
    answer = drawing.graph(env, input_of(values))
    document = answer.document
    output.result(
        document,
        lambda style, _: graph_mermaid(document) if form == "mermaid" else graph_text(document, style=style),
    )
    return answer.exit_status
