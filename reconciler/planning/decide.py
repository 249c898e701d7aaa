"""What to do about one manifest: a pure decision over its generations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from reconciler.domain.identity import key_of
from reconciler.domain.lock import parse_time
from reconciler.domain.model import CANCELLED_CODE, State
from reconciler.domain.plan import EFFECTS, Action, Kind, Reason
from reconciler.planning.context import ReconcileContext
from reconciler.planning.diff import SOURCE_FIELD
from reconciler.planning.generations import ResolvedGeneration, choose_generation, desired_content, has_same_content
from reconciler.planning.promotion_gates import failed_notice, promotion_actions, update_actions
from reconciler.planning.training_time import estimate_training

_ENDED_BADLY = {State.FAILED: Reason.FAILED, State.CANCELLED: Reason.CANCELLED}
_UNSEEN = "its data set in Cloud Storage was not looked at, and no training on it is recorded; plan without --offline"
_NO_DATA = (
    "nothing can be trained, as spec.dataset.unknown says that the data is not at hand; declare the data set, or take "
    "a model over with reconcile adopt {} REMOTE"
)
_CUT_OFF = "an earlier run asked the service for this one and did not learn the outcome; it is looked for first"
_LONG_QUEUE = timedelta(hours=1)
"""From when on a plan says that a training has not begun."""


def decide(it: ReconcileContext) -> tuple[Action, ...]:
    """The actions for one manifest, in the order of execution."""
    actions = tuple(_decide(it))
    if not it.manifest.lifecycle.suspend:
        return actions
    blocked = ", ".join(str(one.kind) for one in actions if one.kind in EFFECTS)
    message = f"spec.lifecycle.suspend holds back: {blocked}" if blocked else "spec.lifecycle.suspend is set"
    return (it.action(Kind.HOLD, Reason.SUSPENDED, message=message),)


def _decide(it: ReconcileContext) -> Iterator[Action]:
    yield from _cancellations(it)
    if it.parent and it.parent.blocks_children:
        yield it.action(Kind.HOLD, it.parent.hold or Reason.PARENT_HELD, message=it.parent.message)
        yield from update_actions(it)
        return
    if not it.manifest.dataset.digest:
        yield it.action(Kind.HOLD, Reason.DATA_UNAVAILABLE, message=it.manifest.dataset.error or _UNSEEN)
        return
    satisfying = it.satisfying
    replacing = it.manifest.name in it.request.replace
    chosen = choose_generation(satisfying, it.locked.serving, it.locked.rejected, replacing=replacing)
    wanted = _again(it, satisfying, chosen)
    if wanted:
        yield _create(it, satisfying, wanted)
    elif chosen is None:
        yield _absent(it, satisfying)
    elif chosen.state is State.CREATING:
        yield from _in_flight(it, chosen)
    else:
        yield from _ready(it, chosen)
        return
    yield from update_actions(it)


def _cancellations(it: ReconcileContext) -> Iterator[Action]:
    """Two runs that could not see each other started one training twice; which one stays is the same for both."""
    for one, kept in it.duplicates:
        message = f"it doubles {kept.remote}, which another run started, and is cancelled"
        yield it.action(Kind.DELETE, Reason.DUPLICATE, one, message)


def _again(
    it: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...], chosen: ResolvedGeneration | None
) -> Reason | None:
    """Whether somebody asked for one more training, now or in a run that was cut off while it asked the service.

    One in flight, or made and not serving yet, is that training.
    """
    name = it.manifest.name
    ended = any(map(_end, satisfying))
    cut_off = _latest(satisfying) if _is_pending(it, satisfying) else 0
    if chosen is None:
        return Reason.RETRY_REQUESTED if ended and (name in it.request.retry or cut_off) else None
    if chosen.state is not State.ACTIVE:
        return None
    served = next((one.mark.attempt for one in satisfying if one.key == it.locked.serving), 0)
    made = chosen.key != it.locked.serving and chosen.mark.attempt > served
    asked = name in it.request.replace and not made
    return Reason.REPLACE_REQUESTED if asked or cut_off > chosen.mark.attempt else None


def _latest(satisfying: tuple[ResolvedGeneration, ...]) -> int:
    return max((one.mark.attempt for one in satisfying), default=0)


def _is_spent(it: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> bool:
    """Whether the latest attempt was deleted, where its mark stays for ever on the job that made it."""
    latest = _latest(satisfying)
    deleted = any(one.state is State.DELETED and one.mark.attempt == latest for one in satisfying)
    return deleted and not it.capabilities.caller_chosen_ids


def _is_pending(it: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> bool:
    """Whether the latest attempt is only intended: an earlier run was cut off, and it is the one to go on with."""
    latest = desired_content(it.manifest, it.scope, _latest(satisfying)).mark()
    return any(one.state is State.INTENDED and one.mark == latest for one in satisfying)


def _absent(it: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> Action:
    name = it.manifest.name
    rejected = [one for one in satisfying if one.key in it.locked.rejected]
    if rejected:
        return it.action(Kind.HOLD, Reason.ROLLED_BACK, rejected[0], _rolled_back(name, rejected[0]))
    failed = max(satisfying, key=_age, default=None)
    end = _end(failed) if failed else None
    if failed and end and _is_what_failed(it, failed):
        remedy = f"change the inputs, or train it again with --retry {name}"
        return it.action(Kind.HOLD, end, failed, f"{failure_cause(failed)}; {remedy}")
    return _create(it, satisfying, _why_create(it, satisfying))


def _end(known: ResolvedGeneration) -> Reason | None:
    """How a training ended badly, if it did; that what it left was deleted since is no request to train again."""
    if known.state is State.DELETED and known.failure:
        return Reason.CANCELLED if known.failure.code == CANCELLED_CODE else Reason.FAILED
    return _ENDED_BADLY.get(known.state)


def _rolled_back(name: str, known: ResolvedGeneration) -> str:
    why = f" ({known.locked.rejection})" if known.locked and known.locked.rejection else ""
    return (
        f"the generation that satisfies this manifest was rolled back{why}, and is not trained again;"
        f" change the manifest, or let it serve again with reconcile promote {name}"
    )


def _is_what_failed(it: ReconcileContext, failed: ResolvedGeneration) -> bool:
    """Whether the manifest still says what failed; to leave a hyperparameter to the service again is a change."""
    if has_same_content(failed, it.manifest):
        return True
    return failed.locked is not None and failed.locked.declared.keys() <= it.manifest.hyperparameters.keys()


def _age(known: ResolvedGeneration) -> tuple[int, datetime, str]:
    return known.mark.attempt, known.created_at, known.key


def failure_cause(known: ResolvedGeneration) -> str:
    """Why a training ended badly, without a final stop."""
    if known.state is State.CANCELLED:
        return "the training was cancelled at the service" + (
            f": {known.failure.message.rstrip('.')}" if known.failure else ""
        )
    if known.failure:
        return known.failure.message.rstrip(".")
    return "the training failed, and the service no longer tells why"


def _why_create(it: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...]) -> Reason:
    if any(one.state is State.MISSING or one.key == it.locked.serving for one in satisfying):
        return Reason.MISSING
    if not any(one.state is not State.INTENDED for one in it.locked.generations):
        return Reason.NOT_FOUND
    return Reason.PARENT_CHANGED if _only_the_parent_changed(it) else Reason.CONTENT_CHANGED


def _only_the_parent_changed(it: ReconcileContext) -> bool:
    return it.parent is not None and {change.field for change in it.changes()} == {SOURCE_FIELD}


def _create(it: ReconcileContext, satisfying: tuple[ResolvedGeneration, ...], reason: Reason) -> Action:
    pending = _is_pending(it, satisfying)
    again = reason in {Reason.RETRY_REQUESTED, Reason.REPLACE_REQUESTED} and not pending
    attempt = _latest(satisfying) + (again or _is_spent(it, satisfying))
    key = key_of(desired_content(it.manifest, it.scope, attempt).mark())
    obstacle = _obstacle(it, key)
    if obstacle:
        return replace(obstacle, key=key, attempt=attempt)
    return replace(
        it.action(Kind.CREATE, reason, message=_CUT_OFF if pending else ""),
        key=key,
        attempt=attempt,
        source=it.manifest.source,
        dataset=it.manifest.dataset,
        validation=it.manifest.validation.path or "inline" if it.manifest.validation else "",
        hyperparameters=it.manifest.hyperparameters,
        training=estimate_training(it.manifest, it.capabilities),
        changes=it.changes() if reason in {Reason.CONTENT_CHANGED, Reason.PARENT_CHANGED} else (),
        after=it.parent.key if it.parent and not it.parent.ready else "",
        checks=len(it.manifest.checks),
    )


def _obstacle(it: ReconcileContext, key: str) -> Action | None:
    """The hold in the place of a create that cannot succeed, or that nobody asked for."""
    if it.parent and it.parent.hold:
        return it.action(Kind.HOLD, it.parent.hold, message=it.parent.message)
    if it.manifest.dataset.is_unknown:
        return it.action(Kind.HOLD, Reason.DATA_UNKNOWN, message=_NO_DATA.format(it.manifest.name))
    holder = it.taken.get(key)
    if holder:
        message = (
            f"the id {key} is taken by {holder.remote}, which does not bear our mark; "
            f"delete that model, or rename this manifest"
        )
        return replace(it.action(Kind.HOLD, Reason.ID_TAKEN, message=message), remote=holder.remote)
    missing = it.manifest.dataset.error or (it.manifest.validation.error if it.manifest.validation else "")
    if missing:
        return it.action(Kind.HOLD, Reason.DATA_UNAVAILABLE, message=missing)
    untunable = it.untunable.get(it.manifest.source.base_model)
    return it.action(Kind.HOLD, Reason.BASE_MODEL_UNAVAILABLE, message=untunable) if untunable else None


def _adoption(it: ReconcileContext, known: ResolvedGeneration) -> Iterator[Action]:
    if known.locked is None:
        message = "bears our mark, and is not in the lockfile: it is taken up, nothing is trained"
        yield it.action(Kind.ADOPT, Reason.FOUND_UNRECORDED, known, message)


def _in_flight(it: ReconcileContext, known: ResolvedGeneration) -> Iterator[Action]:
    yield from _adoption(it, known)
    timeout = it.manifest.lifecycle.timeout
    begun = parse_time(known.live.start_time if known.live else "")
    started = begun or parse_time(known.create_time)
    passed = it.now - started if started else timedelta()
    queued = "" if begun or passed < _LONG_QUEUE else _queued(known, passed)
    if timeout and passed > timeout:
        late = "the training has taken longer than spec.lifecycle.timeout; it goes on"
        message = f"{queued}; spec.lifecycle.timeout is over" if queued else late
        message = f"{message}, and nobody waits for {known.key}"
        yield it.action(Kind.HOLD, Reason.DEADLINE_EXCEEDED, known, message)
    else:
        yield it.action(Kind.WAIT, Reason.TRAINING, known, queued)


def _queued(known: ResolvedGeneration, passed: timedelta) -> str:
    """What to say of a training that does not begin; empty where the service does not say that it has not begun."""
    phase = known.live.phase if known.live else ""
    if not phase:
        return ""
    hours = passed / timedelta(hours=1)
    return (
        f"the service has shown it as {phase} for {hours:.1f} hours: its location may be short of capacity, or the "
        "project's quota of tuning jobs used up; wait, ask for quota, or cancel the job and choose another location"
    )


def _ready(it: ReconcileContext, known: ResolvedGeneration) -> Iterator[Action]:
    steps = [*_adoption(it, known), *update_actions(it, known), *promotion_actions(it, known)]
    yield from steps or [it.action(Kind.NOOP, Reason.IN_SYNC, known, failed_notice(it, known))]
