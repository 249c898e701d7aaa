"""``reconcile resolve``: print the remote names of the serving generations."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict, replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    RecordedProject,
    generation_path,
    locate,
    open_project,
    open_recorded,
    prove_record,
    unready_cause,
)
from reconciler.domain.errors import InvalidFile, ReconcileError, UsageError
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Resources, State, Target
from reconciler.domain.text import sanitize
from reconciler.environment import Environment
from reconciler.manifests.discovery import UnknownPathError
from reconciler.providers.registry import endpoint_of, recorded_spec, url_of
from reconciler.reports.documents.change import ModelFiles, ResolvedModel, ResolveReport
from reconciler.reports.text.change import resolve_text
from reconciler.reports.text.format import Layout
from reconciler.state.json_decoder import show_path

if TYPE_CHECKING:
    from reconciler.providers.spec import ConnectedProvider


def resolve(
    environment: Environment,
    command_input: CommandInput,
    names: Sequence[str],
    *,
    live: bool = False,
    stage: str | None = None,
) -> CommandResult[ResolveReport]:
    """Return the recorded serving generation of each of these models, or of every model in the lockfile.

    With ``live``, the service proves the records, and the result has the address and the preamble that it shows.
    ``stage`` is that of the target; the default is the first one.

    Raises:
        ReconcileError: when one of them has no serving generation, it is not ready or of another target, or with
            ``live`` is gone or does not prove its record.
    """
    try:
        project = (
            open_project(environment, command_input, strict=False)
            if live
            else open_recorded(environment, command_input)
        )
    except UnknownPathError as error:
        error.remedy = "name models, and after them only paths; without a name, resolve prints all models"
        raise
    for name in names:
        if name not in project.names and os.path.lexists(environment.cwd / name):
            raise UsageError(f"{name} is a path, not the name of a model", _named_in(project, name))
    if not project.names.issuperset(names):
        project = open_project(environment, command_input, strict=False)  # whose message has the declared names
    project = project.in_stage(stage)
    names = names or sorted(name for name, model in project.lock.models.items() if model.serving_key)
    recorded = {name: ready_generation(project, name) for name in names}
    serving = _prove(project, recorded) if isinstance(project, Project) and live else recorded
    models = tuple(_with_files(project, name, serving[name]) for name in names)
    report = ResolveReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        verified=live,
        stage=project.stage,
        models=models,
    )
    return CommandResult(report)


def _with_files(project: RecordedProject, name: str, serving: LockedGeneration) -> ResolvedModel:
    """Return how applications call a model, or use its files if it was trained on this machine, and its experiment."""
    target = project.target
    model = resolved(target, name, project.lock.models[name], serving)
    model = replace(model, experiment_url=project.capabilities.experiment_url(serving.experiment))
    usage = recorded_spec(target.provider).usage(target, project.session.root, serving.remote, serving.provider_data)
    return replace(model, files=ModelFiles(**asdict(usage))) if usage else model


def _named_in(project: RecordedProject, path: str) -> str:
    """Return the remedy for a path in the place of a name: the command for the first model that is recorded for it."""
    root, given = project.session.root, project.session.environment.cwd / path
    names = (name for name, model in project.lock.models.items() if (root / model.manifest) == given)
    name = next(names, Path(path).stem if given.is_file() else "NAME")
    return f"pass the name of a model, and after it the path of its root: reconcile resolve {name}"


def _prove(project: Project, recorded: dict[str, LockedGeneration]) -> dict[str, LockedGeneration]:
    """Return the generations as their live models, which must be ready, show them."""
    from reconciler.engine.observe import run_bounded

    async def prove(service: ConnectedProvider) -> Iterable[LockedGeneration]:
        async def one(name: str) -> LockedGeneration:
            proved = await prove_record(project, service, name, recorded[name])
            if proved is None:
                raise _record_error(project, name, recorded[name], "remote", "the service has no model of this name")
            cause = unready_cause(proved)
            if cause:
                raise _record_error(project, name, recorded[name], "state", cause)
            return proved.correct(recorded[name])

        return await run_bounded(one, recorded, project.target.limits.concurrency)

    return dict(zip(recorded, project.session.query(prove), strict=True))


def _record_error(
    project: RecordedProject, name: str, generation: LockedGeneration, field: str, cause: str
) -> ReconcileError:
    path = generation_path(project.lock, name, generation.key, field)
    return InvalidFile(locate(project, path), show_path(path), cause, "run reconcile plan to see what follows")


def _require_own(project: RecordedProject, name: str, generation: LockedGeneration) -> None:
    """Refuse a remote name or an endpoint outside the target's project and location: the lockfile can be edited."""
    capabilities = project.capabilities
    weights = generation.resources.weights
    own = re.fullmatch(capabilities.weights_pattern, weights) and weights.endswith(f"/{generation.key}")
    if weights and not own:
        cause = f"{sanitize(weights)} is not where the target {project.target.name} writes the weights of this key"
        raise _record_error(project, name, generation, "resources.weights", cause)
    endpoint = generation.resources.endpoint_of(generation.checkpoint)
    if generation.checkpoint and not endpoint:
        cause = f"no endpoint of the checkpoint {sanitize(generation.checkpoint)} is recorded"
        raise _record_error(project, name, generation, "checkpoint", cause)
    for field, value, pattern in (
        ("remote", generation.remote, capabilities.remote_pattern),
        ("resources.endpoint", generation.resources.endpoint, capabilities.endpoint_pattern),
        ("resources.checkpoints", endpoint, capabilities.endpoint_pattern),
    ):
        if value and not re.fullmatch(pattern, value):
            cause = f"{sanitize(value)} is not in the project and location of the target {project.target.name}"
            raise _record_error(project, name, generation, field, cause)


