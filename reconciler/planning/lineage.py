"""Parents of manifests: the generation of another manifest that a child is tuned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.lock import Lock
from reconciler.domain.model import Manifest, Source, State
from reconciler.domain.plan import Action, Kind, Observation, Reason
from reconciler.planning.generations import ResolvedGeneration, resolve_generations
from reconciler.planning.live_proof import Owner

_DECISIVE = frozenset({Kind.CREATE, Kind.WAIT, Kind.CHECK, Kind.PROMOTE, Kind.HOLD})
"""Actions that determine which generation a manifest will have; the others maintain existing ones."""
_PAUSES = {
    Reason.SUSPENDED: Reason.PARENT_SUSPENDED,
    Reason.PARENT_SUSPENDED: Reason.PARENT_SUSPENDED,
    Reason.ROLLED_BACK: Reason.PARENT_ROLLED_BACK,
    Reason.PARENT_ROLLED_BACK: Reason.PARENT_ROLLED_BACK,
}
"""Requested holds of a parent: its children follow the serving generation, and nothing new is trained from it."""


class ParentGeneration(Struct, frozen=True):
    """The generation that the children of a manifest are tuned from.

    ``key`` is empty if there is none, and ``remote`` if the service does not list it yet. ``ready`` means that it is
    serving, so that a training can start. ``hold`` is the reason why children are held, with a ``message`` for users.
    ``checkpoints`` are the known IDs of its checkpoints.
    """

    name: str
    key: str = ""
    remote: str = ""
    ready: bool = False
    hold: Reason | None = None
    message: str = ""
    checkpoints: tuple[str, ...] = ()

    @property
    def blocks_children(self) -> bool:
        """Whether the generation of its children cannot be determined."""
        return self.hold is Reason.PARENT_HELD or not self.key


def parents_first(manifests: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Return the manifests with parents before children; raises graphlib.CycleError for a cycle."""
    by_name = {manifest.name: manifest for manifest in manifests}
    parents = {name: {manifest.source.tuned_model} & by_name.keys() for name, manifest in by_name.items()}
    return tuple(by_name[name] for name in TopologicalSorter(parents).static_order())


def descendants(manifests: Iterable[Manifest], name: str) -> frozenset[str]:
    """Return the names of all manifests that are tuned from ``name``, directly or indirectly."""
    found: set[str] = set()
    for manifest in parents_first(tuple(manifests)):
        if manifest.source.tuned_model in found | {name}:
            found.add(manifest.name)
    return frozenset(found)


def resolve_parent(
    generations: Iterable[ResolvedGeneration],
    serving: str | None,
    name: str,
    actions: Sequence[Action],
    *,
    promotes: bool = True,
) -> ParentGeneration:
    """Return the parent for the children of a manifest, from its generations and actions.

    In a run that ``promotes`` nothing, the generation that the next run promotes is the parent.
    """
    known = {candidate.key: candidate for candidate in generations if candidate.state is State.ACTIVE}
    decisive = next((candidate for candidate in reversed(actions) if candidate.kind in _DECISIVE), None)
    if decisive and decisive.kind is Kind.HOLD:
        return _held(known, serving, name, decisive)
    if decisive and decisive.kind is Kind.PROMOTE and not promotes:
        serving = decisive.key
    return _standing(known, serving, name, decisive.key if decisive else serving or "")


def _held(known: Mapping[str, ResolvedGeneration], serving: str | None, name: str, hold: Action) -> ParentGeneration:
    message = f"its parent {name} is held ({hold.reason}): {hold.message}"
    reason = _PAUSES.get(hold.reason, Reason.PARENT_HELD)
    return replace(_standing(known, serving, name, serving or ""), hold=reason, message=message)


def _standing(known: Mapping[str, ResolvedGeneration], serving: str | None, name: str, key: str) -> ParentGeneration:
    generation = known.get(key)
    if generation is None:
        return ParentGeneration(name, key)
    checkpoints = tuple(checkpoint.id for checkpoint in generation.resources.checkpoints)
    return ParentGeneration(name, key, source_name(generation), ready=key == serving, checkpoints=checkpoints)


def source_name(known: ResolvedGeneration) -> str:
    """Return the name by which a service accepts a generation as a source: for a job, that of its model."""
    return known.resources.model or known.remote


def recorded_parent(owner: Owner, lock: Lock, observation: Observation) -> ParentGeneration:
    """Return the serving generation on record as the parent, if the parent's manifest is not part of the run."""
    name = owner.name
    locked = lock.models.get(name)
    generations = resolve_generations(owner, locked, observation, ()) if locked else ()
    known = {generation.key: generation for generation in generations if generation.state is State.ACTIVE}
    serving = locked.serving_key if locked else None
    if serving in known:
        return _standing(known, serving, name, serving or "")
    message = f"its parent {name} has no serving generation and is not part of this run; apply {name} too"
    return ParentGeneration(name, hold=Reason.PARENT_HELD, message=message)


def root_base_model(source: Source, lock: Lock) -> str:
    """Return the base model at the root of the lineage; empty if the lockfile does not have all parents."""
    passed: set[str] = set()  # a lockfile can be edited
    while not source.base_model and source.key not in passed:
        passed.add(source.key)
        model = lock.models.get(source.tuned_model)
        parent = model.generation(source.key) if model else None
        if parent is None:
            break
        source = parent.source
    return source.base_model


def with_source(manifest: Manifest, parent: ParentGeneration | None) -> Manifest:
    """Return the manifest with the chosen parent generation; unchanged without a parent."""
    if parent is None:
        return manifest
    return replace(manifest, source=replace(manifest.source, key=parent.key, remote=parent.remote))


class Ancestry:
    """The ancestors of models, by remote name.

    Lockfiles name a parent by its generation's key, services by its remote name or by that of the resulting model. In
    these names a project has an id or a number, and the version of a model is optional.
    """

    def __init__(self) -> None:
        self._remotes: dict[str, set[str]] = {}
        self._parents: dict[str, set[str]] = {}

    def add(self, remote: str, names: Iterable[str], sources: Iterable[Source]) -> None:
        """Add a model with its other names and its sources; without a remote name it cannot be a parent."""
        if not remote:
            return
        for name in (remote, *names):
            for handle in {_placed(name), _any_version(_placed(name))} - {""}:
                self._remotes.setdefault(handle, set()).add(remote)
        self._parents.setdefault(remote, set()).update(_links(sources))

    def ancestors(self, sources: Iterable[Source]) -> set[str]:
        """Return the remote names of all known ancestors of models tuned from ``sources``."""
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
    """Return a remote name without the project, which has two names."""
    return name.partition("/locations/")[2] or name


def _any_version(name: str) -> str:
    return name.partition("@")[0]
