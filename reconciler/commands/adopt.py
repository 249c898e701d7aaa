"""``reconcile adopt``: take over a model that was not made from a manifest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._locks import other_locks
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project, reread_project, shown_path
from reconciler.commands._runner import EventLoop
from reconciler.commands.forget import tell
from reconciler.domain.errors import ReconcileError, ServiceError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.lock import Lock, LockedGeneration, record_target
from reconciler.domain.model import Handle, Manifest, RemoteModel
from reconciler.domain.plan import Action, Request
from reconciler.engine.recorder import Recorder
from reconciler.environment import Environment
from reconciler.manifests.adopted_manifest import manifest_place, manifest_text, write_manifest
from reconciler.planning.adopt import adopted, require_adoptable, require_satisfying
from reconciler.planning.events import Adopted, Declared, Targeted
from reconciler.planning.generations import Observation
from reconciler.planning.moved import has_content
from reconciler.planning.planner import plan
from reconciler.providers.registry import connect
from reconciler.reports.documents.change import Change, change_document

if TYPE_CHECKING:
    from reconciler.environment import Environment


_ANOTHER = "choose another name"


def adopt(env: Environment, what: CommandInput, name: str, remote: str, *, file: str | None = None) -> CommandResult:
    """Write a manifest for a live model, to ``file`` or beside the target, and record it as a generation of that.

    Nothing is trained, and nothing is changed at the service; the next apply lets it serve. Where a manifest of that
    name is there already, which says that its data is not at hand, and nothing is recorded of it, that one stands.

    Raises:
        InvalidInput: with every problem of the files, or with what a manifest cannot say of that model.
        UsageError: for a name or a file that is none, a model that is none here, or paths that may not be all there is.
        ReconcileError: when the name is in use, or the model is gone, not ready or managed already.
    """
    project = open_project(env, what)
    _require_form(project, name, remote)
    manifest = _declared(project, name)
    path = None if manifest else manifest_place(file, name, project.workspace.root, project.target.name, env.cwd)
    live = _live(env, what, project, remote)
    with project.store.lease():
        project = reread_project(project)
        _require_unrecorded(project, name)
        require_adoptable(live, project.target.scope, project.lock, _others(project))
        one = adopted(name, project.target.scope, live)
        if manifest:
            require_satisfying(one, manifest, project.target.scope)
        project.store.check_writable()
        if path:
            write_manifest(path, manifest_text(name, live, project.capabilities))
        shown = manifest.file if manifest else str(path and path.relative_to(project.workspace.root).as_posix())
        _record(env, project, name, shown, one)
    change = Change(
        command="adopt",
        name=name,
        outcome="done",
        lockfile=project.lockfile,
        generations=(one,),
        manifest=shown_path(path, env.cwd) if path else "",
        notes=_notes(project),
        next=_next(env, what, name, live),
    )
    return CommandResult(change_document(change, project.target, project.capabilities, root=project.root))


def _require_form(project: Project, name: str, remote: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"{name} is no name of a manifest", "use 1 to 31 lower-case letters, digits and hyphens, a letter first"
        )
    able = project.capabilities
    if not re.fullmatch(able.remote_pattern, remote):
        raise UsageError(f"{remote} is no model of {able.label}", f"write it as in {able.remote_example}")
    if not project.workspace.complete:
        raise UsageError(f"a manifest {name} may stand outside these paths", f"name the whole of {project.root or '.'}")


def _declared(project: Project, name: str) -> Manifest | None:
    """The manifest of that name, where it stands for a model whose data is not at hand."""
    for manifest in project.manifests:
        if name in manifest.formerly:
            raise ReconcileError(f"{name} is a former name of {manifest.name}, at {manifest.place}", _ANOTHER)
        if manifest.name == name:
            if not manifest.dataset.is_unknown:
                raise ReconcileError(f"{name} is the name of a manifest, at {manifest.place}", _ANOTHER)
            return manifest
    return None


def _require_unrecorded(project: Project, name: str) -> None:
    model = project.lock.models.get(name)
    if model and has_content(model):
        raise ReconcileError(
            f"{project.lockfile} records generations of {name} already",
            f"{_ANOTHER}, or let them go with reconcile forget {name}",
        )


def _live(env: Environment, what: CommandInput, project: Project, remote: str) -> RemoteModel:
    async def look() -> RemoteModel | None:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            return await service.observe(Handle(remote))

    with EventLoop() as session:
        try:
            live = session.run(look())
        except ServiceError as error:
            if error.code != "INVALID_ARGUMENT":
                raise
            example = f"it must lie in {project.target.location}" if project.target.location else "see its name"
            raise UsageError(error.message, f"name a model of this target; {example}") from error
    if live is None:
        raise ReconcileError(
            f"the service knows no {remote}, or does not show it to us",
            "see to its name, and to the project and the credentials: reconcile doctor",
        )
    return live


def _others(project: Project) -> list[Lock]:
    return list(other_locks(project.workspace.root, project.workspace.lockfile))


def _record(env: Environment, project: Project, name: str, file: str, one: LockedGeneration) -> None:
    recorder = Recorder(project.lock, project.store, env.clock)
    recorder.emit(
        Targeted(record_target(project.target)), Adopted(name, file, one), Declared(name, file, protect=False)
    )
    recorder.flush()


def _notes(project: Project) -> tuple[str, ...]:
    unmarked = (
        f"{project.capabilities.label} takes no mark on what is there: the lockfile alone knows that it is ours",
    )
    declare = (
        "declare what it was trained on in the place of spec.dataset.unknown: that is recorded, and trains nothing"
    )
    return (declare,) if "description" in project.capabilities.mutable else (*unmarked, declare)


def _next(env: Environment, what: CommandInput, name: str, live: RemoteModel) -> list[Action]:
    """What the next apply does about it, by the files as they are now."""
    project = open_project(env, what)
    seen = Observation({live.remote: live})
    request = Request(complete=project.complete)
    made = plan(project.manifests, seen, project.lock, project.target, request, project.capabilities, env.clock())
    return [action for action in made.actions if action.name == name]


@click.command("adopt")
@click.argument("name")
@click.argument("remote")
@_options.model_options
@click.option(
    "--file", metavar="FILE", help="Where to write the manifest; by default NAME.yaml beside the target file."
)
@_options.environment
def command(env: Environment, /, name: str, remote: str, *, file: str | None, **values: Any) -> int:
    """Take over the model REMOTE, which was not made from a manifest: write one, called NAME, and record it.

    Trains nothing, and changes nothing at the service; the next apply lets it serve. What it was trained on is unknown:
    the first data set that the manifest declares is recorded as that, and later changes of it train.
    """
    output = output_of(values)
    return tell(output, adopt(env, input_of(values), name, remote, file=file))
