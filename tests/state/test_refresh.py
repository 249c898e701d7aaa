"""Rebuilding a lock from manifests and live state."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel, record_target
from reconciler.domain.model import Dataset, Manifest, RemoteModel, Snapshot, Source, State, Target
from reconciler.domain.plan import Kind, Observation, Reason, Request
from reconciler.domain.plan import World as PlanInputs
from reconciler.planning.events import record
from reconciler.planning.generations import is_suspicious
from reconciler.planning.planner import resolve_manifests
from reconciler.state.lockfile import dumps, loads
from reconciler.state.refresh import refresh_events, refresh_notices
from support.core_cases import SCOPE, Made, intended, live, manifest, recorded
from support.core_worlds import World, worlds

TARGET = Target("default", "reconcile.yaml", "embedded", SCOPE)
TARGET_LOCKED = record_target(TARGET)
ONE, OTHER, THIRD = Made(), Made(data="B"), Made(data="C")
CHILD = Made("leaf", parent=ONE)
SKIPPED = f"{OTHER.key}: has the mark of this scope, but is not recorded: it can belong to another branch"


def resolved(world: World) -> tuple[Manifest, ...]:
    return tuple(resolved.context.manifest for resolved in resolve_manifests(world.inputs()))


def inputs(world: World) -> PlanInputs:
    """Return the world with the parent generations that a plan would choose."""
    return replace(world.inputs(), manifests=resolved(world))


def after(world: World) -> Lock:
    return reduce(record, refresh_events(inputs(world)), world.lock)


def a_second_refresh_changes_nothing(world: World) -> None:
    again = replace(world, lock=after(world))
    if not (is_suspicious(world.lock, world.observation) or is_suspicious(again.lock, world.observation)):
        assert after(again) == again.lock


def serving_generations_and_rejections_stay(world: World) -> None:
    lock = after(world)
    for name, model in lock.models.items():
        before = world.lock.models.get(name, LockedModel(""))
        lost = [
            generation
            for generation in model.generations
            if generation.key == before.serving and generation.state is not State.ACTIVE
        ]
        assert model.serving in ({before.serving, None} if lost else {before.serving})
        assert model.rejected == before.rejected


def no_record_is_lost_and_the_result_is_valid(world: World) -> None:
    lock = after(world)
    for name, model in world.lock.models.items():
        kept = {generation.key for generation in model.generations if generation.state is not State.INTENDED}
        assert kept <= {generation.key for generation in lock.models[name].generations}
    assert loads(dumps(lock), "x") == lock


def nothing_is_left_to_adopt(world: World) -> None:
    lock = after(world)
    if is_suspicious(world.lock, world.observation) or is_suspicious(lock, world.observation):
        return
    plan = replace(world, lock=lock).plan()
    assert [action for action in plan.of_kind(Kind.ADOPT) if action.reason is Reason.FOUND_UNRECORDED] == []


def only_models_with_the_mark_are_adopted(world: World) -> None:
    before = {generation.key for model in world.lock.models.values() for generation in model.generations}
    for name, model in after(world).models.items():
        for generation in model.generations:
            if generation.key not in before:
                mark = world.observation.models[generation.remote].mark
                assert mark
                assert (mark.scope, mark.name) == (SCOPE, name)


@given(worlds())
def test_what_holds_of_every_refresh(world: World) -> None:
    for holds in (
        a_second_refresh_changes_nothing,
        serving_generations_and_rejections_stay,
        no_record_is_lost_and_the_result_is_valid,
        nothing_is_left_to_adopt,
        only_models_with_the_mark_are_adopted,
    ):
        holds(world)


# case by case


def rebuilt(lock: Lock, *shown: RemoteModel, wanted: tuple[Made, ...] = (ONE,)) -> tuple[Lock, list[str]]:
    """The lock after a refresh, and its notices."""
    seen = Observation({model.remote: model for model in shown})
    world = World(tuple(map(manifest, wanted)), seen, lock, Request())
    refreshed = after(world)
    return refreshed, list(refresh_notices(lock, replace(inputs(world), lock=refreshed)))


def block(*generations: LockedGeneration, serving: str | None = None) -> Lock:
    return Lock(TARGET_LOCKED, {"numbers": LockedModel("numbers.yaml", serving, generations=generations)})


def test_changed_limits_of_a_recorded_target_are_left_for_the_plan() -> None:
    lock, _ = rebuilt(Lock(), live(ONE))
    assert lock.target == TARGET_LOCKED
    older = Lock(replace(TARGET_LOCKED, limits={"maxCreates": 1}))
    assert rebuilt(older, live(ONE))[0].target == older.target


def test_a_manifest_without_a_record_gets_every_generation_with_its_mark() -> None:
    shown = live(ONE, created=1), live(OTHER, created=2, state="FAILED"), live(THIRD, created=3, marked=False)
    lock, notes = rebuilt(Lock(), *shown)
    newer, older = lock.models["numbers"].generations
    assert (newer.key, newer.state, newer.dataset, newer.hyperparameters.declared) == (
        OTHER.key,
        State.FAILED,
        Dataset(OTHER.dataset.digest, "", 0),
        {},
    )
    assert older == replace(recorded(ONE, created=1), origin="adopted", total_steps=30)
    assert lock.models["numbers"].serving is None
    assert [note.partition(": ")[0] for note in notes] == ["numbers", OTHER.key]


def test_a_manifest_with_a_record_gets_the_generations_that_match_it() -> None:
    lock, notes = rebuilt(block(recorded(THIRD)), live(THIRD), live(ONE), live(OTHER))
    assert {one.key for one in lock.models["numbers"].generations} == {ONE.key, THIRD.key}
    assert notes == [SKIPPED]


def test_a_rebuilt_child_has_its_parent() -> None:
    shown = live(ONE), live(CHILD), live(replace(CHILD, attempt=1))
    lock, _ = rebuilt(Lock(), *shown, wanted=(ONE, CHILD))
    for generation in lock.models["leaf"].generations:
        assert generation.source == Source(tuned_model="numbers", key=ONE.key)
    orphaned, _ = rebuilt(Lock(), *shown, wanted=(replace(CHILD, parent=OTHER),))
    assert [generation.source for generation in orphaned.models["leaf"].generations] == [Source(remote=ONE.remote)] * 2


def test_a_generation_of_unknown_source_is_skipped() -> None:
    lock, notes = rebuilt(Lock(), live(ONE), replace(live(OTHER), source=None))
    assert [generation.key for generation in lock.models["numbers"].generations] == [ONE.key]
    assert notes[-1] == SKIPPED


def test_a_notice_lists_a_few_names() -> None:
    made = [Made(name) for name in ("aa", "bb", "cc", "dd", "ee")]
    _, notes = rebuilt(Lock(), *map(live, made))
    assert notes == ["aa, bb, cc and 2 more: models with the mark of this scope, but neither a manifest nor a record"]


def test_missing_details_are_added_to_a_record() -> None:
    bare = replace(
        recorded(ONE), hyperparameters=LockedHyperparameters(recorded(ONE).hyperparameters.declared), complete_time=""
    )
    shown = replace(live(ONE), complete_time="2026-01-01T00:09:00Z", snapshots=(Snapshot(30, 3, 3.5),))
    (generation,) = rebuilt(block(bare, serving=ONE.key), shown)[0].models["numbers"].generations
    assert generation == replace(recorded(ONE), complete_time="2026-01-01T00:09:00Z", final_loss=3.5)
    assert rebuilt(block(generation), live(ONE))[0] == block(generation)


def test_an_intent_without_a_model_stays_while_a_manifest_matches() -> None:
    assert rebuilt(block(intended(ONE)))[0] == block(intended(ONE))
    assert rebuilt(block(intended(OTHER)))[0] == Lock(TARGET_LOCKED)
