"""What a manifest is tuned from when that is another manifest's model: the generation of it that would serve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter

from reconciler.domain.lock import Lock
from reconciler.domain.model import Manifest, Source, State
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.planning.generations import ResolvedGeneration, resolve_generations
from reconciler.planning.world import Observation

_DECISIVE = frozenset({Kind.CREATE, Kind.WAIT, Kind.CHECK, Kind.PROMOTE, Kind.HOLD})
"""Actions that say which generation a manifest is about to have; the others keep in order what is there."""
_PAUSES = {
    Reason.SUSPENDED: Reason.PARENT_SUSPENDED,
    Reason.PARENT_SUSPENDED: Reason.PARENT_SUSPENDED,
    Reason.ROLLED_BACK: Reason.PARENT_ROLLED_BACK,
    Reason.PARENT_ROLLED_BACK: Reason.PARENT_ROLLED_BACK,
}
"""Holds of a parent that somebody asked for: its children follow what serves, and nothing new is trained from it."""


@dataclass(frozen=True, slots=True)
class ParentGeneration:
    """The generation of a manifest that its children are tuned from: the one that would serve.

    ``key`` is empty where there is none, and ``remote`` where the service does not show it yet. ``ready`` tells that it
    serves, so that a training can begin. ``hold`` is why children are held, with a ``message`` for people.
    """

    name: str
    key: str = ""
    remote: str = ""
    ready: bool = False
    hold: Reason | None = None
    message: str = ""

    @property
    def source(self) -> Source:
        """What a child of it is tuned from."""
        return Source(tuned_model=self.name, key=self.key, remote=self.remote)

    @property
    def blocks_children(self) -> bool:
        """Whether nothing can be said of children, not even which generation of theirs would do."""
        return self.hold is Reason.PARENT_HELD or not self.key


def parents_first(manifests: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """The manifests in an order in which each follows what it is tuned from; raises graphlib.CycleError for a cycle."""
    by_name = {manifest.name: manifest for manifest in manifests}
    parents = {name: {manifest.source.tuned_model} & by_name.keys() for name, manifest in by_name.items()}
    return tuple(by_name[name] for name in TopologicalSorter(parents).static_order())


def descendants(manifests: Iterable[Manifest], name: str) -> frozenset[str]:
    """The names of all manifests whose models are tuned from that of ``name``, directly or not."""
    found: set[str] = set()
    for manifest in parents_first(tuple(manifests)):
        if manifest.source.tuned_model in found | {name}:
            found.add(manifest.name)
    return frozenset(found)


def resolve_parent(
    generations: Iterable[ResolvedGeneration], serving: str | None, name: str, actions: Sequence[Action]
) -> ParentGeneration:
    """What the children of a manifest are tuned from, given its generations and what is to be done about it."""
    known = {one.key: one for one in generations if one.state is State.ACTIVE}
    decisive = next((one for one in reversed(actions) if one.kind in _DECISIVE), None)
    if decisive and decisive.kind is Kind.HOLD:
        return _held(known, serving, name, decisive)
    return _standing(known, serving, name, decisive.key if decisive else serving or "")


def _held(known: Mapping[str, ResolvedGeneration], serving: str | None, name: str, hold: Action) -> ParentGeneration:
    message = f"its parent {name} is held ({hold.reason}): {hold.message}"
    reason = _PAUSES.get(hold.reason, Reason.PARENT_HELD)
    return replace(_standing(known, serving, name, serving or ""), hold=reason, message=message)


def _standing(known: Mapping[str, ResolvedGeneration], serving: str | None, name: str, key: str) -> ParentGeneration:
    one = known.get(key)
    return ParentGeneration(name, key, source_name(one) if one else "", ready=one is not None and key == serving)


def source_name(known: ResolvedGeneration) -> str:
    """The name under which a service takes a generation as what to tune further: a job's is that of its model."""
    shown = known.live.resources.model if known.live else ""
    recorded = known.locked.resources.model if known.locked else ""
    return shown or recorded or known.remote


def recorded_parent(name: str, scope: str, lock: Lock, observation: Observation) -> ParentGeneration:
    """What children are tuned from when nobody decides about the parent now: the recorded generation that serves."""
    locked = lock.models.get(name)
    generations = resolve_generations(name, scope, locked, observation, ()) if locked else ()
    known = {one.key: one for one in generations if one.state is State.ACTIVE}
    serving = locked.serving if locked else None
    if serving in known:
        return _standing(known, serving, name, serving or "")
    message = f"nothing serves its parent {name}, which this run is not about; apply {name} too"
    return ParentGeneration(name, hold=Reason.PARENT_HELD, message=message)


def with_source(manifest: Manifest, parent: ParentGeneration | None) -> Manifest:
    """The manifest with the parent generation that it is tuned from; as it is where it has none."""
    return replace(manifest, source=parent.source) if parent else manifest


class Ancestry:
    """Which models are tuned from which, however deep, by remote name.

    Lockfiles name a parent by its generation's key, services by its remote name or by that of what its training made:
    there a project goes by its id or its number, and the version of a model may be left out.
    """

    def __init__(self) -> None:
        self._remotes: dict[str, set[str]] = {}
        self._parents: dict[str, set[str]] = {}

    def add(self, remote: str, names: Iterable[str], sources: Iterable[Source]) -> None:
        """Take up a model with further names of it, and what it is tuned from; what has no remote name is no parent."""
        if not remote:
            return
        for name in (remote, *names):
            for handle in {_placed(name), _any_version(_placed(name))} - {""}:
                self._remotes.setdefault(handle, set()).add(remote)
        self._parents.setdefault(remote, set()).update(_links(sources))

    def ancestors(self, sources: Iterable[Source]) -> set[str]:
        """The remote names of everything that what is tuned from ``sources`` descends from, as far as it was added."""
        found: set[str] = set()
        ahead = list(_links(sources))
        while ahead:
            link = ahead.pop()
            for remote in (self._remotes.get(link) or self._remotes.get(_any_version(link), set())) - found:
                found.add(remote)
                ahead += self._parents[remote]
        return found


def _links(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        yield from filter(None, (source.key, _placed(source.remote)))


def _placed(name: str) -> str:
    """A remote name without the project, which has two names."""
    return name.partition("/locations/")[2] or name


def _any_version(name: str) -> str:
    return name.partition("@")[0]
