"""``reconcile adopt``: start to manage a model that was not made from a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._session import display_path
from reconciler.domain.errors import ReconcileError, ServiceError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.lock import LockedGeneration, record_target
from reconciler.domain.model import Handle, Manifest, Mark, RemoteModel
from reconciler.domain.plan import Observation
from reconciler.environment import Environment
from reconciler.files import remove_leftovers
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
from reconciler.reports.documents.change import ChangeReport, changed_generations, combine_changes, next_actions

if TYPE_CHECKING:
    from reconciler.providers.spec import ConnectedProvider

_CHOOSE_ANOTHER = "choose another name"


class _Adoption(Struct, frozen=True, kw_only=True):
    """A live model, the name to manage it by, and its manifest: an existing one, or the path of a new one."""

    name: str
    live: RemoteModel
    manifest: Manifest | None
    path: Path | None


def adopt(
    environment: Environment,
    command_input: CommandInput,
    models: Sequence[tuple[str, str]],
    *,
    file: str | None = None,
    reason: str = "",
) -> CommandResult[ChangeReport]:
    """Write a manifest for each live model, beside the target, and record the model as its generation.

    ``models`` are names and remote names; with one of them, ``file`` is the path of the manifest. If one model is
    refused, nothing is written. Nothing is trained or changed at the service; the next apply promotes the models. An
    existing manifest of that name is kept if nothing is recorded for it, and its data set is unknown or the model was
    made from it and forgotten. What an earlier run has adopted is unchanged.

    Raises:
        InvalidInput: with every problem of the files, or with fields of the model that a manifest cannot declare.
        UsageError: for an invalid name or file, a model of another target, or paths that are not the whole root.
        ReconcileError: when the name is in use, or the model is gone, not ready or already managed.
    """
    project = open_project(environment, command_input)
    project.require_manifests()
    _require_distinct(models, file)
    adoptions = [_adoption(project, environment, name, remote, file) for name, remote in models]
    root = project.workspace.root
    with project.store.lease():
        project = project.reread_lock()
        recorded = {adoption.name for adoption in adoptions if _recorded(project, adoption)}
        adopted = [
            (adoption, _recorded(project, adoption) or _require_adoptable(project, adoption)) for adoption in adoptions
        ]
        texts = [
            (adoption.path, manifest_text(adoption.name, adoption.live, project.capabilities))
            for adoption in adoptions
            if adoption.path
        ]
        project.store.check_writable()
        for path, text in texts:
            write_manifest(path, text)
        for adoption, generation in adopted:
            remove_leftovers(root / _manifest_file(adoption, root))
            if adoption.name not in recorded:
                _record(project, adoption.name, _manifest_file(adoption, root), generation, reason)
    live = {adoption.live.remote: adoption.live for adoption in adoptions}
    actions = open_project(environment, command_input).plan(Observation(live)).actions
    reports = [
        ChangeReport(
            simulated=project.capabilities.simulated,
            target=project.target_summary,
            command="adopt",
            name=adoption.name,
            outcome="unchanged" if len(recorded) == len(adoptions) else "done",
            lockfile=project.lockfile,
            manifest=display_path(adoption.path, environment.cwd) if adoption.path else "",
            generations=changed_generations([generation]),
            notes=() if generation.origin == "created" else _notes(project),
            next=next_actions((action for action in actions if action.name == adoption.name), adoption.name),
        )
        for adoption, generation in adopted
    ]
    return CommandResult(combine_changes(reports))


def _require_distinct(models: Sequence[tuple[str, str]], file: str | None) -> None:
    if file and len(models) > 1:
        raise UsageError("--file is for one model", "adopt each model with its own --file, or remove the option")
    for values in zip(*models, strict=True):
        repeated = next((value for value in values if values.count(value) > 1), None)
        if repeated:
            raise UsageError(f"{repeated} is named more than once", "name each model once")


def _adoption(project: Project, environment: Environment, name: str, remote: str, file: str | None) -> _Adoption:
    _require_valid_names(project, name, remote)
    manifest = _require_available(project, name, remote)
    root, target = project.workspace.root, project.target.name
    path = None if manifest else manifest_path(file, name, root, target, environment.cwd)
    return _Adoption(name=name, live=_live_model(project, remote), manifest=manifest, path=path)


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


def _recorded(project: Project, adoption: _Adoption) -> LockedGeneration | None:
    """Return the generation of the model, if an earlier run has adopted it with the existing manifest."""
    model, live = project.lock.models.get(adoption.name), adoption.live
    if model is None or adoption.manifest is None or adoption.manifest.adopted != live.remote:
        return None
    same = (generation for generation in model.generations if generation.remote == live.remote)
    return next((generation for generation in same if generation.is_same(live)), None)


def _require_adoptable(project: Project, adoption: _Adoption) -> LockedGeneration:
    """Return the generation for a live model, which must be ready, unmanaged, and as the manifest declares."""
    name, live, manifest = adoption.name, adoption.live, adoption.manifest
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


def _manifest_file(adoption: _Adoption, root: Path) -> str:
    """Return the path of the manifest, existing or written, below the root."""
    path = adoption.path
    return adoption.manifest.file if adoption.manifest else str(path and path.relative_to(root).as_posix())


def _record(project: Project, name: str, file: str, generation: LockedGeneration, reason: str) -> None:
    recorder = project.recorder()
    recorder.emit(
        Targeted(record_target(project.target)),
        Adopted(name, file, generation),
        Declared(name, file, protect=False),
        recorder.decided("adopt", name, generation.key, reason=reason),
    )
    recorder.flush()


def _notes(project: Project) -> tuple[str, ...]:
    claim = "replace spec.dataset.unknown by the data set it was trained on: that is recorded, and nothing is trained"
    if "description" in project.capabilities.mutable:
        return (claim,)
    label = project.capabilities.label
    return (f"{label} cannot mark an existing model: only the lockfile records that it is managed", claim)


@click.command("adopt", epilog=_options.examples("adopt adder tunedModels/adder-from-the-console"))
@_options.adopt_options
@click.option("--file", metavar="FILE", help="File for the manifest. Default: NAME.yaml beside the target file.")
@_options.reason
@_options.environment
def command(environment: Environment, /, *, file: str | None, reason: str | None, **values: Any) -> int:
    """Start to manage existing models.

    Writes a manifest called NAME for each model REMOTE, and records the model in the lockfile. Trains nothing, and
    changes nothing at the service; the next apply promotes the model. Its training data is unknown: the first data set
    that you declare is recorded as its data, and later changes of the data set start trainings.
    """
    output = output_of(values)
    models, values["paths"] = _options.leading_models(values["paths"], environment.cwd)
    return output.finish(adopt(environment, input_of(values), models, file=file, reason=reason or ""))
