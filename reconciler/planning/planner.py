"""Compare desired, live and recorded state, and return the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.access import EVERYONE
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Manifest, RemoteModel, State
from reconciler.domain.money import dollars
from reconciler.domain.plan import (
    Action,
    Kind,
    Observation,
    Plan,
    Reason,
    Request,
    World,
    hold_over_limits,
    hold_over_records,
    limit_notices,
)
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names
from reconciler.planning.costs import hold_over_cost, price_notices, with_costs
from reconciler.planning.decide import decide
from reconciler.planning.diff import ReconcileContext
from reconciler.planning.generations import (
    deleted_generations,
    describe_mismatch,
    find_duplicates,
    find_live_model,
    find_vanished,
    is_suspicious,
    marked_models,
    owners_of,
    resolve_generations,
    resolve_recorded,
)
from reconciler.planning.lineage import ParentGeneration, parents_first, recorded_parent, resolve_parent, with_source
from reconciler.planning.model_catalog import CatalogContext, catalog_warnings, retirement_warnings
from reconciler.planning.observed_events import (
    apply_corrections,
    apply_moved,
    correction_actions,
    declared_names,
    has_content,
    moved_actions,
)
from reconciler.planning.promotion_gates import failed_notice
from reconciler.planning.prune import PruneDecisions, plan_prune
from reconciler.planning.stage_promotions import hold_shared_fields, stage_actions
from reconciler.planning.stages import arrange_stages, stage_notices
from reconciler.planning.training_checks import check_notices
from reconciler.planning.training_time import with_durations

_NAMED = 3
"""How many missing models a message names."""
_TRAINING_HOLDS = frozenset(
    {
        Reason.SUSPENDED,
        Reason.ID_TAKEN,
        Reason.DATA_UNAVAILABLE,
        Reason.DATA_UNKNOWN,
        Reason.BASE_MODEL_UNAVAILABLE,
        Reason.CHECKPOINT_MISSING,
        Reason.INVALID_TRAINING,
        Reason.PARENT_HELD,
        Reason.NOTHING_SERVES,
        Reason.PARENT_ROLLED_BACK,
        Reason.PARENT_SUSPENDED,
    }
)
"""Holds that explain why a requested training does not start."""


class ResolvedManifest(Struct, frozen=True):
    """One manifest with its generations, and its actions."""

    context: ReconcileContext
    actions: tuple[Action, ...]


def resolve_manifests(world: World) -> tuple[ResolvedManifest, ...]:
    """Return each manifest with its generations and actions, before limits and deletions are considered.

    Parents come before their children, because the key of a child depends on its parent's.
    """
    world = replace(world, lock=apply_moved(world.lock, world.manifests))
    observation, lock, scope = world.observation, world.lock, world.scope
    by_name, owners = marked_models(world), owners_of(world)
    taken = {model.chosen_id: model for model in list_unmanaged(world) if model.chosen_id}
    parents: dict[str, ParentGeneration] = {}
    resolved: list[ResolvedManifest] = []
    for manifest in parents_first(world.manifests):
        name, marked = manifest.name, by_name.get(manifest.name, ())
        parent_name = manifest.source.tuned_model
        parent = None
        if parent_name:
            parent = parents.get(parent_name) or recorded_parent(owners.owner(parent_name), lock, observation)
        locked = lock.models.get(name) or LockedModel(manifest.file)
        owner = owners.owner(name)
        generations = resolve_generations(owner, locked, observation, marked)
        context = ReconcileContext(
            manifest=with_source(manifest, parent),
            scope=scope,
            locked=locked,
            generations=(*generations, *deleted_generations(owner, observation, generations)),
            duplicates=find_duplicates(marked),
            taken=taken,
            untunable=observation.untunable,
            request=world.request,
            capabilities=world.capabilities,
            now=world.now,
            parent=parent,
            permissions=observation.permissions,
            unreadable=observation.unreadable,
            checked=world.checked,
            deleted=observation.deleted,
            training_checks=observation.training_checks,
        )
        actions = decide(context)
        parents[name] = resolve_parent(
            context.generations, locked.serving_key, name, actions, promotes=world.request.promotes
        )
        resolved.append(ResolvedManifest(context, actions))
    return tuple(resolved)


def plan(world: World) -> Plan:
    """Return the plan that brings the live state to the desired state, with a hold for what cannot be done."""
    carried = [*moved_actions(world.lock, world.manifests)]
    staged = tuple(stage_notices(world.lock, world.target)) if world.request.promotes else ()
    world = replace(world, lock=apply_moved(_arranged(world), world.manifests))
    carried += correction_actions(world)
    world = apply_corrections(world)
    resolved = resolve_manifests(world)
    manifests = tuple(manifest.context.manifest for manifest in resolved)
    decided = [action for manifest in resolved for action in _with_stages(manifest, world)]
    declared = declared_names(manifests)
    deletions = plan_prune(replace(world, manifests=manifests))
    actions = (*carried, *decided, *(orphan_actions(world, declared) if world.request.complete else ()))
    actions = (*_without_deleted(actions, deletions, declared), *deletions.actions)
    if is_suspicious(world.lock, world.observation):
        message = describe_suspicion(world.lock, world.observation)
        actions = _hold_all(actions, message, include_orphans=world.request.pruning is not None)
        deletions = PruneDecisions()
    claimed = declared | world.lock.models.keys()
    limited = _within_limits(actions, world)
    return Plan(
        actions=tuple(sorted(hold_over_records(limited, world.lock), key=Action.sort_key)),
        notices=(
            *limit_notices(world.lock, world.target),
            *staged,
            *price_notices(limited, world),
            *_serving_notices(resolved),
            *(notice for manifest in resolved for notice in _requested_notices(manifest)),
            *_public_notices(manifests),
            *_suspension_notices(manifests, world),
            *_catalog_notices(world, decided),
            *check_notices(world.observation.training_checks, decided),
            *_idle_request_notices(world.request, decided),
            *(deletions.notices if world.request.pruning else _orphan_notices(world, actions)),
        ),
        unmanaged=len(list_unmanaged(world)),
        candidates=sum(len(models) for name, models in marked_models(world).items() if name not in claimed),
        sources={manifest.name: manifest.source for manifest in manifests},
        kept=deletions.kept,
        skipped=deletions.notices,
    )


def _suspension_notices(manifests: Iterable[Manifest], world: World) -> Iterator[str]:
    for manifest in manifests:
        expired = manifest.lifecycle.suspend
        if expired and expired.has_ended(world.now):
            yield (
                f"the suspension of {manifest.name}{expired} has ended, and the manifest is applied again; remove"
                f" spec.lifecycle.suspend from {manifest.place.file}"
            )


def _arranged(world: World) -> Lock:
    """Return the lock with the stages of the target, if this run may decide about them."""
    stages = tuple(stage.name for stage in world.target.stages)
    return arrange_stages(world.lock, stages) if world.request.promotes else world.lock


def _with_stages(resolved: ResolvedManifest, world: World) -> Iterator[Action]:
    """Yield the actions of a manifest with those of the stages after the first one."""
    later = tuple(stage_actions(resolved.context, resolved.actions, world))
    for action in hold_shared_fields(resolved.context, resolved.actions, world.target):
        if action.reason is not Reason.IN_SYNC or all(other.kind is Kind.HOLD for other in later):
            yield action
    yield from later


def _serving_notices(resolved: Iterable[ResolvedManifest]) -> Iterator[str]:
    actions = (action for manifest in resolved for action in manifest.actions)
    yield from (action.message for action in actions if action.reason is Reason.IN_SYNC and action.message)


def _within_limits(actions: tuple[Action, ...], world: World) -> tuple[Action, ...]:
    """Return the actions with the costs of trainings, and with creates held that are over a limit of the target."""
    limits = world.target.limits
    estimated = with_costs(with_durations(actions, world.lock), world)
    return hold_over_cost(hold_over_limits(estimated, limits), limits.max_cost)


def _without_deleted(
    actions: Iterable[Action], deletions: PruneDecisions, declared: AbstractSet[str]
) -> Iterator[Action]:
    """Return the actions without notes on orphans that are deleted or held, and without updates of deleted models."""
    orphaned = {action.name for action in deletions.actions} - declared
    remotes = {action.remote for action in deletions.actions if action.prunes}
    for action in actions:
        is_orphan = action.reason is Reason.ORPHANED and action.name in orphaned
        is_changed = action.kind is Kind.UPDATE or action.reason is Reason.RECORD_DIFFERS
        if not is_orphan and not (is_changed and action.remote in remotes):
            yield action


def _requested_notices(resolved: ResolvedManifest) -> Iterator[str]:
    """Yield what is unexpected about the generation that a changed lockfile requests to serve."""
    context, key = resolved.context, resolved.context.request.serving.get(resolved.context.manifest.name)
    if key is None or not context.request.promotes or any(action.key == key for action in resolved.actions):
        return
    serving = context.serving
    if serving and serving.key == key:
        yield from filter(None, [failed_notice(context, serving)])
    else:
        keeps = f"{serving.key} keeps serving" if serving else "no generation is serving"
        yield f"{key} is not promoted, although the lockfile names it as serving {context.manifest.name}: {keeps}"


def _public_notices(manifests: Iterable[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if any(grant.grantee == EVERYONE for grant in manifest.access or ()):
            yield f"{manifest.name} is shared with everyone, as spec.access declares"


def _catalog_notices(world: World, actions: Iterable[Action]) -> Iterator[str]:
    """Yield the warnings about base models: about retirement always, about other limits if something is trained."""
    context = CatalogContext.of(world)
    trained = {action.name for action in actions if action.kind is Kind.CREATE}
    for manifest in world.manifests:
        if manifest.source.base_model in world.observation.untunable:
            continue  # the hold has the reason of the service
        found = catalog_warnings if manifest.name in trained else retirement_warnings
        yield from map(str, found(manifest, context))


def _orphan_notices(world: World, actions: Iterable[Action]) -> Iterator[str]:
    """Yield how to decide about the recorded models without a manifest, and which unread files may declare them."""
    names = sorted({action.name for action in actions if action.reason is Reason.ORPHANED})
    unread = {name: reason for name in names if (reason := world.request.unread.reason(name))}
    yield from (f"{name} is recorded, and a manifest may declare it: {reason}" for name, reason in unread.items())
    unselected = sorted(world.lock.models.keys() & world.request.unread.unselected)
    if unselected:
        yield (
            for_target(
                f"recorded, and not selected by the target: {join_names(unselected, _MOST_NAMES)}; nothing is changed"
                " for them; select their manifests in spec.selector, or stop managing them with reconcile forget NAME"
            )
        )
    orphans = [name for name in names if name not in unread]
    if orphans:
        yield (
            for_target(
                f"recorded, and declared by no manifest: {join_names(orphans, _MOST_NAMES)}; review their models with"
                " reconcile prune --dry-run, or keep them with reconcile forget NAME"
            )
        )


def _idle_request_notices(request: Request, actions: Iterable[Action]) -> Iterator[str]:
    """Return a notice for each ``--retry`` and ``--replace`` that starts no training, unless a hold explains it."""
    planned = {(action.name, action.reason) for action in actions}
    held = {action.name for action in actions if action.reason in _TRAINING_HOLDS}
    for names, option, reason, explanation in (
        (request.retry, "--retry", Reason.RETRY_REQUESTED, "its training has not failed, or is already running again"),
        (
            request.replace,
            "--replace",
            Reason.REPLACE_REQUESTED,
            "no generation is ready to be replaced, or its replacement already exists",
        ),
    ):
        idle = (name for name in sorted(names - held) if (name, reason) not in planned)
        yield from (f"{option} {name} has no effect: {explanation}" for name in idle)


def list_unmanaged(world: World) -> list[RemoteModel]:
    """Return the models without the mark of this scope that do not prove a record in the lockfile."""
    owners = owners_of(world)
    recorded = {
        generation.remote
        for name, model in world.lock.models.items()
        for generation in model.generations
        if find_live_model(generation, owners.owner(name), world.observation)
    }
    return [
        live
        for live in world.observation.models.values()
        if not (live.mark and live.mark.scope == world.scope) and live.remote not in recorded
    ]


def _kept_message(name: str, *, unread: bool) -> str:
    kept = "no manifest declares it; it is kept"
    return kept if unread else for_target(f"{kept}; run reconcile forget {name}, or reconcile prune --dry-run {name}")


def orphan_actions(world: World, declared: Iterable[str]) -> Iterator[Action]:
    """Return a no-op for each recorded model that no manifest declares, or a hold for each unproved record."""
    lock, owners = world.lock, owners_of(world)
    for name in sorted(lock.models.keys() - set(declared)):
        locked = lock.models[name]
        deleted = bool(locked.generations) and all(
            generation.state is State.DELETED for generation in locked.generations
        )
        if deleted or not has_content(locked):
            continue
        if name not in world.request.unread.unselected:
            yield Action(
                name=name,
                file=locked.manifest,
                kind=Kind.NOOP,
                reason=Reason.ORPHANED,
                key=locked.serving_key or "",
                message=_kept_message(name, unread=bool(world.request.unread.reason(name))),
            )
        for recorded in locked.generations:
            found = resolve_recorded(recorded, owners.owner(name), world.observation)
            if found.mismatch:
                message = describe_mismatch(found)
                yield Action(name, locked.manifest, Kind.HOLD, Reason.RECORD_MISMATCH, found.key, found.remote, message)


def describe_suspicion(lock: Lock, observation: Observation) -> str:
    """Return the error for an observation in which so many models are gone that it is not trusted."""
    gone = sorted(generation.remote for _, generation in find_vanished(lock, observation))
    named = ", ".join([*gone[:_NAMED], *(["…"] if len(gone) > _NAMED else [])])
    return for_target(
        f"{len(gone)} recorded models are gone at once ({named}), "
        "which looks like a wrong project or wrong credentials; check them, or, if the models really were deleted, "
        "run reconcile refresh --accept-missing, which records that and keeps everything else"
    )


def _hold_all(actions: tuple[Action, ...], message: str, *, include_orphans: bool) -> tuple[Action, ...]:
    held = {action.name: action for action in actions if include_orphans or action.reason is not Reason.ORPHANED}
    return tuple(
        Action(name=name, file=action.file, kind=Kind.HOLD, reason=Reason.LISTING_SUSPICIOUS, message=message)
        for name, action in held.items()
    )


_MOST_NAMES: Final = 5


def cross_target_notices(plan: Plan, provider: str, other_locks: Iterable[Lock]) -> Iterator[str]:
    """Return a notice for each other target that serves models that this plan trains, with the cost if it is known."""
    created = {action.name: action for action in plan.of_kind(Kind.CREATE)}
    for lock in other_locks:
        served = sorted(name for name in created if (model := lock.models.get(name)) and model.serving_key)
        if not served or lock.target is None:
            continue
        costs = [training.cost for name in served if (training := created[name].training) and training.cost]
        totals = [cost.total.amount for cost in costs if cost.total]
        cost = f", which costs {dollars(sum(totals)).approximate}" if totals else ""
        is_same = lock.target.provider == provider
        yield (
            f"target {lock.target.name} ({lock.target.provider}) already serves {join_names(served, _MOST_NAMES)};"
            f" a tuned model cannot be {'copied to another target' if is_same else 'moved to another service'},"
            f" so it is trained again{cost}" + ("; stages of one target train once" if is_same else "")
        )
