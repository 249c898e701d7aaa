"""What holds where nobody chooses ids, however the runs raced that left the jobs and the lockfiles behind."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from msgspec.structs import replace

from reconciler.domain.identity import key_of
from reconciler.domain.model import RemoteModel, State
from reconciler.domain.plan import EFFECTS, Kind, Plan, Reason, Request
from support.core_worlds import SCOPE, World, races, worlds_without_ids

ROUNDS = 3
PRESENT = {State.CREATING, State.ACTIVE, State.FAILED}
Pair = tuple[World, World]


def ours(world: World) -> list[tuple[str, RemoteModel]]:
    """The jobs of the manifests that may be acted on, with their keys."""
    free = {one.name for one in world.manifests if not one.lifecycle.suspend}
    marked = [(model.mark, model) for model in world.observation.models.values()]
    return [(key_of(mark), model) for mark, model in marked if mark and mark.scope == SCOPE and mark.name in free]


def in_flight(world: World) -> Counter[str]:
    return Counter(key for key, model in ours(world) if model.state is State.CREATING)


def ready(world: World) -> Counter[str]:
    return Counter(key for key, model in ours(world) if model.state is State.ACTIVE)


def cancelled(made: Plan) -> set[str]:
    return {one.remote for one in made.actions if one.reason is Reason.DUPLICATE}


def suspicious(*plans: Plan) -> bool:
    return any(one.reason is Reason.LISTING_SUSPICIOUS for made in plans for one in made.actions)


def one_training_a_key_is_left_and_none_beside_what_is_ready(world: World) -> None:
    world = world.refreshed()
    made = world.plan()
    if suspicious(made):
        return
    after = world.carried_out(made)
    trained, served = in_flight(after), ready(after)
    for key in in_flight(world):
        assert trained[key] == (0 if served[key] else 1)


def only_trainings_that_another_one_replaces_are_cancelled(world: World) -> None:
    made = world.plan()
    kept = {key for key, model in ours(world) if model.state in PRESENT and model.remote not in cancelled(made)}
    for action in made.of_kind(Kind.DELETE):
        model = world.observation.models[action.remote]
        assert model.state is State.CREATING
        assert model.mark is not None
        assert (model.mark.scope, key_of(model.mark)) == (SCOPE, action.key)
        assert action.key in kept


def two_lockfiles_agree_on_what_is_cancelled(pair: Pair) -> None:
    plans = [world.refreshed().plan() for world in pair]
    if not suspicious(*plans):
        assert cancelled(plans[0]) == cancelled(plans[1])


def two_lockfiles_come_to_record_the_same_jobs(pair: Pair) -> None:
    """Where both had trainings that got ready, each keeps its own; it is paid for, and may serve already."""
    first, second = (replace(world, request=Request(complete=False)) for world in pair)
    for _ in range(ROUNDS):
        first = first.refreshed()
        first = first.carried_out(first.plan())
        second = replace(second, observation=first.observation).refreshed()
        second = second.carried_out(second.plan())
        first = replace(first, observation=second.observation)
    first, second = first.refreshed(), second.refreshed()
    if suspicious(first.plan(), second.plan()):
        return
    usable = Counter(key for key, model in ours(first) if model.state in {State.CREATING, State.ACTIVE})
    remotes = {key: model.remote for key, model in ours(first) if model.state in {State.CREATING, State.ACTIVE}}
    for world in (first, second):
        for one in (one for block in world.lock.models.values() for one in block.generations):
            assert usable[one.key] != 1 or one.remote == remotes[one.key]


def a_plan_that_was_carried_out_is_quiet_when_it_is_made_again(pair: Pair) -> None:
    world = pair[0]
    for _ in range(ROUNDS):
        world = world.refreshed()
        world = world.carried_out(world.plan())
    world = world.refreshed()
    assert [one for one in world.plan().actions if one.kind in EFFECTS] == []
    assert world.refreshed() == world


@given(races())
def test_what_holds_of_two_runs(pair: Pair) -> None:
    for holds in (
        two_lockfiles_agree_on_what_is_cancelled,
        two_lockfiles_come_to_record_the_same_jobs,
        a_plan_that_was_carried_out_is_quiet_when_it_is_made_again,
    ):
        holds(pair)


def what_is_there_is_never_trained_again(world: World) -> None:
    there = {key for key, model in ours(world) if model.state in PRESENT}
    assert not [one for one in world.plan().of_kind(Kind.CREATE) if one.key in there]


def nobody_trains_again_what_ended_badly_without_being_asked_to(world: World) -> None:
    made = replace(world, request=Request()).plan()
    ended = {key for key, model in ours(world) if model.state in {State.FAILED, State.CANCELLED}}
    lost = {one.key for block in world.lock.models.values() for one in block.generations if one.state in RECORDED}
    assert not [one for one in made.of_kind(Kind.CREATE) if one.key in ended - lost]


RECORDED = {State.CREATING, State.ACTIVE, State.MISSING}
"""What is gone is trained again, although a double of it was cancelled."""


def no_intent_outlives_the_run_that_comes_after_it(world: World) -> None:
    """An intent is gone on with, taken up or withdrawn; kept where something holds the manifest, or it is not read."""
    world = replace(world.refreshed(), request=Request(complete=True)).refreshed()
    made = world.plan()
    if suspicious(made):
        return
    after = world.carried_out(made).refreshed()
    held = {one.name for one in made.of_kind(Kind.HOLD)}
    left = {
        name
        for name, block in after.lock.models.items()
        if any(one.state is State.INTENDED for one in block.generations)
    }
    assert left <= held | {one.name for one in world.manifests if in_use(after, one.name)}


@given(worlds_without_ids())
def test_what_holds_of_one_run(world: World) -> None:
    for holds in (
        one_training_a_key_is_left_and_none_beside_what_is_ready,
        only_trainings_that_another_one_replaces_are_cancelled,
        what_is_there_is_never_trained_again,
        nobody_trains_again_what_ended_badly_without_being_asked_to,
        no_intent_outlives_the_run_that_comes_after_it,
    ):
        holds(world)


def in_use(world: World, name: str) -> bool:
    """Whether something else than the intent satisfies the manifest by now."""
    return any(one.name == name and one.kind in {Kind.NOOP, Kind.WAIT, Kind.PROMOTE} for one in world.plan().actions)
