"""Carrying out a plan against a service that refuses some of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response

from reconciler.domain.errors import AccessError, ExitStatus, ReconcileError
from reconciler.domain.identity import key_of
from reconciler.domain.model import Limits, Sampling, State
from reconciler.domain.plan import Kind, Observation, Plan, Reason, Request
from reconciler.domain.ports import Provider
from reconciler.engine.apply import Applier, ApplyOptions
from reconciler.engine.execute import Executor
from support.engine_world import CREATE, LIST, World, answering, manifest, tuning
from support.provider_service import error

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.types import ASGIApp, Receive, Scope, Send


def refusing(response: Response, method: str, part: str = "") -> Callable[[ASGIApp], ASGIApp]:
    def answer(request: HttpRequest) -> Response | None:
        return response if request.method == method and part in str(request.url) else None

    return answering(answer)


def denied(method: str, part: str = "") -> Callable[[ASGIApp], ASGIApp]:
    return refusing(error(403, "PERMISSION_DENIED", "The caller does not have permission"), method, part)


TOO_LONG = error(400, "INVALID_ARGUMENT", "The data set is too long")


def test_one_refused_create_does_not_stop_the_others(tmp_path: Path) -> None:
    world = World(tmp_path, around=refusing(TOO_LONG, "POST", "=b-"))
    ran = world.run(manifest("a"), manifest("b"), manifest("c"))
    assert sorted(ran.happened) == ["Completed"] * 2 + ["Promoted"] * 2 + ["Refused"] + ["Started"] * 2
    assert set(ran.outcome.refused) == {"b"}
    assert "failed with 400 INVALID_ARGUMENT: The data set is too long" in str(ran.outcome.refused["b"].error)
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert set(world.checkout.lock.models) == {"a", "c"}
    assert ran.requests.count(CREATE) == 3


def test_denied_access_decides_the_exit_status(tmp_path: Path) -> None:
    world = World(tmp_path, around=denied("POST", "=b-"))
    ran = world.run(manifest("a"), manifest("b"))
    assert isinstance(ran.outcome.refused["b"].error, AccessError)
    assert ran.outcome.exit_status is ExitStatus.ACCESS
    assert set(world.checkout.lock.models) == {"a"}


def test_a_list_that_is_denied_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(AccessError):
        World(tmp_path, around=denied("GET")).look(manifest())


def test_a_refused_update_stops_the_promotion_of_that_model_alone(tmp_path: Path) -> None:
    world = World(tmp_path, around=denied("PATCH", "/a-"))
    ready = (manifest("a"), manifest("b"))
    world.run(*ready, wait=False)
    world.time.now = world.time.now.replace(hour=1)
    ran = world.run(*(manifest(one.name, description="new") for one in ready))
    assert set(ran.outcome.refused) == {"a"}
    assert {name: model.serving is not None for name, model in world.checkout.lock.models.items()} == {
        "a": False,
        "b": True,
    }
    assert ran.outcome.exit_status is ExitStatus.ACCESS


def test_drift_is_fixed_with_one_patch_of_the_drifted_fields(tmp_path: Path) -> None:
    world = World(tmp_path)
    one = manifest(description="says the next number", sampling=Sampling(temperature=0.7, top_k=40))
    world.run(one)
    (model,) = world.everything()
    world.request("PATCH", model["name"], {"temperature": 0.1, "topP": 0.5}, updateMask="temperature,topP")
    ran = world.run(one)
    assert ran.requests == [LIST, f"PATCH /v1beta3/{model['name']}"]
    assert world.relay.seen[-1].query["updateMask"] == "temperature"
    (after,) = world.everything()
    assert (after["temperature"], after["topP"], after["description"]) == (0.7, 0.5, model["description"])


def test_an_update_without_effect_is_sent_once_in_a_run(tmp_path: Path) -> None:
    patched = Response('{"name": "tunedModels/x", "state": "ACTIVE"}', media_type="application/json")
    world = World(tmp_path, around=answering(lambda request: patched if request.method == "PATCH" else None))
    world.run(manifest())
    ran = world.run(manifest(description="new"))
    assert sum(line.startswith("PATCH") for line in ran.requests) == 1


def test_an_id_taken_after_the_plan_is_held(tmp_path: Path) -> None:
    world = World(tmp_path)

    key = world.look(manifest()).actions[0].key
    task = {"trainingData": {"examples": {"examples": [{"textInput": "1", "output": "2"}]}}}
    thief = {"baseModel": "models/gemini-3.5-flash", "tuningTask": task}

    async def act(provider: Provider) -> tuple[Plan, ExitStatus]:
        context = world.context(provider, (manifest(),), world.recorder(world.checkout, []))
        applier = Applier(context, ApplyOptions())
        approved = await applier.plan()
        await asyncio.to_thread(world.request, "POST", "tunedModels", thief, tunedModelId=key)
        outcome = await applier.apply(approved)
        return outcome.plan, outcome.exit_status

    plan, status = world.with_provider(act)
    (hold,) = plan.actions
    assert (hold.kind, hold.reason, hold.key) == (Kind.HOLD, Reason.ID_TAKEN, key)
    assert hold.message == (
        f"tunedModels/{key} already exists and is not managed by this project; if it was made from this manifest, "
        f"run reconcile adopt numbers tunedModels/{key}; otherwise rename the manifest"
    )
    assert status is ExitStatus.ERROR
    assert not world.checkout.path.exists()


def test_an_id_of_an_inaccessible_model_is_held_as_unavailable(tmp_path: Path) -> None:
    def hidden(request: HttpRequest) -> Response | None:
        if request.method == "POST":
            return error(409, "ALREADY_EXISTS", "exists")
        by_name = request.url.path.count("/") > 2
        return error(403, "PERMISSION_DENIED", "It may not exist, or not for you") if by_name else None

    world = World(tmp_path, around=answering(hidden))
    ran = world.run(manifest())
    (hold,) = ran.outcome.plan.actions
    assert (hold.kind, hold.reason) == (Kind.HOLD, Reason.ID_UNAVAILABLE)
    assert hold.message == (
        f"tunedModels/{hold.key} already exists, but you do not have access to it; "
        "ask its owner for access, or rename the manifest"
    )
    assert ran.outcome.exit_status is ExitStatus.ERROR


def test_creates_run_concurrently_up_to_the_limit(tmp_path: Path) -> None:
    under_way, most = 0, 0

    def around(app: ASGIApp) -> ASGIApp:
        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for _ in range(5):
                await asyncio.sleep(0)
            await app(scope, receive, send)
            under_way -= 1

        return counting

    world = World(tmp_path, around=around, limits=Limits(concurrency=3))
    world.run(*(manifest(f"n{number}") for number in range(9)), wait=False)
    assert most == 3
    assert len(world.everything()) == 9


def test_started_trainings_are_saved_when_the_run_is_canceled(tmp_path: Path) -> None:
    reached = asyncio.Event()

    def around(app: ASGIApp) -> ASGIApp:
        async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
            if b"tunedModelId=c-" in scope["query_string"]:
                reached.set()
                await asyncio.Event().wait()
            await app(scope, receive, send)

        return stuck

    world = World(tmp_path, around=around, limits=Limits(concurrency=1))

    async def act(provider: Provider) -> None:
        recorder = world.recorder(world.checkout, [])
        manifests = tuple(map(manifest, ("a", "b", "c")))
        applier = Applier(world.context(provider, manifests, recorder), ApplyOptions())
        run = asyncio.create_task(applier.apply(await applier.plan()))
        await reached.wait()
        assert set(world.checkout.lock.models) == {"a"}
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    world.with_provider(act)
    assert set(world.checkout.lock.models) == {"a", "b"}


def test_a_lockfile_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(
        ReconcileError, match=r"gone/reconcile\.lock\.json cannot be written: No such file or directory"
    ):
        world.run(manifest(), checkout=world.another("gone/reconcile.lock.json"))


def test_an_executor_tries_each_action_once(tmp_path: Path) -> None:
    world = World(tmp_path, around=refusing(TOO_LONG, "POST", "=b-"))
    manifests = {"a": manifest("a"), "b": manifest("b")}
    plan = world.look(*manifests.values())

    async def act(provider: Provider) -> Executor:
        recorder = world.recorder(world.checkout, [])
        executor = Executor(world.context(provider, tuple(manifests.values()), recorder))
        assert executor.untried(plan.actions) == list(plan.actions)
        await executor.carry_out(plan.actions, manifests, Observation())
        return executor

    executor = world.with_provider(act)
    assert executor.untried(plan.actions) == []
    assert set(executor.refused) == {"b"}


def test_a_refused_replacement_keeps_the_serving_generation(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run(manifest())
    world.relay.app = denied("POST")(world.app)
    ran = world.run(manifest(), request=Request(replace=frozenset({"numbers"})))
    assert ran.outcome.exit_status is ExitStatus.ACCESS
    model = world.checkout.lock.models["numbers"]
    assert [one.state for one in model.generations] == [State.ACTIVE]
    assert model.serving == model.generations[0].key


def test_the_planned_key_is_the_id_of_the_model(tmp_path: Path) -> None:
    world = World(tmp_path)
    one = manifest(hyperparameters=tuning(learningRate=1e-05))
    ran = world.run(one, wait=False)
    generation = world.checkout.lock.models["numbers"].generations[0]
    assert ran.approved.actions[0].key == generation.key == key_of(generation.mark("demo", "numbers"))
    assert world.everything()[0]["name"] == generation.remote == f"tunedModels/{generation.key}"
