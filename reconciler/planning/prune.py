"""Which generations may be deleted, and why each other one stays where it is.

Whatever speaks for a generation keeps it, so the rules need no order of importance: one that is deleted has passed all
of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from reconciler.domain.lock import EARLIEST, Lock, LockedModel, parse_time
from reconciler.domain.model import CANCELLED_CODE, Capabilities, Failure, Manifest, Source, State, Target
from reconciler.domain.plan import Action, Deletion, KeptGeneration, Kind, Plan, Pruning, Reason, Request
from reconciler.planning.generations import (
    Observation,
    ResolvedGeneration,
    resolve_generations,
    resolve_recorded,
    satisfies,
)
from reconciler.planning.lineage import Ancestry
from reconciler.planning.retention import Candidate, PruneContext, reasons_to_keep, retention

NO_MANIFEST: Final = "(no manifest)"
"""What stands for the manifest's path where neither a manifest nor the lockfile knows a name."""
MANAGED_BEFORE_LIMIT: Final = 10
"""From how many managed models on limits.maxDeletePercent counts."""
_ENDED_BADLY: Final = {State.FAILED: Reason.FAILED_TRAINING, State.CANCELLED: Reason.CANCELLED_TRAINING}


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning comes to: the deletions, or the holds in their place, and what is kept."""

    actions: tuple[Action, ...] = ()
    kept: tuple[KeptGeneration, ...] = ()


def pruned(
    desired: Iterable[Manifest],
    observed: Observation,
    lock: Lock,
    target: Target,
    request: Request,
    capabilities: Capabilities,
    now: datetime,
) -> Pruned:
    """The generations that are deleted as the request asks, and those that are not; nothing where it does not ask.

    The sources of the ``desired`` manifests name the generations that were chosen. The caller sees to it that an
    observation which is not to be believed deletes nothing.
    """
    if request.pruning is None:
        return Pruned()
    manifests = tuple(desired)
    it = _surroundings(manifests, observed, lock, target, request, capabilities, now, request.pruning)
    there = _ranked(it, [*_recorded(it), *_unrecorded(it)])
    kept = {one.live.remote: why for one in there if (why := "; ".join(reasons_to_keep(it, one)))}
    kept |= _ancestors(it, there, kept, manifests)
    doomed = [one for one in there if one.live.remote not in kept]
    return Pruned(
        actions=_guarded(_actions(it, doomed), doomed, _managed(it, there), target),
        kept=tuple(
            KeptGeneration(one.name, one.known.key, one.live.remote, kept[one.live.remote])
            for one in sorted(there, key=_alphabetically)
            if one.live.remote in kept
        ),
    )


def only_pruning(made: Plan) -> Plan:
    """The plan with its deletions alone, and with what holds them back."""
    suspicious = Reason.LISTING_SUSPICIOUS
    deletions = tuple(one for one in made.actions if one.deletion or one.reason is suspicious)
    return replace(made, actions=deletions, notices=())


def approved_alone(left: Plan, approved: Plan) -> Plan:
    """What is left of a plan of deletions, without what came up since; holds stay."""
    known = {(one.name, one.key, one.remote) for one in approved.actions}
    actions = tuple(one for one in left.actions if not one.prunes or (one.name, one.key, one.remote) in known)
    return replace(left, actions=actions)


def without_pruning(made: Plan, left: Plan) -> Plan:
    """The plan without its deletions; of those that are ``left``, and of what else pruning has to say, it is noted."""
    count = sum(one.prunes for one in left.actions)
    what = "1 more generation" if count == 1 else f"{count} more generations"
    notices = (f"{what} may be deleted: see reconcile prune",) if count else ()
    others = tuple(one for one in made.actions if not one.prunes)
    return replace(made, actions=others, notices=(*made.notices, *left.notices, *notices), kept=())


def _surroundings(
    manifests: Sequence[Manifest],
    observed: Observation,
    lock: Lock,
    target: Target,
    request: Request,
    capabilities: Capabilities,
    now: datetime,
    pruning: Pruning,
) -> PruneContext:
    others = [one for one in pruning.others if one.target is None or one.target.provider == target.provider]
    return PruneContext(
        manifests={name: manifest for manifest in manifests for name in manifest.names}
        | {manifest.name: manifest for manifest in manifests},
        observed=observed,
        lock=lock,
        target=target,
        pruning=replace(pruning, others=tuple(others)),
        complete=request.complete,
        capabilities=capabilities,
        now=now,
        relied_on_elsewhere={remote: told for other in others for remote, told in _relied_on(other)},
        recorded_elsewhere=frozenset(
            one.remote for other in others for model in other.models.values() for one in model.generations
        ),
    )


def _relied_on(other: Lock) -> Iterator[tuple[str, str]]:
    """What another lockfile of the root protects, publishes or serves, by remote name, with words for it."""
    where = f"the lockfile of target {other.target.name if other.target else 'nobody'}"
    for model in other.models.values():
        yield from ((one.remote, f"{where} protects it") for one in model.generations if model.protect)
        for key, told in ((model.published, "publishes"), (model.serving, "serves")):
            one = model.generation(key)
            if one:
                yield one.remote, f"{where} {told} it"


def _recorded(it: PruneContext) -> Iterator[Candidate]:
    for name, model in it.lock.models.items():
        for one in model.generations:
            known = resolve_recorded(one, it.target.scope, name, it.observed)
            if known.live and known.state not in ABSENT:
                yield Candidate(name, known, known.live, wanted=_is_wanted(it, name, known))


def _unrecorded(it: PruneContext) -> Iterator[Candidate]:
    """What bears the mark of our scope and stands nowhere in this lockfile."""
    recorded = {one.remote for model in it.lock.models.values() for one in model.generations}
    for live in it.observed.models.values():
        if live.mark and live.mark.scope == it.target.scope and live.remote not in recorded:
            manifest = it.manifests.get(live.mark.name)
            name = manifest.name if manifest else live.mark.name
            for known in resolve_generations(name, it.target.scope, None, it.observed, [live]):
                yield Candidate(name, known, live, wanted=_is_wanted(it, name, known))


def _is_wanted(it: PruneContext, name: str, known: ResolvedGeneration) -> bool:
    manifest = it.manifests.get(name)
    rejected = known.key in it.block(name).rejected
    return bool(manifest and not rejected and known.state is State.ACTIVE and satisfies(known, manifest))


def _ranked(it: PruneContext, there: Iterable[Candidate]) -> list[Candidate]:
    """With their places: what serves, what is asked for, what could serve, and then the newest come first."""

    def rank(one: Candidate) -> tuple[bool, bool, bool, float, str]:
        block = it.block(one.name)
        serves = one.known.key == block.serving
        age = (it.now - one.known.created_at).total_seconds()
        return not serves, not one.wanted, _is_spoilt(block, one), age, one.known.key

    ordered = sorted(there, key=rank)
    places: dict[str, int] = {}
    ranked = []
    for one in ordered:
        ranked.append(replace(one, place=places.setdefault(one.name, 0)))
        if one.locked and one.known.state is State.ACTIVE:
            places[one.name] += 1
    return ranked


def _is_spoilt(block: LockedModel, one: Candidate) -> bool:
    """Whether nobody would go back to it: it was rejected, or failed its checks and never served."""
    checks = one.locked.checks if one.locked else None
    failed = bool(checks and checks.failed and one.locked and not one.locked.promote_time)
    return one.known.key in block.rejected or failed


def _ancestors(
    it: PruneContext, there: Sequence[Candidate], kept: Mapping[str, str], manifests: Iterable[Manifest]
) -> dict[str, str]:
    """What something descends from that stays, whatever that is, with words for it, by remote name."""
    descent = _descent(it, there)
    found: dict[str, str] = {}
    for who, sources in _staying(it, there, kept, manifests):
        for remote in descent.ancestors(sources):
            if remote not in kept:
                found.setdefault(remote, f"{who} is tuned from it")
    return found


def _descent(it: PruneContext, there: Iterable[Candidate]) -> Ancestry:
    """The lineage of everything that is recorded anywhere, and of everything that shows."""
    descent = Ancestry()
    for lock in (it.lock, *it.pruning.others):
        for model in lock.models.values():
            for one in model.generations:
                descent.add(one.remote, (one.key, one.resources.model), (one.source,))
    for live in it.observed.models.values():
        descent.add(live.remote, (live.resources.model,), (live.source,) if live.source else ())
    for here in there:
        descent.add(here.live.remote, (here.known.key,), here.sources)
    return descent


def _staying(
    it: PruneContext, there: Iterable[Candidate], kept: Mapping[str, str], manifests: Iterable[Manifest]
) -> Iterator[tuple[str, tuple[Source, ...]]]:
    """What is not deleted in this run, with what it is tuned from."""
    doomed = {one.live.remote for one in there} - kept.keys()
    for manifest in manifests:
        yield f"the manifest {manifest.name}", (manifest.source,)
    for one in there:
        if one.live.remote in kept:
            yield one.known.key, one.sources
    for live in it.observed.models.values():
        if live.remote not in doomed and live.source:
            yield live.remote, (live.source,)
    for lock in (it.lock, *it.pruning.others):
        for model in lock.models.values():
            for recorded in model.generations:
                if recorded.state in {State.INTENDED, State.CREATING, State.ACTIVE} and recorded.remote not in doomed:
                    yield recorded.key, (recorded.source,)


def _actions(it: PruneContext, doomed: Sequence[Candidate]) -> tuple[Action, ...]:
    descent = _descent(it, doomed)
    remotes = {one.live.remote for one in doomed}
    descendants: dict[str, set[str]] = {remote: set() for remote in remotes}
    for one in doomed:
        for remote in remotes & descent.ancestors(one.sources) - {one.live.remote}:
            descendants[remote].add(one.live.remote)
    return tuple(_action(it, one, frozenset(descendants[one.live.remote])) for one in doomed)


def _action(it: PruneContext, one: Candidate, descendants: frozenset[str]) -> Action:
    reason, message = _why(it, one)
    return Action(
        name=one.name,
        file=it.block(one.name).manifest or NO_MANIFEST,
        kind=Kind.DELETE,
        reason=reason,
        key=one.known.key,
        remote=one.live.remote,
        attempt=one.known.mark.attempt,
        message=message,
        deletion=_deletion(it, one, descendants),
    )


def _why(it: PruneContext, one: Candidate) -> tuple[Reason, str]:
    if one.locked is None:
        return Reason.ABANDONED, "it bears the mark of this scope, and this lockfile does not record it"
    block, known = it.block(one.name), one.known
    if it.is_orphan(one.name):
        serving = known.key == block.serving
        standing = "; the lockfile says that it serves, and it is taken out of service first" if serving else ""
        return Reason.ORPHANED_MODEL, f"no manifest declares {one.name} any more{standing}"
    if known.state in _ENDED_BADLY:
        why = known.failure.message.rstrip(".") if known.failure else "the service does not tell why"
        return _ENDED_BADLY[known.state], why
    rule = f"{retention(it.manifests[one.name])}, and others come first"
    if known.key in block.rejected:
        rejection = f": {one.locked.rejection.rstrip('.')}" if one.locked.rejection else ""
        return Reason.SUPERSEDED, f"it was rejected{rejection}; {rule}"
    return Reason.SUPERSEDED, rule


def _deletion(it: PruneContext, one: Candidate, descendants: frozenset[str]) -> Deletion:
    locked, created = one.locked, parse_time(one.live.create_time)
    block = it.block(one.name)
    serves = locked is not None and block.serving == locked.key
    begun = locked.promote_time if locked else ""
    return Deletion(
        create_time=one.live.create_time,
        age=it.now - created if created else None,
        served_from=begun,
        served_until="" if serves else _superseded(block, begun),
        serves=serves,
        examples=locked.dataset.examples if locked else 0,
        size=locked.dataset.size if locked else 0,
        checkpoints=len(one.live.resources.checkpoints),
        descendants=descendants,
    )


def _superseded(block: LockedModel, begun: str) -> str:
    """When another one was promoted that had served since ``begun``."""
    since = parse_time(begun)
    if since is None:
        return ""
    later = [one.promote_time for one in block.generations if (parse_time(one.promote_time) or EARLIEST) > since]
    return min(later, key=lambda time: parse_time(time) or EARLIEST, default="")


def _managed(it: PruneContext, there: Iterable[Candidate]) -> list[Candidate]:
    """What a share of deletions is a share of: what this run could delete."""
    return [one for one in there if it.has_model(one) and (one.locked or it.pruning.older_than is not None)]


def _guarded(
    actions: tuple[Action, ...], doomed: Sequence[Candidate], managed: Sequence[Candidate], target: Target
) -> tuple[Action, ...]:
    """The actions, each held when together they are over the limit: all or nothing."""
    percent, deleted = target.limits.max_delete_percent, len(set(map(_remote, doomed)) & set(map(_remote, managed)))
    if len(managed) < MANAGED_BEFORE_LIMIT or 100 * deleted <= percent * len(managed):
        return actions
    message = (
        f"{deleted} of {len(managed)} managed models would be deleted, over the target's limits.maxDeletePercent of"
        f" {percent}, so nothing is; raise spec.limits.maxDeletePercent in the target, or delete fewer with --only, -l"
        " or --older-than"
    )
    return tuple(replace(one, kind=Kind.HOLD, reason=Reason.GUARDED, message=message) for one in actions)


def _remote(one: Candidate) -> str:
    return one.live.remote


def _alphabetically(one: Candidate) -> tuple[str, str, str]:
    return one.name, one.known.key, one.live.remote


ABSENT: Final = frozenset({State.MISSING, State.DELETED})
"""States of generations that are at the service no longer."""
_FAILED: Final = frozenset({State.FAILED, State.CANCELLED})
_LEFT: Final = 10
"""How many generations of a model stay recorded although they are gone."""
_UNTOLD: Final = {
    State.FAILED: Failure(2, "the training failed; the service did not tell why"),
    State.CANCELLED: Failure(CANCELLED_CODE, "the training was cancelled"),
}
"""What is recorded of a training that ended badly and is deleted, where nothing else is: it holds its manifest on."""


def is_over(model: LockedModel) -> bool:
    """Whether nothing that a block of the lockfile records is at the service any more, nor decides anything."""
    return not (model.protect or model.rejected) and all(one.state in ABSENT for one in model.generations)


def mark_deleted(model: LockedModel, key: str, remote: str) -> LockedModel:
    """The block of the lockfile after a generation was deleted: it stays as provenance, until ten later ones are gone.

    What serves, is rejected, or is not known to be gone is never left out.
    """
    one = model.generation(key)
    if one is None or one.remote != remote:
        return model
    failure = one.failure or _UNTOLD.get(one.state)
    model = model.with_generation(replace(one, state=State.DELETED, failure=failure))
    standing = {model.serving, *model.rejected}
    gone = [each for each in model.generations if each.state in ABSENT and each.key not in standing]
    failed = sum(each.state in _FAILED for each in model.generations)
    spare = {each.key for each in gone[max(0, _LEFT - failed) :]}
    return replace(model, generations=tuple(each for each in model.generations if each.key not in spare))
