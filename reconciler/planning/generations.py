"""Resolve the generations of a manifest: pair recorded and live state by remote name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.identity import Content, key_of, same_data, same_value
from reconciler.domain.lock import EARLIEST, Lock, LockedGeneration, LockedModel, parse_time
from reconciler.domain.model import Failure, Hyperparameters, Manifest, Mark, RemoteModel, Resources, Source, State
from reconciler.domain.plan import MARK_FIELD, FieldChange, Observation, World
from reconciler.planning.live_proof import Mismatch, Owner, Owners, find_mismatch, is_elsewhere, shown_source

SUSPICIOUS_COUNT = 2
SUSPICIOUS_SHARE = 0.3
EXPECTED_STATES = frozenset({State.CREATING, State.ACTIVE})
"""States of recorded generations that must exist at the service. A failed one may be deleted there without being
trained again: the record still holds the manifest."""
_PRESENCE = {State.ACTIVE: 0, State.CREATING: 1, State.FAILED: 2, State.MISSING: 3, State.CANCELLED: 4}
"""The preference among several generations with one key: ready before training, and missing before a canceled
duplicate, so that it is trained again."""


class ResolvedGeneration(Struct, frozen=True):
    """One generation of a manifest: ``live`` is its live model, ``locked`` its record.

    With a ``mismatch`` the live model does not prove the record, which then counts for nothing.
    """

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
    mismatch: Mismatch | None = None

    @property
    def resources(self) -> Resources:
        """The resources that the service shows, or else the recorded ones."""
        shown = self.live.resources if self.live else Resources()
        return shown if shown.model or shown.weights or not self.locked else self.locked.resources

    @property
    def deployed_checkpoints(self) -> tuple[str, ...]:
        """The IDs of the checkpoints that an endpoint has, in the order of the training."""
        return (self.live or RemoteModel(self.remote, self.state, resources=self.resources)).deployed_checkpoints

    @property
    def checkpoint(self) -> str:
        """The ID of the checkpoint that was promoted last; empty for the default one."""
        return self.locked.checkpoint if self.locked else ""

    def is_deployed(self, checkpoint: str) -> bool:
        """Whether an endpoint has the checkpoint, or without an ID the model, or it needs none."""
        return self.live is None or self.live.is_deployed(checkpoint)

    @property
    def created_at(self) -> datetime:
        """The creation time, for sorting; an unknown time is the earliest."""
        return parse_time(self.create_time) or EARLIEST


def owners_of(world: World) -> Owners:
    """Return what the live models of each name must show."""
    return Owners.of(world)


def marked_models(world: World) -> dict[str, list[RemoteModel]]:
    """Return the models with the mark of the world's scope, by the name of the manifest that they belong to.

    That is the name in the mark, or that of the manifest that had this name before (``metadata.formerly``).
    """
    renamed = {former: manifest.name for manifest in world.manifests for former in manifest.formerly}
    marked: dict[str, list[RemoteModel]] = {}
    for live in world.observation.models.values():
        if live.mark and live.mark.scope == world.scope:
            marked.setdefault(renamed.get(live.mark.name, live.mark.name), []).append(live)
    return marked


def resolve_generations(
    owner: Owner, locked: LockedModel | None, observation: Observation, marked: Iterable[RemoteModel]
) -> tuple[ResolvedGeneration, ...]:
    """Return every generation of an owner: the recorded ones, and unrecorded ones among the ``marked`` models.

    Each key appears once, as :func:`_precedence` decides.
    """
    everything = _pretenders(owner, locked, observation, marked)
    chosen = _chosen(everything)
    return tuple(generation for generation in everything if chosen[generation.key] is generation)


def deleted_generations(
    owner: Owner, observation: Observation, known: Iterable[ResolvedGeneration]
) -> tuple[ResolvedGeneration, ...]:
    """Return the trainings of an owner whose model was deleted, without those of ``known`` generations.

    Their attempts cannot be repeated, because the service returns the same training for the same mark.
    """
    keys = {generation.key for generation in known}
    return tuple(
        replace(_marked(job, job.mark), state=State.DELETED, live=None)
        for job in observation.deleted.values()
        if job.mark and job.mark.scope == owner.scope and owner.has_name(job.mark.name) and key_of(job.mark) not in keys
    )


def find_duplicates(marked: Iterable[RemoteModel]) -> tuple[tuple[ResolvedGeneration, ResolvedGeneration], ...]:
    """Return duplicate trainings, each with the one to keep; racing runs start them where callers choose no ids.

    Only live state decides which one is kept, so every run gets the same result.
    """
    shown = sorted(
        (
            _marked(generation, generation.mark)
            for generation in marked
            if generation.mark and generation.chosen_id is None
        ),
        key=_precedence,
    )
    kept = _chosen(shown)
    return tuple(
        (generation, kept[generation.key])
        for generation in shown
        if generation.state is State.CREATING and kept[generation.key] is not generation
    )


def shared_remotes(world: World) -> frozenset[str]:
    """Return the ready models, superseded ones included, of manifests that declare permissions."""
    marked, owners = marked_models(world), owners_of(world)
    return frozenset(
        generation.remote
        for manifest in world.manifests
        if manifest.access is not None
        for generation in resolve_generations(
            owners.owner(manifest.name),
            world.lock.models.get(manifest.name),
            world.observation,
            marked.get(manifest.name, ()),
        )
        if generation.live and generation.state is State.ACTIVE
    )


def _chosen(everything: Iterable[ResolvedGeneration]) -> dict[str, ResolvedGeneration]:
    chosen: dict[str, ResolvedGeneration] = {}
    for generation in sorted(everything, key=_precedence):
        chosen.setdefault(generation.key, generation)
    return chosen


def _pretenders(
    owner: Owner, locked: LockedModel | None, observation: Observation, marked: Iterable[RemoteModel]
) -> list[ResolvedGeneration]:
    generations = locked.generations if locked else ()
    recorded = [resolve_recorded(generation, owner, observation) for generation in generations]
    remotes = {generation.remote for generation in recorded if generation.live}
    return recorded + [
        _marked(generation, generation.mark)
        for generation in marked
        if generation.mark and generation.remote not in remotes
    ]


def _precedence(known: ResolvedGeneration) -> tuple[bool, bool, int, bool, bool, datetime, str]:
    """Return the sort key of generations with one key; the smallest is the generation.

    A description that was copied to another model includes its mark, and never replaces the original. Existing ones
    come before lost ones, and listed before unlisted; a recorded ready one is not exchanged; then the earliest counts.
    A record that its live model contradicts comes first, so that it is not replaced silently.
    """
    copied = bool(known.live and known.live.chosen_id not in {None, known.key})
    ready = known.locked is not None and known.state is State.ACTIVE
    presence = _PRESENCE.get(known.state, len(_PRESENCE))
    return known.mismatch is None, copied, presence, known.live is None, not ready, known.created_at, known.remote


def find_live_model(generation: LockedGeneration, owner: Owner, observation: Observation) -> RemoteModel | None:
    """Return the live model of a recorded generation, if it proves the record."""
    live = observation.models.get(generation.remote)
    if live is None or is_elsewhere(generation, owner) or find_mismatch(generation, owner, live):
        return None
    return live


def resolve_recorded(generation: LockedGeneration, owner: Owner, observation: Observation) -> ResolvedGeneration:
    """Return a recorded generation with its live model, or with the field that the live model contradicts."""
    live = find_live_model(generation, owner, observation)
    lost = generation.state in EXPECTED_STATES and (
        generation.remote in observation.gone or generation.remote in observation.models
    )
    recorded = generation.hyperparameters
    if live and not _is_remnant(generation, live):
        state = live.state
    elif generation.state is State.DELETING and generation.remote in observation.gone:
        state = State.DELETED
    else:
        state = State.MISSING if lost else generation.state
    return ResolvedGeneration(
        key=generation.key,
        remote=generation.remote,
        state=state,
        mark=generation.mark(owner.scope, owner.name),
        source=_effective_source(generation.source, live),
        effective=(live.hyperparameters if live else None) or recorded.effective or recorded.declared,
        create_time=(live.create_time if live else "") or generation.create_time,
        failure=(live.failure if live else None) or generation.failure,
        locked=generation,
        live=live,
        mismatch=None if live or generation.state not in EXPECTED_STATES else _mismatch(generation, owner, observation),
    )


def _effective_source(recorded: Source, live: RemoteModel | None) -> Source:
    """Return a recorded source with the checkpoint that the service chose if none was declared."""
    chosen = live.source.checkpoint if live and live.source else ""
    return replace(recorded, checkpoint=recorded.checkpoint or chosen) if chosen else recorded


def _mismatch(generation: LockedGeneration, owner: Owner, observation: Observation) -> Mismatch | None:
    if is_elsewhere(generation, owner):
        return Mismatch("remote", "it is not in the project and location of the target")
    live = observation.models.get(generation.remote)
    if live:
        return find_mismatch(generation, owner, live)
    others = {remote.rpartition("/")[0] for remote in observation.models}
    if generation.remote in observation.gone and others and generation.remote.rpartition("/")[0] not in others:
        return Mismatch("remote", "the models of the target have names in another project")
    return None


def describe_mismatch(generation: ResolvedGeneration) -> str:
    """Return which field of a record the live model contradicts, and how to resolve it."""
    if generation.mismatch is None:
        raise AssertionError("only mismatches are described")
    remedy = generation.mismatch.remedy or (
        "restore this record from the history of the lockfile, or, if it is right, delete the other model or rename the"
        " manifest"
    )
    return (
        f"the lockfile does not match {generation.remote}: {generation.mismatch.field} of {generation.key}:"
        f" {generation.mismatch.message}; {remedy}"
    )


def _is_remnant(generation: LockedGeneration, live: RemoteModel) -> bool:
    """Whether a live model is the remainder of a deleted one: tuning jobs, whose ids callers cannot choose, stay."""
    return generation.state is State.DELETED and live.chosen_id is None and generation.is_same(live)


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


def satisfies(known: ResolvedGeneration, manifest: Manifest) -> bool:
    """Whether a generation matches the manifest; undeclared fields match everything.

    Unknown data matches every data set, on both sides.
    """
    if has_same_content(known, manifest):
        return True
    return (
        known.source is not None
        and manifest.source.is_same(known.source)
        and same_data(known.mark.data, manifest.dataset.digest)
        and all(
            name in known.effective and same_value(value, known.effective[name])
            for name, value in manifest.hyperparameters.items()
        )
    )


def has_same_content(known: ResolvedGeneration, manifest: Manifest) -> bool:
    """Whether a generation has exactly the content of the manifest, under any of its names."""
    mark = known.mark
    return any(
        mark.spec == desired_content(manifest, mark.scope, mark.attempt, name).mark().spec for name in manifest.names
    )


def desired_content(manifest: Manifest, scope: str, attempt: int, name: str = "") -> Content:
    """Return the content that a manifest declares at this attempt, under its own or a previous ``name``."""
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
    """Return the generation to use among those that match a manifest.

    In this order: a replacement, the serving one, the newest ready one, the newest in progress. Failed, missing and
    rejected ones are never chosen. A replacement is a later attempt than the serving one; unrecorded ones, left by an
    interrupted run, count only while a replacement is requested (``replacing``).
    """
    usable = [
        generation
        for generation in candidates
        if generation.state in {State.ACTIVE, State.CREATING} and generation.key not in rejected
    ]
    served = next((generation for generation in usable if generation.key == serving), None)

    def rank(generation: ResolvedGeneration) -> tuple[bool, int, bool, bool, datetime, str]:
        later = generation.mark.attempt > (served.mark.attempt if served else 0)
        replaces = later and (bool(served) if generation.locked else replacing)
        ready = generation.state is State.ACTIVE
        return (
            replaces,
            generation.mark.attempt if replaces else 0,
            generation is served,
            ready,
            generation.created_at,
            generation.key,
        )

    return max(usable, key=rank, default=None)


def find_vanished(lock: Lock, observation: Observation) -> Iterator[tuple[str, LockedGeneration]]:
    """Return the recorded generations that must exist and are confirmed to be gone, with their manifest's name."""
    for name, model in lock.models.items():
        for generation in model.generations:
            if generation.state in EXPECTED_STATES and generation.remote in observation.gone:
                yield name, generation


