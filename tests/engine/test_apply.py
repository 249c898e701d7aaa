"""The loop over the embedded service: what a run does, what it asks for, and what it leaves behind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import Lifecycle, Limits, Sampling, Stage, State
from reconciler.domain.plan import Kind, Plan, Reason, Request
from reconciler.planning.diff import declared_fields
from reconciler.planning.events import Requested
from support.engine_world import CREATE, FOREIGN, LIST, SECONDS, World, crowd, manifest, tuning
from support.provider_service import START

BASE_MODELS = "GET /v1beta3/models"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_first_run_trains_and_promotes(world: World) -> None:
    ran = world.run(manifest())
    assert ran.happened == ["Started", "Completed", "Promoted"]
    assert ran.outcome.exit_status is ExitStatus.OK
    model = world.checkout.lock.models["numbers"]
    (generation,) = model.generations
    assert model.serving == generation.key
    assert generation.state is State.ACTIVE
    assert (generation.origin, generation.total_steps) == ("created", 23)
    assert generation.final_loss == pytest.approx(world.everything()[0]["tuningTask"]["snapshots"][-1]["meanLoss"])
    assert world.time.now - START >= timedelta(seconds=SECONDS)


def test_a_second_run_does_nothing_with_one_request(world: World) -> None:
    one = manifest(lifecycle=Lifecycle(protect=True), description="says the next number", sampling=Sampling(0.7))
    world.run(one)
    text = world.checkout.text
    assert '"protect": true' in text
    ran = world.run(one)
    assert [action.kind for action in ran.outcome.plan.actions] == [Kind.NOOP]
    assert ran.requests == [LIST]
    assert ran.happened == []
    assert world.checkout.text == text


@pytest.mark.parametrize(("models", "requests"), [(1, 1), (1000, 1), pytest.param(5000, 5, marks=pytest.mark.slow)])
def test_a_no_op_takes_a_request_a_thousand_models(tmp_path: Path, models: int, requests: int) -> None:
    world = World(tmp_path, models=crowd(tmp_path, models - 1))
    world.run(manifest())
    ran = world.run(manifest())
    assert ran.requests == [LIST] * requests
    assert ran.outcome.plan.unmanaged == models - 1


def test_waiting_lists_once_per_observation_and_reads_each_outcome_once(world: World) -> None:
    ran = world.run(*(manifest(name) for name in ("a", "b", "c")))
    assert ran.requests.count(CREATE) == 3
    assert ran.requests.count(BASE_MODELS) == 1
    outcomes = [line for line in ran.requests if line not in {CREATE, LIST, BASE_MODELS}]
    assert len(outcomes) == 3
    assert len(set(outcomes)) == 3
    looks = len(world.time.naps)
    assert ran.requests.count(LIST) == 1 + looks
    assert looks <= 20


def test_changed_content_is_trained_and_then_promoted(world: World) -> None:
    world.run(manifest())
    ran = world.run(manifest(hyperparameters=tuning(epochCount=4)))
    (action,) = ran.approved.actions
    assert (action.kind, action.reason) == (Kind.CREATE, Reason.CONTENT_CHANGED)
    model = world.checkout.lock.models["numbers"]
    assert len(world.everything()) == len(model.generations) == 2
    assert model.serving == model.generations[0].key == action.key


def test_the_applied_fields_are_recorded_while_a_later_stage_waits(world: World) -> None:
    world.stages = (Stage("staging"), Stage("production", "staging", timedelta(days=1)))
    world.run(manifest())
    recorder = world.recorder(world.checkout, [])
    recorder.emit(Requested("numbers", world.checkout.lock.models["numbers"].generations[0].key, "production"))
    recorder.flush()
    changed = manifest(description="says the next number")
    ran = world.run(changed)
    assert {action.kind for action in ran.outcome.plan.actions} == {Kind.NOOP, Kind.HOLD}
    assert world.checkout.lock.models["numbers"].applied == declared_fields(changed)


def test_reverting_a_change_trains_nothing(world: World) -> None:
    world.run(manifest())
    first = world.checkout.lock.models["numbers"].serving
    world.run(manifest(hyperparameters=tuning(epochCount=4)))
    ran = world.run(manifest())
    assert ran.happened == ["Promoted"]
    assert world.checkout.lock.models["numbers"].serving == first
    assert len(world.everything()) == 2


def test_a_failed_training_is_held_with_the_error_of_the_service(world: World) -> None:
    broken = manifest(hyperparameters=tuning(learningRate=1.5))
    first = world.run(broken)
    assert first.happened == ["Started", "Failed"]
    assert first.outcome.exit_status is ExitStatus.ERROR
    (hold,) = first.outcome.plan.actions
    assert (hold.kind, hold.reason) == (Kind.HOLD, Reason.FAILED)
    assert "The effective learning rate 1.5 is too high; lower it, or its multiplier, and tune again" in hold.message
    assert hold.message.endswith("change the inputs, or train it again with --retry numbers")
    text = world.checkout.text

    second = world.run(broken)
    assert second.requests == [LIST]
    assert second.outcome.exit_status is ExitStatus.ERROR
    assert world.checkout.text == text


def test_a_retry_trains_under_a_new_key_and_deletes_nothing(world: World) -> None:
    broken = manifest(hyperparameters=tuning(learningRate=1.5))
    failed = world.run(broken).outcome.plan.actions[0].key
    ran = world.run(broken, request=Request(retry=frozenset({"numbers"})))
    assert ran.happened == ["Started", "Failed"]
    (action,) = ran.approved.actions
    assert action.reason is Reason.RETRY_REQUESTED
    assert action.key != failed
    assert len(world.everything()) == 2
    assert [one.attempt for one in world.checkout.lock.models["numbers"].generations] == [1, 0]


def test_a_failed_model_that_was_deleted_is_not_trained_again(world: World) -> None:
    broken = manifest(hyperparameters=tuning(learningRate=1.5))
    world.run(broken)
    world.request("DELETE", world.everything()[0]["name"])
    ran = world.run(broken)
    assert [action.reason for action in ran.outcome.plan.actions] == [Reason.FAILED]
    assert world.everything() == []


def test_a_training_that_fails_during_the_run_is_not_retried_in_it(world: World) -> None:
    broken = manifest(hyperparameters=tuning(learningRate=1.5))
    world.run(broken, wait=False)
    ran = world.run(broken, request=Request(retry=frozenset({"numbers"})))
    assert ran.approved.notices == (
        "--retry numbers has no effect: its training has not failed, or is already running again",
    )
    assert ran.happened == ["Failed"]
    assert [action.reason for action in ran.outcome.plan.actions] == [Reason.FAILED]
    assert len(world.everything()) == 1


def test_a_retry_that_a_limit_holds_stays_held(world: World) -> None:
    broken = manifest(hyperparameters=tuning(learningRate=1.5))
    world.run(broken)
    world.run(manifest("other"), wait=False)
    world.limits = Limits(max_creates=0)
    world.time.now += timedelta(minutes=1)
    ran = world.run(broken, manifest("other"), request=Request(retry=frozenset({"numbers"})))
    assert ran.happened == ["Completed", "Promoted"]
    assert [action.reason for action in ran.outcome.plan.actions] == [Reason.GUARDED, Reason.IN_SYNC]


def test_a_replacement_is_promoted_when_it_is_ready(world: World) -> None:
    world.run(manifest())
    ran = world.run(manifest(), request=Request(replace=frozenset({"numbers"})))
    assert ran.happened == ["Started", "Completed", "Promoted"]
    model = world.checkout.lock.models["numbers"]
    assert [(one.attempt, one.key == model.serving) for one in model.generations] == [(1, True), (0, False)]
    assert world.run(manifest()).happened == []


def test_a_deleted_model_is_trained_again_under_its_key(world: World) -> None:
    key = world.run(manifest()).approved.actions[0].key
    world.request("DELETE", f"tunedModels/{key}")
    ran = world.run(manifest())
    (action,) = ran.approved.actions
    assert (action.kind, action.reason, action.key) == (Kind.CREATE, Reason.MISSING, key)
    assert ran.happened == ["Disappeared", "Started", "Completed", "Promoted"]
    assert world.run(manifest()).happened == []


def test_many_missing_models_hold_all_actions_and_stay_recorded(world: World) -> None:
    names = ("a", "b", "c")
    world.run(*map(manifest, names))
    text = world.checkout.text
    for model in world.everything():
        world.request("DELETE", model["name"])
    ran = world.run(*map(manifest, names), manifest("d"))
    assert {action.reason for action in ran.outcome.plan.actions} == {Reason.LISTING_SUSPICIOUS}
    assert len(ran.outcome.plan.actions) == 4
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert world.checkout.text == text


def test_over_a_limit_nothing_is_trained(world: World) -> None:
    world.limits = Limits(max_creates=1)
    ran = world.run(manifest("a"), manifest("b"))
    assert CREATE not in ran.requests
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert not world.checkout.path.exists()


def test_only_approved_trainings_are_started(world: World) -> None:
    def only_a(plan: Plan) -> Plan:
        return replace(plan, actions=tuple(action for action in plan.actions if action.name == "a"))

    ran = world.run(manifest("a"), manifest("b"), approve=only_a)
    assert [model["displayName"] for model in world.everything()] == ["a"]
    assert ran.outcome.unfinished
    assert ran.outcome.exit_status is ExitStatus.ERROR


def test_unmanaged_models_are_not_changed(tmp_path: Path) -> None:
    world = World(tmp_path, models=FOREIGN)
    before = world.everything()
    assert len(before) == 5
    ran = world.run(manifest())
    world.run(manifest(hyperparameters=tuning(epochCount=1), description="new"))
    assert ran.approved.unmanaged == 5
    assert world.everything()[:5] == before
