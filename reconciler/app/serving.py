"""The commands that move what serves by hand: rollback and promote."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

from reconciler.app.commands import Answer
from reconciler.app.project import Input, Project, open_project, reread
from reconciler.app.publishing import Publisher, publisher_of
from reconciler.app.recorded import recorded_model
from reconciler.app.services import callable_name, connect
from reconciler.app.session import Session
from reconciler.core.access import access_changes
from reconciler.core.events import Disappeared, Event, Promoted, Rejected, Restored, record
from reconciler.core.generations import Observation, live_of
from reconciler.core.lineage import descendants
from reconciler.core.lock import Lock, LockedGeneration, as_time
from reconciler.core.model import Handle, Manifest, State
from reconciler.core.plan import Action, Reason, Request
from reconciler.core.planner import plan
from reconciler.core.problems import InterruptedRun, InvalidInput, ReconcileError, UsageError
from reconciler.core.serving import promote_choice, rollback_choice, serves, unusable
from reconciler.engine.recorder import Recorder
from reconciler.render.serving import Moved, serving_document

if TYPE_CHECKING:
    from reconciler.app.environment import Environment
    from reconciler.core.ports import Provider

Decide = Callable[[Lock, str, Manifest | None], tuple[LockedGeneration, tuple[Event, ...]]]
"""From the lock, the scope and the manifest, if there is one, to what is to serve and the events that say so.

There are none where it serves already.
"""


def rollback(env: Environment, what: Input, name: str, *, to: str | None, reason: str) -> Answer:
    """Reject what serves, and let what served before serve again, or the generation of the key ``to``.

    Raises:
        ReconcileError: when there is nothing to go back to, it is not ready or gone, the manifest is suspended, or the
            published pointer was changed by somebody else; nothing moves then.
        UsageError: when it cannot be told whether there is a manifest.
    """

    def decide(lock: Lock, _scope: str, _manifest: Manifest | None) -> tuple[LockedGeneration, tuple[Event, ...]]:
        model = lock.models[name]
        chosen = rollback_choice(name, model, to)
        return chosen, (Rejected(name, model.serving or "", reason), _promotion(env, name, chosen))

    return _move(env, what, name, decide, reason)


def promote(env: Environment, what: Input, name: str, *, to: str | None) -> Answer:
    """Let the generation of the key ``to`` serve, or one that was rejected, which it is no longer.

    Raises as :func:`rollback`, and when the checks of the manifest were not passed.
    """

    def decide(lock: Lock, scope: str, manifest: Manifest | None) -> tuple[LockedGeneration, tuple[Event, ...]]:
        model, chosen = lock.models[name], promote_choice(name, lock, to, scope=scope, manifest=manifest)
        if serves(model, chosen.key):
            return chosen, ()
        restored = (Restored(name, chosen.key),) if chosen.key in model.rejected else ()
        return chosen, (*restored, _promotion(env, name, chosen))

    return _move(env, what, name, decide)


def _promotion(env: Environment, name: str, chosen: LockedGeneration) -> Promoted:
    return Promoted(name, chosen.key, chosen.remote, as_time(env.clock()))


def _move(env: Environment, what: Input, name: str, decide: Decide, reason: str = "") -> Answer:
    project = open_project(env, what, strict=False)
    recorded_model(project, name)
    manifest = _manifest(project, name)
    publisher = publisher_of(env, project, what.allow_endpoints)
    with Session() as session, project.store.lease():
        project = reread(project)
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
    return Answer(serving_document(moved, project.target, project.capabilities, root=project.root))


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
    what: Input,
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
    raise unusable(recorder.lock.models[name], chosen.key, why)


async def _state(service: Provider, project: Project, name: str, chosen: LockedGeneration) -> State | None:
    """The state of a recorded generation as the service shows it; under its remote name another model may be by now."""
    found = await service.observe(Handle(chosen.remote))
    seen = Observation({chosen.remote: found} if found else {})
    live = live_of(chosen, project.target.scope, name, seen)
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
