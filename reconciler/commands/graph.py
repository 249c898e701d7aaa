"""The command that draws what is tuned from what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, open_project
from reconciler.domain.plan import Kind, Request
from reconciler.environment import Environment
from reconciler.planning.generations import Observation
from reconciler.planning.planner import plan
from reconciler.reports.documents.graph import Lineage, graph_document, graph_mermaid, graph_text

if TYPE_CHECKING:
    from reconciler.environment import Environment


def graph(env: Environment, what: CommandInput) -> CommandResult:
    """Every model below what it is tuned from, as manifests and lockfile tell it; asks no service.

    What holds a model is what an offline plan says.

    Raises:
        InvalidInput: with every problem of every file.
    """
    project = open_project(env, what)
    request = Request(complete=project.complete)
    made = plan(
        project.manifests, Observation(), project.lock, project.target, request, project.capabilities, env.clock()
    )
    holds = {action.name: action for action in made.of_kind(Kind.HOLD)}
    lineage = Lineage(project.manifests, project.lock, project.lockfile, holds)
    return CommandResult(graph_document(lineage, project.target, project.capabilities, root=project.root))


@click.command("graph")
@_options.paths
@_options.target
@click.option(
    "--format",
    type=click.Choice(["text", "mermaid", "json"]),
    default="text",
    show_default=True,
    help="How to print; GitHub, GitLab and many wikis draw mermaid.",
)
@_options.output_options
@_options.environment
def command(env: Environment, /, **values: Any) -> int:
    """Draw which model is tuned from which, and how each stands. Asks no service."""
    form = values["format"]
    output = output_of(values)
    answer = graph(env, input_of(values))
    document = answer.document
    output.result(
        document,
        lambda style, _: graph_mermaid(document) if form == "mermaid" else graph_text(document, style=style),
    )
    return answer.exit_status
