"""Change the serving generation and publish it, for rollback and promote."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

from msgspec.structs import replace

from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._publish import Publisher, publisher_of
from reconciler.domain.access import access_changes
from reconciler.domain.errors import InterruptedRun, InvalidInput, ReconcileError, UsageError
from reconciler.domain.lock import Lock, LockedGeneration, format_time
from reconciler.domain.model import Manifest, State
from reconciler.domain.plan import Action, Reason
from reconciler.engine.observe import observe_generation
from reconciler.planning.events import Disappeared, Event, Promoted, record
from reconciler.planning.lineage import descendants
from reconciler.planning.rollout import unusable_error
from reconciler.providers.registry import callable_name
from reconciler.reports.documents.change import ServingChange, serving_document
from reconciler.reports.writer import render_text

if TYPE_CHECKING:
    from reconciler.commands._output import Output
    from reconciler.domain.ports import Provider
    from reconciler.engine.recorder import Recorder
    from reconciler.environment import Environment


Choose = Callable[[Lock, str, Manifest | None], tuple[LockedGeneration, tuple[Event, ...]]]
"""Takes the lock, the scope and the manifest, if any; returns the generation to promote, and the events to record.

There are no events if the generation is serving already.
"""


def change_serving(
    environment: Environment, command_input: CommandInput, name: str, choose: Choose, reason: str = ""
) -> CommandResult:
    """Promote the chosen generation of a model, grant its declared permissions, and publish it."""
    project = open_project(environment, command_input, strict=False)
    project.recorded_model(name)
    manifest = _manifest(project, name)
    publisher = publisher_of(project)
    with project.session.event_loop() as loop, project.store.lease():
        project = project.reread_lock()
        before = project.recorded_model(name).serving
        chosen, events = choose(project.lock, project.target.scope, manifest)
        recorder = project.recorder()
        if events:
            project.store.check_writable()
            publisher.check(reduce(record, events, project.lock))
        loop.run(_prepare(project, recorder, name, manifest if events else None, chosen))
        if events:
            _record_and_publish(project, recorder, publisher, name, chosen, events)
    moved = ServingChange(
        name=name,
        model=recorder.lock.models[name],
        remote=callable_name(chosen.remote, chosen.resources),
        lockfile=project.lockfile,
        before=(before or "") if events else "",
        changed=bool(events),
        reason=reason,
        published=publisher.shown,
        next=_next_actions(project, recorder.lock, name),
    )
    return CommandResult(serving_document(moved, project.target, project.capabilities, root=project.root))


def promotion(environment: Environment, name: str, generation: LockedGeneration) -> Promoted:
    """Return the event that makes a generation the serving one."""
    return Promoted(name, generation.key, generation.remote, format_time(environment.clock()))


def print_serving(output: Output, result: CommandResult) -> int:
    """Print the result of a rollback or a promotion and return the exit status."""
    output.result(result.document, lambda style, width: render_text(result.document, width=width, style=style))
    return result.exit_status


def _manifest(project: Project, name: str) -> Manifest | None:
    """Return the manifest of that name; ``None`` only if no manifest of the root can have it."""
    manifest = next((manifest for manifest in project.workspace.manifests if manifest.name == name), None)
    if manifest is None:
        if project.workspace.errors:
            raise InvalidInput(project.workspace.problems)
        if not project.complete:
            raise UsageError(
                f"no manifest {name} in these paths; other paths may have one",
                f"add the path of its manifest, or, if it has none, name the whole root {project.root or '.'}",
            )
        return None
    if manifest.lifecycle.suspend:
        raise ReconcileError(
            f"{name} is suspended, and its serving generation is not changed",
            f"remove spec.lifecycle.suspend in {manifest.place.file}",
        )
    return project.manifest(name)  # with the recorded data set


async def _prepare(
    project: Project, recorder: Recorder, name: str, manifest: Manifest | None, chosen: LockedGeneration
) -> None:
    """Check that the chosen generation is ready, and grant its declared permissions; record it if it is gone."""
    async with project.session.connect() as service:
        live = await observe_generation(service, chosen, project.target.scope, name)
        if live and live.state is State.ACTIVE:
            await _grant_access(service, manifest, chosen)
            return
    if live is None:
        recorder.emit(Disappeared(name, chosen.key))
        recorder.flush()
    cause = f"the service reports it as {live.state}" if live else "the service no longer has it, which is now recorded"
    raise unusable_error(recorder.lock.models[name], chosen.key, cause)


async def _grant_access(service: Provider, manifest: Manifest | None, chosen: LockedGeneration) -> None:
    if manifest is None or manifest.access is None:
        return
    live = await service.access(chosen.remote)
    changes = access_changes(manifest.access, live)
    if changes:
        await service.set_access(chosen.remote, live, changes)


def _record_and_publish(
    project: Project,
    recorder: Recorder,
    publisher: Publisher,
    name: str,
    chosen: LockedGeneration,
    events: tuple[Event, ...],
) -> None:
    try:
        recorder.emit(*events)
        recorder.flush()
        _publish(recorder, publisher, chosen)
    except KeyboardInterrupt:
        raise InterruptedRun(
            f"interrupted; {project.lockfile} may already record {chosen.key} as the serving generation of {name}",
            f"see reconcile resolve {name}; the next apply publishes the serving generation",
        ) from None


def _publish(recorder: Recorder, publisher: Publisher, chosen: LockedGeneration) -> None:
    try:
        published = publisher.publish(recorder.lock)
    except ReconcileError as error:
        error.remedy = f"{error.remedy}; the lockfile records {chosen.key} as serving, and the next apply publishes it"
        raise
    recorder.emit(*published)
    recorder.flush()


def _next_actions(project: Project, lock: Lock, name: str) -> list[Action]:
    """Return what the next apply would do about the manifest and its children, according to the lockfile."""
    plan = replace(project, lock=lock).plan()
    family = descendants(project.manifests, name)
    own = [action for action in plan.actions if action.name == name]
    return own + [action for action in plan.actions if action.name in family and action.reason is not Reason.IN_SYNC]