def ready_generation(project: RecordedProject, name: str) -> LockedGeneration:
    """Return the serving generation of a manifest.

    Raises:
        ReconcileError: when there is none, or it is not ready or of another target.
    """
    serving = project.serving_generation(name)
    if serving.state is not State.ACTIVE:
        raise ReconcileError(
            f"the serving generation of {name} is not ready: {serving.key} was recorded as {serving.state}",
            "run reconcile plan to see what follows",
        )
    _require_own(project, name, serving)
    return serving


def resolve_serving(project: RecordedProject, name: str) -> ResolvedModel:
    """Return the serving generation of a manifest, according to the lockfile; raises as :func:`ready_generation`."""
    serving = ready_generation(project, name)
    return resolved(project.target, name, project.lock.models[name], serving)


_LOCATION = re.compile(r"/locations/([a-z0-9-]+)/")
"""The location in a remote name, if it has one: a model may be served elsewhere than it is tuned."""


def resolved(target: Target, name: str, model: LockedModel, serving: LockedGeneration) -> ResolvedModel:
    """Return how applications call the serving generation of a recorded model."""
    remote = serving.address
    url, found = url_of(target, remote), _LOCATION.search(remote)
    return ResolvedModel(
        name=name,
        key=serving.key,
        checkpoint=serving.checkpoint,
        remote=remote,
        provider=target.provider,
        location=found[1] if found else target.location or "",
        endpoint=url.removesuffix(f"/v1/{remote}") if found else endpoint_of(target),
        url=url,
        preamble=serving.preamble,
        resources=None if serving.resources == Resources() else serving.resources,
        sampling=model.sampling,
    )


@click.command("resolve", epilog=_options.examples("resolve adder", "resolve --stage production --format json"))
@click.argument("paths", nargs=-1, metavar="[NAMES]... [PATHS]...")
@_options.target
@_options.format_option
@_options.output_options
@_options.trust_options
@click.option(
    "--live", is_flag=True, help="Verify the names at the service. Fail if a model does not prove its record."
)
@_options.stage
@_options.environment
def command(environment: Environment, /, *, live: bool, stage: str | None, **values: Any) -> int:
    """Print the remote name of a serving generation. Offline, without --live.

    Reads the lockfile and no manifest. Without NAMES, prints the remote names of all models in the lockfile.

    The lockfile is trusted, apart from project, location and provider. With --live, the service is queried: the model
    must have the ownership mark of the manifest, and the endpoint is the one that the service reports.
    """
    output = output_of(values)
    names: tuple[str, ...] = ()
    if values["paths"]:
        names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
    result = resolve(environment, input_of(values), names, live=live, stage=stage)
    if not result.document.models:
        where = f" in {stage}" if stage else ""
        later = f"; to a stage after the first one, promote them with reconcile promote --all --stage {stage}"
        remedy = f"run reconcile apply to train and promote models{later if stage else ''}"
        output.warning(f"no model is recorded as serving{where}; {remedy}")
    output.result(result.document, lambda _style, _width: resolve_text(result.document, Layout(), bare=len(names) == 1))
    return result.exit_status
