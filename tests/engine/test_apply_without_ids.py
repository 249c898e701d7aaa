"""Interrupted, refused and concurrent runs at a service that chooses the ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import AccessError, ExitStatus, ReconcileError, ServiceError
from reconciler.domain.identity import key_of
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Limits, Manifest, State
from reconciler.domain.plan import Kind, Reason, Request
from reconciler.planning.events import Adopted, Dropped
from support.cases import each_row
from support.engine_fake import Blind, Eventful, Meanwhile, World, manifest, raising
from support.provider_fake import FakeProvider

LAGS = [0, 1, 2, 3, 5, 8, 13]
RETRY = Request(retry=frozenset({"numbers"}))
REPLACE = Request(replace=frozenset({"numbers"}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def the_one(world: World) -> LockedGeneration:
    (one,) = world.checkout.lock.models["numbers"].generations
    return one


class KilledError(BaseException):
    """The process is gone."""


def troubled(world: World, error: BaseException, *, taken: bool = False) -> Eventful:
    """A provider whose creates end with an error, after the service took the training or without that it did."""
    trouble = raising(error)
    return Eventful(world.jobs, after=trouble) if taken else Eventful(world.jobs, before=trouble)


def killed(world: World, *, taken: bool, declared: Manifest | None = None, **options: Request) -> None:
    """A run that dies at its create; the lockfile stays as it was then, as a dead process saves nothing more."""
    left: list[str] = []

    def die() -> None:
        left.append(world.checkout.text)
        raise KilledError

    doomed = Eventful(world.jobs, after=die) if taken else Eventful(world.jobs, before=die)
    with pytest.raises(KilledError):
        world.run(declared or manifest(), provider=doomed, **options)
    world.checkout.path.write_text(left[0], encoding="utf-8")


@each_row("lag", LAGS)
def test_a_run_killed_after_the_create_is_resumed(tmp_path: Path, lag: int) -> None:
    world = World(tmp_path, lag)
    killed(world, taken=True)
    assert the_one(world).state is State.INTENDED
    ran = world.run(manifest())
    assert ran.outcome.exit_status is ExitStatus.OK
    assert world.states() == [State.ACTIVE]
    assert (the_one(world).remote, the_one(world).state) == ("jobs/1", State.ACTIVE)
    assert world.run(manifest()).happened == []


@each_row("lag", LAGS)
def test_a_run_killed_before_the_create_trains_once(tmp_path: Path, lag: int) -> None:
    world = World(tmp_path, lag)
    killed(world, taken=False)
    assert the_one(world).state is State.INTENDED
    ran = world.run(manifest())
    assert [one.reason for one in ran.approved.actions] == [Reason.NOT_FOUND]
    assert ran.happened == ["Intended", "Started", "Completed", "Promoted"]
    assert world.states() == [State.ACTIVE]
    assert world.run(manifest()).happened == []


def test_a_failed_training_of_a_killed_run_is_adopted(world: World) -> None:
    broken = manifest(hyperparameters={"learningRateMultiplier": 10})
    killed(world, taken=True, declared=broken)
    world.time.now = world.time.now.replace(hour=1)
    ran = world.run(broken)
    assert [(one.kind, one.reason) for one in ran.outcome.plan.actions] == [(Kind.HOLD, Reason.FAILED)]
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert the_one(world).state is State.FAILED
    assert the_one(world).failure is not None
    assert len(world.states()) == 1


def test_a_replacement_of_a_killed_run_is_resumed(world: World) -> None:
    world.run(manifest())
    killed(world, taken=False, request=REPLACE)
    assert world.checkout.lock.models["numbers"].serving == world.checkout.lock.models["numbers"].generations[1].key
    ran = world.run(manifest())
    assert ran.happened == ["Intended", "Started", "Completed", "Promoted"]
    model = world.checkout.lock.models["numbers"]
    assert [(one.attempt, one.state) for one in model.generations] == [(1, State.ACTIVE), (0, State.ACTIVE)]
    assert model.serving == model.generations[0].key
    assert world.run(manifest()).happened == []


def test_an_intent_of_other_content_is_withdrawn(world: World) -> None:
    killed(world, taken=False)
    ran = world.run(manifest(hyperparameters={"epochCount": 4}))
    assert ran.happened == ["Withdrawn", "Intended", "Started", "Completed", "Promoted"]
    assert the_one(world).hyperparameters.declared == {"epochCount": 4}


def test_an_intent_that_is_no_longer_declared_is_removed(world: World) -> None:
    killed(world, taken=False)
    assert world.run().happened == ["Withdrawn"]
    assert world.checkout.lock.models == {}


def test_an_intent_survives_a_run_for_another_manifest(world: World) -> None:
    killed(world, taken=False)
    world.run(manifest("letters"), request=Request(complete=False))
    assert the_one(world).state is State.INTENDED


REFUSALS: list[ReconcileError] = [
    ServiceError("POST /jobs failed with 400 INVALID_ARGUMENT: no", code="INVALID_ARGUMENT"),
    AccessError("POST /jobs failed with 403 PERMISSION_DENIED: no"),
    ReconcileError("data.csv has changed since it was checked", "run the command again"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_refused_training_leaves_no_intent(world: World, error: ReconcileError) -> None:
    ran = world.run(manifest(), provider=troubled(world, error))
    assert ran.happened == ["Intended", "Withdrawn", "Refused"]
    assert str(ran.outcome.refused["numbers"].error) == str(error)
    assert ran.outcome.exit_status is error.exit_status
    assert world.checkout.lock.models == {}
    assert world.checkout.lock.target is not None
    assert world.run(manifest()).happened == ["Intended", "Started", "Completed", "Promoted"]


def test_a_refused_training_restores_the_previous_record(world: World) -> None:
    world.run(manifest())
    before = replace(the_one(world), state=State.MISSING)
    world.jobs.jobs.clear()
    ran = world.run(manifest(), provider=troubled(world, REFUSALS[0]))
    assert ran.happened == ["Disappeared", "Intended", "Withdrawn", "Refused"]
    assert the_one(world) == before
    assert world.checkout.lock.models["numbers"].serving == before.key
    assert [one.reason for one in world.run(manifest()).approved.actions] == [Reason.MISSING]


def test_a_refused_second_request_withdraws_the_intent(world: World) -> None:
    killed(world, taken=False)
    world.run(manifest(), provider=troubled(world, REFUSALS[0]))
    assert world.checkout.lock.models == {}


@pytest.mark.parametrize("code", ["UNREACHABLE", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"])
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_an_outage_keeps_the_intent_and_the_next_run_resumes(world: World, code: str, *, taken: bool) -> None:
    outage = ServiceError("POST /jobs got no response", code=code)
    ran = world.run(manifest(), provider=troubled(world, outage, taken=taken))
    assert ran.happened == ["Intended", "Refused"]
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert the_one(world).state is State.INTENDED
    assert world.run(manifest()).outcome.exit_status is ExitStatus.OK
    assert world.states() == [State.ACTIVE]


def test_a_retry_that_met_an_outage_keeps_its_attempt(world: World) -> None:
    broken = manifest(hyperparameters={"learningRateMultiplier": 10})
    world.run(broken)
    outage = ServiceError("POST /jobs got no response", code="UNREACHABLE")
    world.run(broken, provider=troubled(world, outage), request=RETRY)
    ran = world.run(broken, request=RETRY)
    assert [one.attempt for one in ran.approved.of_kind(Kind.CREATE)] == [1]
    assert [one.attempt for one in world.checkout.lock.models["numbers"].generations] == [1, 0]


def test_no_training_is_requested_when_the_lockfile_cannot_be_written(world: World) -> None:
    with pytest.raises(ReconcileError, match=r"gone/reconcile\.lock\.json cannot be written"):
        world.run(manifest(), checkout=world.another("gone/reconcile.lock.json"))
    assert world.jobs.jobs == {}


def test_no_training_starts_after_the_lockfile_becomes_read_only(tmp_path: Path) -> None:
    world = World(tmp_path, limits=Limits(concurrency=1))
    checkout = world.another("specs/reconcile.lock.json")
    checkout.path.parent.mkdir()
    vandal = Eventful(world.jobs, after=lambda: checkout.path.parent.rename(tmp_path / "moved"))
    with pytest.raises(ReconcileError, match=r"specs/reconcile\.lock\.json cannot be written"):
        world.run(manifest("a"), manifest("b"), checkout=checkout, provider=vandal)
    assert len(world.jobs.jobs) == 1


@each_row("lag", LAGS)
def test_racing_runs_record_the_same_training(tmp_path: Path, lag: int) -> None:
    world = World(tmp_path, lag, time=Meanwhile(0))  # many polls
    checkouts = [world.another("first.json"), world.another("second.json")]
    runs = world.race(*checkouts)
    assert [ran.outcome.exit_status for ran in runs] == [ExitStatus.OK] * 2
    assert sorted(world.states()) in ([State.ACTIVE], [State.ACTIVE, State.CANCELLED])
    (kept,) = [name for name in world.jobs.jobs if world.jobs.jobs[name].state is not State.CANCELLED]
    for checkout in checkouts:
        model = checkout.lock.models["numbers"]
        assert [(one.remote, one.state) for one in model.generations] == [(kept, State.ACTIVE)]
        assert model.serving == model.generations[0].key
        assert world.run(manifest(), checkout=checkout).happened == []


@each_row("lag", LAGS)
def test_racing_runs_that_share_a_lockfile_leave_one_training_in_it(tmp_path: Path, lag: int) -> None:
    world = World(tmp_path, lag)
    runs = world.race(world.checkout, world.checkout)
    assert [ran.outcome.exit_status for ran in runs] == [ExitStatus.OK] * 2
    assert world.states().count(State.ACTIVE) == 1
    kept = world.jobs.get(the_one(world).remote)
    assert kept is not None
    assert kept.state is the_one(world).state is State.ACTIVE
    assert world.run(manifest()).happened == []


def test_racing_runs_that_do_not_wait_are_resolved_by_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, lag=4)
    first, second = world.another("first.json"), world.another("second.json")
    world.race(first, second, wait=False)
    assert world.states() == [State.CREATING] * 2
    for _ in range(5):
        world.jobs.list()
    ran = world.run(manifest(), checkout=second)
    assert [(one.kind, one.reason, one.remote) for one in ran.approved.actions] == [
        (Kind.WAIT, Reason.TRAINING, "jobs/1"),
        (Kind.ADOPT, Reason.FOUND_UNRECORDED, "jobs/1"),
        (Kind.DELETE, Reason.DUPLICATE, "jobs/2"),
    ]
    assert ran.happened == ["Adopted", "Dropped", "Completed", "Promoted"]
    assert ran.outcome.exit_status is ExitStatus.OK
    assert world.states() == [State.ACTIVE, State.CANCELLED]
    assert world.run(manifest(), checkout=first).happened == ["Completed", "Promoted"]


def test_a_run_whose_training_was_canceled_as_a_duplicate_adopts_the_other(world: World) -> None:
    def lose() -> None:
        world.double(create_time="2025-12-31T23:59:59+00:00")
        world.change("jobs/1", state=State.CANCELLED)

    world.time.acts = [lose]
    ran = world.run(manifest())
    assert ran.happened == ["Intended", "Started", "Adopted", "Completed", "Promoted"]
    assert ran.outcome.exit_status is ExitStatus.OK
    assert ran.outcome.failed == frozenset()
    assert the_one(world).remote == "jobs/2"


def test_a_duplicate_of_a_failed_training_is_waited_for(world: World) -> None:
    def fail() -> None:
        world.double()
        world.change("jobs/1", state=State.FAILED)

    world.time.acts = [fail]
    ran = world.run(manifest())
    assert ran.outcome.exit_status is ExitStatus.OK
    assert (the_one(world).remote, the_one(world).state) == ("jobs/2", State.ACTIVE)
    assert world.run(manifest()).happened == []


def test_a_duplicate_that_appears_during_the_wait_is_canceled(world: World) -> None:
    world.time.acts = [world.double]
    ran = world.run(manifest())
    assert [event for event in ran.events if isinstance(event, Dropped)] == [
        Dropped("numbers", the_one(world).key, "jobs/2")
    ]
    assert ran.outcome.exit_status is ExitStatus.OK
    assert world.states() == [State.ACTIVE, State.CANCELLED]


def test_a_duplicate_is_not_canceled_without_approval(world: World) -> None:
    world.begin(manifest(), world.checkout)
    world.time.acts = [world.double]
    ran = world.run(manifest(), foreseen=False)
    assert [one.kind for one in ran.approved.actions] == [Kind.WAIT]
    assert ran.happened == ["Completed", "Promoted"]
    assert [(one.kind, one.remote) for one in ran.outcome.plan.actions] == [
        (Kind.DELETE, "jobs/2"),
        (Kind.NOOP, "jobs/1"),
    ]
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert world.run(manifest(), foreseen=False).happened == ["Dropped"]
    assert world.states() == [State.ACTIVE, State.CANCELLED]


def test_waiting_alone_cancels_nothing(world: World) -> None:
    world.begin(manifest(), world.checkout)
    world.double()
    ran = world.run(manifest(), creates=False, writes=False)
    assert ran.happened == ["Completed"]
    assert ran.outcome.exit_status is ExitStatus.OK
    assert world.states() == [State.ACTIVE, State.ACTIVE]


def test_a_canceled_duplicate_is_recorded_without_waiting(world: World) -> None:
    world.begin(manifest(), world.checkout)
    world.double()
    ran = world.run(manifest(), wait=False)
    assert ran.happened == ["Dropped"]
    assert [(one.kind, one.remote) for one in ran.outcome.plan.actions] == [(Kind.WAIT, "jobs/1")]
    assert ran.outcome.exit_status is ExitStatus.OK


def test_a_duplicate_that_cannot_be_canceled_is_tried_again(world: World) -> None:
    class Stubborn(FakeProvider):
        async def cancel(self, handle: object) -> None:
            raise AccessError(f"{handle} may not be cancelled")

    world.begin(manifest(), world.checkout)
    world.double()
    ran = world.run(manifest(), provider=Stubborn(world.jobs))
    assert ran.outcome.exit_status is ExitStatus.ACCESS
    assert "may not be cancelled" in str(ran.outcome.refused["numbers"].error)
    assert world.run(manifest()).outcome.exit_status is ExitStatus.OK


def test_a_lost_lockfile_is_rebuilt_without_training(world: World) -> None:
    world.run(manifest())
    lost = the_one(world)
    world.checkout.path.unlink()
    assert world.run(manifest()).happened == ["Adopted", "Promoted"]
    assert replace(the_one(world), origin="created") == lost
    assert world.run(manifest()).happened == []


def test_an_unreadable_model_is_not_adopted_and_does_not_end_the_run(world: World) -> None:
    world.begin(manifest())
    error = ServiceError("GET /jobs/1 failed with 501 UNIMPLEMENTED: no", code="UNIMPLEMENTED")
    ran = world.run(manifest(), provider=Blind(world.jobs, error))
    assert ran.happened == ["Refused"]
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert not world.checkout.path.exists()


def test_a_started_training_is_recorded_under_its_planned_key(world: World) -> None:
    ran = world.run(manifest())
    assert ran.approved.actions[0].key == the_one(world).key == key_of(the_one(world).mark("demo", "numbers"))
    assert [type(event) for event in ran.events if isinstance(event, Adopted)] == []
    assert the_one(world).resources.endpoint == "jobs/1/endpoint"
