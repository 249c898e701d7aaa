"""Decide the promotions to the stages after the first one, and which updates wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.lock import parse_time
from reconciler.domain.model import State, Target
from reconciler.domain.plan import MARK_FIELD, Action, Kind, Reason, World
from reconciler.domain.target_option import for_target
from reconciler.planning.check_evaluation import most_prompts
from reconciler.planning.diff import ReconcileContext
from reconciler.planning.generations import ResolvedGeneration, describe_mismatch
from reconciler.planning.promotion_gates import describe_misses, describe_scores, failed_checks_remedy
from reconciler.planning.stages import StageRequest, request_of, shared_fields, unmet_conditions

_SHARED = frozenset({Reason.DRIFTED, Reason.ACCESS_CHANGED})
"""Why declared fields are patched."""


def stage_actions(context: ReconcileContext, decided: Iterable[Action], world: World) -> Iterator[Action]:
    """Yield what becomes of the promotions that are requested for a manifest; runs that promote nothing have none.

    A generation that one of the ``decided`` actions deploys again is promoted afterwards.
    """
    if not world.request.promotes or context.manifest.lifecycle.suspension(world.now) or context.mismatches:
        return
    deployed = {(action.key, "".join(action.checkpoints)) for action in decided if action.reason is Reason.UNDEPLOYED}
    for stage in world.target.later_stages:
        key = context.locked.stage(stage.name).requested
        if key:
            request = request_of(context.manifest.name, context.locked, world.target, stage, key)
            action = _decide(context, world, request)
            if action.reason is not Reason.REQUESTED_UNREADY or (key, request.checkpoint) not in deployed:
                yield replace(action, stage=stage.name)


def _decide(context: ReconcileContext, world: World, request: StageRequest) -> Action:
    publication = world.publications.get((request.stage.name, request.name))
    generation = next((known for known in context.generations if known.key == request.key), None)
    if publication and generation and generation.live:
        publication = publication.not_before(parse_time(generation.live.complete_time or generation.live.create_time))
    unmet = next(unmet_conditions(request, context.locked, world.target, publication, world.now), None)
    if unmet:
        held = replace(context.action(Kind.HOLD, unmet.reason, generation, unmet.message), key=request.key)
        return replace(held, message=f"{held.message}{_kept(context, request)}")
    if generation is None or generation.mismatch or generation.state is not State.ACTIVE or generation.live is None:
        cause = _unready(generation)
        message = f"{request.key} is requested, and {cause}{_kept(context, request)}"
        held = context.action(Kind.HOLD, Reason.REQUESTED_UNREADY, generation, message)
        return replace(held, key=request.key)
    if not generation.is_deployed(request.checkpoint):
        message = f"{request.key} is not deployed{_kept(context, request)}"
        return context.action(Kind.HOLD, Reason.REQUESTED_UNREADY, generation, message)
    return _checked(context, world, request, generation)


def _unready(generation: ResolvedGeneration | None) -> str:
    if generation is None:
        return "the lockfile does not record it"
    if generation.mismatch:
        return describe_mismatch(generation)
    if generation.live is None and generation.state is State.ACTIVE:
        return for_target("its live state is not known; run reconcile plan without --offline")
    return f"its state is {generation.state}"


def _checked(context: ReconcileContext, world: World, request: StageRequest, generation: ResolvedGeneration) -> Action:
    """Return the checks of a requested generation, or else its promotion; checks run in the run that promotes."""
    manifest = context.manifest.in_stage(request.stage)
    results = world.stage_checks.get((request.stage.name, request.key))
    checkpoints = (request.checkpoint,) if request.checkpoint else ()
    if manifest.checks and results is None:
        action = context.action(Kind.CHECK, Reason.CHECKS_NOT_RUN, generation)
        prompts = most_prompts(manifest.checks)
        return replace(action, checks=len(manifest.checks), prompts=prompts, checkpoints=checkpoints)
    if results and results.failed and manifest.lifecycle.on_failed_checks == "hold":
        return context.action(Kind.HOLD, Reason.CHECKS_FAILED, generation, _failure(context, request, results))
    action = context.action(Kind.PROMOTE, Reason.READY, generation, _replaced(context, request))
    return replace(action, checkpoints=checkpoints)


def _failure(context: ReconcileContext, request: StageRequest, results: RecordedChecks) -> str:
    found = f"{request.key}: {describe_scores(results)}{describe_misses(results)}"
    return f"{found}{_kept(context, request)}; {failed_checks_remedy(results)}"


def _replaced(context: ReconcileContext, request: StageRequest) -> str:
    before = context.locked.stage(request.stage.name).serving
    if before == request.key:
        return f"the fields that all stages share are approved for {request.stage.name}"
    return f"it replaces {before}" if before else ""


def _kept(context: ReconcileContext, request: StageRequest) -> str:
    serving = context.locked.stage(request.stage.name).serving
    if serving == request.key:
        return ""
    return f"; {serving or 'no generation'} {'keeps' if serving else 'is'} serving in {request.stage.name}"


def hold_shared_fields(context: ReconcileContext, actions: tuple[Action, ...], target: Target) -> Iterator[Action]:
    """Yield the actions, with each update held that changes fields of a later stage which has not approved them.

    The ownership mark is written in any case, and so are approved values that were changed out-of-band.
    """
    fields = shared_fields(context.manifest, context.capabilities.mutable)
    for action in actions:
        last = _last_stage(context, action.key, target)
        approved = context.locked.stage(last).fields if last else None
        if action.kind is not Kind.UPDATE or action.reason not in _SHARED or not approved or approved == fields:
            yield action
            continue
        mark = tuple(change for change in action.changes if change.field == MARK_FIELD)
        if mark:
            yield replace(action, reason=Reason.DRIFTED, changes=mark, access=())
        if len(mark) < len(action.fields):
            message = for_target(
                f"{last} is serving {action.key} too, and shares {', '.join(_shared(action))}; approve this with"
                f" reconcile promote {action.name} --stage {last}"
            )
            yield replace(action, kind=Kind.HOLD, reason=Reason.FIELDS_SHARED, message=message, stage=last)


def _shared(action: Action) -> tuple[str, ...]:
    """Return the names of the fields that an update changes, without the ownership mark."""
    return tuple(field for field in action.fields if field != MARK_FIELD)


def _last_stage(context: ReconcileContext, key: str, target: Target) -> str:
    """Return the last stage after the first one in which a generation serves; empty if there is none."""
    serving = [stage.name for stage in target.later_stages if context.locked.stage(stage.name).serving == key]
    return serving[-1] if key and serving else ""
