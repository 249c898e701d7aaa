"""Change the serving generation, and write the published pointer: the serving generations for applications."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING

from msgspec.structs import replace

from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._session import EventLoop, display_path
from reconciler.commands.resolve import resolved
from reconciler.domain.access import access_changes
from reconciler.domain.document import json_text
from reconciler.domain.errors import InterruptedRun, InvalidInput, LockConflict, ReconcileError, UsageError
from reconciler.domain.lock import Lock, LockedGeneration, format_time
from reconciler.domain.model import REMOTE_SCHEME, Manifest, State
from reconciler.domain.plan import Action, Reason
from reconciler.engine.observe import observe_generation
from reconciler.manifests.discovery import absolute
from reconciler.paths import find_writable, repository_of
from reconciler.planning.events import Disappeared, Event, Promoted, record
from reconciler.planning.generations import owners_of
from reconciler.planning.lineage import descendants
from reconciler.planning.rollout import unusable_error
from reconciler.providers.registry import callable_name
from reconciler.reports.documents.change import (
    ResolveReport,
    ServingGeneration,
    ServingReport,
    next_actions,
    rejected_generations,
)
from reconciler.reports.documents.envelope import target_summary
from reconciler.state.lockfile import LockFile
from reconciler.state.published_pointer import (
    newly_published,
    read_pointer,
    require_unchanged,
    serving_keys,
)

if TYPE_CHECKING:
    from reconciler.commands._project import Project
    from reconciler.domain.model import Capabilities, Target
    from reconciler.domain.ports import LockStore, Provider
    from reconciler.engine.recorder import Recorder
    from reconciler.environment import Environment
    from reconciler.planning.events import Published


_MAX_CONFLICTS = 5
"""Writes lost to other runs before an error; each of those runs completed a write."""


class Publisher:
    """Writes the pointer of a target: the serving generation of each model, and how to send prompts to it.

    It never overwrites changes that this project did not make.
    """

    def __init__(
        self,
        target: Target,
        capabilities: Capabilities,
        store: LockStore | None,
        shown: str,
    ) -> None:
        """Take the store of the pointer, if the target has one, and its name in messages."""
        self.shown = shown
        self._target = target
        self._capabilities = capabilities
        self._store = store

    def check(self, lock: Lock) -> None:
        """Raise the ReconcileError that :meth:`publish` would, if it can be found without writing."""
        if self._store:
            self._store.check_writable()
            self._text(lock, self._store)

    def publish(self, lock: Lock) -> tuple[Published, ...]:
        """Write the serving generations of the lock, unless the pointer has them; return events for those that changed.

        Raises:
            ReconcileError: when the pointer has changes that this project did not make, is invalid or another
                target's, or cannot be read or written; it is not changed then.
        """
        if self._store is None:
            return ()
        for _ in range(_MAX_CONFLICTS):
            with suppress(LockConflict):
                text = self._text(lock, self._store)
                if text is not None:
                    self._store.write(text)
                return newly_published(lock)
        raise LockConflict(
            f"{self.shown} cannot be written: other runs wrote it {_MAX_CONFLICTS} times in a row",
            "run the command again",
        )

    def _text(self, lock: Lock, store: LockStore) -> str | None:
        """Return the new text of the pointer after checking the current one; ``None`` if no pointer is needed yet."""
        current, serving_now = store.read(), serving_keys(lock)
        if current is None and not serving_now:
            return None
        if current is not None:
            require_unchanged(read_pointer(current, self._target, self.shown), lock, self.shown)
        return self.text(lock)

    def text(self, lock: Lock) -> str:
        """Return the text of the pointer for a lock."""
        models = tuple(
            resolved(self._target, name, lock.models[name], serving)
            for name, key in serving_keys(lock).items()
            if (serving := lock.models[name].generation(key))
        )
        target = target_summary(self._target, self._capabilities, "")
        report = ResolveReport(simulated=self._capabilities.simulated, target=target, verified=True, models=models)
        return json_text(report) + "\n"


def publisher_of(project: Project) -> Publisher:
    """Return the publisher of a project's target; it does nothing if the target has no ``publish``."""
    store, shown = _pointer_store(project)
    return Publisher(project.target, project.capabilities, store, shown)


def _pointer_store(project: Project) -> tuple[LockStore | None, str]:
    address, root = project.target.publish, project.workspace.root
    if not address:
        return None, ""
    if address.startswith(REMOTE_SCHEME):
        return project.session.object_store(address, "the published pointer"), address
    find_writable(address, root, repository_of(root))
    path = absolute(address, root)
    return LockFile(path), display_path(path, project.session.environment.cwd)


Choose = Callable[[Lock, str, Manifest | None], tuple[LockedGeneration, tuple[Event, ...]]]
"""Takes the lock, the scope and the manifest, if any; returns the generation to promote, and the events to record.

There are no events if the generation is serving already.
"""


def change_serving(
    environment: Environment, command_input: CommandInput, name: str, choose: Choose, reason: str = ""
) -> CommandResult[ServingReport]:
    """Promote the chosen generation of a model, grant its declared permissions, and publish it."""
    project = open_project(environment, command_input, strict=False)
    project.require_manifests()
    project.recorded_model(name)
    manifest = _manifest(project, name)
    publisher = publisher_of(project)
    with EventLoop() as loop, project.store.lease():
        project = project.reread_lock()
        before = project.recorded_model(name).serving_key
        chosen, events = choose(project.lock, project.target.scope, manifest)
        recorder = project.recorder()
        if events:
            project.store.check_writable()
            publisher.check(reduce(record, events, project.lock))
        loop.run(_prepare(project, recorder, name, manifest if events else None, chosen))
        if events:
            _record_and_publish(project, recorder, publisher, name, chosen, events)
    report = ServingReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        name=name,
        changed=bool(events),
        before=(before or "") if events else "",
        reason=reason,
        published=publisher.shown,
        serving=ServingGeneration(key=chosen.key, remote=callable_name(chosen.remote, chosen.resources)),
        rejected=rejected_generations(recorder.lock.models[name]),
        lockfile=project.lockfile,
        next=next_actions(_next_actions(project, recorder.lock, name), name),
    )
    return CommandResult(report)


def promotion(environment: Environment, name: str, generation: LockedGeneration) -> Promoted:
    """Return the event that makes a generation the serving one."""
    return Promoted(name, generation.key, generation.remote, format_time(environment.clock()))


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
        owner = owners_of(project.world()).owner(name)
        live = await observe_generation(service, chosen, owner)
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
