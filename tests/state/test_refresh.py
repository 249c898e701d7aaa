"""Rebuilding a lock from manifests and service, in any world."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from hypothesis import given

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, record_target
from reconciler.domain.model import Dataset, Manifest, RemoteModel, Snapshot, Source, State, Target
from reconciler.domain.plan import Kind, Reason, Request
from reconciler.planning.events import record
from reconciler.planning.generations import Observation, is_suspicious
from reconciler.planning.planner import resolve_manifests
from reconciler.state.lockfile import dumps, loads
from reconciler.state.refresh import refreshed, remarks
from support.core_cases import CAPABILITIES, SCOPE, START, Made, intended, live, manifest, recorded
from support.core_worlds import World, worlds

TARGET = Target("default", "reconcile.yaml", "embedded", SCOPE)
TARGET_LOCKED = record_target(TARGET)
ONE, OTHER, THIRD = Made(), Made(data="B"), Made(data="C")
CHILD = Made("leaf", parent=ONE)


def resolved(world: World) -> tuple[Manifest, ...]:
    now = START.replace(hour=1)
    told = resolve_manifests(world.manifests, world.observation, world.lock, TARGET, world.request, CAPABILITIES, now)
    return tuple(resolved.context.manifest for resolved in told)


def after(world: World) -> Lock:
    events = refreshed(world.lock, world.observation, resolved(world), TARGET, complete=world.request.complete)
    return reduce(record, events, world.lock)


@given(worlds())
def test_a_refresh_is_done_at_once(world: World) -> None:
    again = replace(world, lock=after(world))
    if not (is_suspicious(world.lock, world.observation) or is_suspicious(again.lock, world.observation)):
        assert after(again) == again.lock


@given(worlds())
def test_nothing_begins_or_ceases_to_serve_and_no_rejection_is_lost(world: World) -> None:
    lock = after(world)
    for name, model in lock.models.items():
        before = world.lock.models.get(name, LockedModel(""))
        lost = [one for one in model.generations if one.key == before.serving and one.state is not State.ACTIVE]
        assert model.serving in ({before.serving, None} if lost else {before.serving})
        assert model.rejected == before.rejected


@given(worlds())
def test_no_record_is_lost_and_every_one_can_be_read(world: World) -> None:
    lock = after(world)
    for name, model in world.lock.models.items():
        kept = {one.key for one in model.generations if one.state is not State.INTENDED}
        assert kept <= {one.key for one in lock.models[name].generations}
    assert loads(dumps(lock), "x") == lock


@given(worlds())
def test_nothing_is_left_to_be_taken_up(world: World) -> None:
    lock = after(world)
    if is_suspicious(world.lock, world.observation) or is_suspicious(lock, world.observation):
        return
    made = replace(world, lock=lock).plan()
    assert [one for one in made.of_kind(Kind.ADOPT) if one.reason is Reason.FOUND_UNRECORDED] == []


@given(worlds())
def test_only_what_bears_our_mark_is_taken_up(world: World) -> None:
    before = {one.key for model in world.lock.models.values() for one in model.generations}
    for name, model in after(world).models.items():
        for one in model.generations:
            if one.key not in before:
                mark = world.observation.models[one.remote].mark
                assert mark
                assert (mark.scope, mark.name) == (SCOPE, name)


# case by case


def rebuilt(lock: Lock, *shown: RemoteModel, wanted: tuple[Made, ...] = (ONE,)) -> tuple[Lock, list[str]]:
    """The lock after a refresh, and what is said about it."""
    seen = Observation({model.remote: model for model in shown})
    world = World(tuple(map(manifest, wanted)), seen, lock, Request())
    now = after(world)
    return now, list(remarks(lock, now, seen, resolved(world), SCOPE))


def block(*generations: LockedGeneration, serving: str | None = None) -> Lock:
    return Lock(TARGET_LOCKED, {"numbers": LockedModel("numbers.yaml", serving, generations=generations)})


def test_a_target_is_recorded_once_and_its_new_limits_are_left_to_a_plan() -> None:
    lock, _ = rebuilt(Lock(), live(ONE))
    assert lock.target == TARGET_LOCKED
    older = Lock(replace(TARGET_LOCKED, limits={"maxCreates": 1}))
    assert rebuilt(older, live(ONE))[0].target == older.target


def test_a_manifest_without_a_record_gets_all_that_bears_its_mark() -> None:
    shown = live(ONE, created=1), live(OTHER, created=2, state="FAILED"), live(THIRD, created=3, marked=False)
    lock, notes = rebuilt(Lock(), *shown)
    newer, older = lock.models["numbers"].generations
    assert (newer.key, newer.state, newer.dataset, newer.declared) == (
        OTHER.key,
        State.FAILED,
        Dataset("", OTHER.dataset.digest, 0),
        {},
    )
    assert older == replace(recorded(ONE, created=1), origin="adopted", total_steps=30)
    assert lock.models["numbers"].serving is None
    assert [note.partition(": ")[0] for note in notes] == ["numbers", OTHER.key]


def test_a_manifest_with_a_record_gets_what_it_asks_for() -> None:
    lock, notes = rebuilt(block(recorded(THIRD)), live(THIRD), live(ONE), live(OTHER))
    assert {one.key for one in lock.models["numbers"].generations} == {ONE.key, THIRD.key}
    assert notes == [f"{OTHER.key}: left out although it bears our mark, as it may be another branch's"]


def test_a_child_knows_its_parent_again() -> None:
    shown = live(ONE), live(CHILD), live(replace(CHILD, attempt=1))
    lock, _ = rebuilt(Lock(), *shown, wanted=(ONE, CHILD))
    for one in lock.models["leaf"].generations:
        assert one.source == Source(tuned_model="numbers", key=ONE.key)
    orphaned, _ = rebuilt(Lock(), *shown, wanted=(replace(CHILD, parent=OTHER),))
    assert [one.source for one in orphaned.models["leaf"].generations] == [Source(remote=ONE.remote)] * 2


def test_what_nobody_knows_the_source_of_is_left_out() -> None:
    lock, notes = rebuilt(Lock(), live(ONE), replace(live(OTHER), source=None))
    assert [one.key for one in lock.models["numbers"].generations] == [ONE.key]
    assert notes[-1] == f"{OTHER.key}: left out although it bears our mark, as it may be another branch's"


def test_names_are_told_shortly() -> None:
    made = [Made(name) for name in ("aa", "bb", "cc", "dd", "ee")]
    _, notes = rebuilt(Lock(), *map(live, made))
    assert notes == [
        "aa, bb, cc, 2 more: models of that name bear our mark, and neither a manifest nor the lockfile knows it"
    ]


def test_what_a_record_lacks_is_filled_in_and_what_is_known_stays() -> None:
    bare = replace(recorded(ONE), effective={}, complete_time="")
    shown = replace(live(ONE), complete_time="2026-01-01T00:09:00Z", snapshots=(Snapshot(30, 3, 3.5),))
    (one,) = rebuilt(block(bare, serving=ONE.key), shown)[0].models["numbers"].generations
    assert one == replace(recorded(ONE), complete_time="2026-01-01T00:09:00Z", final_loss=3.5)
    assert rebuilt(block(one), live(ONE))[0] == block(one)


def test_an_intent_that_nobody_sees_stays_while_it_is_wanted() -> None:
    assert rebuilt(block(intended(ONE)))[0] == block(intended(ONE))
    assert rebuilt(block(intended(OTHER)))[0] == Lock(TARGET_LOCKED)
