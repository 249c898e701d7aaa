"""How long a run waits, and how the next one resumes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response

from reconciler.domain.errors import ExitStatus, TimeoutReached
from reconciler.domain.model import Lifecycle, State
from reconciler.domain.plan import Kind, Reason
from reconciler.domain.ports import Provider
from reconciler.engine.apply import Applier, ApplyOptions
from support.engine_world import CREATE, LIST, SECONDS, World, answering, manifest, tuning
from support.provider_service import Time

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, time=Time())  # polls at the real interval


def test_a_run_that_does_not_wait_succeeds_while_the_training_runs(world: World) -> None:
    ran = world.run(manifest(), wait=False)
    assert world.time.naps == []
    assert ran.outcome.exit_status is ExitStatus.OK
    assert not ran.outcome.timed_out
    assert world.checkout.lock.models["numbers"].generations[0].state is State.CREATING


def test_a_timeout_is_reported_and_the_next_run_resumes(world: World) -> None:
    ran = world.run(manifest(), timeout=timedelta(seconds=9))
    assert sum(world.time.naps) == pytest.approx(9)
    assert ran.outcome.timed_out
    assert ran.outcome.exit_status is ExitStatus.STILL_TRAINING
    resumed = world.run(manifest())
    assert CREATE not in resumed.requests
    assert resumed.happened == ["Completed", "Promoted"]
    assert sum(world.time.naps) == pytest.approx(SECONDS, abs=2)


BRIEFLY = {"timeout": timedelta(seconds=0.05), "grace": timedelta(seconds=0.05)}


def hanging(*lines: str, after: int = 0) -> Callable[[ASGIApp], ASGIApp]:
    """A service that carries out such requests, and does not respond to them after the first few."""
    left = after

    def around(app: ASGIApp) -> ASGIApp:
        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal left
            if not f"{scope['method']} {scope['path']}".startswith(lines) or left > 0:
                left -= 1
                await app(scope, receive, send)
                return
            await app(scope, receive, nowhere)
            await asyncio.Event().wait()

        return front

    return around


async def nowhere(_message: Message) -> None:
    pass


def test_a_service_that_never_responds_ends_a_run_with_a_timeout(tmp_path: Path) -> None:
    world = World(tmp_path, around=hanging("GET"))
    with pytest.raises(TimeoutReached, match="the service did not respond within --timeout"):
        world.run(manifest(), **BRIEFLY)
    assert TimeoutReached.exit_status is ExitStatus.STILL_TRAINING


@pytest.mark.parametrize("line", [LIST, CREATE])
def test_a_timeout_ends_a_request_and_the_next_run_resumes(tmp_path: Path, line: str) -> None:
    world = World(tmp_path, around=hanging(line, after=0 if line == CREATE else 2))
    ran = world.run(manifest(), **BRIEFLY)
    assert ran.outcome.timed_out
    assert ran.outcome.exit_status is ExitStatus.STILL_TRAINING
    assert any("did not respond within --timeout" in notice for notice in ran.outcome.plan.notices)
    world.relay.app = world.app
    assert world.run(manifest()).outcome.exit_status is ExitStatus.OK
    assert len(world.everything()) == 1


def test_a_pause_that_the_service_requests_does_not_outlast_the_timeout(tmp_path: Path) -> None:
    class Asleep(Time):
        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    busy = Response(status_code=503, headers={"retry-after": "100"})
    world = World(tmp_path, around=answering(lambda _request: busy), time=Asleep())
    with pytest.raises(TimeoutReached):
        world.run(manifest(), **BRIEFLY)


def test_a_timeout_of_zero_observes_once(world: World) -> None:
    world.run(manifest(), wait=False)
    ran = world.run(manifest(), timeout=timedelta(), creates=False, writes=False)
    assert ran.requests == [LIST]
    assert world.time.naps == []
    assert ran.outcome.exit_status is ExitStatus.STILL_TRAINING


def test_wait_only_records_trainings(world: World) -> None:
    world.run(manifest("a"), wait=False)
    ran = world.run(manifest("a"), manifest("b"), creates=False, writes=False)
    assert ran.happened == ["Completed"]
    assert {line.split()[0] for line in ran.requests} == {"GET"}
    assert [(one.name, one.kind) for one in ran.outcome.plan.actions] == [("a", Kind.PROMOTE), ("b", Kind.CREATE)]
    assert ran.outcome.exit_status is ExitStatus.ERROR


def test_wait_does_not_promote_a_generation_that_needs_an_update(world: World) -> None:
    world.run(manifest(), wait=False)
    ran = world.run(manifest(description="new"), creates=False, writes=False)
    assert ran.happened == ["Completed"]
    assert [one.kind for one in ran.outcome.plan.actions] == [Kind.UPDATE, Kind.PROMOTE]
    assert world.run(manifest(description="new")).happened == ["Updated", "Promoted"]


def test_the_timeout_of_a_manifest_ends_the_wait_and_the_training_continues(world: World) -> None:
    impatient = manifest(lifecycle=Lifecycle(timeout=timedelta(seconds=10)))
    ran = world.run(impatient)
    (hold,) = ran.outcome.plan.actions
    assert (hold.kind, hold.reason) == (Kind.HOLD, Reason.DEADLINE_EXCEEDED)
    assert hold.message == (
        f"the training has taken longer than spec.lifecycle.timeout; it continues, and reconcile does not "
        f"wait for {hold.key}"
    )
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert 10 < sum(world.time.naps) < 15
    world.time.now += timedelta(minutes=1)
    assert world.run(impatient).happened == ["Completed", "Promoted"]


def test_a_late_training_that_completes_during_the_wait_is_not_late(world: World) -> None:
    ran = world.run(manifest("late", lifecycle=Lifecycle(timeout=timedelta(seconds=10))), manifest("other"))
    assert sorted(ran.happened) == ["Completed"] * 2 + ["Promoted"] * 2 + ["Started"] * 2
    assert ran.outcome.exit_status is ExitStatus.OK


def test_the_training_of_an_orphan_is_not_waited_for(world: World) -> None:
    world.run(manifest(hyperparameters=tuning(learningRate=1.5)), wait=False)
    ran = world.run()
    assert world.time.naps == []
    assert [one.reason for one in ran.outcome.plan.actions] == [Reason.ORPHANED]
    world.time.now += timedelta(minutes=1)
    ran = world.run()
    assert ran.happened == ["Failed"]
    assert ran.outcome.exit_status is ExitStatus.OK
    failure = world.checkout.lock.models["numbers"].generations[0].failure
    assert failure is not None
    assert "The effective learning rate 1.5 is too high" in failure.message


class Stuck(Time):
    """A clock that never moves: a sleep never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.asleep.set()
        await asyncio.Event().wait()


def test_a_canceled_run_leaves_a_lockfile_that_the_next_one_resumes(tmp_path: Path) -> None:
    stuck = Stuck()
    world = World(tmp_path, time=stuck)

    async def act(provider: Provider) -> None:
        recorder = world.recorder(world.checkout, [])
        context = world.context(provider, (manifest("a"), manifest("b")), recorder)
        applier = Applier(context, ApplyOptions())
        run = asyncio.create_task(applier.apply(await applier.plan()))
        await stuck.asleep.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    world.with_provider(act)
    assert {one.generations[0].state for one in world.checkout.lock.models.values()} == {State.CREATING}
    world.time = Time()
    world.time.now = stuck.now = stuck.now + timedelta(minutes=1)
    assert sorted(world.run(manifest("a"), manifest("b")).happened) == ["Completed"] * 2 + ["Promoted"] * 2