def is_suspicious(lock: Lock, observation: Observation) -> bool:
    """Whether so many models are gone that a wrong project or wrong credentials are likelier than deletions."""
    expected = sum(
        generation.state in EXPECTED_STATES for model in lock.models.values() for generation in model.generations
    )
    gone = sum(1 for _ in find_vanished(lock, observation))
    return gone >= SUSPICIOUS_COUNT and gone > SUSPICIOUS_SHARE * expected


def replaced_fields(
    generation: LockedGeneration, live: RemoteModel, lock: Lock, *, strict: bool
) -> tuple[FieldChange, ...]:
    """Return the differences between a live model and the generation that is recorded under its remote name.

    The recorded values count as declared; none of them can change during the life of a model. With ``strict`` the
    content is compared even if the creation time matches; services that choose names never reuse them, and may spell
    content differently.
    """
    moved = bool(generation.create_time and live.create_time) and not generation.is_same(live)
    times = [FieldChange("createTime", live.create_time, generation.create_time)] if moved else []
    return (*times, *(_content(generation, live, lock) if moved or strict else ()))


def _content(generation: LockedGeneration, live: RemoteModel, lock: Lock) -> Iterator[FieldChange]:
    recorded = shown_source(generation.source, lock)
    if live.source and recorded.identity and not recorded.is_same(live.source):
        based = recorded.base_model and live.source.base_model
        yield FieldChange("baseModel" if based else "source", live.source.identity, recorded.identity)
    effective = generation.hyperparameters.effective
    for name in sorted(effective.keys() & live.hyperparameters.keys()):
        if not same_value(effective[name], live.hyperparameters[name]):
            yield FieldChange(f"hyperparameters.{name}", live.hyperparameters[name], effective[name])
    if live.mark and live.mark.spec != generation.spec:
        yield FieldChange(MARK_FIELD, live.mark.spec, generation.spec)
