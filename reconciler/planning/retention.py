"""What speaks for a generation, so that it is not deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, parse_time
from reconciler.domain.model import Capabilities, Manifest, RemoteModel, Source, State, Target
from reconciler.domain.plan import Pruning
from reconciler.planning.generations import Observation, ResolvedGeneration

_PASSING: Final = {
    State.CREATING: "it is training",
    State.INTENDED: "an earlier run asked the service for it and did not learn the outcome",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generation of ours that is there. ``wanted`` says that its manifest asks for it.

    ``place`` counts the ready ones of a manifest, from 0, in the order in which they are worth keeping.
    """

    name: str
    known: ResolvedGeneration
    live: RemoteModel
    wanted: bool = False
    place: int = 0

    @property
    def locked(self) -> LockedGeneration | None:
        """What was recorded of it, if anything."""
        return self.known.locked

    @property
    def sources(self) -> tuple[Source, ...]:
        """What it was tuned from, as it was recorded and as the service shows it."""
        return tuple(filter(None, (self.known.source, self.live.source)))


@dataclass(frozen=True, slots=True)
class PruneContext:
    """What the decisions depend on; ``manifests`` are by every name that they have and had.

    ``relied_on_elsewhere`` and ``recorded_elsewhere`` are what the lockfiles of other targets say, by remote name.
    """

    manifests: Mapping[str, Manifest]
    observed: Observation
    lock: Lock
    target: Target
    pruning: Pruning
    complete: bool
    capabilities: Capabilities
    now: datetime
    relied_on_elsewhere: Mapping[str, str] = field(default_factory=dict)
    recorded_elsewhere: frozenset[str] = frozenset()

    def has_model(self, one: Candidate) -> bool:
        """Whether there is a model to delete; of a job that failed, a service that chooses ids keeps a record alone."""
        return self.capabilities.caller_chosen_ids or bool(one.live.resources.model)

    def block(self, name: str) -> LockedModel:
        """What is recorded under a name."""
        return self.lock.models.get(name) or LockedModel(self.manifests[name].file if name in self.manifests else "")

    def is_orphan(self, name: str) -> bool:
        """Whether it is certain that no manifest declares it."""
        return self.complete and name not in self.manifests


def reasons_to_keep(it: PruneContext, one: Candidate) -> Iterator[str]:
    """Everything that keeps a generation, its descendants apart."""
    for rule in _RULES:
        why = rule(it, one)
        if why:
            yield why


def _passes(_: PruneContext, one: Candidate) -> str:
    return _PASSING.get(one.known.state, "")


def _is_anothers(it: PruneContext, one: Candidate) -> str:
    mark, locked = one.live.mark, one.locked
    if mark and mark.scope != it.target.scope:
        return f"it bears the mark of the scope {mark.scope}"
    if locked and not locked.is_same(one.live):
        return "it was created at another moment than the recorded one"
    return ""


def _is_not_asked_about(it: PruneContext, one: Candidate) -> str:
    manifest = it.manifests.get(one.name)
    if manifest is None:
        return "" if it.complete else "its manifest was not read, and only a run over the whole root knows orphans"
    if manifest.lifecycle.suspend:
        return "spec.lifecycle.suspend is set"
    return f"it is about to be carried over to {manifest.name}" if manifest.name != one.name else ""


def _is_protected(it: PruneContext, one: Candidate) -> str:
    manifest = it.manifests.get(one.name)
    if manifest and manifest.lifecycle.protect:
        return "spec.lifecycle.protect is set"
    return f"{one.name} is protected, as it was recorded" if it.block(one.name).protect else ""


def _is_relied_on(it: PruneContext, one: Candidate) -> str:
    """What serves or is published; an orphan serves nobody who is declared, and is taken out of service first."""
    if one.live.remote in it.relied_on_elsewhere:
        return it.relied_on_elsewhere[one.live.remote]
    block = it.block(one.name)
    if it.is_orphan(one.name) or one.locked is None:
        return ""
    if one.known.key == block.serving:
        return "it serves"
    return "it is what applications were told of" if one.known.key == block.published else ""


def _is_unrecorded(it: PruneContext, one: Candidate) -> str:
    if one.locked is not None:
        return ""
    if it.pruning.older_than is None:
        return "this lockfile does not record it: another branch may need it; --older-than includes it"
    if one.live.remote in it.recorded_elsewhere:
        return "the lockfile of another target records it"
    return "" if it.has_model(one) else "it is the record of a job, and there is no model to delete"


def _is_young(it: PruneContext, one: Candidate) -> str:
    if it.pruning.older_than is None:
        return ""
    created = parse_time(one.live.create_time)
    if created is None:
        return "nobody knows how old it is"
    return "" if it.now - created > it.pruning.older_than else "it is not older than --older-than"


def _is_needed(it: PruneContext, one: Candidate) -> str:
    """What the manifest asks for, or may ask for."""
    manifest = it.manifests.get(one.name)
    if manifest is None or one.known.state is not State.ACTIVE:
        return ""
    if one.wanted:
        return "it is what the manifest asks for"
    held = manifest.source.tuned_model and not manifest.source.key
    if held or not manifest.dataset.digest:
        what = "parent" if held else "data set"
        return f"nobody can tell whether the manifest asks for it, as long as its {what} is not there"
    retained = one.locked is not None and one.place < manifest.lifecycle.retain
    return f"{retention(manifest)}, and it is one of them" if retained else ""


def retention(manifest: Manifest) -> str:
    """How many generations a manifest wants to have ready, in words."""
    amount = manifest.lifecycle.retain
    return f"spec.lifecycle.retain keeps {amount} ready generation{'' if amount == 1 else 's'}"


_Rule = Callable[[PruneContext, Candidate], str]
_RULES: Final[tuple[_Rule, ...]] = (
    _passes,
    _is_anothers,
    _is_not_asked_about,
    _is_protected,
    _is_relied_on,
    _is_unrecorded,
    _is_young,
    _is_needed,
)
"""Each gives the words for what keeps a generation, or nothing."""
