"""Which generations of a manifest are there: the lock's and the service's view, paired by remote name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from reconciler.domain.identity import Content, key_of, same_data, same_number
from reconciler.domain.lock import EARLIEST, Lock, LockedGeneration, LockedModel, parse_time
from reconciler.domain.model import Failure, Hyperparameters, Manifest, Mark, RemoteModel, Source, State
from reconciler.domain.plan import MARK_FIELD, FieldChange
from reconciler.planning.world import Observation, World

SUSPICIOUS_COUNT = 2
SUSPICIOUS_SHARE = 0.3
EXPECTED_STATES = frozenset({State.CREATING, State.ACTIVE})
"""States in which a recorded generation should be found at the service. A failed one may be swept away there: what was
recorded still holds the manifest, because deleting it is no request to train again."""
_PRESENCE = {State.ACTIVE: 0, State.CREATING: 1, State.FAILED: 2, State.MISSING: 3, State.CANCELLED: 4}
"""What counts for more among several of one key: what is ready before what trains, and what was lost before a double
that was cancelled, so that it is made again."""


@dataclass(frozen=True, slots=True)
class ResolvedGeneration:
    """One generation of a manifest; ``live`` is what the service shows of it, ``locked`` what was recorded."""

    key: str
    remote: str
    state: State
    mark: Mark
    source: Source | None
    effective: Hyperparameters
    create_time: str
    failure: Failure | None
    locked: LockedGeneration | None
    live: RemoteModel | None

    @property
    def created_at(self) -> datetime:
        """When it was created, for sorting; what was created at an unknown time comes first."""
        return parse_time(self.create_time) or EARLIEST


def marked_models(world: World) -> dict[str, list[RemoteModel]]:
    """Return the models with the mark of the world's scope, by the name of the manifest that they belong to.

    That is the name that the lock records them under, or else the name in the mark, which a manifest may have had
    before (``metadata.formerly``).
    """
    renamed = {former: manifest.name for manifest in world.manifests for former in manifest.formerly}
    recorded = {
        generation.remote: (name, generation)
        for name, model in world.lock.models.items()
        for generation in model.generations
    }
    marked: dict[str, list[RemoteModel]] = {}
    for live in world.observation.models.values():
        if live.mark and live.mark.scope == world.scope:
            name, generation = recorded.get(live.remote, ("", None))
            known = generation is not None and generation.is_same(live)
            owner = name if known else renamed.get(live.mark.name, live.mark.name)
            marked.setdefault(owner, []).append(live)
    return marked


def resolve_generations(
    name: str, scope: str, locked: LockedModel | None, observation: Observation, marked: Iterable[RemoteModel]
) -> tuple[ResolvedGeneration, ...]:
    """Every generation of that name: the recorded ones, and those that bear our mark (``marked``) unrecorded.

    Each key once, as :func:`_precedence` says.
    """
    everything = _pretenders(name, scope, locked, observation, marked)
    chosen = _chosen(everything)
    return tuple(one for one in everything if chosen[one.key] is one)


def find_duplicates(marked: Iterable[RemoteModel]) -> tuple[tuple[ResolvedGeneration, ResolvedGeneration], ...]:
    """Trainings that double another one, each with that one, as runs that race can start where nobody chooses ids.

    Which of them counts depends on what the service shows alone, so that every run comes to the same result.
    """
    shown = sorted((_marked(one, one.mark) for one in marked if one.mark and one.chosen_id is None), key=_precedence)
    kept = _chosen(shown)
    return tuple((one, kept[one.key]) for one in shown if one.state is State.CREATING and kept[one.key] is not one)


def shared_remotes(world: World) -> frozenset[str]:
    """Return the ready models, superseded ones included, of manifests that declare permissions."""
    marked = marked_models(world)
    return frozenset(
        generation.remote
        for manifest in world.manifests
        if manifest.access is not None
        for generation in resolve_generations(
            manifest.name,
            world.scope,
            world.lock.models.get(manifest.name),
            world.observation,
            marked.get(manifest.name, ()),
        )
        if generation.live and generation.state is State.ACTIVE
    )


def _chosen(everything: Iterable[ResolvedGeneration]) -> dict[str, ResolvedGeneration]:
    chosen: dict[str, ResolvedGeneration] = {}
    for one in sorted(everything, key=_precedence):
        chosen.setdefault(one.key, one)
    return chosen


def _pretenders(
    name: str, scope: str, locked: LockedModel | None, observation: Observation, marked: Iterable[RemoteModel]
) -> list[ResolvedGeneration]:
    generations = locked.generations if locked else ()
    recorded = [resolve_recorded(one, scope, name, observation) for one in generations]
    remotes = {one.remote for one in recorded if one.live}
    return recorded + [_marked(one, one.mark) for one in marked if one.mark and one.remote not in remotes]


def _precedence(known: ResolvedGeneration) -> tuple[bool, int, bool, bool, datetime, str]:
    """Which of several with one key is the generation: the smallest.

    A description copied to another model takes its mark along, and never displaces the original. What is there comes
    before what was given up, and what shows before what does not; what this lock knows to be ready is not exchanged;
    then the earliest counts.
    """
    copied = bool(known.live and known.live.chosen_id not in {None, known.key})
    ready = known.locked is not None and known.state is State.ACTIVE
    presence = _PRESENCE.get(known.state, len(_PRESENCE))
    return copied, presence, known.live is None, not ready, known.created_at, known.remote


def find_live_model(one: LockedGeneration, scope: str, name: str, observation: Observation) -> RemoteModel | None:
    """The live model that a recorded generation is: it bears our mark, or was created at the recorded moment."""
    live = observation.models.get(one.remote)
    return live if live and (_is_marked(live, one.mark(scope, name)) or one.is_same(live)) else None


def resolve_recorded(one: LockedGeneration, scope: str, name: str, observation: Observation) -> ResolvedGeneration:
    live = find_live_model(one, scope, name, observation)
    lost = one.state in EXPECTED_STATES and (one.remote in observation.gone or one.remote in observation.models)
    return ResolvedGeneration(
        key=one.key,
        remote=one.remote,
        state=live.state if live and not _is_remnant(one, live) else State.MISSING if lost else one.state,
        mark=one.mark(scope, name),
        source=one.source,
        effective=(live.hyperparameters if live else None) or one.effective or one.declared,
        create_time=(live.create_time if live else "") or one.create_time,
        failure=(live.failure if live else None) or one.failure,
        locked=one,
        live=live,
    )


def _is_remnant(one: LockedGeneration, live: RemoteModel) -> bool:
    """Whether a model that shows is what is left of one that was deleted: a tuning job stays for ever."""
    return one.state is State.DELETED and one.is_same(live)


def _marked(model: RemoteModel, mark: Mark) -> ResolvedGeneration:
    return ResolvedGeneration(
        key=key_of(mark),
        remote=model.remote,
        state=model.state,
        mark=mark,
        source=model.source,
        effective=model.hyperparameters,
        create_time=model.create_time,
        failure=model.failure,
        locked=None,
        live=model,
    )


def _is_marked(live: RemoteModel, mark: Mark) -> bool:
    return live.mark is not None and (live.mark.scope, live.mark.name) == (mark.scope, mark.name)


def satisfies(known: ResolvedGeneration, manifest: Manifest) -> bool:
    """Whether a generation is what the manifest asks for: what is not declared is the service's to choose.

    Data that nobody has at hand is taken for whatever is declared, and the other way round.
    """
    if has_same_content(known, manifest):
        return True
    return (
        known.source is not None
        and known.source.is_same(manifest.source)
        and same_data(known.mark.data, manifest.dataset.digest)
        and all(
            name in known.effective and same_number(value, known.effective[name])
            for name, value in manifest.hyperparameters.items()
        )
    )


def has_same_content(known: ResolvedGeneration, manifest: Manifest) -> bool:
    """Whether a generation was made of the very content that the manifest declares, under any name that it had."""
    mark = known.mark
    return any(
        mark.spec == desired_content(manifest, mark.scope, mark.attempt, name).mark().spec for name in manifest.names
    )


def desired_content(manifest: Manifest, scope: str, attempt: int, name: str = "") -> Content:
    """The content that a manifest asks for at this attempt, under a ``name`` that it had where that is given."""
    return Content(
        scope=scope,
        name=name or manifest.name,
        source=manifest.source,
        hyperparameters=manifest.hyperparameters,
        data=manifest.dataset.digest,
        attempt=attempt,
    )


def choose_generation(
    candidates: tuple[ResolvedGeneration, ...],
    serving: str | None,
    rejected: tuple[str, ...],
    *,
    replacing: bool = False,
) -> ResolvedGeneration | None:
    """The generation to use among those that satisfy a manifest.

    In this order: a replacement, the serving one, the newest that is ready, the newest in flight. Failed, missing and
    rejected ones are never chosen. A replacement is a later attempt than the serving one that was recorded, or, while
    somebody asks for one (``replacing``), that was not: an earlier run was cut off before it could record it.
    """
    usable = [one for one in candidates if one.state in {State.ACTIVE, State.CREATING} and one.key not in rejected]
    served = next((one for one in usable if one.key == serving), None)

    def rank(one: ResolvedGeneration) -> tuple[bool, int, bool, bool, datetime, str]:
        later = one.mark.attempt > (served.mark.attempt if served else 0)
        replaces = later and (bool(served) if one.locked else replacing)
        ready = one.state is State.ACTIVE
        return replaces, one.mark.attempt if replaces else 0, one is served, ready, one.created_at, one.key

    return max(usable, key=rank, default=None)


def find_vanished(lock: Lock, observation: Observation) -> Iterator[tuple[str, LockedGeneration]]:
    """The recorded generations that should be there and are proved to be gone, with their manifest's name."""
    for name, model in lock.models.items():
        for one in model.generations:
            if one.state in EXPECTED_STATES and one.remote in observation.gone:
                yield name, one


