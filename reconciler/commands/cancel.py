"""``reconcile cancel``: stop trainings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._session import EventLoop
from reconciler.commands._targets import finish_models
from reconciler.commands.forget import ApproveChange, approve_change
from reconciler.domain.errors import Declined, InterruptedRun
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import RemoteModel, State
from reconciler.engine.observe import observe_generation, run_bounded
from reconciler.environment import Environment
from reconciler.planning.events import Cancelled
from reconciler.planning.forget import cancel_notes, require_cancellable, trainings_in_progress
from reconciler.planning.live_proof import Owner
from reconciler.reports.documents.change import ChangeReport, changed_generations

if TYPE_CHECKING:
    from reconciler.domain.ports import Provider


def cancel(
    environment: Environment, command_input: CommandInput, name: str, *, key: str | None, approve: ApproveChange
) -> CommandResult[ChangeReport]:
    """Stop the trainings of a model that are in progress, or only that of the generation ``key``.

    A stopped training is recorded as canceled, and held until its inputs change or ``--retry`` names the model.

    Raises:
        Declined: when ``approve`` returns false.
        UsageError: when ``key`` is not recorded.
        ReconcileError: when nothing is recorded, the manifest is suspended, or the model is protected and stopping its
            training deletes it; and when the service refuses.
        InterruptedRun: when a signal ended the command.
    """
    project = open_project(environment, command_input, strict=False)
    project.require_manifests()
    model = project.find_model(name) or LockedModel("")
    if key:
        project.recorded_generation(name, key)
    manifest = next((manifest for manifest in project.workspace.manifests if manifest.name == name), None)
    chosen = trainings_in_progress(model, key)
    report = ChangeReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        command="cancel",
        name=name,
        outcome="planned" if chosen else "unchanged",
        lockfile=project.lockfile,
        generations=changed_generations(chosen),
        notes=(),
        next=(),
    )
    if not chosen:
        return CommandResult(report)
    require_cancellable(name, model, manifest, project.capabilities, environment.clock())
    report = replace(report, notes=tuple(cancel_notes(name, project.capabilities)))
    if not approve(report):
        raise Declined
    with EventLoop() as loop, project.store.lease():
        project = project.reread_lock()
        project.store.check_writable()
        stopped, ended = _stop(loop, project, name, chosen)
    notes = (*ended, *report.notes) if stopped else ended
    outcome = "done" if stopped else "unchanged"
    return CommandResult(replace(report, outcome=outcome, generations=changed_generations(stopped), notes=notes))


def _stop(
    loop: EventLoop, project: Project, name: str, chosen: tuple[LockedGeneration, ...]
) -> tuple[tuple[LockedGeneration, ...], tuple[str, ...]]:
    """Stop and record trainings; return the stopped generations, and notes about those that had ended before."""
    recorder = project.recorder()

    async def stop_all() -> list[RemoteModel]:
        async with project.session.connect() as service:
            return await run_bounded(partial(stop, service), chosen, project.target.limits.concurrency)

    async def stop(service: Provider, generation: LockedGeneration) -> RemoteModel:
        model = await _stop_training(service, generation, project.target.scope, name)
        if model.state is State.CANCELLED:
            recorder.emit(Cancelled(name, generation.key, model), recorder.decided("cancel", name, generation.key))
        return model

    try:
        models = loop.run(stop_all())
    except KeyboardInterrupt:
        raise InterruptedRun(
            "interrupted; the trainings stopped before that are recorded",
            "run the same command again to stop the others",
        ) from None
    finally:
        recorder.flush()
    states = {generation.key: model.state for generation, model in zip(chosen, models, strict=True)}
    recorded = recorder.lock.models[name].generations
    stopped = tuple(generation for generation in recorded if states.get(generation.key) is State.CANCELLED)
    ended = tuple(
        f"{key} ended as {state} before it could be stopped; the next apply records that"
        for key, state in states.items()
        if state is not State.CANCELLED
    )
    return stopped, ended


async def _stop_training(service: Provider, generation: LockedGeneration, scope: str, name: str) -> RemoteModel:
    """Stop one training and return the model as it is then; a model that is gone counts as stopped."""
    live = await observe_generation(service, generation, Owner(scope, name))
    if live is None or live.state is not State.CREATING:
        return live or RemoteModel(generation.remote, State.CANCELLED)
    await service.cancel(generation.handle)
    after = await observe_generation(service, generation, Owner(scope, name))
    if after and after.state not in {State.CREATING, State.CANCELLED}:
        return after  # it ended before the request
    return replace(after or live, state=State.CANCELLED)


@click.command("cancel", epilog=_options.examples("cancel adder"))
@_options.named_model_options
@_options.yes
@click.option("--generation", metavar="KEY", help="Stop only the training of this generation.")
@_options.environment
def command(environment: Environment, /, *, yes: bool, generation: str | None, **values: Any) -> int:
    """Stop the trainings of NAME that are in progress.

    The model is held until its inputs change or you run apply --retry NAME. With the Generative Language API, the only
    way to stop a training is to delete its model.
    """
    output = output_of(values)
    names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
    if generation:
        _options.one_name(names, "--generation")
    given = input_of(values)

    def stop(name: str) -> CommandResult[ChangeReport]:
        approve = partial(approve_change, output, f"Cancel the training of {name}?", yes=yes)
        return cancel(environment, given, name, key=generation, approve=approve)

    return finish_models(output, given, names, stop, "cancel")
