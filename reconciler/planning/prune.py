"""Plan the deletions of ``prune``, and give the reasons for each generation that is kept.

A generation is deleted only if ``prune_rules`` has no reason to keep it and no kept generation descends from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.lock import EARLIEST, Lock, LockedGeneration, LockedModel, parse_time
from reconciler.domain.model import CANCELLED_CODE, Failure, Manifest, Source, State, Target
from reconciler.domain.plan import Action, Deletion, KeptGeneration, Kind, Plan, Pruning, Reason, Unread, World
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names
from reconciler.planning.generations import (
    ResolvedGeneration,
    owners_of,
    resolve_generations,
    resolve_recorded,
    satisfies,
)
from reconciler.planning.lineage import Ancestry
from reconciler.planning.live_proof import Owner
from reconciler.planning.prune_rules import LiveGeneration, PruneContext, describe_retention, reasons_to_keep

NO_MANIFEST: Final = "(no manifest)"
"""Replaces the path of the manifest if neither a manifest nor the lockfile has the name."""
_NAMED: Final = 10
"""How many files a notice names."""
_UNSUCCESSFUL: Final = {State.FAILED: Reason.FAILED_TRAINING, State.CANCELLED: Reason.CANCELLED_TRAINING}


class PruneDecisions(Struct, frozen=True):
    """The deletions, or the holds in their place, and the generations that are kept."""

    actions: tuple[Action, ...] = ()
    kept: tuple[KeptGeneration, ...] = ()
    notices: tuple[str, ...] = ()
    """About kept orphans, and about the manifests that were not read, if something is deleted."""


def plan_prune(world: World) -> PruneDecisions:
    """Return the deletions that the request allows, and the generations that are kept.

    The sources of the manifests name the chosen parent generations. The caller must refuse suspicious observations.
    """
    if world.request.pruning is None:
        return PruneDecisions()
    context = _context(world, world.request.pruning)
    existing = _ranked(context, [*_recorded(context), *_unrecorded(context)])
    kept = {live.remote: reason for live in existing if (reason := "; ".join(reasons_to_keep(context, live)))}
    kept |= _kept_ancestors(context, existing, kept, context.declared)
    deleted = [live for live in existing if live.remote not in kept]
    records = tuple(_records(context, existing))
    actions = _limited(_deletions(context, deleted), deleted, _managed(context, existing), world.target)
    return PruneDecisions(
        actions=(*actions, *records),
        kept=tuple(
            KeptGeneration(live.name, live.key, live.remote, kept[live.remote])
            for live in sorted(existing, key=lambda live: (live.name, live.key, live.remote))
            if live.remote in kept
        ),
        notices=(
            *_kept_orphans(context, existing, kept),
            *(unread_notices(world.request.unread) if actions or records else ()),
        ),
    )


def _kept_orphans(context: PruneContext, existing: Iterable[LiveGeneration], kept: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence about each recorded model without a manifest that is kept, unless it was not named."""
    names = context.pruning.names
    reasons: dict[str, str] = {}
    for generation in existing:
        recorded = generation.name in context.world.lock.models
        expected = context.pruning.destroys or context.is_orphan(generation.name)
        if recorded and expected and generation.remote in kept and (not names or generation.name in names):
            reasons.setdefault(generation.name, kept[generation.remote])
    for name, reason in sorted(reasons.items()):
        unread = not names and context.world.request.unread.reason(name)
        yield f"{name} is kept: {reason}" + (
            for_target(f"; if it is not wanted, run reconcile prune --dry-run {name}") if unread else ""
        )


def unread_notices(unread: Unread) -> Iterator[str]:
    """Yield a sentence about the manifests that were not read, if there are any."""
    if unread.files:
        yield f"not read, although they contain manifests or commented ones: {join_names(unread.files, _NAMED)}"


