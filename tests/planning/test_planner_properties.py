"""What holds of every plan in every world."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.lock import Lock
from reconciler.domain.model import Limits
from reconciler.domain.plan import EFFECTS, Action, Kind, Observation, Reason, Request
from support.core_worlds import World, worlds, worlds_without_ids

ROUNDS = 6
"""What a child and its parent take: each is created, checked and promoted in a round of its own."""
ALL_WORLDS = worlds() | worlds_without_ids()


def a_plan_always_exists_is_sorted_and_says_something_of_every_manifest(world: World) -> None:
    made = world.plan()
    assert list(made.actions) == sorted(made.actions, key=Action.sort_key)
    assert {one.name for one in world.manifests} <= {action.name for action in made.actions}
    assert len({(one.name, one.kind, one.key, one.remote) for one in made.actions}) == len(made.actions)


def a_plan_does_not_depend_on_the_order_of_what_it_is_made_from(world: World, random: Any) -> None:
    def shuffled(items: Any) -> list[Any]:
        mixed = list(items)
        random.shuffle(mixed)
        return mixed

    other = replace(
        world,
        manifests=tuple(shuffled(world.manifests)),
        observation=Observation(dict(shuffled(world.observation.models.items())), world.observation.gone),
        lock=Lock(world.lock.target, dict(shuffled(world.lock.models.items()))),
    )
    assert other.plan() == world.plan()


def carrying_plans_out_leads_to_a_plan_without_effects(world: World) -> None:
    world = replace(world, limits=Limits())
    for _ in range(ROUNDS):
        world = world.refreshed()
        world = world.carried_out(world.plan())
    world = world.refreshed()
    assert [action for action in world.plan().actions if action.kind in EFFECTS and not action.after] == []


def what_is_in_order_stays_in_order(world: World) -> None:
    """Carrying a plan out never undoes what an earlier one did: each key is created at most once."""
    world = replace(world, limits=Limits())
    created: list[str] = []
    for _ in range(ROUNDS):
        world = world.refreshed()
        made = world.plan()
        created += [action.key for action in made.of_kind(Kind.CREATE) if not action.after]
        world = world.carried_out(made)
    assert len(created) == len(set(created))


def what_is_not_ours_is_never_acted_on(world: World) -> None:
    for action in world.plan().of_kind(*EFFECTS):
        if action.kind is Kind.CREATE:
            remote = f"tunedModels/{action.key}"
            assert remote not in world.observation.models or world.manages(remote)
        else:
            assert world.manages(action.remote)


def what_is_suspended_is_left_alone(world: World) -> None:
    suspended = {one.name for one in world.manifests if one.lifecycle.suspend}
    assert not [one for one in world.plan().of_kind(*EFFECTS) if one.name in suspended]


def creates_stay_within_the_limits_or_do_not_happen_at_all(world: World) -> None:
    made = world.plan()
    creates = made.of_kind(Kind.CREATE)
    assert len(creates) <= world.limits.max_creates
    assert made.steps <= world.limits.max_steps
    assert not creates or Reason.GUARDED not in {action.reason for action in made.actions}


def nobody_trains_again_what_failed_without_being_asked_to(world: World) -> None:
    made = replace(world, request=Request()).plan()
    failed = {
        one.remote for one in world.observation.models.values() if one.state == "FAILED" and world.manages(one.remote)
    }
    assert not [one for one in made.of_kind(Kind.CREATE) if f"tunedModels/{one.key}" in failed]
    assert not {one.reason for one in made.actions} & {Reason.RETRY_REQUESTED, Reason.REPLACE_REQUESTED}


@given(worlds())
def test_what_holds_where_ids_are_chosen(world: World) -> None:
    for holds in (
        what_is_not_ours_is_never_acted_on,
        nobody_trains_again_what_failed_without_being_asked_to,
    ):
        holds(world)


def what_was_rolled_back_is_neither_trained_nor_promoted(world: World) -> None:
    rejected = {key for block in world.lock.models.values() for key in block.rejected}
    assert not [one for one in world.plan().of_kind(Kind.CREATE, Kind.PROMOTE) if one.key in rejected]


@given(ALL_WORLDS, st.randoms(use_true_random=False))
def test_what_holds_of_every_plan(world: World, random: Any) -> None:
    a_plan_does_not_depend_on_the_order_of_what_it_is_made_from(world, random)
    for holds in (
        a_plan_always_exists_is_sorted_and_says_something_of_every_manifest,
        carrying_plans_out_leads_to_a_plan_without_effects,
        what_is_in_order_stays_in_order,
        what_is_suspended_is_left_alone,
        creates_stay_within_the_limits_or_do_not_happen_at_all,
        what_was_rolled_back_is_neither_trained_nor_promoted,
    ):
        holds(world)
