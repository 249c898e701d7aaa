"""The command that draws what is tuned from what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.app.commands import Answer
from reconciler.app.project import Input, open_project
from reconciler.core.generations import Observation
from reconciler.core.plan import Kind, Request
from reconciler.core.planner import plan
from reconciler.render.graph import Lineage, graph_document

if TYPE_CHECKING:
    from reconciler.app.environment import Environment


def graph(env: Environment, what: Input) -> Answer:
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
    return Answer(graph_document(lineage, project.target, project.capabilities, root=project.root))