def _records(context: PruneContext, existing: Iterable[LiveGeneration]) -> Iterator[Action]:
    """Yield the removal of each orphan from the lockfile of which nothing exists at the service.

    These are failed, canceled and missing trainings, whose models are gone, and the rest of an interrupted run.
    """
    alive, owners = {generation.name for generation in existing}, owners_of(context.world)
    for name, model in sorted(context.world.lock.models.items()):
        resolved = [
            resolve_recorded(generation, owners.owner(name), context.world.observation)
            for generation in model.generations
        ]
        over = all(not generation.mismatch and generation.state in _ENDED for generation in resolved)
        held = model.protect or model.barred_keys or context.world.request.unread.reason(name)
        named = name in context.pruning.names
        if not (context.is_orphan(name) and resolved and over) or name in alive:
            continue
        if named or not (held or context.pruning.names or context.pruning.older_than):
            yield Action(
                name=name,
                file=model.manifest,
                kind=Kind.DELETE,
                reason=Reason.ORPHANED_MODEL,
                key=model.serving_key or resolved[0].key,
                message=f"{_cause(context, name)}, and none of its models exists; its record is removed",
                deletion=Deletion(create_time=resolved[0].create_time),
            )


def deletions_only(plan: Plan) -> Plan:
    """Return the plan with its deletions, their holds and those of unproved records only."""
    kept = {Reason.LISTING_SUSPICIOUS, Reason.RECORD_MISMATCH}
    deletions = tuple(action for action in plan.actions if action.deletion or action.reason in kept)
    return replace(plan, actions=deletions, notices=plan.skipped)


def approved_only(current: Plan, approved: Plan) -> Plan:
    """Return the current plan without the deletions that the approved plan does not have; holds stay."""
    known = {(action.name, action.key, action.remote) for action in approved.actions}
    actions = tuple(
        action for action in current.actions if not action.prunes or (action.name, action.key, action.remote) in known
    )
    return replace(current, actions=actions)


def without_deletions(plan: Plan, remaining: Plan) -> Plan:
    """Return the plan without deletions, with the notices of ``remaining`` and the number of its deletions."""
    count = sum(action.prunes for action in remaining.actions)
    more = "1 more generation" if count == 1 else f"{count} more generations"
    notices = (for_target(f"{more} can be deleted; run reconcile prune --dry-run"),) if count else ()
    actions = tuple(action for action in plan.actions if not action.prunes)
    return replace(
        plan, actions=actions, notices=tuple(dict.fromkeys((*plan.notices, *remaining.notices, *notices))), kept=()
    )


def _context(world: World, pruning: Pruning) -> PruneContext:
    provider = world.target.provider
    same_provider = [other for other in pruning.others if not other.target or other.target.provider == provider]
    return PruneContext(
        world=world,
        pruning=replace(pruning, others=tuple(same_provider)),
        manifests={
            name: manifest
            for manifest in world.manifests
            for name in manifest.names
            if not _is_destroyed(manifest, world.now, pruning)
        },
        relied_on_elsewhere=dict(pair for other in same_provider for pair in _relied_on(other)),
        recorded_elsewhere=frozenset().union(*map(_recorded_remotes, same_provider)),
    )


def _is_destroyed(manifest: Manifest, now: datetime, pruning: Pruning) -> bool:
    lifecycle = manifest.lifecycle
    chosen = pruning.destroys and not pruning.names.isdisjoint(manifest.names)
    return chosen and not (lifecycle.protect or lifecycle.suspension(now))


def _recorded_remotes(lock: Lock) -> frozenset[str]:
    return frozenset(generation.remote for model in lock.models.values() for generation in model.generations)


def _relied_on(other: Lock) -> Iterator[tuple[str, str]]:
    """Return the models that another lockfile protects, publishes or serves, by remote name, with the reason."""
    lockfile = f"the lockfile of target {other.target.name}" if other.target else "another lockfile"
    for model in other.models.values():
        if model.protect:
            yield from ((generation.remote, f"{lockfile} protects it") for generation in model.generations)
        for key, use in _uses(model):
            generation = model.generation(key)
            if generation:
                yield generation.remote, f"{lockfile} records it as {use}"


