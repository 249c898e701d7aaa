"""Observing live state: models that are listed, and models that are requested by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedModel, LockedStage
from reconciler.domain.model import RemoteModel, State
from reconciler.domain.plan import Observation
from reconciler.domain.ports import Provider
from reconciler.engine.observe import observe, run_bounded
from support.core_strategies import generation
from support.engine_world import LIST, World, manifest, tuning
from support.provider_fake import FakeJobs, FakeProvider
from support.provider_service import Time


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def looking(lock: Lock, *, progress: bool = False) -> Callable[[Provider], Awaitable[Observation]]:
    async def act(provider: Provider) -> Observation:
        return await observe(provider, lock, concurrency=5, progress=progress)

    return act


def recorded(key: str, state: State) -> Lock:
    return Lock(models={"numbers": LockedModel("numbers.yaml", generations=(generation(key, state=state),))})


@pytest.mark.parametrize("state", [State.CREATING, State.ACTIVE])
def test_a_missing_model_is_requested_by_name(world: World, state: State) -> None:
    seen = world.with_provider(looking(recorded("numbers-aaaaaaaa", state)))
    assert seen.gone == {"tunedModels/numbers-aaaaaaaa"}
    assert world.relay.lines == [LIST, "GET /v1beta3/tunedModels/numbers-aaaaaaaa"]


def test_a_list_without_the_endpoint_of_a_generation_that_serves_in_any_stage_proves_nothing() -> None:
    class Lagging(FakeProvider):
        async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:  # noqa: ARG002 - it has no loss curves
            return tuple(replace(model, undeployed=frozenset({""})) for model in self.jobs.jobs.values())

    jobs = FakeJobs(Time().clock, jobs={"jobs/1": RemoteModel("jobs/1", State.ACTIVE)})
    known = generation(remote="jobs/1")
    for model, deployed in (
        (LockedModel("n.yaml", known.key, generations=(known,)), True),
        (LockedModel("n.yaml", generations=(known,), stages={"eu": LockedStage(serving=known.key)}), True),
        (LockedModel("n.yaml", generations=(known,)), False),
    ):
        looked = looking(Lock(models={"numbers": model}))
        seen = asyncio.run(looked(Lagging(jobs)))  # type: ignore[arg-type] # it has what an observation needs
        assert seen.models["jobs/1"].deployed is deployed


@pytest.mark.parametrize("state", [State.FAILED, State.MISSING, State.DELETED, State.CANCELLED])
def test_models_that_are_not_expected_are_not_requested(world: World, state: State) -> None:
    seen = world.with_provider(looking(recorded("numbers-aaaaaaaa", state)))
    assert seen.gone == frozenset()
    assert world.relay.lines == [LIST]


def test_listed_models_in_their_recorded_state_are_not_requested(world: World) -> None:
    world.run(manifest(), wait=False)
    before = len(world.relay.lines)
    seen = world.with_provider(looking(world.checkout.lock))
    assert world.relay.lines[before:] == [LIST]
    assert [model.state for model in seen.models.values()] == [State.CREATING]


def test_the_operation_of_a_failed_training_has_the_reason(world: World) -> None:
    world.run(manifest(hyperparameters=tuning(learningRate=1.5)), wait=False)
    world.time.now = world.time.now.replace(hour=1)
    (model,) = world.with_provider(looking(world.checkout.lock)).models.values()
    assert model.state is State.FAILED
    assert model.failure is not None
    assert "The effective learning rate 1.5 is too high" in model.failure.message
    assert model.mark is not None


def test_lists_have_loss_curves_only_on_request(world: World) -> None:
    world.run(manifest(), wait=False)
    world.time.now = world.time.now.replace(second=20)
    without, with_curve = (
        world.with_provider(looking(world.checkout.lock, progress=progress)) for progress in (False, True)
    )
    (bare,), (full,) = without.models.values(), with_curve.models.values()
    assert bare.snapshots == ()
    assert len(full.snapshots) > 10


def test_bounded_calls_return_results_in_order() -> None:
    under_way, most = 0, 0

    async def call(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(10 - number):
            await asyncio.sleep(0)
        under_way -= 1
        return number * number

    assert asyncio.run(run_bounded(call, range(10), 4)) == [number * number for number in range(10)]
    assert most == 4


def test_the_first_error_ends_bounded_calls() -> None:
    ended: list[int] = []

    async def call(number: int) -> None:
        if number == 1:
            raise ReconcileError("no")
        await asyncio.sleep(60)
        ended.append(number)

    with pytest.raises(ReconcileError, match=r"^no$"):
        asyncio.run(run_bounded(call, range(3), 3))
    assert ended == []
