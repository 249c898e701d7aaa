"""``reconcile adopt``: start to manage a model that was not made from a manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._session import display_path
from reconciler.domain.errors import ReconcileError, ServiceError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.lock import LockedGeneration, record_target
from reconciler.domain.model import Handle, Manifest, Mark, RemoteModel
from reconciler.domain.plan import Action, Observation
from reconciler.environment import Environment
from reconciler.manifests.adopted_manifest import manifest_path, manifest_text, write_manifest
from reconciler.planning.adopt import (
    adopted_generation,
    first_generation,
    mark_of_forgotten,
    require_adoptable,
    require_made_from,
    require_match,
)
from reconciler.planning.events import Adopted, Declared, Targeted
from reconciler.planning.lineage import recorded_parent, with_source
from reconciler.planning.live_proof import Owner
from reconciler.planning.observed_events import has_content
from reconciler.reports.documents.change import ChangeReport, changed_generations, next_actions

if TYPE_CHECKING:
    from reconciler.providers.spec import ConnectedProvider

_CHOOSE_ANOTHER = "choose another name"


def adopt(
    environment: Environment, command_input: CommandInput, name: str, remote: str, *, file: str | None = None
) -> CommandResult[ChangeReport]:
    """Write a manifest for a live model, to ``file`` or beside the target, and record the model as its generation.

    Nothing is trained or changed at the service; the next apply promotes the model. An existing manifest of that name
    is kept if nothing is recorded for it, and its data set is unknown or the model was made from it and forgotten.

    Raises:
        InvalidInput: with every problem of the files, or with fields of the model that a manifest cannot declare.
        UsageError: for an invalid name or file, a model of another target, or paths that are not the whole root.
        ReconcileError: when the name is in use, or the model is gone, not ready or already managed.
    """
    project = open_project(environment, command_input)
    project.require_manifests()
    _require_valid_names(project, name, remote)
    manifest = _require_available(project, name, remote)
    root = project.workspace.root
    path = None if manifest else manifest_path(file, name, root, project.target.name, environment.cwd)
    live = _live_model(project, remote)
    with project.store.lease():
        project = project.reread_lock()
        generation = _require_adoptable(project, name, live, manifest)
        project.store.check_writable()
        if path:
            write_manifest(path, manifest_text(name, live, project.capabilities))
        _record(project, name, _manifest_file(manifest, path, root), generation)
    report = ChangeReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        command="adopt",
        name=name,
        outcome="done",
        lockfile=project.lockfile,
        manifest=display_path(path, environment.cwd) if path else "",
        generations=changed_generations([generation]),
        notes=() if generation.origin == "created" else _notes(project),
        next=next_actions(_next_actions(environment, command_input, name, live), name),
    )
    return CommandResult(report)


def _require_valid_names(project: Project, name: str, remote: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"invalid name {name!r}: expected 1 to 31 lower-case letters, digits and hyphens, beginning with a letter",
            _CHOOSE_ANOTHER,
        )
    capabilities = project.capabilities
    if not re.fullmatch(capabilities.remote_pattern, remote):
        raise UsageError(
            f"invalid model {remote!r} of {capabilities.label}", f"write it like {capabilities.remote_example}"
        )
    if not project.workspace.complete:
        raise UsageError(
            f"a manifest outside these paths may have the name {name}", f"name the whole root {project.root or '.'}"
        )


def _require_available(project: Project, name: str, remote: str) -> Manifest | None:
    """Return the manifest of that name, for a model of unknown data or made from it; ``None`` if there is none."""
    for manifest in project.manifests:
        if name in manifest.formerly:
            raise ReconcileError(f"{name} is a former name of {manifest.name}, at {manifest.place}", _CHOOSE_ANOTHER)
        if manifest.name == name:
            if not (manifest.dataset.unknown or _forgotten(project, manifest, remote)):
                raise ReconcileError(f"{name} is the name of a manifest, at {manifest.place}", _CHOOSE_ANOTHER)
            return manifest
    return None


def _forgotten(project: Project, manifest: Manifest, remote: str) -> Mark | None:
    """Return the mark that the model had if it was made from the manifest, where its id shows that."""
    if manifest.dataset.unknown or not project.capabilities.caller_chosen_ids:
        return None
    scope = project.target.scope
    parent = manifest.source.tuned_model
    generation = recorded_parent(Owner(scope, parent), project.lock, Observation()) if parent else None
    return mark_of_forgotten(with_source(manifest, generation), scope, remote)


def _live_model(project: Project, remote: str) -> RemoteModel:
    async def observe(service: ConnectedProvider) -> RemoteModel | None:
        return await service.observe(Handle(remote))

    try:
        live = project.session.query(observe)
    except ServiceError as error:
        if error.code != "INVALID_ARGUMENT":
            raise
        location = project.target.location
        remedy = "name a model of this target" + (f", which is in {location}" if location else "")
        raise UsageError(error.message, remedy) from error
    if live is None:
        raise ReconcileError(
            f"{remote} not found, or you do not have access",
            "check its name, the project and the credentials: run reconcile doctor",
        )
    return live


def _require_adoptable(project: Project, name: str, live: RemoteModel, manifest: Manifest | None) -> LockedGeneration:
    """Return the generation for a live model, which must be ready, unmanaged, and as the manifest declares."""
    model = project.lock.models.get(name)
    if model and has_content(model):
        raise ReconcileError(
            f"{project.lockfile} already records generations of {name}",
            f"{_CHOOSE_ANOTHER}, or run reconcile forget {name} first",
        )
    scope = project.target.scope
    require_adoptable(live, scope, project.lock, list(project.session.readable_locks()))
    mark = _forgotten(project, manifest, live.remote) if manifest else None
    if manifest and mark:
        require_made_from(live, manifest)
        return replace(adopted_generation(manifest, mark, live), origin="created")
    generation = first_generation(name, scope, live)
    if manifest:
        require_match(generation, manifest, scope)
        if manifest.adopted != live.remote:
            raise ReconcileError(
                f"{name} at {manifest.place} does not name {live.remote}", f"add spec.adopted: {live.remote} to it"
            )
    return generation


def _manifest_file(manifest: Manifest | None, path: Path | None, root: Path) -> str:
    """Return the path of the manifest, existing or written, below the root."""
    return manifest.file if manifest else str(path and path.relative_to(root).as_posix())


def _record(project: Project, name: str, file: str, generation: LockedGeneration) -> None:
    recorder = project.recorder()
    recorder.emit(
        Targeted(record_target(project.target)), Adopted(name, file, generation), Declared(name, file, protect=False)
    )
    recorder.flush()


def _notes(project: Project) -> tuple[str, ...]:
    claim = "replace spec.dataset.unknown by the data set it was trained on: that is recorded, and nothing is trained"
    if "description" in project.capabilities.mutable:
        return (claim,)
    label = project.capabilities.label
    return (f"{label} cannot mark an existing model: only the lockfile records that it is managed", claim)


def _next_actions(environment: Environment, command_input: CommandInput, name: str, live: RemoteModel) -> list[Action]:
    """Return what the next apply would do about the model, with the files as they are now."""
    plan = open_project(environment, command_input).plan(Observation({live.remote: live}))
    return [action for action in plan.actions if action.name == name]


@click.command("adopt", epilog=_options.examples("adopt adder tunedModels/adder-from-the-console"))
@click.argument("name")
@click.argument("remote")
@_options.model_options
@click.option("--file", metavar="FILE", help="File for the manifest. Default: NAME.yaml beside the target file.")
@_options.environment
def command(environment: Environment, /, name: str, remote: str, *, file: str | None, **values: Any) -> int:
    """Start to manage an existing model.

    Writes a manifest called NAME for the model REMOTE, and records the model in the lockfile. Trains nothing, and
    changes nothing at the service; the next apply promotes the model. Its training data is unknown: the first data set
    that you declare is recorded as its data, and later changes of the data set start trainings.
    """
    output = output_of(values)
    return output.finish(adopt(environment, input_of(values), name, remote, file=file))
