"""``reconcile promote``: make a generation the serving one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._rollout import change_serving, promotion, read_publications
from reconciler.commands._targets import finish_models
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import Manifest, Stage
from reconciler.environment import Environment
from reconciler.planning.events import Event, Requested, Restored
from reconciler.planning.rollout import choose_promotion, is_serving
from reconciler.planning.stages import arrange_stages, recorded_stage, request_of, shared_fields, unmet_conditions
from reconciler.reports.documents.change import ChangeReport, ServingReport, changed_generations, combine_changes


def promote(
    environment: Environment, command_input: CommandInput, name: str, *, to: str | None, reason: str = ""
) -> CommandResult[ServingReport]:
    """Promote the generation ``to``, by default the rejected one that matches the manifest; it is no longer rejected.

    Raises as :func:`rollback`, and when the generation fails the checks of the manifest, which run now.
    """

    def choose(lock: Lock, scope: str, manifest: Manifest | None) -> tuple[LockedGeneration, tuple[Event, ...]]:
        model, chosen = lock.models[name], choose_promotion(name, lock, to, scope=scope, manifest=manifest)
        if is_serving(model, chosen.key):
            return chosen, ()
        restored = (Restored(name, chosen.key),) if chosen.key in model.rejected else ()
        return chosen, (*restored, promotion(environment, name, chosen))

    return change_serving(environment, command_input, name, choose, "promote", reason)


def request_promotion(
    environment: Environment, command_input: CommandInput, names: Sequence[str], stage: str, *, reason: str = ""
) -> CommandResult[ChangeReport]:
    """Request the promotion of what is serving in the stage before; without names, of all models where it differs.

    Nothing is published: the review of the lockfile approves the request, and the next apply carries it out once the
    conditions of the stage hold. The notes say which do not hold now.

    Raises:
        ReconcileError: when nothing is serving in the stage before, or it was rejected in an earlier stage.
    """
    project = open_project(environment, command_input, strict=False)
    project.require_manifests()
    declared = _later_stage(project, stage)
    for name in names:
        project.recorded_model(name)
    with project.store.lease():
        project = project.reread_lock()
        stages = tuple(known.name for known in project.target.stages)
        recorded = project.lock.target
        if recorded and recorded.stages and recorded.first_stage != project.target.first_stage:
            raise ReconcileError(
                f"{project.lockfile} records {recorded.first_stage} as the first stage", "run reconcile apply first"
            )
        project = replace(project, lock=arrange_stages(project.lock, stages, begins=False))
        chosen = [_request(project, name, declared) for name in names or _models_to_request(project, declared)]
        recorder = project.recorder()
        for found in chosen:
            if found.events:
                decided = recorder.decided(
                    "request", found.name, found.key, before=found.before, stage=stage, reason=reason
                )
                recorder.emit(*found.events, decided)
        recorder.flush()
    after = replace(project, lock=recorder.lock)
    after = replace(after, publications=read_publications(after))
    if not chosen:
        raise ReconcileError(
            f"no model can be promoted to {stage}: none is serving in {declared.after}, or {stage} has rejected it",
            "run reconcile status to see what is in which stage",
        )
    return CommandResult(combine_changes([_report(after, declared, found, chosen) for found in chosen]))


class _Request(Struct, frozen=True):
    name: str
    key: str
    before: str
    events: tuple[Event, ...]


def _later_stage(project: Project, name: str) -> Stage:
    project.in_stage(name)  # raises an error for an unknown stage
    stage = next((stage for stage in project.target.later_stages if stage.name == name), None)
    if stage is None:
        raise UsageError(f"{name} is the first stage, and apply promotes to it", "remove --stage")
    return stage


def _models_to_request(project: Project, stage: Stage) -> list[str]:
    """Return the models with another serving generation in the stage before; if there are none, those that have it.

    A job that prepares promotions on a schedule succeeds if there is nothing to request. What the stage has rejected is
    requested by name only.
    """
    before = recorded_stage(project.target, stage.after)
    differing: list[str] = []
    same: list[str] = []
    for name, model in project.lock.models.items():
        record, key = model.stage(stage.name), model.record_of(before).serving
        if key and key not in record.rejected:
            (same if key in (record.serving, record.requested) else differing).append(name)
    return differing or same


def _request(project: Project, name: str, stage: Stage) -> _Request:
    """Return the request for a model; it has no events if nothing changes."""
    model, target = project.lock.models[name], project.target
    record, key = model.stage(stage.name), model.record_of(recorded_stage(target, stage.after)).serving
    if key is None:
        raise ReconcileError(
            f"{name} has no serving generation in {stage.after}, from which it is promoted to {stage.name}",
            f"promote one to {stage.after} first: run reconcile apply"
            if stage.after == target.first_stage
            else f"request one for {stage.after} first: reconcile promote {name} --stage {stage.after}",
        )
    for earlier in target.stages_before(stage.name):
        if key in model.record_of(recorded_stage(target, earlier.name)).rejected:
            first = earlier.name == target.first_stage
            raise ReconcileError(
                f"{key} was rejected in {earlier.name}",
                f"remove the rejection with reconcile promote {name}{'' if first else f' --stage {earlier.name}'}",
            )
    manifest = project.manifest(name)
    fields = shared_fields(manifest, project.capabilities.mutable) if manifest else record.fields
    same = record.serving == key and (record.fields or fields) == fields
    restored = (Restored(name, key, stage.name),) if key in record.rejected else ()
    events = () if same or record.requested == key else (Requested(name, key, stage.name),)
    return _Request(name, key, record.serving or "", (*restored, *events))


def _report(project: Project, stage: Stage, found: _Request, chosen: Sequence[_Request]) -> ChangeReport:
    model, target = project.lock.models[found.name], project.target
    request = request_of(found.name, model, target, stage, found.key)
    publication = project.publications.get((stage.name, found.name))
    now = project.session.environment.clock()
    requested = model.stage(stage.name).requested == found.key
    unmet = list(unmet_conditions(request, model, target, publication, now)) if requested else []
    manifest = project.manifest(found.name)
    suspension = manifest.lifecycle.suspension(now) if manifest and requested else None
    waiting = [f"{found.name} is suspended{suspension}"] if suspension else []
    notes = [f"not promoted to {stage.name} yet: {cause}" for cause in (*waiting, *(known.message for known in unmet))]
    if requested and not notes:
        notes.append(f"the conditions of {stage.name} hold now; apply runs its checks and proves the generation")
    if not requested:
        notes.append(f"{found.key} is serving in {stage.name} already")
    generation = model.generation(found.key)
    return ChangeReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        command="promote",
        name=found.name,
        outcome="done" if any(other.events for other in chosen) else "unchanged",
        lockfile=project.lockfile,
        generations=changed_generations([generation] if generation else []),
        notes=tuple(notes),
        next=(),
    )


@click.command(
    "promote",
    epilog=_options.examples(
        "promote adder",
        "promote adder --to adder-k4wq2zme",
        "promote adder --stage production",
        "promote --all --stage production",
    ),
)
@_options.optional_model_options
@click.option("--to", metavar="KEY", help="Generation to promote. Default: the rejected one that matches the manifest.")
@_options.stage
@click.option("--all", "everything", is_flag=True, help="Request all models that differ. Only with --stage.")
@_options.reason
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    to: str | None,
    stage: str | None,
    everything: bool,
    reason: str | None,
    **values: Any,
) -> int:
    """Make a generation of NAME the serving one.

    By default, it is the one that a rollback rejected. The checks of its manifest run first and must pass. Changes the
    lockfile, the published pointer, and permissions if the manifest has spec.access.

    With --stage, it requests the promotion of the generation that is serving in the stage before, in the lockfile
    alone. The review of that change approves it, and the next apply carries it out once the conditions of the stage
    hold.
    """
    output = output_of(values)
    if everything and not stage:
        raise UsageError("--all needs --stage: apply promotes to the first stage", "add --stage NAME")
    if stage and to:
        raise UsageError("--stage requests what is serving in the stage before", "remove --to")
    names: tuple[str, ...] = ()
    if everything:
        values["paths"] = tuple(values["paths"])
    elif not values["paths"]:
        raise UsageError("no model is named", "pass NAME, or --all with --stage")
    else:
        names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
    if to:
        _options.one_name(names, "--to")
    given = input_of(values)
    if stage and not (names and _is_first(environment, given, stage)):
        return output.finish(request_promotion(environment, given, names, stage, reason=reason or ""))
    return finish_models(
        output, given, names, lambda name: promote(environment, given, name, to=to, reason=reason or ""), "promote"
    )


def _is_first(environment: Environment, command_input: CommandInput, stage: str) -> bool:
    return open_project(environment, command_input, strict=False).target.first_stage == stage
