"""What to do about one manifest: a pure decision over its generations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.core.diff import content_changes, mutable_changes
from reconciler.core.generations import Known, choose, content_of, satisfies
from reconciler.core.identity import key_of
from reconciler.core.lock import LockedModel, instant
from reconciler.core.model import Capabilities, Manifest, RemoteModel, State
from reconciler.core.plan import EFFECTS, Action, FieldChange, Kind, Reason, Request
from reconciler.core.training import training_of


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the decision about one manifest depends on; ``holder`` finds who holds an id."""

    manifest: Manifest
    scope: str
    locked: LockedModel
    generations: tuple[Known, ...]
    taken: dict[str, RemoteModel]
    request: Request
    capabilities: Capabilities
    now: datetime

    @property
    def satisfying(self) -> tuple[Known, ...]:
        """The generations that are what the manifest asks for."""
        return tuple(one for one in self.generations if satisfies(one, self.manifest))

    def action(self, kind: Kind, reason: Reason, known: Known | None = None, message: str = "") -> Action:
        """An action about this manifest, and about that generation of it."""
        return Action(
            name=self.manifest.name,
            file=self.manifest.file,
            kind=kind,
            reason=reason,
            key=known.key if known else "",
            remote=known.remote if known else "",
            attempt=known.mark.attempt if known else 0,
            message=message,
        )


def decide(it: Situation) -> tuple[Action, ...]:
    """The actions for one manifest, in the order of execution."""
    actions = tuple(_decide(it))
    if not it.manifest.lifecycle.suspend:
        return actions
    blocked = ", ".join(str(one.kind) for one in actions if one.kind in EFFECTS)
    message = f"spec.lifecycle.suspend holds back: {blocked}" if blocked else "spec.lifecycle.suspend is set"
    return (it.action(Kind.HOLD, Reason.SUSPENDED, message=message),)


def _decide(it: Situation) -> Iterator[Action]:
    satisfying = it.satisfying
    replacing = it.manifest.name in it.request.replace
    chosen = choose(satisfying, it.locked.serving, it.locked.rejected, replacing=replacing)
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
    yield from _serving_updates(it)


def _again(it: Situation, satisfying: tuple[Known, ...], chosen: Known | None) -> Reason | None:
    """Whether somebody asked for one more training; one in flight, or made and not recorded, is that training."""
    name = it.manifest.name
    failed = any(one.state is State.FAILED for one in satisfying)
    if name in it.request.retry and chosen is None and failed:
        return Reason.RETRY_REQUESTED
    if name in it.request.replace and chosen is not None and chosen.state is State.ACTIVE:
        made = chosen.locked is None and chosen.mark.attempt > 0
        return None if made else Reason.REPLACE_REQUESTED
    return None


def _absent(it: Situation, satisfying: tuple[Known, ...]) -> Action:
    name = it.manifest.name
    rejected = [one for one in satisfying if one.key in it.locked.rejected]
    if rejected:
        message = "the generation that satisfies this manifest was rolled back, and is not trained again"
        return it.action(Kind.HOLD, Reason.ROLLED_BACK, rejected[0], message)
    failed = max(satisfying, key=_age, default=None)
    if failed and failed.state is State.FAILED and _is_what_failed(it, failed):
        return it.action(
            Kind.HOLD,
            Reason.FAILED,
            failed,
            f"{_cause(failed)}; change the inputs, or train it again with --retry {name}",
        )
    return _create(it, satisfying, _why_create(it, satisfying))


def _is_what_failed(it: Situation, failed: Known) -> bool:
    """Whether the manifest still says what failed; to leave a hyperparameter to the service again is a change."""
    if failed.mark.spec == content_of(it.manifest, it.scope, failed.mark.attempt).mark().spec:
        return True
    return failed.locked is not None and failed.locked.declared.keys() <= it.manifest.hyperparameters.keys()


def _age(known: Known) -> tuple[int, datetime, str]:
    return known.mark.attempt, known.moment, known.key


