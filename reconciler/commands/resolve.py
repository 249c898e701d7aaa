"""``reconcile resolve``: print the remote names of the serving generations."""

from __future__ import annotations

from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, RecordedProject, open_project, open_recorded
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Resources, State, Target
from reconciler.environment import Environment
from reconciler.providers.registry import callable_name, endpoint_of, url_of
from reconciler.reports.documents.change import ResolvedModel, ResolveReport
from reconciler.reports.text.change import resolve_text
from reconciler.reports.text.format import Layout


def resolve(environment: Environment, command_input: CommandInput, name: str | None) -> CommandResult[ResolveReport]:
    """Return the recorded serving generation of one manifest, or of every model in the lockfile.

    Raises:
        ReconcileError: when ``name`` has no serving generation, or it is not ready.
    """
    project = open_recorded(environment, command_input)
    if name and name not in project.names:
        project = open_project(environment, command_input, strict=False)  # whose message has the declared names
    names = [name] if name else sorted(name for name, model in project.lock.models.items() if model.serving_key)
    models = tuple(resolve_serving(project, name) for name in names)
    report = ResolveReport(simulated=project.capabilities.simulated, target=project.target_summary, models=models)
    return CommandResult(report)


def resolve_serving(project: RecordedProject, name: str) -> ResolvedModel:
    """Return the serving generation of a manifest; raise ReconcileError if there is none, or it is not ready."""
    serving = project.serving_generation(name)
    if serving.state is not State.ACTIVE:
        raise ReconcileError(
            f"the serving generation of {name} is not ready: {serving.key} was recorded as {serving.state}",
            "run reconcile apply",
        )
    return resolved(project.target, name, project.lock.models[name], serving)


def resolved(target: Target, name: str, model: LockedModel, serving: LockedGeneration) -> ResolvedModel:
    """Return how applications call the serving generation of a recorded model."""
    remote = callable_name(serving.remote, serving.resources)
    return ResolvedModel(
        name=name,
        key=serving.key,
        remote=remote,
        provider=target.provider,
        location=target.location or "",
        endpoint=endpoint_of(target),
        url=url_of(target, remote),
        preamble=serving.preamble,
        resources=None if serving.resources == Resources() else serving.resources,
        sampling=model.sampling,
    )


@click.command("resolve", epilog=_options.examples("resolve adder", "resolve --format json"))
@click.argument("name", required=False)
@_options.paths
@_options.target
@_options.format_option
@_options.output_options
@_options.environment
def command(environment: Environment, /, name: str | None, **values: Any) -> int:
    """Print the remote name of a serving generation. Offline.

    Reads the lockfile and no manifest. Without NAME, prints the remote names of all models in the lockfile.
    """
    output = output_of(values)
    result = resolve(environment, input_of(values), name)
    output.result(
        result.document, lambda _style, _width: resolve_text(result.document, Layout(), bare=name is not None)
    )
    return result.exit_status
