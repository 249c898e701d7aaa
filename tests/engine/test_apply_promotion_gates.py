"""The steps before a generation is serving: access, checks, promotion and publishing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from reconciler.domain.access import EVERYONE, Grant, Grantee
from reconciler.domain.checks import Check, Expectation
from reconciler.domain.errors import ExitStatus, ReconcileError
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Lifecycle, Manifest, Sampling, Source
from reconciler.domain.plan import Kind, Reason
from reconciler.planning.events import Published
from support.engine_world import CREATE, LIST, World, answering, manifest, tuning

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

ADA, NLP = Grantee("user", "ada@example.com"), Grantee("group", "nlp@example.com")
GREEDY = Sampling(temperature=0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def block(world: World, name: str = "numbers") -> LockedModel:
    return world.checkout.lock.models[name]


def grants(world: World, key: str) -> dict[str, str]:
    """The roles of all users but the owner, as another client reads them."""
    listed = world.request("GET", f"tunedModels/{key}/permissions", pageSize="1000").get("permissions", [])
    return {one.get("emailAddress", one["granteeType"]): one["role"] for one in listed if one["role"] != "OWNER"}


def checked(*pairs: tuple[str, str], **fields: object) -> Manifest:
    checks = tuple(
        Check(f"c{number}", prompt, (Expectation("equals", (wanted,)),))
        for number, (prompt, wanted) in enumerate(pairs)
    )
    return manifest(sampling=GREEDY, checks=checks, **fields)


RIGHT, WRONG = ("3", "4"), ("3", "5")


def test_a_generation_is_shared_and_checked_before_it_is_promoted(world: World) -> None:
    ran = world.run(checked(RIGHT, access=(Grant(ADA, "reader"),)))
    happened = [name for name in ran.happened if name != "Checking"]
    assert happened == ["Started", "Completed", "Updated", "Checked", "Promoted"]
    assert ran.outcome.exit_status is ExitStatus.OK
    assert grants(world, block(world).generations[0].key) == {"ada@example.com": "READER"}
    again = world.run(checked(RIGHT, access=(Grant(ADA, "reader"),)))
    assert again.requests[0] == LIST
    assert len(again.requests) == 2  # the permissions of the one model whose access is declared
    assert again.happened == []


def test_access_is_created_patched_and_revoked_on_superseded_generations_too(world: World) -> None:
    world.run(manifest(access=(Grant(ADA, "reader"), Grant(NLP, "reader"))))
    world.run(manifest(hyperparameters=tuning(epochCount=4), access=(Grant(ADA, "writer"),)))
    generations = block(world).generations
    assert len(generations) == 2
    assert [grants(world, one.key) for one in generations] == [{"ada@example.com": "WRITER"}] * 2


def test_drift_of_permissions_is_fixed_and_the_owner_stays(world: World) -> None:
    world.run(manifest(access=()))
    key = block(world).generations[0].key
    body = {"granteeType": "EVERYONE", "role": "READER"}
    world.request("POST", f"tunedModels/{key}/permissions", body)
    ran = world.run(manifest(access=()))
    (update,) = ran.approved.of_kind(Kind.UPDATE)
    assert update.reason is Reason.ACCESS_CHANGED
    assert update.fields == ("access.everyone",)
    listed = world.request("GET", f"tunedModels/{key}/permissions")["permissions"]
    assert [one["role"] for one in listed] == ["OWNER"]


def test_without_access_no_permission_is_read_or_changed(world: World) -> None:
    world.run(manifest())
    key = block(world).generations[0].key
    world.request("POST", f"tunedModels/{key}/permissions", {"granteeType": "EVERYONE", "role": "READER"})
    ran = world.run(manifest())
    assert ran.requests == [LIST]
    assert grants(world, key) == {"EVERYONE": "READER"}


def test_public_access_is_a_notice_of_every_plan(world: World) -> None:
    shared = manifest(access=(Grant(EVERYONE, "reader"),))
    notice = "numbers is shared with everyone, as spec.access declares"
    assert notice in world.run(shared).outcome.plan.notices
    assert notice in world.look(shared).notices


def test_unreadable_permissions_hold_their_model_alone(tmp_path: Path) -> None:
    def front(request: HttpRequest) -> Response | None:
        if request.url.path.endswith("/permissions") and "/numbers-" in request.url.path:
            error = {"code": 403, "status": "PERMISSION_DENIED", "message": "You are not an owner."}
            return JSONResponse({"error": error}, status_code=403)
        return None

    world = World(tmp_path, around=answering(front))
    ran = world.run(manifest(access=(Grant(ADA, "reader"),)), manifest("words"))
    assert ran.outcome.exit_status is ran.outcome.plan.exit_status is ExitStatus.ACCESS
    (hold,) = ran.outcome.plan.of_kind(Kind.HOLD)
    assert (hold.name, hold.reason) == ("numbers", Reason.ACCESS_UNAVAILABLE)
    assert "You are not an owner" in hold.message
    assert block(world).serving is None
    assert block(world, "words").serving


def test_a_run_that_promotes_nothing_reads_no_permissions_and_trains_children(tmp_path: Path) -> None:
    """A pull request's account may train, and neither share models nor see who may use them."""
    asked: list[str] = []

    def front(request: HttpRequest) -> Response | None:
        if request.url.path.endswith("/permissions"):
            asked.append(request.url.path)
            return JSONResponse({"error": {"code": 403, "status": "PERMISSION_DENIED"}}, status_code=403)
        return None

    world = World(tmp_path, around=answering(front))
    parent = manifest(access=(Grant(ADA, "reader"),))
    child = manifest("words", source=Source(tuned_model="numbers"))
    ran = world.run(parent, child, writes=False)
    assert (ran.outcome.exit_status, asked) == (ExitStatus.OK, [])
    assert block(world, "words").generations[0].source.key == block(world).generations[0].key
    assert block(world).serving is None


