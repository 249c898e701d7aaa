"""``reconcile cancel``: stop trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    recorded_generation,
    recorded_model,
    reread_project,
)
from reconciler.commands._runner import EventLoop
from reconciler.commands.forget import Approve, ask, shown_now, tell
from reconciler.domain.errors import Declined, InterruptedRun
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Handle, RemoteModel, State
from reconciler.engine.observe import bounded
from reconciler.engine.recorder import Recorder
from reconciler.environment import Environment
from reconciler.planning.events import Cancelled
from reconciler.planning.forget import cancelling_notes, in_flight, require_cancellable
from reconciler.providers.registry import connect
from reconciler.reports.documents.change import Change, change_document

if TYPE_CHECKING:
    from reconciler.domain.ports import Provider
    from reconciler.environment import Environment


def cancel(env: Environment, what: CommandInput, name: str, *, key: str | None, approve: Approve) -> CommandResult:
    """Stop the trainings of a model that are in flight, or the one of the generation ``key``.

    What is stopped is recorded as cancelled, and held until its inputs change or somebody retries.

    Raises:
        Declined: when ``approve`` says no.
        UsageError: when ``key`` is not recorded.
        ReconcileError: when nothing is recorded, the manifest is suspended, or it is protected where stopping a
            training deletes the model; and when the service refuses.
        InterruptedRun: when a signal ended the command.
    """
    project = open_project(env, what, strict=False)
    model = recorded_model(project, name)
    if key:
        recorded_generation(project, name, key)
    manifest = next((one for one in project.workspace.manifests if one.name == name), None)
    chosen = in_flight(model, key)
    change = Change("cancel", name, "planned" if chosen else "unchanged", project.lockfile, chosen)
    document = partial(change_document, target=project.target, capabilities=project.capabilities, root=project.root)
    if not chosen:
        return CommandResult(document(change))
    require_cancellable(name, model, manifest, project.capabilities)
    change = replace(change, notes=tuple(cancelling_notes(name, project.capabilities)))
    if not approve(document(change)):
        raise Declined
    with EventLoop() as session, project.store.lease():
        project = reread_project(project)
        project.store.check_writable()
        stopped, over = _stopped(env, what, session, project, name, chosen)
    notes = (*over, *change.notes) if stopped else over
    done = replace(change, outcome="done" if stopped else "unchanged", generations=stopped, notes=notes)
    return CommandResult(document(done))


def _stopped(
    env: Environment,
    what: CommandInput,
    session: EventLoop,
    project: Project,
    name: str,
    chosen: tuple[LockedGeneration, ...],
) -> tuple[tuple[LockedGeneration, ...], tuple[str, ...]]:
    """Stop trainings and record that; those that were stopped, and what is to be said of the others."""
    recorder = Recorder(project.lock, project.store, env.clock)
    scope = project.target.scope

    async def stop() -> list[RemoteModel]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            return await bounded(partial(stop_one, service), chosen, project.target.limits.concurrency)

    async def stop_one(service: Provider, one: LockedGeneration) -> RemoteModel:
        ended = await _end(service, one, scope, name)
        if ended.state is State.CANCELLED:
            recorder.emit(Cancelled(name, one.key, ended))
        return ended

    try:
        ends = session.run(stop())
    except KeyboardInterrupt:
        raise InterruptedRun(
            "interrupted; what was stopped by then is recorded", "run the same command again to stop the others"
        ) from None
    finally:
        recorder.flush()
    states = {one.key: end.state for one, end in zip(chosen, ends, strict=True)}
    recorded = recorder.lock.models[name].generations
    return tuple(one for one in recorded if states.get(one.key) is State.CANCELLED), tuple(_over(states))


async def _end(service: Provider, one: LockedGeneration, scope: str, name: str) -> RemoteModel:
    """Stop one training, and give it as it is then; what is gone was stopped."""
    live = await shown_now(service, one, scope, name)
    gone = RemoteModel(one.remote, State.CANCELLED)
    if live is None or live.state is not State.CREATING:
        return live or gone
    await service.cancel(Handle(one.remote, one.operation))
    after = await shown_now(service, one, scope, name)
    if after and after.state not in {State.CREATING, State.CANCELLED}:
        return after  # it ended by itself before it could be stopped
    return replace(after or live, state=State.CANCELLED)


def _over(states: Mapping[str, State]) -> Iterator[str]:
    for key, state in states.items():
        if state is not State.CANCELLED:
            yield f"{key} had ended before it could be stopped, as {state}; the next apply records that"


@click.command("cancel")
@click.argument("name")
@_options.model_options
@_options.yes
@click.option("--generation", metavar="KEY", help="Stop the training of this generation alone.")
@_options.environment
def command(env: Environment, /, name: str, *, yes: bool, generation: str | None, **values: Any) -> int:
    """Stop what is training for NAME. It is held then, until its inputs change or somebody says apply --retry.

    The Generative Language API knows no way to stop a training but to delete the model that it makes.
    """
    output = output_of(values)
    approve = partial(ask, output, f"Cancel the training of {name}?", yes=yes)
    return tell(output, cancel(env, input_of(values), name, key=generation, approve=approve))
