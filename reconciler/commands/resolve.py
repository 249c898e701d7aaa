"""``reconcile resolve``: print the remote names of the serving generations."""

from __future__ import annotations

from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Resources, Sampling, State, Target
from reconciler.environment import Environment
from reconciler.providers.registry import callable_name, endpoint_of, url_of
from reconciler.reports.documents.change import ResolvedModel, ResolveReport
from reconciler.reports.text.change import resolve_text
from reconciler.reports.text.format import Layout


def resolve(environment: Environment, command_input: CommandInput, name: str | None) -> CommandResult:
    """Return the recorded serving generation of one manifest, or of every model in the lockfile.

    Raises:
        ReconcileError: when ``name`` has no serving generation, or it is not ready.
    """
    project = open_project(environment, command_input, strict=False)
    names = [name] if name else sorted(name for name, model in project.lock.models.items() if model.serving)
    models = tuple(resolve_serving(project, name) for name in names)
    report = ResolveReport(simulated=project.capabilities.simulated, target=project.target_summary, models=models)
    return CommandResult(report)


def resolve_serving(project: Project, name: str) -> ResolvedModel:
    """Return the serving generation of a manifest; raise ReconcileError if there is none, or it is not ready."""
    serving = project.serving_generation(name)
    if serving.state is not State.ACTIVE:
        raise ReconcileError(
            f"the serving generation of {name} is not ready: {serving.key} was recorded as {serving.state}",
            "run reconcile apply",
        )
    manifest = project.manifest(name)
    return resolved(project.target, name, serving, manifest.sampling if manifest else Sampling())


def resolved(target: Target, name: str, serving: LockedGeneration, sampling: Sampling) -> ResolvedModel:
    """Return how applications call the serving generation of a manifest that declares this sampling."""
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
        sampling=None if sampling == Sampling() else sampling,
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

    Without NAME, prints those of all models in the lockfile.
    """
    output = output_of(values)
    result = resolve(environment, input_of(values), name)
    output.result(
        result.document, lambda _style, _width: resolve_text(result.document, Layout(), bare=name is not None)
    )
    return result.exit_status
