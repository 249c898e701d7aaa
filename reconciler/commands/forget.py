"""``reconcile forget``: stop managing a model without deleting it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Output, confirm
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._rollout import Publishers, publisher_of
from reconciler.commands._session import EventLoop
from reconciler.domain.errors import AccessError, Declined, InvalidInput, ReconcileError, ServiceError, UsageError
from reconciler.domain.lock import LockedGeneration, LockedModel, LockedStage
from reconciler.domain.model import Update
from reconciler.domain.text import join_names, suggest
from reconciler.engine.observe import observe_generation, run_bounded
from reconciler.environment import Environment
from reconciler.planning.events import Forgotten, Staged, StageForgotten, record
from reconciler.planning.forget import forget_notes, has_permanent_marks, require_forgettable, stage_notes
from reconciler.planning.live_proof import Owner
from reconciler.planning.stages import arrange_stages
from reconciler.reports.documents.change import ChangeReport, changed_generations, combine_changes
from reconciler.reports.writer import render_text
from reconciler.state.published_pointer import without_pointer

if TYPE_CHECKING:
    from reconciler.domain.ports import Provider

ApproveChange = Callable[[ChangeReport], bool]
"""Takes a Change report and returns whether to make the change."""


def forget(
    environment: Environment,
    command_input: CommandInput,
    names: Sequence[str],
    *,
    keep_marks: bool,
    approve: ApproveChange,
    reason: str = "",
) -> CommandResult[ChangeReport]:
    """Stop managing models, and leave them at the service; if one of them is refused, nothing is changed.

    Removes the marks from their descriptions if the service can change them, unless ``keep_marks``.

    Raises:
        Declined: when ``approve`` returns false.
        UsageError: when the paths may not include its manifest.
        ReconcileError: when a manifest declares it, nothing is recorded, it is protected, or it may have an unknown
            training; and when the service refuses.
    """
    project = open_project(environment, command_input, strict=False)
    models = {name: _forgettable(project, name) for name in names}
    keeps = keep_marks or has_permanent_marks(project.capabilities)
    unread = project.unread()
    report = combine_changes(
        [
            ChangeReport(
                simulated=project.capabilities.simulated,
                target=project.target_summary,
                command="forget",
                name=name,
                outcome="planned",
                lockfile=project.lockfile,
                generations=changed_generations(model.generations),
                notes=tuple(forget_notes(name, project.lock, marked=keeps, unread=unread.reason(name))),
                next=(),
            )
            for name, model in models.items()
        ]
    )
    if not approve(report):
        raise Declined
    publisher = publisher_of(project)
    with EventLoop() as loop, project.store.lease():
        project = _require_unchanged(project, models)
        project.store.check_writable()
        publisher.check(reduce(record, map(Forgotten, models), project.lock))
        if not keeps:
            for name, model in models.items():
                loop.run(_remove_marks(project, name, model))
        _record(project, publisher, models, reason)
    published = publisher.shown if any(model.published_keys for model in models.values()) else ""
    return CommandResult(replace(report, outcome="done", published=published))


def forget_stage(
    environment: Environment, command_input: CommandInput, stage: str, *, approve: ApproveChange, reason: str = ""
) -> CommandResult[ChangeReport]:
    """Drop the record of a stage that the target no longer declares; its models stay managed.

    Raises:
        Declined: when ``approve`` returns false.
        UsageError: when the lockfile records no such stage.
        ReconcileError: when the target declares the stage.
    """
    project = open_project(environment, command_input, strict=False)
    declared = tuple(known.name for known in project.target.stages)
    if stage in declared:
        raise ReconcileError(
            f"the target {project.target.name} declares the stage {stage}",
            f"remove it from {project.target.file} first",
        )
    recorded = _records_of(project, stage)
    if not recorded:
        others = {name for model in project.lock.models.values() for name in model.stages} - {*declared}
        known_stages = f"removed stages: {join_names(sorted(others))}" if others else "no record is left to be dropped"
        remedy = suggest(stage, sorted(others), otherwise=known_stages)
        raise UsageError(f"{project.lockfile} records no stage {stage}", remedy)
    report = combine_changes(
        [
            ChangeReport(
                simulated=project.capabilities.simulated,
                target=project.target_summary,
                command="forget",
                name=name,
                stage=stage,
                outcome="planned",
                lockfile=project.lockfile,
                generations=(),
                notes=tuple(stage_notes(stage, record)),
                next=(),
            )
            for name, record in recorded.items()
        ]
    )
    if not approve(report):
        raise Declined
    with project.store.lease():
        project = project.reread_lock()
        if _records_of(project, stage) != recorded:
            raise ReconcileError(f"another run has changed the stage {stage} in {project.lockfile}", "run again")
        project.store.check_writable()
        recorder = project.recorder()
        decided = recorder.decided("forget", stage=stage, reason=reason)
        recorder.emit(Staged(declared), StageForgotten(stage), decided)
        recorder.flush()
    return CommandResult(replace(report, outcome="done"))


def _records_of(project: Project, stage: str) -> dict[str, LockedStage]:
    """Return the record of a stage in each model that has one, with the stages of the target."""
    lock = arrange_stages(project.lock, tuple(known.name for known in project.target.stages), begins=False)
    return {name: model.stages[stage] for name, model in sorted(lock.models.items()) if stage in model.stages}


def _forgettable(project: Project, name: str) -> LockedModel:
    _require_undeclared(project, name)
    model = project.recorded_model(name)
    require_forgettable(name, model)
    return model


def _require_undeclared(project: Project, name: str) -> None:
    """Refuse a model that a manifest declares: the next apply would manage it again."""
    for manifest in project.workspace.manifests:
        if name in manifest.names:
            raise ReconcileError(
                f"{name} cannot be forgotten: the manifest {manifest.name} at {manifest.place} declares it",
                "delete that manifest first",
            )
    if project.workspace.errors:
        raise InvalidInput(project.workspace.problems)
    if not project.workspace.complete:
        raise UsageError(
            f"no manifest {name} in these paths; other paths may have one", f"name the whole root {project.root or '.'}"
        )


def _require_unchanged(project: Project, models: Mapping[str, LockedModel]) -> Project:
    """Return the project with its current lockfile, which must still record the models as they were approved."""
    current = project.reread_lock()
    for name in (name for name, model in models.items() if current.lock.models.get(name) != model):
        raise ReconcileError(
            f"another run has changed the generations of {name} in {project.lockfile}", "review them, and run again"
        )
    return current


async def _remove_marks(project: Project, name: str, model: LockedModel) -> None:
    scope, concurrency = project.target.scope, project.target.limits.concurrency

    async def remove_mark(service: Provider, generation: LockedGeneration) -> None:
        live = await observe_generation(service, generation, Owner(scope, name))
        if live and live.mark == generation.mark(scope, name):
            await service.update(live.remote, Update(mark=None, description=live.description))

    generations = [generation for generation in model.generations if generation.remote]
    try:
        async with project.session.connect() as service:
            await run_bounded(partial(remove_mark, service), generations, concurrency)
    except (AccessError, ServiceError) as error:
        error.remedy = f"{error.remedy}; or pass --keep-marks to leave the marks as they are"
        raise


def _record(project: Project, publisher: Publishers, models: Mapping[str, LockedModel], reason: str) -> None:
    recorder, names = project.recorder(), list(models)
    recorder.emit(
        *map(Forgotten, names),
        *(
            recorder.decided("forget", name, before=model.serving_key or "", reason=reason)
            for name, model in models.items()
        ),
    )
    for name, model in models.items():
        recorder.emit(*without_pointer(project.target, name, model))  # there is nothing to update
    recorder.flush()
    try:
        recorder.emit(*publisher.publish(recorder.lock, only=frozenset(names)))
    except ReconcileError as error:
        error.remedy = f"{error.remedy}; {join_names(names)} is forgotten, and the next apply updates the pointer"
        raise
    recorder.flush()


@click.command("forget", epilog=_options.examples("forget adder", "forget --stage canary"))
@_options.forget_options
@_options.yes
@click.option(
    "--stage", metavar="NAME", help="Drop the record of a stage that was removed from the target, in place of models."
)
@click.option("--keep-marks", is_flag=True, help="Leave the marks in the descriptions at the service.")
@_options.reason
@_options.environment
def command(
    environment: Environment, /, *, yes: bool, keep_marks: bool, stage: str | None, reason: str | None, **values: Any
) -> int:
    """Stop managing models without deleting them.

    Delete their manifests first. Removes the models from the lockfile, and the marks from their descriptions if the
    service can change those. Afterwards the models are unmanaged.

    With --stage, all paths are those of manifests, and the models stay managed. The published pointer of the stage is
    not deleted.
    """
    output = output_of(values)
    if stage:
        _options.require_compatible((keep_marks, "--stage", "--keep-marks"))
        drop = partial(approve_change, output, f"Drop the record of the stage {stage}?", yes=yes)
        return output.finish(forget_stage(environment, input_of(values), stage, approve=drop, reason=reason or ""))
    if not values["paths"]:
        raise UsageError("NAME is missing", "pass the names of models, or --stage NAME")
    names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
    approve = partial(approve_change, output, f"Stop managing {join_names(names)}?", yes=yes)
    result = forget(environment, input_of(values), names, keep_marks=keep_marks, approve=approve, reason=reason or "")
    return output.finish(result)


def approve_change(output: Output, question: str, report: ChangeReport, *, yes: bool) -> bool:
    """Print the change and return whether the user approves it; ``yes`` approves without output or prompt."""
    if not yes:
        output.say(lambda style, width: render_text(report, width=width, style=style))
    return confirm(question, yes=yes)
