"""Worlds in which something can be deleted, and what must stay in them, told without the code that decides it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import reduce
from itertools import chain

from hypothesis import strategies as st
from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedStage, LockedTarget
from reconciler.domain.model import Limits, Manifest, RemoteModel, Resources, Source, Stage, State, Target
from reconciler.domain.plan import Action, Observation, Plan, Pruning, Reason, Request, World
from reconciler.planning.events import Deleted, Disappeared, record
from reconciler.planning.planner import plan
from reconciler.planning.prune import is_over
from support.core_cases import CAPABILITIES, SCOPE, START, WITHOUT_IDS, Made, job, live, manifest, recorded
from support.core_worlds import CHILD, NAMES, OURS

GRANDCHILD = "bud"
MADE = {**OURS, GRANDCHILD: [Made(GRANDCHILD, parent=parent) for parent in OURS[CHILD]]}
EVERY = (*NAMES, CHILD, GRANDCHILD)
AGES = (None, timedelta(0), timedelta(minutes=58), timedelta(days=1))
"""The models of these worlds are an hour old, less up to three minutes."""


class PruningWorld(Struct, frozen=True):
    """What is declared, live and recorded, here and in the other lockfiles of the root."""

    manifests: tuple[Manifest, ...]
    observation: Observation
    lock: Lock
    request: Request
    others: tuple[Lock, ...] = ()
    limits: Limits = field(default_factory=lambda: Limits(max_delete_percent=100))
    ids: bool = True
    stages: tuple[Stage, ...] = ()

    def plan(self) -> Plan:
        target = Target("default", "reconcile.yaml", "embedded", SCOPE, limits=self.limits, stages=self.stages)
        able, now = CAPABILITIES if self.ids else WITHOUT_IDS, START + timedelta(hours=1)
        return plan(World(self.manifests, self.lock, target, able, now, self.observation, self.request))

    def deletions(self) -> list[Action]:
        return [one for one in self.plan().actions if one.prunes]

    def without(self, deleted: list[Action]) -> PruningWorld:
        """The world after these were deleted; of a job the record stays, and of an orphan without models nothing.

        A run records what is gone before it deletes the rest.
        """
        missing = (
            Disappeared(name, one.key)
            for name, block in self.lock.models.items()
            for one in block.generations
            if one.remote in self.observation.gone
        )
        lock = reduce(record, (*missing, *(Deleted(one.name, one.key, one.remote) for one in deleted)), self.lock)
        orphans = {one.name for one in deleted if one.reason is Reason.ORPHANED_MODEL}
        gone = {one.name for one in deleted if not one.remote} | {
            name for name in orphans & lock.models.keys() if is_over(lock.models[name])
        }
        lock = replace(lock, models={name: model for name, model in lock.models.items() if name not in gone})
        remotes = {one.remote for one in deleted}
        models = {
            name: replace(one, state=State.DELETED, resources=Resources()) if name in remotes else one
            for name, one in self.observation.models.items()
            if name not in remotes or not self.ids
        }
        return replace(self, lock=lock, observation=Observation(models, self.observation.gone))

    @property
    def declared(self) -> set[str]:
        return {one.name for one in self.manifests}

    def recorded(self, remote: str) -> list[LockedGeneration]:
        """Everything that this lockfile says of a remote name."""
        return [one for block in self.lock.models.values() for one in block.generations if one.remote == remote]

    def relied_on(self) -> Iterator[str]:
        """The remote names of what serves, is published or is protected, by any lockfile; orphans serve nobody."""
        for lock in (self.lock, *self.others):
            for name, block in lock.models.items():
                orphan = lock is self.lock and self.request.complete and name not in self.declared
                for one in block.generations:
                    used = block.kept_keys | block.published_keys
                    if block.protect or (one.key in used and not orphan):
                        yield one.remote

    def ancestors_of_what_stays(self, deleted: set[str]) -> set[str]:
        """The remote names of everything that something descends from which is not deleted."""
        states = {State.CREATING, State.ACTIVE}
        recorded = {one.remote for block in self._blocks() for one in block.generations if one.state in states}
        return self._above((recorded | self.observation.models.keys()) - deleted)

    def ancestors_of(self, remote: str) -> set[str]:
        """The remote names of everything that a model descends from."""
        return self._above({remote})

    def _above(self, remotes: set[str]) -> set[str]:
        parents: dict[str, set[str]] = {}
        names: dict[str, set[str]] = {}
        for one in chain.from_iterable(block.generations for block in self._blocks()):
            parents.setdefault(one.remote, set()).update({one.source.key, one.source.remote} - {""})
            for name in (one.key, one.remote):
                names.setdefault(name, set()).add(one.remote)
        for model in self.observation.models.values():
            parents.setdefault(model.remote, set()).add(model.source.remote if model.source else "")
            for name in {model.remote, model.resources.model} - {""}:
                names.setdefault(name, set()).add(model.remote)
        found: set[str] = set()
        ahead = list(remotes)
        while ahead:
            above = {up for name in parents.get(ahead.pop(), set()) for up in names.get(name, set())} - found
            found |= above
            ahead += above
        return found

    def _blocks(self) -> Iterator[LockedModel]:
        for lock in (self.lock, *self.others):
            yield from lock.models.values()


@st.composite
def blocks(draw: st.DrawFn, name: str) -> LockedModel:
    contents = draw(st.lists(st.sampled_from(MADE[name]), max_size=4, unique_by=lambda one: one.key))
    keys = st.none() | st.sampled_from([one.key for one in contents]) if contents else st.none()
    states = st.sampled_from(["ACTIVE", "ACTIVE", "ACTIVE", "FAILED", "CANCELLED", "CREATING", "DELETED", "MISSING"])
    return LockedModel(
        manifest=f"{name}.yaml",
        serving=draw(keys),
        published=draw(st.none() | keys),
        protect=draw(st.sampled_from([False, False, False, True])),
        rejected=tuple(filter(None, [draw(st.none() | keys)])),
        stages=draw(st.just({}) | st.fixed_dictionaries({"production": stages(keys)})),
        generations=tuple(recorded(one, state=draw(states), created=draw(st.integers(0, 3))) for one in contents),
    )


def stages(keys: st.SearchStrategy[str | None]) -> st.SearchStrategy[LockedStage]:
    """A later stage, in which any of these keys plays any part."""
    return st.builds(LockedStage, serving=keys, previous=keys, requested=keys, published=keys)


def lockfiles(target: LockedTarget | None = None, *, most: int = 5) -> st.SearchStrategy[Lock]:
    names = st.lists(st.sampled_from(EVERY), unique=True, max_size=most)
    return names.flatmap(lambda some: st.fixed_dictionaries({name: blocks(name) for name in some})).map(
        lambda models: Lock(target, models)
    )


@st.composite
def shown(draw: st.DrawFn, made: Made, one: LockedGeneration | None) -> RemoteModel:
    """A model as the service shows it, mostly just as it was recorded."""
    scope = draw(st.sampled_from([SCOPE] * 6 + ["theirs"]))
    model = live(
        replace(made, scope=scope),
        under=made.key,
        state=draw(st.sampled_from(["ACTIVE", "ACTIVE", "FAILED", "CREATING"])),
        marked=draw(st.sampled_from([True, True, True, False])),
        created=draw(st.integers(0, 3)),
    )
    if one and draw(st.sampled_from([True, True, True, False])):
        kept = one.state if one.state in {State.ACTIVE, State.FAILED, State.CREATING} else State.ACTIVE
        model = replace(model, create_time=one.create_time, state=kept)
    return replace(model, source=made.live_source)


def as_job(name: str, number: int, world: PruningWorld) -> PruningWorld:
    """The world with this model known as a job, which made a model."""
    remote, model = job(number), f"projects/1/locations/here/models/{number}@1"

    def renamed(one: LockedGeneration) -> LockedGeneration:
        return replace(one, remote=remote) if one.remote == name else one

    def child(source: Source | None) -> Source | None:
        return Source(remote=model) if source and source.remote == name else source

    def moved(lock: Lock) -> Lock:
        return replace(
            lock,
            models={
                key: replace(block, generations=tuple(map(renamed, block.generations)))
                for key, block in lock.models.items()
            },
        )

    models = {
        (remote if one.remote == name else one.remote): replace(
            one,
            remote=remote if one.remote == name else one.remote,
            chosen_id=None,
            source=child(one.source),
            resources=Resources(model=model) if one.remote == name and one.state is State.ACTIVE else one.resources,
        )
        for one in world.observation.models.values()
    }
    gone = frozenset(remote if one == name else one for one in world.observation.gone)
    return replace(
        world,
        observation=Observation(models, gone),
        lock=moved(world.lock),
        others=tuple(map(moved, world.others)),
        ids=False,
    )


@st.composite
def declared(draw: st.DrawFn, name: str) -> Manifest:
    made = draw(st.sampled_from([one for one in MADE[name] if one.attempt == 0]))
    plain = manifest(made, suspend=draw(st.sampled_from([False, False, False, True])))
    lifecycle = replace(
        plain.lifecycle,
        retain=draw(st.integers(1, 3)),
        protect=draw(st.sampled_from([False, False, False, True])),
    )
    return replace(plain, lifecycle=lifecycle)


@st.composite
def pruning_worlds(draw: st.DrawFn) -> PruningWorld:
    lock = draw(lockfiles())
    others = (draw(lockfiles(LockedTarget("other", "embedded", SCOPE), most=2)),)
    by_remote = {one.remote: one for block in lock.models.values() for one in block.generations}
    made = {one.remote: one for every in MADE.values() for one in every}
    missing = set(draw(st.lists(st.sampled_from(sorted(by_remote)), max_size=1))) if by_remote else set()
    further = draw(st.lists(st.sampled_from(sorted(made)), max_size=4))
    remotes = sorted({*by_remote, *further} - missing)
    models = {remote: draw(shown(made[remote], by_remote.get(remote))) for remote in remotes}
    world = PruningWorld(
        manifests=tuple(draw(declared(name)) for name in draw(st.lists(st.sampled_from(EVERY), unique=True))),
        observation=Observation(models, frozenset(missing)),
        lock=lock,
        request=Request(
            complete=draw(st.sampled_from([True, True, False])),
            pruning=Pruning(draw(st.sampled_from(AGES)), others),
        ),
        others=others,
        limits=Limits(
            max_delete_percent=draw(st.sampled_from([30, 100, 100])), max_deletes=draw(st.sampled_from([0, 3]))
        ),
    )
    if draw(st.booleans()):
        return world
    every = sorted({*models, *missing, *by_remote})
    return reduce(lambda so_far, numbered: as_job(numbered[1], numbered[0], so_far), enumerate(every), world)
