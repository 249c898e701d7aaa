"""From what is declared, observed and recorded to a plan; options and time are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.domain.access import EVERYONE
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Capabilities, Manifest, RemoteModel, Target
from reconciler.domain.plan import Action, Kind, Plan, Reason, Request, hold_over_limits, limit_notices
from reconciler.planning.context import ReconcileContext
from reconciler.planning.decide import decide
from reconciler.planning.generations import (
    Observation,
    find_duplicates,
    find_vanished,
    is_suspicious,
    marked_models,
    resolve_generations,
)
from reconciler.planning.lineage import ParentGeneration, parents_first, recorded_parent, resolve_parent, with_source
from reconciler.planning.moved import apply_moved, declared_names, has_content, moved_actions
from reconciler.planning.prune import PruneDecisions, plan_prune

_NAMED = 3
"""How many of the vanished models a message names."""
_TELLING = frozenset(
    {
        Reason.SUSPENDED,
        Reason.ID_TAKEN,
        Reason.DATA_UNAVAILABLE,
        Reason.DATA_UNKNOWN,
        Reason.BASE_MODEL_UNAVAILABLE,
        Reason.PARENT_HELD,
        Reason.PARENT_ROLLED_BACK,
        Reason.PARENT_SUSPENDED,
    }
)
"""Holds that say why a training that was asked for is not begun."""


@dataclass(frozen=True, slots=True)
class ResolvedManifest:
    """One manifest as it stands, and what is to be done about it."""

    context: ReconcileContext
    actions: tuple[Action, ...]


def resolve_manifests(
    desired: Sequence[Manifest],
    observed: Observation,
    lock: Lock,
    target: Target,
    request: Request,
    capabilities: Capabilities,
    now: datetime,
) -> tuple[ResolvedManifest, ...]:
    """What each manifest is, and what is to be done about it, before anything is weighed against anything else.

    Parents are decided about before what is tuned from them, as the key of a child follows from its parent's.
    """
    lock = apply_moved(lock, desired)
    by_name = marked_models(target.scope, observed, lock, desired)
    taken = {model.chosen_id: model for model in list_unmanaged(observed, lock, target.scope) if model.chosen_id}
    parents: dict[str, ParentGeneration] = {}
    surveyed: list[ResolvedManifest] = []
    for manifest in parents_first(desired):
        marked = by_name.get(manifest.name, ())
        parent = _parent(manifest.source.tuned_model, parents, target.scope, lock, observed)
        context = ReconcileContext(
            manifest=with_source(manifest, parent),
            scope=target.scope,
            locked=(locked := lock.models.get(manifest.name) or LockedModel(manifest.file)),
            generations=resolve_generations(manifest.name, target.scope, locked, observed, marked),
            duplicates=find_duplicates(marked),
            taken=taken,
            untunable=observed.untunable,
            request=request,
            capabilities=capabilities,
            now=now,
            parent=parent,
            permissions=observed.permissions,
            unreadable=observed.unreadable,
        )
        decided = decide(context)
        parents[manifest.name] = resolve_parent(context.generations, locked.serving, manifest.name, decided)
        surveyed.append(ResolvedManifest(context, decided))
    return tuple(surveyed)


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
    carrying, lock = tuple(moved_actions(lock, desired)), apply_moved(lock, desired)
    surveyed = resolve_manifests(desired, observed, lock, target, request, capabilities, now)
    actions = [action for one in surveyed for action in one.actions]
    declared = declared_names(desired)
    sources = {one.context.manifest.name: one.context.manifest.source for one in surveyed}
    pruning = plan_prune([one.context.manifest for one in surveyed], observed, lock, target, request, capabilities, now)
    everything = (*carrying, *actions, *(orphan_actions(lock, declared) if request.complete else ()))
    everything = (*_lasting(everything, pruning), *pruning.actions)
    if is_suspicious(lock, observed):
        everything = _all_held(
            everything, describe_suspicion(lock, observed), include_orphans=request.pruning is not None
        )
        pruning = PruneDecisions()
    marked = marked_models(target.scope, observed, lock, desired)
    return Plan(
        actions=tuple(sorted(hold_over_limits(everything, target.limits), key=Action.sort_key)),
        notices=(
            *limit_notices(lock, target),
            *_standing(actions),
            *_public(desired),
            *_idle_requests(request, actions),
        ),
        unmanaged=len(list_unmanaged(observed, lock, target.scope)),
        candidates=sum(len(models) for name, models in marked.items() if name not in declared | lock.models.keys()),
        sources=sources,
        kept=pruning.kept,
    )


def _lasting(actions: Iterable[Action], pruning: PruneDecisions) -> Iterator[Action]:
    """The actions but those that say nothing, or write in vain, because what they are about is deleted."""
    orphaned = {action.name for action in pruning.actions if action.reason is Reason.ORPHANED_MODEL}
    remotes = {action.remote for action in pruning.actions if action.prunes}
    for action in actions:
        is_orphan = action.reason is Reason.ORPHANED and action.name in orphaned
        if not is_orphan and not (action.kind is Kind.UPDATE and action.remote in remotes):
            yield action


def _parent(
    name: str, parents: Mapping[str, ParentGeneration], scope: str, lock: Lock, observed: Observation
) -> ParentGeneration | None:
    if not name:
        return None
    return parents.get(name) or recorded_parent(name, scope, lock, observed)


def _standing(actions: Iterable[Action]) -> Iterator[str]:
    """What is to be said of models about which nothing is to be done."""
    yield from (action.message for action in actions if action.reason is Reason.IN_SYNC and action.message)


def _public(desired: Iterable[Manifest]) -> Iterator[str]:
    """Sentences about models that everyone may use."""
    for manifest in desired:
        if any(grant.grantee == EVERYONE for grant in manifest.access or ()):
            yield f"{manifest.name} is shared with everyone, as spec.access declares"


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


def list_unmanaged(observed: Observation, lock: Lock, scope: str) -> list[RemoteModel]:
    """The models that are not ours: without the mark of our scope, and not what a lockfile entry was created as."""
    recorded = {one.remote: one for model in lock.models.values() for one in model.generations}
    return [
        model
        for model in observed.models.values()
        if not (model.mark and model.mark.scope == scope)
        and not (model.remote in recorded and recorded[model.remote].is_same(model))
    ]


def orphan_actions(lock: Lock, declared: Iterable[str]) -> Iterator[Action]:
    """What is recorded and no longer declared."""
    for name in sorted(lock.models.keys() - set(declared)):
        locked = lock.models[name]
        if not has_content(locked):
            continue
        yield Action(
            name=name,
            file=locked.manifest,
            kind=Kind.NOOP,
            reason=Reason.ORPHANED,
            key=locked.serving or "",
            message="no manifest declares it any more; it is kept as it is",
        )


def describe_suspicion(lock: Lock, observed: Observation) -> str:
    """What is to be said where so much is gone that it is not believed, as :func:`is_suspicious` tells."""
    gone = sorted(one.remote for _, one in find_vanished(lock, observed))
    named = ", ".join([*gone[:_NAMED], *(["…"] if len(gone) > _NAMED else [])])
    return (
        f"{len(gone)} recorded models are gone at once ({named}), "
        "which looks like a wrong project or wrong credentials; check them, or, if they really were deleted, "
        "move the lockfile away: the next run rebuilds it"
    )


def _all_held(actions: tuple[Action, ...], message: str, *, include_orphans: bool) -> tuple[Action, ...]:
    names = {action.name: action for action in actions if include_orphans or action.reason is not Reason.ORPHANED}
    return tuple(
        Action(name=name, file=action.file, kind=Kind.HOLD, reason=Reason.LISTING_SUSPICIOUS, message=message)
        for name, action in names.items()
    )