def _uses(model: LockedModel) -> Iterator[tuple[str | None, str]]:
    """Yield the keys that pointers and stages name, with what for; the last reason for a key counts."""
    for stage, record in model.stages.items():
        yield record.previous, f"the one that was serving in {stage} before"
        yield record.requested, f"requested in {stage}"
        yield record.published, f"published in {stage}"
        yield record.serving, f"serving in {stage}"
    yield model.published, "published"
    yield model.serving_key, "serving"


def _recorded(context: PruneContext) -> Iterator[LiveGeneration]:
    owners = owners_of(context.world)
    for name, model in context.world.lock.models.items():
        for recorded in model.generations:
            generation = resolve_recorded(recorded, owners.owner(name), context.world.observation)
            other = context.world.observation.models.get(recorded.remote)
            if generation.mismatch and other:
                yield LiveGeneration(name, generation, other, wanted=False)
            elif generation.live and generation.state not in ABSENT:
                wanted = _is_wanted(context, name, generation)
                yield LiveGeneration(name, generation, generation.live, wanted=wanted)


def _unrecorded(context: PruneContext) -> Iterator[LiveGeneration]:
    """Return the models with the mark of this scope that this lockfile does not record."""
    scope, recorded = context.world.scope, _recorded_remotes(context.world.lock)
    for live in context.world.observation.models.values():
        if live.mark and live.mark.scope == scope and live.remote not in recorded:
            manifest = context.manifests.get(live.mark.name)
            name = manifest.name if manifest else live.mark.name
            for generation in resolve_generations(Owner(scope, name), None, context.world.observation, [live]):
                yield LiveGeneration(name, generation, live, wanted=_is_wanted(context, name, generation))


def _is_wanted(context: PruneContext, name: str, generation: ResolvedGeneration) -> bool:
    manifest = context.manifests.get(name)
    usable = generation.state is State.ACTIVE and generation.key not in context.block(name).rejected
    return bool(manifest and usable and satisfies(generation, manifest))


def _ranked(context: PruneContext, existing: Iterable[LiveGeneration]) -> list[LiveGeneration]:
    """Return the generations with their ranks: serving, wanted, and usable ones first, then the newest."""

    def order(live: LiveGeneration) -> tuple[bool, bool, bool, float, str]:
        block = context.block(live.name)
        age = (context.world.now - live.resolved.created_at).total_seconds()
        return not block.serves(live.key), not live.wanted, _is_unusable(block, live), age, live.key

    counts: dict[str, int] = {}
    ranked = []
    for live in sorted(existing, key=order):
        ranked.append(replace(live, rank=counts.setdefault(live.name, 0)))
        if live.locked and live.resolved.state is State.ACTIVE:
            counts[live.name] += 1
    return ranked


def _is_unusable(block: LockedModel, live: LiveGeneration) -> bool:
    """Return whether no rollback would promote it: it was rejected, or failed its checks and was never promoted."""
    checks = live.locked.checks if live.locked else None
    failed = bool(checks and checks.failed and live.locked and not live.locked.promote_time)
    return live.key in block.rejected or failed


def _kept_ancestors(
    context: PruneContext,
    existing: Sequence[LiveGeneration],
    kept: Mapping[str, str],
    manifests: Iterable[Manifest],
) -> dict[str, str]:
    """Return the ancestors of everything that is kept, by remote name, with the reason."""
    ancestry = _ancestry(context, existing)
    reasons: dict[str, str] = {}
    for descendant, sources in _kept_descendants(context, existing, kept, manifests):
        for remote in ancestry.ancestors(sources) - kept.keys():
            reasons.setdefault(remote, f"{descendant} is tuned from it")
    return reasons


def _ancestry(context: PruneContext, existing: Iterable[LiveGeneration]) -> Ancestry:
    """Return the ancestry of all recorded and live models."""
    ancestry = Ancestry()
    for lock in (context.world.lock, *context.pruning.others):
        for model in lock.models.values():
            for recorded in model.generations:
                ancestry.add(recorded.remote, (recorded.key, recorded.resources.model), (recorded.source,))
    for live in context.world.observation.models.values():
        ancestry.add(live.remote, (live.resources.model,), (live.source,) if live.source else ())
    for generation in existing:
        ancestry.add(generation.remote, (generation.key,), generation.sources)
    return ancestry


