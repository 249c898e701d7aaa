"""Models that are tuned from each other, over the embedded service."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Manifest, Source, State
from reconciler.domain.plan import Kind, Reason, Request
from reconciler.planning.events import Promoted, Started
from support.engine_world import CREATE, LIST, Ran, World, manifest, tuning

DEPTH, WIDTH = 4, 3
DIVERGES = tuning(learningRate=1.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def name_of(level: int, column: int) -> str:
    return f"m{level}{'abc'[column]}"


def tree() -> tuple[Manifest, ...]:
    """Four levels of three models; below the first level each is tuned from the one above it."""
    return tuple(
        manifest(
            name_of(level, column), **({"source": Source(tuned_model=name_of(level - 1, column))} if level else {})
        )
        for level in range(DEPTH)
        for column in range(WIDTH)
    )


def child(name: str, parent: str, **fields: object) -> Manifest:
    return manifest(name, source=Source(tuned_model=parent), **fields)


def serving(world: World, name: str) -> LockedGeneration:
    model = world.checkout.lock.models[name]
    found = model.generation(model.serving)
    assert found is not None
    return found


def positions(ran: Ran, kind: type[Started | Promoted]) -> dict[str, int]:
    return {event.name: at for at, event in enumerate(ran.events) if isinstance(event, kind)}


def test_a_tree_of_depth_4_and_width_3_converges_in_one_run(world: World) -> None:
    """Siblings train concurrently, children after their parents, with one request per training and outcome."""
    ran = world.run(*tree())
    assert ran.outcome.exit_status is ExitStatus.OK
    planned = {action.name: action.key for action in ran.approved.of_kind(Kind.CREATE)}
    assert len(planned) == DEPTH * WIDTH
    assert {name: serving(world, name).key for name in planned} == planned
    started, promoted = positions(ran, Started), positions(ran, Promoted)
    for level, column in ((level, column) for level in range(1, DEPTH) for column in range(WIDTH)):
        name, parent = name_of(level, column), name_of(level - 1, column)
        assert started[name] > promoted[parent]
        assert serving(world, name).source == Source(tuned_model=parent, key=planned[parent])
    shown = {model["name"]: model for model in world.everything()}
    deep = shown[f"tunedModels/{planned['m3a']}"]
    assert deep["tunedModelSource"]["tunedModel"] == f"tunedModels/{planned['m2a']}"

    for level in range(DEPTH):
        names = [name_of(level, column) for column in range(WIDTH)]
        assert max(started[name] for name in names) < min(promoted[name] for name in names)

    looks = ran.requests.count(LIST)
    assert ran.requests.count(CREATE) == DEPTH * WIDTH
    # An outcome is read from the model, and where that is not ready from its operation.
    assert len(ran.requests) - looks <= 3 * DEPTH * WIDTH + 1
    assert looks <= 25 * DEPTH
    again = world.run(*tree())
    assert again.requests == [LIST]
    assert again.happened == []


def test_a_failure_at_depth_2_holds_exactly_its_subtree(world: World) -> None:
    failing = name_of(1, 1)
    manifests = [
        replace(one, hyperparameters=DIVERGES) if one.name == failing else one
        for one in tree()
        if not one.name.endswith("c")
    ]
    ran = world.run(*manifests)
    assert ran.outcome.exit_status is ExitStatus.ERROR
    held = {action.name: action for action in ran.outcome.plan.of_kind(Kind.HOLD)}
    assert set(held) == {"m1b", "m2b", "m3b"}
    assert held["m1b"].reason is Reason.FAILED
    assert {held[name].reason for name in ("m2b", "m3b")} == {Reason.PARENT_HELD}
    assert "m1b is held (Failed)" in held["m3b"].message
    assert ran.requests.count(CREATE) == len(manifests) - 2
    assert {"m2b", "m3b"}.isdisjoint(world.checkout.lock.models)


def test_a_run_interrupted_between_parent_and_child_is_resumed(world: World) -> None:
    pair = (manifest("top"), child("leaf", "top"))
    first = world.run(*pair, wait=False)
    assert first.outcome.exit_status is ExitStatus.OK
    assert [action.name for action in first.outcome.plan.of_kind(Kind.CREATE)] == ["leaf"]
    waited = world.run(*pair, creates=False, writes=False)
    assert waited.outcome.exit_status is ExitStatus.ERROR  # the parent is ready, and wait does not train the child
    last = world.run(*pair)
    assert last.outcome.exit_status is ExitStatus.OK
    assert last.requests.count(CREATE) == 1


def test_a_new_parent_generation_means_a_new_child(world: World) -> None:
    world.run(manifest("top"), child("leaf", "top"))
    before = serving(world, "leaf")
    ran = world.run(manifest("top", hyperparameters=tuning(epochCount=4)), child("leaf", "top"))
    (leaf,) = [action for action in ran.approved.of_kind(Kind.CREATE) if action.name == "leaf"]
    assert leaf.reason is Reason.PARENT_CHANGED
    assert ran.outcome.exit_status is ExitStatus.OK
    assert serving(world, "leaf").source.key == serving(world, "top").key
    assert before.key != serving(world, "leaf").key
    reverted = world.run(manifest("top"), child("leaf", "top"))
    assert CREATE not in reverted.requests
    assert serving(world, "leaf").key == before.key


def test_a_lost_lockfile_is_rebuilt_with_parents_and_children(world: World) -> None:
    world.run(manifest("top"), child("leaf", "top"))
    keys = {name: serving(world, name).key for name in ("top", "leaf")}
    world.checkout.path.unlink()
    ran = world.run(manifest("top"), child("leaf", "top"))
    assert CREATE not in ran.requests
    assert {name: serving(world, name).key for name in keys} == keys
    assert serving(world, "leaf").source == Source(tuned_model="top", key=keys["top"])


def test_a_child_alone_uses_the_serving_generation_of_its_parent(world: World) -> None:
    world.run(manifest("top"))
    ran = world.run(child("leaf", "top"), request=Request(complete=False))
    assert ran.outcome.exit_status is ExitStatus.OK
    assert serving(world, "leaf").source.key == serving(world, "top").key


def test_an_unmanaged_model_can_be_tuned(world: World) -> None:
    world.run(manifest("foreign"))
    outside = serving(world, "foreign").remote
    ran = world.run(manifest("mine", source=Source(remote=outside)), request=Request(complete=False))
    assert ran.outcome.exit_status is ExitStatus.OK
    assert serving(world, "mine").source == Source(remote=outside)
    assert serving(world, "mine").state is State.ACTIVE


def test_an_unmanaged_model_that_is_not_found_is_refused(world: World) -> None:
    ran = world.run(manifest("mine", source=Source(remote="tunedModels/nobody")))
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert "tunedModels/nobody" in str(ran.outcome.refused["mine"].error)
