"""``reconcile graph``: draw which model is tuned from which."""

from __future__ import annotations

from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, open_project
from reconciler.domain.plan import Kind
from reconciler.environment import Environment
from reconciler.reports.documents.graph import GraphInput, GraphReport, graph_report
from reconciler.reports.text.graph import graph_mermaid


def graph(environment: Environment, command_input: CommandInput) -> CommandResult[GraphReport]:
    """Return every model below its parent, according to manifests and lockfile, with the holds of an offline plan.

    Raises:
        InvalidInput: with every problem of every file.
    """
    project = open_project(environment, command_input)
    holds = {action.name: action for action in project.plan().of_kind(Kind.HOLD)}
    lineage = GraphInput(project.manifests, project.lock, project.lockfile, holds)
    return CommandResult(graph_report(lineage, project.target, project.capabilities, root=project.root))


@click.command("graph")
@_options.paths
@_options.target
@click.option(
    "--format",
    type=click.Choice(["text", "mermaid", "json"]),
    default="text",
    show_default=True,
    help="Output format. GitHub, GitLab and many wikis draw mermaid.",
)
@_options.output_options
@_options.environment
def command(environment: Environment, /, **values: Any) -> int:
    """Draw which model is tuned from which, and the state of each. Offline."""
    mermaid = values["format"] == "mermaid"
    output = output_of(values)
    result = graph(environment, input_of(values))
    return output.finish(result, (lambda _style, _width: graph_mermaid(result.document)) if mermaid else None)