def _kept_descendants(
    context: PruneContext,
    existing: Iterable[LiveGeneration],
    kept: Mapping[str, str],
    manifests: Iterable[Manifest],
) -> Iterator[tuple[str, tuple[Source, ...]]]:
    """Return everything that is not deleted in this run, with its sources."""
    deleted = {generation.remote for generation in existing} - kept.keys()
    for manifest in manifests:
        yield f"the manifest {manifest.name}", (manifest.source,)
    for generation in existing:
        if generation.remote in kept:
            yield generation.key, generation.sources
    for live in context.world.observation.models.values():
        if live.remote not in deleted and live.source:
            yield live.remote, (live.source,)
    for lock in (context.world.lock, *context.pruning.others):
        for model in lock.models.values():
            for recorded in model.generations:
                if recorded.state in {State.INTENDED, State.CREATING, State.ACTIVE} and recorded.remote not in deleted:
                    yield recorded.key, (recorded.source,)


def _deletions(context: PruneContext, deleted: Sequence[LiveGeneration]) -> tuple[Action, ...]:
    ancestry = _ancestry(context, deleted)
    descendants: dict[str, set[str]] = {generation.remote: set() for generation in deleted}
    for generation in deleted:
        for remote in ancestry.ancestors(generation.sources) & descendants.keys() - {generation.remote}:
            descendants[remote].add(generation.remote)
    return tuple(
        _deletion_action(context, generation, frozenset(descendants[generation.remote])) for generation in deleted
    )


def _deletion_action(context: PruneContext, generation: LiveGeneration, descendants: frozenset[str]) -> Action:
    reason, message = _reason(context, generation)
    return Action(
        name=generation.name,
        file=context.block(generation.name).manifest or NO_MANIFEST,
        kind=Kind.DELETE,
        reason=reason,
        key=generation.key,
        remote=generation.remote,
        attempt=generation.resolved.mark.attempt,
        message=message,
        deletion=_deletion(context, generation),
        descendants=descendants,
    )


def _reason(context: PruneContext, generation: LiveGeneration) -> tuple[Reason, str]:
    locked, resolved, name = generation.locked, generation.resolved, generation.name
    if locked is None:
        return Reason.ABANDONED, "it has the mark of this scope, and this lockfile does not record it"
    block = context.block(name)
    if context.is_orphan(name):
        serving = (
            "; it is recorded as serving, and is taken out of service first" if locked.key in block.served_keys else ""
        )
        return Reason.ORPHANED_MODEL, f"{_cause(context, name)}{serving}"
    if resolved.state in _UNSUCCESSFUL:
        cause = resolved.failure.message.rstrip(".") if resolved.failure else "the service reports no reason"
        return _UNSUCCESSFUL[resolved.state], cause
    rule = f"{describe_retention(context.manifests[name])}, and others come first"
    if locked.key in block.rejected:
        rejection = f": {locked.rejection.rstrip('.')}" if locked.rejection else ""
        return Reason.SUPERSEDED, f"it was rejected{rejection}; {rule}"
    return Reason.SUPERSEDED, rule


def _cause(context: PruneContext, name: str) -> str:
    if name in context.world.request.unread.unselected:
        return f"the target does not select {name}"
    declared = any(name in manifest.names for manifest in context.world.manifests)
    return f"{name} is destroyed on request" if declared else f"no manifest declares {name}"