def is_suspicious(lock: Lock, observation: Observation) -> bool:
    """Whether so much is gone that a wrong project or wrong credentials are likelier than that many deletions."""
    expected = sum(one.state in EXPECTED_STATES for model in lock.models.values() for one in model.generations)
    gone = sum(1 for _ in find_vanished(lock, observation))
    return gone >= SUSPICIOUS_COUNT and gone > SUSPICIOUS_SHARE * expected


def replaced_fields(one: LockedGeneration, live: RemoteModel, lock: Lock, *, strict: bool) -> tuple[FieldChange, ...]:
    """In what a live model differs from the generation that was recorded under its remote name.

    What was recorded counts as declared. Nothing of it can change in the life of a model. With ``strict`` the content
    is compared even where the model was created at the recorded moment; services that choose names themselves never
    give one away again, and may spell content their own way.
    """
    moved = bool(one.create_time and live.create_time) and not one.is_same(live)
    times = [FieldChange("createTime", live.create_time, one.create_time)] if moved else []
    return (*times, *(_content(one, live, lock) if moved or strict else ()))


def _content(one: LockedGeneration, live: RemoteModel, lock: Lock) -> Iterator[FieldChange]:
    recorded = _shown(one.source, lock)
    if live.source and recorded.identity and not recorded.is_same(live.source):
        based = recorded.base_model and live.source.base_model
        yield FieldChange("baseModel" if based else "source", live.source.identity, recorded.identity)
    for name in sorted(one.effective.keys() & live.hyperparameters.keys()):
        if not same_number(one.effective[name], live.hyperparameters[name]):
            yield FieldChange(f"hyperparameters.{name}", live.hyperparameters[name], one.effective[name])
    if live.mark and live.mark.spec != one.spec:
        yield FieldChange(MARK_FIELD, live.mark.spec, one.spec)


def _shown(source: Source, lock: Lock) -> Source:
    """What a service shows of what a generation was tuned from; empty where the lockfile no longer tells."""
    if not source.tuned_model:
        return source
    parent = lock.models.get(source.tuned_model)
    found = parent.generation(source.key) if parent else None
    return Source(remote=found.resources.model or found.remote) if found else Source()