def test_a_generation_that_fails_its_checks_is_not_promoted(world: World) -> None:
    world.run(checked(RIGHT))
    old = block(world).serving
    ran = world.run(checked(RIGHT, WRONG, hyperparameters=tuning(epochCount=4)))
    assert ran.outcome.exit_status is ExitStatus.ERROR
    (hold,) = ran.outcome.plan.of_kind(Kind.HOLD)
    assert hold.reason is Reason.CHECKS_FAILED
    assert "1 of 2 checks passed" in hold.message
    assert f"{old} keeps serving: 1 of 1 checks passed" in hold.message
    assert block(world).serving == old
    quiet = world.run(checked(RIGHT, WRONG, hyperparameters=tuning(epochCount=4)))
    assert quiet.requests == [LIST]  # checks of the same digest are not run again
    assert quiet.outcome.exit_status is ExitStatus.ERROR


def test_corrected_checks_run_again_and_nothing_trains(world: World) -> None:
    assert world.run(checked(WRONG)).outcome.exit_status is ExitStatus.ERROR
    assert block(world).serving is None
    ran = world.run(checked(RIGHT))
    assert ran.outcome.exit_status is ExitStatus.OK
    assert CREATE not in ran.requests
    assert block(world).serving == block(world).generations[0].key


def test_wait_runs_checks_and_does_not_promote(world: World) -> None:
    world.run(checked(RIGHT), wait=False)
    ran = world.run(checked(RIGHT), creates=False, writes=False)
    assert ran.outcome.exit_status is ExitStatus.OK
    assert block(world).generations[0].checks
    assert not block(world).serving


def test_on_failed_checks_serve_promotes_with_a_notice(world: World) -> None:
    lenient = checked(WRONG, lifecycle=Lifecycle(on_failed_checks="serve"))
    ran = world.run(lenient)
    assert ran.outcome.exit_status is ExitStatus.OK
    assert block(world).serving
    assert ran.outcome.plan.notices == ("numbers is serving although its checks fail: 0 of 1 checks passed",)


def test_checks_that_cannot_be_run_refuse_their_manifest_alone(tmp_path: Path) -> None:
    def front(request: HttpRequest) -> Response | None:
        if request.url.path.endswith(":generateText"):
            error = {"code": 400, "status": "INVALID_ARGUMENT", "message": "No answers today."}
            return JSONResponse({"error": error}, status_code=400)
        return None

    world = World(tmp_path, around=answering(front))
    ran = world.run(checked(RIGHT), manifest("words"))
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert "No answers today" in str(ran.outcome.refused["numbers"].error)
    assert block(world).generations[0].checks is None
    assert block(world, "words").serving


def test_the_pointer_is_published_after_the_lockfile_is_saved(world: World) -> None:
    told: list[tuple[str | None, str | None]] = []

    def publish(lock: Lock, _only: frozenset[str] | None) -> Iterable[Published]:
        told.append((lock.models["numbers"].serving, block(world).serving))
        yield Published("numbers", lock.models["numbers"].serving)

    world.publish = publish
    ran = world.run(manifest())
    key = block(world).generations[0].key
    assert told[0] == (key, key)
    assert block(world).published == key
    assert "Published" in ran.happened


def test_a_failed_publish_keeps_the_promotion_and_fails_the_run(world: World) -> None:
    def publish(_lock: Lock, _only: frozenset[str] | None) -> Iterable[Published]:
        raise ReconcileError("serving.json: changed out-of-band", "move it away")

    world.publish = publish
    ran = world.run(manifest())
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert str(ran.outcome.unpublished) == "serving.json: changed out-of-band; move it away"
    assert block(world).serving
    assert block(world).published is None