def _deletion(context: PruneContext, generation: LiveGeneration) -> Deletion:
    locked, created = generation.locked, parse_time(generation.live.create_time)
    block = context.block(generation.name)
    serves = locked is not None and locked.key in block.served_keys
    promote_time = locked.promote_time if locked else ""
    return Deletion(
        create_time=generation.live.create_time,
        age_seconds=round((context.world.now - created).total_seconds()) if created else None,
        served_from=promote_time,
        served_until="" if serves else _next_promotion(block, promote_time),
        serves=serves,
        examples=locked.dataset.examples if locked else 0,
        size=locked.dataset.size if locked else 0,
        checkpoints=len(generation.live.resources.checkpoints),
    )


def _next_promotion(block: LockedModel, promote_time: str) -> str:
    """Return the time of the first promotion after ``promote_time``, empty if there is none."""
    since = parse_time(promote_time)
    if since is None:
        return ""
    times = {recorded.promote_time: parse_time(recorded.promote_time) or EARLIEST for recorded in block.generations}
    return min((time for time in times if times[time] > since), key=times.__getitem__, default="")


def _managed(context: PruneContext, existing: Iterable[LiveGeneration]) -> set[str]:
    """Return the remote names of the models that this run could delete."""
    unrecorded = context.pruning.older_than is not None
    return {
        live.remote
        for live in existing
        if context.has_model(live) and (live.locked or unrecorded) and not live.resolved.mismatch
    }


def _limited(
    actions: tuple[Action, ...], deleted: Sequence[LiveGeneration], managed: set[str], target: Target
) -> tuple[Action, ...]:
    """Return the actions, all held if together they exceed both limits.maxDeletes and limits.maxDeletePercent."""
    limits, count = target.limits, len({live.remote for live in deleted} & managed)
    if count <= limits.max_deletes or 100 * count <= limits.max_delete_percent * len(managed):
        return actions
    message = (
        f"{count} of {len(managed)} managed models would be deleted, over the target's limits.maxDeletes of"
        f" {limits.max_deletes} and limits.maxDeletePercent of {limits.max_delete_percent}, so none is; raise one of"
        " them in spec.limits of the target, or delete fewer with --only, -l or --older-than"
    )
    return tuple(replace(action, kind=Kind.HOLD, reason=Reason.GUARDED, message=message) for action in actions)


ABSENT: Final = frozenset({State.MISSING, State.DELETED})
"""States of generations that no longer exist at the service."""
_ENDED: Final = ABSENT | _UNSUCCESSFUL.keys()
_DELETED_RECORDS: Final = 10
"""How many deleted, failed and missing generations of a model stay in the lockfile."""
_UNKNOWN_FAILURES: Final = {
    State.FAILED: Failure(2, "the training failed; the service reported no reason"),
    State.CANCELLED: Failure(CANCELLED_CODE, "the training was canceled"),
}
"""Recorded for a deleted training without a recorded failure, so that the same content is not trained again."""


def is_over(model: LockedModel) -> bool:
    """Return whether nothing that a model records exists at the service, and none of it affects later decisions."""
    absent = all(generation.state in ABSENT for generation in model.generations)
    return absent and not (model.protect or model.barred_keys)


def mark_deleting(generation: LockedGeneration) -> LockedGeneration:
    """Return the generation as one whose deletion is requested; why a training ended stays recorded."""
    failure = generation.failure or _UNKNOWN_FAILURES.get(generation.state)
    return replace(generation, state=State.DELETING, failure=failure)


def mark_deleted(model: LockedModel, key: str, remote: str) -> LockedModel:
    """Return the model with a generation as deleted, without the oldest deleted ones beyond ten.

    Generations that are serving or requested in a stage, rejected or not known to be gone are not removed.
    """
    deleted = model.generation(key)
    if deleted is None or deleted.remote != remote:
        return model
    model = model.with_generation(replace(mark_deleting(deleted), state=State.DELETED))
    required = model.kept_keys | model.barred_keys
    absent = [
        generation.key
        for generation in model.generations
        if generation.state in ABSENT and generation.key not in required
    ]
    failed = sum(generation.state in _UNSUCCESSFUL for generation in model.generations)
    for surplus in absent[max(0, _DELETED_RECORDS - failed) :]:
        model = model.without_generation(surplus)
    return model
