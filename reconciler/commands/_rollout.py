"""What rollback and promote share: change the serving generation, and publish it."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    recorded_model,
    reread_project,
)
from reconciler.commands._publish import Publisher, publisher_of
from reconciler.commands._runner import EventLoop
from reconciler.domain.access import access_changes
from reconciler.domain.errors import InterruptedRun, InvalidInput, ReconcileError, UsageError
from reconciler.domain.lock import Lock, LockedGeneration, format_time
from reconciler.domain.model import Handle, Manifest, State
from reconciler.domain.plan import Action, Reason, Request
from reconciler.engine.recorder import Recorder
from reconciler.planning.events import Disappeared, Event, Promoted, record
from reconciler.planning.generations import Observation, find_live_model
from reconciler.planning.lineage import descendants
from reconciler.planning.planner import plan
from reconciler.planning.rollout import unusable_error
from reconciler.providers.registry import callable_name, connect
from reconciler.reports.documents.serving import Moved, serving_document

if TYPE_CHECKING:
    from reconciler.domain.ports import Provider
    from reconciler.environment import Environment


Decide = Callable[[Lock, str, Manifest | None], tuple[LockedGeneration, tuple[Event, ...]]]
"""From the lock, the scope and the manifest, if there is one, to what is to serve and the events that say so.

There are none where it serves already.
"""


def promotion(env: Environment, name: str, chosen: LockedGeneration) -> Promoted:
    return Promoted(name, chosen.key, chosen.remote, format_time(env.clock()))


def move(env: Environment, what: CommandInput, name: str, decide: Decide, reason: str = "") -> CommandResult:
    project = open_project(env, what, strict=False)
    recorded_model(project, name)
    manifest = _manifest(project, name)
    publisher = publisher_of(env, project, what.allow_endpoints)
    with EventLoop() as session, project.store.lease():
        project = reread_project(project)
        before = recorded_model(project, name).serving
        chosen, events = decide(project.lock, project.target.scope, manifest)
        recorder = Recorder(project.lock, project.store, env.clock)
        if events:
            project.store.check_writable()
            publisher.check(reduce(record, events, project.lock))
        shared_by = manifest if events else None  # where nothing moves, nothing is shared anew either
        session.run(_prepared(env, what, project, recorder, name, shared_by, chosen))
        if events:
            _carried_out(project, recorder, publisher, name, chosen, events)
    moved = Moved(
        name=name,
        model=recorder.lock.models[name],
        remote=callable_name(chosen.remote, chosen.resources),
        lockfile=project.lockfile,
        before=(before or "") if events else "",
        changed=bool(events),
        reason=reason,
        published=publisher.shown,
        next=_next(env, project, recorder.lock, name),
    )
    return CommandResult(serving_document(moved, project.target, project.capabilities, root=project.root))


def _manifest(project: Project, name: str) -> Manifest | None:
    """The manifest of that name, if there is one anywhere; what stands in it must be known before anything moves."""
    manifest = next((one for one in project.workspace.manifests if one.name == name), None)
    if manifest is None:
        if project.workspace.errors:
            raise InvalidInput(project.workspace.problems)
        if not project.complete:
            raise UsageError(
                f"no manifest {name} is in these paths, and there may be one elsewhere",
                f"add the path of its manifest; or, if it has none any more, name the whole of {project.root or '.'}",
            )
        return None
    if manifest.lifecycle.suspend:
        raise ReconcileError(
            f"{name} is suspended, and what serves stays: spec.lifecycle.suspend in {manifest.place.file} blocks every"
            " write",
            "take it out first",
        )
    return next(one for one in project.manifests if one.name == name)  # with its data set as it is recorded


async def _prepared(
    env: Environment,
    what: CommandInput,
    project: Project,
    recorder: Recorder,
    name: str,
    manifest: Manifest | None,
    chosen: LockedGeneration,
) -> None:
    """Make sure that what is to serve is there, and is shared as declared; its loss is recorded."""
    async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
        state = await _state(service, project, name, chosen)
        if state is State.ACTIVE:
            await _share(service, manifest, chosen)
            return
    if state is None:
        recorder.emit(Disappeared(name, chosen.key))
        recorder.flush()
    why = "the service shows it no more, which is recorded" if state is None else f"the service shows it as {state}"
    raise unusable_error(recorder.lock.models[name], chosen.key, why)


async def _state(service: Provider, project: Project, name: str, chosen: LockedGeneration) -> State | None:
    """The state of a recorded generation as the service shows it; under its remote name another model may be by now."""
    found = await service.observe(Handle(chosen.remote))
    seen = Observation({chosen.remote: found} if found else {})
    live = find_live_model(chosen, project.target.scope, name, seen)
    return live.state if live else None


async def _share(service: Provider, manifest: Manifest | None, chosen: LockedGeneration) -> None:
    """Give a generation the permissions that its manifest declares, before it serves."""
    if manifest is None or manifest.access is None:
        return
    live = await service.access(chosen.remote)
    changes = access_changes(manifest.access, live)
    if changes:
        await service.set_access(chosen.remote, live, changes)


def _carried_out(
    project: Project,
    recorder: Recorder,
    publisher: Publisher,
    name: str,
    chosen: LockedGeneration,
    events: tuple[Event, ...],
) -> None:
    """Record what serves, and then tell applications."""
    try:
        recorder.emit(*events)
        recorder.flush()
        _tell(recorder, publisher, chosen)
    except KeyboardInterrupt:
        raise InterruptedRun(
            f"interrupted; {project.lockfile} may say already that {chosen.key} serves {name}",
            f"see reconcile resolve {name}; the next apply tells applications what serves",
        ) from None


def _tell(recorder: Recorder, publisher: Publisher, chosen: LockedGeneration) -> None:
    try:
        told = publisher.publish(recorder.lock)
    except ReconcileError as error:
        error.remedy = f"{error.remedy}; {chosen.key} serves by the lockfile, and the next apply tries again"
        raise
    recorder.emit(*told)
    recorder.flush()


def _next(env: Environment, project: Project, lock: Lock, name: str) -> list[Action]:
    """What the next apply would do about the manifest and what is tuned from it, as far as the lockfile tells."""
    request = Request(complete=project.complete)
    made = plan(project.manifests, Observation(), lock, project.target, request, project.capabilities, env.clock())
    family = descendants(project.manifests, name)
    mine = [action for action in made.actions if action.name == name]
    return mine + [one for one in made.actions if one.name in family and one.reason is not Reason.IN_SYNC]
