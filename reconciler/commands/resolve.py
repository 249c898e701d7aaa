"""``reconcile resolve``: print the remote names of the serving generations."""

from __future__ import annotations

from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    serving_generation,
)
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Sampling, State, Target
from reconciler.environment import Environment
from reconciler.providers.registry import callable_name, endpoint_of, url_of
from reconciler.reports.documents.serving import Resolved, resolve_document
from reconciler.reports.text.documents import resolve_text


def resolve(env: Environment, what: CommandInput, name: str | None) -> CommandResult:
    """Which remote model serves: of one manifest, or of all that the lockfile holds. Nothing is asked of the service.

    Raises:
        ReconcileError: when ``name`` has no serving generation.
    """
    project = open_project(env, what, strict=False)
    names = [name] if name else sorted(one for one, model in project.lock.models.items() if model.serving)
    entries = [_serving(project, one) for one in names]
    return CommandResult(resolve_document(entries, project.target, project.capabilities, root=project.root))


def _serving(project: Project, name: str) -> Resolved:
    serving = serving_generation(project, name)
    if serving.state is not State.ACTIVE:
        raise ReconcileError(
            f"nothing serves {name}: {serving.key} was recorded as {serving.state}", "run reconcile apply to mend that"
        )
    manifest = next((one for one in project.manifests if one.name == name), None)
    return resolved(project.target, name, serving, manifest.sampling if manifest else Sampling())


def resolved(target: Target, name: str, serving: LockedGeneration, sampling: Sampling) -> Resolved:
    """The generation that serves the manifest of that name, which declares this sampling."""
    remote = callable_name(serving.remote, serving.resources)
    return Resolved(
        name=name,
        key=serving.key,
        remote=remote,
        provider=target.provider,
        location=target.location or "",
        endpoint=endpoint_of(target),
        url=url_of(target, remote),
        preamble=serving.preamble,
        resources=serving.resources,
        sampling=sampling,
    )


@click.command("resolve")
@click.argument("name", required=False)
@_options.paths
@_options.target
@_options.format_option
@_options.output_options
@_options.environment
def command(env: Environment, /, name: str | None, **values: Any) -> int:
    """Print the remote name of the model that serves NAME, or of all. Asks no service."""
    output = output_of(values)
    answer = resolve(env, input_of(values), name)
    output.result(answer.document, lambda _style, _width: resolve_text(answer.document, bare=name is not None))
    return answer.exit_status
