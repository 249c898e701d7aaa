"""The reasons to keep a generation that ``prune`` could delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from reconciler.domain.lock import LockedGeneration, LockedModel, LockedStage, parse_time
from reconciler.domain.model import Manifest, RemoteModel, Source, State
from reconciler.domain.plan import Pruning, World
from reconciler.planning.generations import ResolvedGeneration
from reconciler.planning.live_proof import is_adopted
from reconciler.planning.stages import recorded_stage


class LiveGeneration(Struct, frozen=True):
    """A managed generation that exists at the service.

    ``wanted`` means that it matches its manifest. ``rank`` counts the ready generations of a manifest from 0, in the
    order in which they are kept.
    """

    name: str
    resolved: ResolvedGeneration
    live: RemoteModel
    wanted: bool
    rank: int = 0

    @property
    def key(self) -> str:
        """The key of the generation."""
        return self.resolved.key

    @property
    def remote(self) -> str:
        """The remote name of the live model."""
        return self.live.remote

    @property
    def locked(self) -> LockedGeneration | None:
        """The record of the generation, if there is one."""
        return self.resolved.locked

    @property
    def sources(self) -> tuple[Source, ...]:
        """The recorded and the live source."""
        return tuple(filter(None, (self.resolved.source, self.live.source)))


class PruneContext(Struct, frozen=True):
    """The input of the decisions; ``manifests`` are by present and former name.

    ``relied_on_elsewhere`` has a reason for each model that the lockfile of another target protects, publishes or
    serves, and ``recorded_elsewhere`` the models that one records, both by remote name.
    """

    world: World
    pruning: Pruning
    manifests: Mapping[str, Manifest]
    relied_on_elsewhere: Mapping[str, str]
    recorded_elsewhere: frozenset[str]

    @property
    def declared(self) -> tuple[Manifest, ...]:
        """The manifests whose models remain."""
        return tuple(manifest for manifest in self.world.manifests if manifest.name in self.manifests)

    def has_model(self, generation: LiveGeneration) -> bool:
        """Return whether there is a model to delete; failed jobs on Vertex AI have none."""
        resources = generation.live.resources
        return self.world.capabilities.caller_chosen_ids or bool(resources.model or resources.weights)

    def block(self, name: str) -> LockedModel:
        """Return the recorded state of a manifest."""
        file = self.manifests[name].file if name in self.manifests else ""
        return self.world.lock.models.get(name) or LockedModel(file)

    def is_orphan(self, name: str) -> bool:
        """Return whether it is certain that no manifest declares the name, or a user typed an unselected one."""
        unselected = name in self.world.request.unread.unselected and name not in self.pruning.names
        return self.world.request.complete and name not in self.manifests and not unselected


def reasons_to_keep(context: PruneContext, generation: LiveGeneration) -> Iterator[str]:
    """Return all reasons to keep a generation, except that a kept generation descends from it."""
    yield from filter(None, (reason(context, generation) for reason in _REASONS))


def _unproved(_: PruneContext, generation: LiveGeneration) -> str:
    mismatch = generation.resolved.mismatch
    return f"it does not prove its record: {mismatch.field}: {mismatch.message}" if mismatch else ""


def _in_progress(_: PruneContext, generation: LiveGeneration) -> str:
    if generation.resolved.state is State.INTENDED:
        return "an earlier run requested it and did not receive the outcome"
    return "its training is in progress" if generation.resolved.state is State.CREATING else ""


def _unmanaged(context: PruneContext, generation: LiveGeneration) -> str:
    mark, locked = generation.live.mark, generation.locked
    if mark and mark.scope != context.world.scope:
        return f"it has the mark of the scope {mark.scope}"
    return "its creation time differs from the recorded one" if locked and not locked.is_same(generation.live) else ""


def _not_selected(context: PruneContext, generation: LiveGeneration) -> str:
    manifest, names = context.manifests.get(generation.name), context.pruning.names
    if names and generation.name not in names:
        return "its model is not named"
    if manifest is None and not context.world.request.complete:
        return "its manifest was not read, and only a run over the whole root finds orphans"
    if manifest is None:
        found = context.world.request.unread
        unread = "" if names else found.reason(generation.name)
        return unread if generation.name in found.unselected else unread and f"a manifest may declare it: {unread}"
    suspension = manifest.lifecycle.suspension(context.world.now)
    return f"spec.lifecycle.suspend is set{suspension}" if suspension else ""


def _protected(context: PruneContext, generation: LiveGeneration) -> str:
    manifest = context.manifests.get(generation.name)
    if manifest and manifest.lifecycle.protect:
        return "spec.lifecycle.protect is set"
    return f"{generation.name} is recorded as protected" if context.block(generation.name).protect else ""


def _adopted(context: PruneContext, generation: LiveGeneration) -> str:
    if not is_adopted(generation.live, generation.key) or generation.remote in context.pruning.adopted:
        return ""
    return f"it was adopted, not trained by this project: only --delete-adopted {generation.remote} includes it"


def _in_use(context: PruneContext, generation: LiveGeneration) -> str:
    """An orphan is kept for another target only; it is taken out of service before the deletion."""
    if generation.remote in context.relied_on_elsewhere:
        return context.relied_on_elsewhere[generation.remote]
    if context.is_orphan(generation.name) or generation.locked is None:
        return ""
    block, target = context.block(generation.name), context.world.target
    first = f"it is serving in {target.first_stage}" if target.stages else "it is serving"
    uses = [first] if block.serves(generation.key) else []
    uses += [use for name, stage in block.stages.items() if (use := _use_in(name, stage, generation.key))]
    if uses:
        return "; ".join(uses)
    if generation.key in block.published_keys | context.pruning.published:
        return "the published pointer names it"
    later = (stage.name for stage in target.later_stages)
    return next(filter(None, (_next_use(context, block, name, generation.locked) for name in later)), "")


def _use_in(name: str, stage: LockedStage, key: str) -> str:
    """Return what a stage after the first one needs a generation for."""
    if stage.serving == key:
        return f"it is serving in {name}"
    if stage.requested == key:
        return f"its promotion to {name} is requested"
    return f"it was serving in {name} before" if stage.previous == key else ""


def _next_use(context: PruneContext, block: LockedModel, name: str, generation: LockedGeneration) -> str:
    """Return that a generation can still be promoted to a stage: it is newer, and served in an earlier one."""
    target, serving = context.world.target, block.generation(block.stage(name).serving)
    if serving and generation.created_at <= serving.created_at:
        return ""
    before = [stage.name for stage in target.stages_before(name)]
    records = (block.record_of(recorded_stage(target, stage)) for stage in (name, *before))
    if any(generation.key in record.rejected for record in records):
        return ""
    was_serving = (
        stage
        for stage in before
        if (generation.promote_time and stage == target.first_stage)
        or generation.key in (block.stage(stage).serving, block.stage(stage).previous)
    )
    earlier = next(was_serving, "")
    return f"it was serving in {earlier}, and can be promoted to {name}" if earlier else ""


def _unrecorded(context: PruneContext, generation: LiveGeneration) -> str:
    if generation.locked is not None:
        return ""
    if context.pruning.older_than is None:
        return "this lockfile does not record it: another branch may need it; --older-than includes it"
    if generation.remote in context.recorded_elsewhere:
        return "the lockfile of another target records it"
    return "" if context.has_model(generation) else "it is the record of a job without a model"


def _recent(context: PruneContext, generation: LiveGeneration) -> str:
    if context.pruning.older_than is None:
        return ""
    created = parse_time(generation.live.create_time)
    if created is None:
        return "its age is unknown"
    # a local clock that is ahead must not make models old
    now = min(context.world.now, context.world.observation.time or context.world.now)
    return "" if now - created > context.pruning.older_than else "it is not older than --older-than"


def _needed(context: PruneContext, generation: LiveGeneration) -> str:
    manifest = context.manifests.get(generation.name)
    if manifest is None or generation.resolved.state is not State.ACTIVE:
        return ""
    if generation.wanted:
        return "it matches the manifest"
    held = manifest.source.tuned_model and not manifest.source.key
    if held or not manifest.dataset.digest:
        return f"whether it matches the manifest is unknown without the {'parent' if held else 'data set'}"
    retained = generation.locked is not None and generation.rank < manifest.lifecycle.retain
    return f"{describe_retention(manifest)}, and it is one of them" if retained else ""


def describe_retention(manifest: Manifest) -> str:
    """Return how many ready generations a manifest keeps, as a phrase."""
    amount = manifest.lifecycle.retain
    return f"spec.lifecycle.retain keeps {amount} ready generation{'' if amount == 1 else 's'}"


_REASONS: Final[tuple[Callable[[PruneContext, LiveGeneration], str], ...]] = (
    _unproved,
    _in_progress,
    _unmanaged,
    _not_selected,
    _protected,
    _adopted,
    _in_use,
    _unrecorded,
    _recent,
    _needed,
)
"""Each returns a reason, or an empty text. Their order does not decide what is kept, only what is shown first."""