def _cause(known: Known) -> str:
    return (
        known.failure.message.rstrip(".")
        if known.failure
        else "the training failed, and the service no longer tells why"
    )


def _why_create(it: Situation, satisfying: tuple[Known, ...]) -> Reason:
    if any(one.state is State.MISSING for one in satisfying):
        return Reason.MISSING
    return Reason.CONTENT_CHANGED if it.locked.generations else Reason.NOT_FOUND


def _create(it: Situation, satisfying: tuple[Known, ...], reason: Reason) -> Action:
    seen = max((one.mark.attempt for one in satisfying), default=0)
    attempt = seen + 1 if reason in {Reason.RETRY_REQUESTED, Reason.REPLACE_REQUESTED} else seen
    key = key_of(content_of(it.manifest, it.scope, attempt).mark())
    holder = it.taken.get(key)
    if holder:
        message = (
            f"the id {key} is taken by {holder.remote}, which does not bear our mark; "
            f"delete that model, or rename this manifest"
        )
        return replace(it.action(Kind.HOLD, Reason.ID_TAKEN, message=message), key=key, remote=holder.remote)
    return replace(
        it.action(Kind.CREATE, reason),
        key=key,
        attempt=attempt,
        source=it.manifest.source,
        dataset=it.manifest.dataset.path,
        training=training_of(it.manifest, it.capabilities),
        changes=_why_changed(it) if reason is Reason.CONTENT_CHANGED else (),
    )


def _why_changed(it: Situation) -> tuple[FieldChange, ...]:
    """What differs from the generation that serves, or else from the newest recorded one."""
    recorded = [one for one in it.generations if one.locked]
    reference = next((one for one in recorded if one.key == it.locked.serving), recorded[0] if recorded else None)
    return content_changes(it.manifest, reference) if reference else ()


def _adoption(it: Situation, known: Known) -> Iterator[Action]:
    if known.locked is None:
        message = "bears our mark, and is not in the lockfile: it is taken up, nothing is trained"
        yield it.action(Kind.ADOPT, Reason.FOUND_UNRECORDED, known, message)


def _in_flight(it: Situation, known: Known) -> Iterator[Action]:
    yield from _adoption(it, known)
    timeout = it.manifest.lifecycle.timeout
    started = instant((known.live.start_time if known.live else "") or known.create_time)
    if timeout and started and it.now - started > timeout:
        message = (
            f"the training has taken longer than spec.lifecycle.timeout; it goes on, and nobody waits for {known.key}"
        )
        yield it.action(Kind.HOLD, Reason.DEADLINE_EXCEEDED, known, message)
    else:
        yield it.action(Kind.WAIT, Reason.TRAINING, known)


def _ready(it: Situation, known: Known) -> Iterator[Action]:
    steps = [*_adoption(it, known), *_updates(it, known)]
    if known.key != it.locked.serving:
        steps += [*_serving_updates(it), _promotion(it, known)]
    yield from steps or [it.action(Kind.NOOP, Reason.IN_SYNC, known)]


def _promotion(it: Situation, known: Known) -> Action:
    if it.manifest.checks:
        message = (
            "the manifest has checks, and this version of reconcile cannot run them; remove spec.checks to serve it"
        )
        return it.action(Kind.HOLD, Reason.CHECKS_NOT_RUN, known, message)
    message = f"it takes over from {it.locked.serving}" if it.locked.serving else ""
    return replace(it.action(Kind.PROMOTE, Reason.READY, known, message), changes=_why_changed(it))


def _serving_updates(it: Situation) -> Iterator[Action]:
    for known in it.generations:
        if known.key == it.locked.serving and known.state is State.ACTIVE:
            yield from _updates(it, known)


def _updates(it: Situation, known: Known) -> Iterator[Action]:
    changes = mutable_changes(it.manifest, known.live) if known.live else ()
    if changes:
        yield replace(it.action(Kind.UPDATE, Reason.DRIFTED, known), changes=changes)
