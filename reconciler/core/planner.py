"""From what is declared, observed and recorded to a plan; options and time are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from reconciler.core.decide import Situation, decide
from reconciler.core.generations import (
    Observation,
    doubles,
    is_suspicious,
    known_generations,
    marked_by_name,
    vanished,
)
from reconciler.core.lock import Lock, LockedModel
from reconciler.core.model import Capabilities, Manifest, RemoteModel, Target
from reconciler.core.plan import Action, Kind, Plan, Reason, Request, guarded, limit_notices

_NAMED = 3
"""How many of the vanished models a message names."""
_TELLING = frozenset({Reason.SUSPENDED, Reason.ID_TAKEN, Reason.DATA_UNAVAILABLE, Reason.BASE_MODEL_UNAVAILABLE})
"""Holds that say why a training that was asked for is not begun."""


def plan(
    desired: Sequence[Manifest],
    observed: Observation,
    lock: Lock,
    target: Target,
    request: Request,
    capabilities: Capabilities,
    now: datetime,
) -> Plan:
    """The plan that brings the service to what is declared, as far as nothing holds it back."""
    foreign, marked = _unclaimed(observed, lock, target.scope), marked_by_name(target.scope, observed)
    taken = {model.chosen_id: model for model in foreign if model.chosen_id}
    declared = {manifest.name for manifest in desired}
    situations = (
        Situation(
            manifest=manifest,
            scope=target.scope,
            locked=(locked := lock.models.get(manifest.name) or LockedModel(manifest.file)),
            generations=known_generations(manifest.name, target.scope, locked, observed, marked.get(manifest.name, ())),
            doubles=doubles(marked.get(manifest.name, ())),
            taken=taken,
            untunable=observed.untunable,
            request=request,
            capabilities=capabilities,
            now=now,
        )
        for manifest in desired
    )
    actions = [action for situation in situations for action in decide(situation)]
    orphans = _orphans(lock, declared) if request.complete else ()
    ordered = tuple(sorted([*actions, *orphans], key=Action.order))
    if is_suspicious(lock, observed):
        ordered = _all_held(ordered, lock, observed)
    return Plan(
        actions=guarded(ordered, target.limits),
        notices=limit_notices(lock, target) + tuple(_idle_requests(request, actions)),
        unmanaged=len(foreign),
        candidates=sum(len(models) for name, models in marked.items() if name not in declared | lock.models.keys()),
    )


def _idle_requests(request: Request, actions: Iterable[Action]) -> Iterator[str]:
    """Sentences about requests for one more training that lead to none, where no hold says so already."""
    answered = {(action.name, action.reason) for action in actions}
    held = {action.name for action in actions if action.reason in _TELLING}
    for names, option, reason, why in (
        (request.retry, "--retry", Reason.RETRY_REQUESTED, "its training has not failed, or is running again already"),
        (
            request.replace,
            "--replace",
            Reason.REPLACE_REQUESTED,
            "nothing is ready to be replaced, or its replacement is there already",
        ),
    ):
        idle = (name for name in sorted(names - held) if (name, reason) not in answered)
        yield from (f"{option} {name} does nothing: {why}" for name in idle)


def _unclaimed(observed: Observation, lock: Lock, scope: str) -> list[RemoteModel]:
    """The models that are not ours: without the mark of our scope, and not what a lockfile entry was created as."""
    recorded = {one.remote: one for model in lock.models.values() for one in model.generations}
    return [
        model
        for model in observed.models.values()
        if not (model.mark and model.mark.scope == scope)
        and not (model.remote in recorded and recorded[model.remote].is_same(model))
    ]


def _orphans(lock: Lock, declared: Iterable[str]) -> Iterator[Action]:
    for name in sorted(lock.models.keys() - set(declared)):
        locked = lock.models[name]
        yield Action(
            name=name,
            file=locked.manifest,
            kind=Kind.NOOP,
            reason=Reason.ORPHANED,
            key=locked.serving or "",
            message="no manifest declares it any more; it is kept as it is",
        )


def _all_held(actions: tuple[Action, ...], lock: Lock, observed: Observation) -> tuple[Action, ...]:
    gone = sorted(one.remote for _, one in vanished(lock, observed))
    named = ", ".join([*gone[:_NAMED], *(["…"] if len(gone) > _NAMED else [])])
    message = (
        f"{len(gone)} recorded models are gone at once ({named}), "
        "which looks like a wrong project or wrong credentials; check them, or, if they really were deleted, "
        "move the lockfile away: the next run rebuilds it"
    )
    names = {action.name: action for action in actions if action.reason is not Reason.ORPHANED}
    return tuple(
        Action(name=name, file=action.file, kind=Kind.HOLD, reason=Reason.LISTING_SUSPICIOUS, message=message)
        for name, action in names.items()
    )
