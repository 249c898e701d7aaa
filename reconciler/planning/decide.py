"""Decide the actions of one manifest from its generations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec.structs import replace

from reconciler.domain.identity import key_of
from reconciler.domain.lock import MAX_GENERATIONS, parse_time
from reconciler.domain.model import BEST, CANCELLED_CODE, MOST_CHECKPOINTS, PHASES, WAITING_PHASES, State
from reconciler.domain.plan import EFFECTS, Action, Kind, Reason, TrainingCheck
from reconciler.domain.target_option import for_target
from reconciler.planning.check_evaluation import most_prompts
from reconciler.planning.diff import SOURCE_FIELD, ReconcileContext
from reconciler.planning.generations import (
    ResolvedGeneration,
    choose_generation,
    describe_mismatch,
    desired_content,
    has_same_content,
    satisfies,
)
from reconciler.planning.promotion_gates import describe_missing, failed_notice, promotion_actions, update_actions
from reconciler.planning.training_checks import describe_faults, with_needs
from reconciler.planning.training_time import estimate_training

_ENDED_BADLY = {State.FAILED: Reason.FAILED, State.CANCELLED: Reason.CANCELLED}
_UNSEEN = "its data set in Cloud Storage was not read, and no training on it is recorded; plan without --offline"
_NO_DATA = (
    "nothing can be trained because spec.dataset.unknown is set; declare the data set, or "
    "adopt a model with reconcile adopt {} REMOTE"
)
_CUT_OFF = "an earlier run requested this training and was interrupted; reconcile looks for it first"
_GATES = frozenset({Kind.CHECK, Kind.PROMOTE, Kind.HOLD, Kind.NOOP})
"""Actions that decide whether a ready generation serves."""
_LONG_QUEUE = timedelta(hours=1)
"""The time after which a plan reports that a training has not started."""


def decide(context: ReconcileContext) -> tuple[Action, ...]:
    """Return the actions of one manifest, in the order of execution."""
    if context.mismatches:
        return tuple(
            context.action(Kind.HOLD, Reason.RECORD_MISMATCH, generation, describe_mismatch(generation))
            for generation in context.mismatches
        )
    actions = tuple(_decide(context))
    actions = (*_requested(context, actions), *(_fail_if_nothing_serves(context, action) for action in actions))
    suspension = context.manifest.lifecycle.suspension(context.now)
    if suspension is None:
        return actions
    requested = [name for name, stage in context.locked.stages.items() if stage.requested and context.request.promotes]
    blocked = ", ".join(
        (
            *(str(action.kind) for action in actions if action.kind in EFFECTS),
            *(f"promote to {name}" for name in requested),
        )
    )
    message = f"spec.lifecycle.suspend is set{suspension}" + (f" and holds back: {blocked}" if blocked else "")
    return (context.action(Kind.HOLD, Reason.SUSPENDED, message=message),)


def _fail_if_nothing_serves(context: ReconcileContext, action: Action) -> Action:
    """Return a hold after a rollback as one that makes the run fail if no earlier generation is serving instead."""
    if action.reason not in {Reason.ROLLED_BACK, Reason.PARENT_ROLLED_BACK} or context.serving:
        return action
    gone = f": {context.locked.serving_key} is gone" if context.locked.serving_key else ""
    return replace(action, reason=Reason.NOTHING_SERVES, message=f"nothing is serving{gone}; {action.message}")


def _decide(context: ReconcileContext) -> Iterator[Action]:
    yield from _cancellations(context)
    if context.parent and context.parent.blocks_children:
        yield context.action(Kind.HOLD, context.parent.hold or Reason.PARENT_HELD, message=context.parent.message)
        yield from update_actions(context)
        return
    if not context.manifest.dataset.digest:
        yield context.action(Kind.HOLD, Reason.DATA_UNAVAILABLE, message=context.manifest.dataset_error or _UNSEEN)
        return
    satisfying = context.satisfying
    replacing = context.manifest.name in context.request.replace
    chosen = choose_generation(satisfying, context.locked.serving_key, context.locked.rejected, replacing=replacing)
    wanted = _again(context, satisfying, chosen)
    if wanted:
        yield _create(context, satisfying, wanted)
    elif chosen is None:
        yield _absent(context, satisfying)
    elif chosen.state is State.CREATING:
        yield from _in_flight(context, chosen)
    else:
        yield from _ready(context, chosen)
        return
    yield from update_actions(context)


def _requested(context: ReconcileContext, actions: tuple[Action, ...]) -> Iterator[Action]:
    """Check and promote the generation that a changed lockfile requests, unless the manifest requires another one.

    The next run would promote that other one again, so this is what ``promote`` refuses as well.
    """
    generation = context.requested
    if generation is None or any(action.key == generation.key and _is_gate(action) for action in actions):
        return
    matching = context.serving is not None and satisfies(context.serving, context.manifest)
    promoting = any(action.kind in {Kind.CHECK, Kind.PROMOTE} for action in actions)
    if context.serves(generation) or not (matching or promoting):
        yield from promotion_actions(context, generation)


def _is_gate(action: Action) -> bool:
    return action.kind in _GATES or action.reason is Reason.UNDEPLOYED


def _cancellations(context: ReconcileContext) -> Iterator[Action]:
    """Stop trainings that racing runs started twice; every run keeps the same one."""
    for duplicate, kept in context.duplicates:
        message = f"it duplicates {kept.remote}, which another run started, and is canceled"
        yield context.action(Kind.DELETE, Reason.DUPLICATE, duplicate, message)


def _again(
    context: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...], chosen: ResolvedGeneration | None
) -> Reason | None:
    """Return the reason for another training, requested now or in a run that was interrupted while requesting it.

    A generation in progress, or one that is ready and not serving yet, already is that training.
    """
    name = context.manifest.name
    ended = any(map(_end, satisfying))
    cut_off = _latest(satisfying) if _is_pending(context, satisfying) else 0
    rejected = any(generation.key in context.locked.rejected for generation in satisfying)
    if chosen is None and rejected and name in context.request.replace:
        return Reason.REPLACE_REQUESTED
    if chosen is None:
        return Reason.RETRY_REQUESTED if ended and (name in context.request.retry or cut_off) else None
    if chosen.state is not State.ACTIVE:
        return None
    served = next((generation.mark.attempt for generation in satisfying if context.locked.serves(generation.key)), 0)
    made = not context.locked.serves(chosen.key) and chosen.mark.attempt > served
    asked = name in context.request.replace and not made
    return Reason.REPLACE_REQUESTED if asked or cut_off > chosen.mark.attempt else None


def _latest(satisfying: tuple[ResolvedGeneration, ...]) -> int:
    return max((generation.mark.attempt for generation in satisfying), default=0)


def _is_spent(context: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> bool:
    """Whether the model of the latest attempt is gone and its mark remains on the job that made it."""
    latest = _latest(satisfying)
    gone = any(
        (generation.state is State.DELETED or generation.remote in context.deleted)
        and generation.mark.attempt == latest
        for generation in satisfying
    )
    return gone and not context.capabilities.caller_chosen_ids


def _is_pending(context: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> bool:
    """Whether the latest attempt is only intended: an interrupted run requested it, so it is continued."""
    latest = desired_content(context.manifest, context.scope, _latest(satisfying)).mark()
    return any(generation.state is State.INTENDED and generation.mark == latest for generation in satisfying)


def _absent(context: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> Action:
    name = context.manifest.name
    rejected = [generation for generation in satisfying if generation.key in context.locked.rejected]
    if rejected:
        return context.action(Kind.HOLD, Reason.ROLLED_BACK, rejected[0], _rolled_back(context, rejected[0]))
    failed = max(satisfying, key=_age, default=None)
    end = _end(failed) if failed else None
    if failed and end and _is_what_failed(context, failed):
        remedy = f"change the inputs, or train it again with --retry {name}"
        return context.action(Kind.HOLD, end, failed, f"{failure_cause(failed)}; {remedy}")
    return _create(context, satisfying, _why_create(context, satisfying))


def _end(generation: ResolvedGeneration) -> Reason | None:
    """Return how a training failed, if it did; deleting its model does not request another training."""
    if generation.state is State.DELETED and generation.failure:
        return Reason.CANCELLED if generation.failure.code == CANCELLED_CODE else Reason.FAILED
    return _ENDED_BADLY.get(generation.state)


def _rolled_back(context: ReconcileContext, generation: ResolvedGeneration) -> str:
    name, rejected = context.manifest.name, context.locked.rejected
    ready = (other.key for other in context.generations if other.state is State.ACTIVE and other.key not in rejected)
    other = None if context.serving else next(ready, None)
    promote = for_target(f"promote it again with reconcile promote {name}")
    promote += for_target(f" or {other} with reconcile promote {name} --to {other}") if other else ""
    retrain = for_target(f"reconcile apply --replace {name}")
    why = f" ({generation.locked.rejection})" if generation.locked and generation.locked.rejection else ""
    return (
        f"the generation that satisfies this manifest was rolled back{why}, and is not trained again;"
        f" {promote}, change the manifest, or train another one with {retrain}"
    )


def _is_what_failed(context: ReconcileContext, failed: ResolvedGeneration) -> bool:
    """Whether the failed inputs are still declared; removing a hyperparameter is a change."""
    if has_same_content(failed, context.manifest):
        return True
    wanted = context.manifest.hyperparameters
    return failed.locked is not None and failed.locked.hyperparameters.declared.keys() <= wanted.keys()


def _age(generation: ResolvedGeneration) -> tuple[int, datetime, str]:
    return generation.mark.attempt, generation.created_at, generation.key


def failure_cause(generation: ResolvedGeneration) -> str:
    """Return why a training failed, without a final stop."""
    if generation.state is State.CANCELLED:
        return "the training was canceled at the service" + (
            f": {generation.failure.message.rstrip('.')}" if generation.failure else ""
        )
    if generation.failure:
        return generation.failure.message.rstrip(".")
    return "the training failed, and the service no longer returns the cause"


def _why_create(context: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> Reason:
    if any(generation.state is State.MISSING or context.locked.serves(generation.key) for generation in satisfying):
        return Reason.MISSING
    if not any(generation.state is not State.INTENDED for generation in context.locked.generations):
        return Reason.NOT_FOUND
    return Reason.PARENT_CHANGED if _only_the_parent_changed(context) else Reason.CONTENT_CHANGED


def _only_the_parent_changed(context: ReconcileContext) -> bool:
    return context.parent is not None and {change.field for change in context.changes()} == {SOURCE_FIELD}


def _create(context: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...], reason: Reason) -> Action:
    pending = _is_pending(context, satisfying)
    again = reason in {Reason.RETRY_REQUESTED, Reason.REPLACE_REQUESTED} and not pending
    attempt = _latest(satisfying) + (again or _is_spent(context, satisfying))
    key = key_of(desired_content(context.manifest, context.scope, attempt).mark())
    check = context.training_checks.get(key, TrainingCheck())
    obstacle = _obstacle(context, key)
    if obstacle is None and check.errors:
        obstacle = context.action(Kind.HOLD, Reason.INVALID_TRAINING, message=describe_faults(check.errors))
    if obstacle:
        return replace(obstacle, key=key, attempt=attempt)
    return replace(
        context.action(Kind.CREATE, reason, message=_CUT_OFF if pending else ""),
        key=key,
        attempt=attempt,
        source=context.manifest.source,
        dataset=context.manifest.dataset,
        settings=context.manifest.settings,
        validation=context.manifest.validation.path or "inline" if context.manifest.validation else "",
        hyperparameters=context.manifest.hyperparameters,
        training=with_needs(estimate_training(context.manifest, context.capabilities), check.needs),
        changes=context.changes() if reason in {Reason.CONTENT_CHANGED, Reason.PARENT_CHANGED} else (),
        after=context.parent.key if context.parent and not context.parent.ready else "",
        checks=len(context.manifest.checks),
        prompts=most_prompts(context.manifest.checks) * (MOST_CHECKPOINTS if context.manifest.serve == BEST else 1),
    )


def _obstacle(context: ReconcileContext, key: str) -> Action | None:
    """Return the hold that replaces a create which cannot succeed or is not wanted."""
    if context.parent and context.parent.hold:
        return context.action(Kind.HOLD, context.parent.hold, message=context.parent.message)
    if context.manifest.dataset.unknown:
        return context.action(
            Kind.HOLD, Reason.DATA_UNKNOWN, message=for_target(_NO_DATA.format(context.manifest.name))
        )
    if len(context.locked.generations) >= MAX_GENERATIONS and context.locked.generation(key) is None:
        message = for_target(
            f"{context.manifest.name} has {len(context.locked.generations)} recorded generations, and a lockfile has at"
            f" most {MAX_GENERATIONS}; reconcile prune --dry-run {context.manifest.name} lists superseded ones"
        )
        return context.action(Kind.HOLD, Reason.GUARDED, message=message)
    holder = context.taken.get(key)
    if holder:
        message = for_target(
            f"the id {key} is taken by {holder.remote}, which is unmanaged; if it was made from this"
            f" manifest, run reconcile adopt {context.manifest.name} {holder.remote}; otherwise rename this manifest"
        )
        return replace(context.action(Kind.HOLD, Reason.ID_TAKEN, message=message), remote=holder.remote)
    missing = context.manifest.dataset_error or context.manifest.validation_error
    if missing:
        return context.action(Kind.HOLD, Reason.DATA_UNAVAILABLE, message=missing)
    return _unusable_source(context)


def _unusable_source(context: ReconcileContext) -> Action | None:
    untunable = context.untunable.get(context.manifest.source.base_model)
    if untunable:
        return context.action(Kind.HOLD, Reason.BASE_MODEL_UNAVAILABLE, message=untunable)
    checkpoint, parent = context.manifest.source.checkpoint, context.parent
    if not checkpoint or parent is None or not parent.checkpoints or checkpoint in parent.checkpoints:
        return None
    missing = describe_missing(parent.key, checkpoint, parent.checkpoints, "spec.source.checkpoint")
    return context.action(Kind.HOLD, Reason.CHECKPOINT_MISSING, message="; ".join(missing))


def _adoption(context: ReconcileContext, generation: ResolvedGeneration) -> Iterator[Action]:
    if generation.locked is None:
        message = "has the mark of this manifest, but is not in the lockfile: it is recorded, nothing is trained"
        yield context.action(Kind.ADOPT, Reason.FOUND_UNRECORDED, generation, message)


def _in_flight(context: ReconcileContext, generation: ResolvedGeneration) -> Iterator[Action]:
    yield from _adoption(context, generation)
    timeout = context.manifest.lifecycle.timeout
    begun = parse_time(generation.live.start_time if generation.live else "")
    started = begun or parse_time(generation.create_time)
    passed = context.now - started if started else timedelta()
    phase = generation.live.phase if generation.live else ""
    waits = not begun or phase in WAITING_PHASES
    queued = _queued(phase, passed) if waits and passed >= _LONG_QUEUE else ""
    if timeout and passed > timeout:
        late = "the training has taken longer than spec.lifecycle.timeout; it continues"
        message = f"{queued}; spec.lifecycle.timeout is over" if queued else late
        message = f"{message}, and reconcile does not wait for {generation.key}"
        yield context.action(Kind.HOLD, Reason.DEADLINE_EXCEEDED, generation, message)
    else:
        yield context.action(Kind.WAIT, Reason.TRAINING, generation, queued)


def _queued(phase: str, passed: timedelta) -> str:
    """Return the message for a training that has not started; empty if the service does not report that."""
    if not phase:
        return ""
    hours = passed / timedelta(hours=1)
    return (
        f"the service has shown it as {PHASES.get(phase, phase)} for {hours:.1f} hours: its location may be short of"
        " capacity, or the project's quota of tuning jobs used up; wait, ask for quota, or cancel the job and choose"
        " another location"
    )


def _ready(context: ReconcileContext, generation: ResolvedGeneration) -> Iterator[Action]:
    steps = [
        *_adoption(context, generation),
        *update_actions(context, generation),
        *promotion_actions(context, generation),
    ]
    yield from steps or [context.action(Kind.NOOP, Reason.IN_SYNC, generation, failed_notice(context, generation))]
