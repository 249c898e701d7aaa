"""Lost lockfiles, runs that were cut off, and runs that race: one model comes out of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reconciler.domain.errors import ExitStatus
from reconciler.domain.identity import key_of, split_mark, with_mark
from reconciler.domain.lock import LockedModel
from reconciler.domain.model import State
from reconciler.domain.plan import Kind, Reason, Request
from reconciler.domain.ports import Provider
from reconciler.engine.apply import Applier, ApplyOptions, ApplyOutcome
from support.cases import slow_except
from support.engine_world import CREATE, LIST, Checkout, World, manifest, tuning
from support.provider_service import Time

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

DONE = timedelta(minutes=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def race(world: World, checkouts: list[Checkout], options: ApplyOptions) -> list[ApplyOutcome]:
    """Runs that all plan before any of them applies."""

    async def act(provider: Provider) -> list[ApplyOutcome]:
        recorders = [world.recorder(checkout, []) for checkout in checkouts]
        appliers = [Applier(world.context(provider, (manifest(),), recorder), options) for recorder in recorders]
        plans = [await applier.plan() for applier in appliers]
        return list(await asyncio.gather(*(map(Applier.apply, appliers, plans))))

    return world.with_provider(act)


def test_racing_runs_end_with_one_model(world: World) -> None:
    checkouts = [world.another("first.json"), world.another("second.json")]
    outcomes = race(world, checkouts, ApplyOptions())
    assert [outcome.exit_status for outcome in outcomes] == [ExitStatus.OK] * 2
    assert len(world.everything()) == 1
    first, second = (checkout.lock.models["numbers"] for checkout in checkouts)
    assert first.serving == second.serving == first.generations[0].key
    assert {one.generations[0].origin for one in (first, second)} == {"created", "adopted"}
    assert {one.generations[0].state for one in (first, second)} == {State.ACTIVE}


def test_racing_replacements_end_with_one_model(world: World) -> None:
    first, second = world.checkout, world.another("second.json")
    world.run(manifest())
    second.path.write_text(first.text, encoding="utf-8")
    race(world, [first, second], ApplyOptions(request=Request(replace=frozenset({"numbers"}))))
    assert len(world.everything()) == 2
    assert first.lock.models["numbers"].serving == second.lock.models["numbers"].serving


def test_a_run_interrupted_after_the_create_is_resumed_by_adoption(world: World) -> None:
    world.run(manifest(), wait=False, checkout=world.another("lost.json"))
    ran = world.run(manifest())
    assert [one.kind for one in ran.approved.actions] == [Kind.WAIT, Kind.ADOPT]
    assert CREATE not in ran.requests
    assert ran.happened == ["Adopted", "Completed", "Promoted"]
    generation = world.checkout.lock.models["numbers"].generations[0]
    assert (generation.origin, generation.state, generation.total_steps) == ("adopted", State.ACTIVE, 23)


def test_a_lost_lockfile_is_rebuilt_without_training(world: World) -> None:
    world.run(manifest())
    lost = world.checkout.lock.models["numbers"]
    world.checkout.path.unlink()
    ran = world.run(manifest())
    assert ran.requests == [LIST, f"GET /v1beta3/{lost.generations[0].remote}"]
    assert ran.happened == ["Adopted", "Promoted"]
    rebuilt = world.checkout.lock.models["numbers"]
    assert provenance(rebuilt) == provenance(lost)
    text = world.checkout.text
    assert world.run(manifest()).happened == []
    assert world.checkout.text == text


def provenance(model: LockedModel) -> tuple[object, ...]:
    (one,) = model.generations
    return (
        model.serving,
        one.key,
        one.remote,
        one.spec,
        one.state,
        one.hyperparameters.effective,
        one.create_time,
        one.total_steps,
        one.final_loss,
    )


def test_a_lost_lockfile_does_not_repeat_a_failed_training(world: World) -> None:
    broken = manifest(hyperparameters=tuning(learningRate=1.5))
    world.run(broken)
    world.checkout.path.unlink()
    ran = world.run(broken)
    assert [one.reason for one in ran.outcome.plan.actions] == [Reason.FAILED]
    assert len(world.everything()) == 1
    again = world.run(broken, request=Request(retry=frozenset({"numbers"})))
    assert again.approved.actions[0].attempt == 1


def test_a_removed_mark_is_restored_with_one_patch(world: World) -> None:
    one = manifest(description="says the next number", display_name="numbers")
    world.run(one)
    (model,) = world.everything()
    world.request(
        "PATCH", model["name"], {"description": "mine now", "displayName": "mine"}, updateMask="description,displayName"
    )
    ran = world.run(one)
    (action,) = ran.approved.actions
    assert [change.field for change in action.changes] == ["displayName", "description", "ownership mark"]
    assert [line for line in ran.requests if line != LIST] == [f"PATCH /v1beta3/{model['name']}"]
    (restored,) = world.everything()
    assert {**restored, "updateTime": ""} == {**model, "updateTime": ""}
    assert world.run(one).happened == []


def test_a_copied_mark_replaces_nothing(world: World) -> None:
    world.run(manifest())
    (model,) = world.everything()
    copy = {"baseModel": "models/gemini-3.5-flash", "description": model["description"], "displayName": "copy"}
    task = {"trainingData": {"examples": {"examples": [{"textInput": "1", "output": "2"}]}}}
    world.request("POST", "tunedModels", {**copy, "tuningTask": task}, tunedModelId="copy")
    world.time.now += DONE
    text = world.checkout.text
    assert world.run(manifest()).happened == []
    assert world.checkout.text == text
    world.checkout.path.unlink()
    world.run(manifest())
    assert world.checkout.lock.models["numbers"].generations[0].remote == model["name"]


def test_an_unmanaged_model_with_the_planned_id_is_not_changed(world: World) -> None:
    key = world.look(manifest()).actions[0].key
    task = {"trainingData": {"examples": {"examples": [{"textInput": "1", "output": "2"}]}}}
    world.request("POST", "tunedModels", {"baseModel": "models/gemini-3.5-flash", "tuningTask": task}, tunedModelId=key)
    before = world.everything()
    ran = world.run(manifest())
    (hold,) = ran.outcome.plan.actions
    assert (hold.kind, hold.reason, hold.key) == (Kind.HOLD, Reason.ID_TAKEN, key)
    assert hold.message == (
        f"the id {key} is taken by tunedModels/{key}, which is unmanaged; if it was made from this manifest, run "
        f"reconcile adopt numbers tunedModels/{key}; otherwise rename this manifest"
    )
    assert ran.requests == [LIST]
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert world.everything() == before


def test_a_model_that_another_client_replaced_is_not_recorded_as_managed(world: World) -> None:
    world.run(manifest())
    (model,) = world.everything()
    text = world.checkout.text
    world.request("DELETE", model["name"])
    world.time.now += DONE
    human, mark = split_mark(model["description"])
    assert mark is not None
    assert model["name"] == f"tunedModels/{key_of(mark)}"
    stolen = with_mark(human, type(mark)("theirs", mark.name, mark.spec, mark.data))
    task = {"trainingData": {"examples": {"examples": [{"textInput": "1", "output": "2"}]}}}
    body = {"baseModel": "models/gemini-3.5-flash", "description": stolen, "tuningTask": task}
    world.request("POST", "tunedModels", body, tunedModelId=key_of(mark))
    ran = world.run(manifest())
    assert [one.reason for one in ran.outcome.plan.actions] == [Reason.RECORD_MISMATCH]
    assert world.checkout.text == text


class KilledError(BaseException):
    """The process is gone."""


class Executioner:
    """Kills the process at its n-th request, before or after the service took it."""

    def __init__(self, app: ASGIApp, *, left: int, after: bool) -> None:
        self.app = app
        self.left = left
        self.after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KilledError
        await self.app(scope, receive, send)
        if self.left == 0:
            raise KilledError


@pytest.mark.parametrize(
    ("after", "saved", "step"),
    slow_except([*product((False, True), (False, True), (1,)), (True, False, 3)], (True, False, 3)),
)
def test_a_run_killed_at_any_request_is_resumed_by_the_next(
    tmp_path: Path, *, after: bool, saved: bool, step: int
) -> None:
    """With ``step``, at the first of so many requests."""
    wanted = (manifest("a"), manifest("b", hyperparameters=tuning(epochCount=1)))
    deaths = 0
    for number in range(1, 40, step):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = World(folder, time=Time(5))  # several polls
        world.relay.app = Executioner(world.app, left=number, after=after)
        try:
            world.run(*wanted, checkout=world.checkout if saved else world.another("lost.json"))
            break  # the run had fewer requests
        except KilledError:
            deaths += 1
        world.relay.app = world.app
        world.run(*wanted)
        assert len(world.everything()) == 2
        assert {one.generation(one.serving) is not None for one in world.checkout.lock.models.values()} == {True}
        assert world.run(*wanted).happened == []
    assert deaths > 10 / step
