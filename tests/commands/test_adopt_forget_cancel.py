"""forget and cancel on the command line: what is let go, what stays, and what is said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.adopted_world import MODELS, adopt, foreign
from support.cases import in_turn
from support.cli_world import Cli, Result, Snapshot
from support.render_values import held_to
from support.vertex_fronts import Front, line_of
from support.vertex_runs import BASE, chosen, manifest, trainings
from support.vertex_world import JOBS, SLOW, TARGETS, World, fresh, lock_file, lock_of, resume

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from support.vertex_fronts import Json

EVERY = in_turn("target", TARGETS)
MARK = "managed-by=reconcile"


def applied(reconcile: Cli, target: str, *arguments: str) -> Result:
    done = reconcile("apply", "--yes", *arguments, *chosen(target))
    assert done.status == 0, done.err
    return done


def serving(reconcile: Cli, target: str) -> Json:
    model = lock_of(reconcile, target)["adder"]
    return next(dict(one) for one in model["generations"] if one["key"] == model.get("serving"))


def generation(reconcile: Cli, target: str) -> Json:
    return dict(lock_of(reconcile, target)["adder"]["generations"][0])


def orphaned(reconcile: Cli, target: str, more: str = "") -> str:
    """A model that serves and whose manifest is gone, by its remote name."""
    manifest(reconcile, more=more)
    applied(reconcile, target)
    return orphan(reconcile, target)


def orphan(reconcile: Cli, target: str = "gl") -> str:
    """Delete the manifest of a model that serves, and return its remote name."""
    (reconcile.specs / "adder.yaml").unlink()
    return str(serving(reconcile, target)["remote"])


def refused(reconcile: Cli, *arguments: str, target: str = "gl", status: int = 1) -> str:
    """What is said when nothing is changed: the lockfile is the same to the byte."""
    before = lock_file(reconcile, target).read_bytes()
    answer = reconcile(*arguments, *chosen(target))
    assert answer.status == status, answer.err
    assert answer.out == ""
    assert lock_file(reconcile, target).read_bytes() == before
    return answer.err


# forget


@EVERY
def test_a_forgotten_model_stays_at_the_service(reconcile: Cli, trained_world: World, target: str) -> None:
    world, remote = trained_world, orphan(reconcile, target)
    key = serving(reconcile, target)["key"]

    gone = reconcile("forget", "adder", "--yes", *chosen(target))

    assert gone.status == 0, gone.err
    assert "adder: 1 generation no longer managed; nothing was deleted\n" in gone.out
    assert f"  note        {key} is serving, and still answers requests to its remote name\n" in gone.out
    assert lock_of(reconcile, target) == {}
    plan = reconcile("plan", *chosen(target)).out
    if target == "vertex":
        assert "a manifest named adder adopts them again" in gone.out
        assert "1 candidate is not declared here and not changed." in plan
        assert [job["name"] for job in world.jobs()] == [remote]
    else:
        assert "1 unmanaged model is not changed." in plan
    if target == "gl":
        live = world.ask("GET", f"/v1beta/{remote}")
        assert (live["state"], live["displayName"], MARK in live.get("description", "")) == ("ACTIVE", "adder", False)


def test_the_human_part_of_the_description_stays(reconcile: Cli, world: World) -> None:
    remote = orphaned(reconcile, "gl", more="  description: adds one\n")
    assert reconcile("forget", "adder", "--yes", *chosen("gl")).status == 0
    assert world.ask("GET", f"/v1beta/{remote}")["description"] == "adds one"


def test_marks_can_be_kept_and_adopted_again(reconcile: Cli, trained_world: World) -> None:
    orphan(reconcile)
    before, asked = lock_of(reconcile, "gl"), len(trained_world.lines)
    assert reconcile("forget", "adder", "--yes", "--keep-marks", *chosen("gl")).status == 0
    assert len(trained_world.lines) == asked, "nothing was asked of the service"
    manifest(reconcile)
    applied(reconcile, "gl")
    assert lock_of(reconcile, "gl")["adder"]["serving"] == before["adder"]["serving"]
    assert trainings(trained_world, reconcile, "gl") == 1


def test_an_adopted_model_can_be_forgotten_and_adopted_again(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world, "vertex")
    adopt(reconcile, remote, "vertex")
    (reconcile.specs / "adder.yaml").unlink()
    assert reconcile("forget", "adder", "--yes", *chosen("vertex")).status == 0
    adopt(reconcile, remote, "vertex")


def test_an_adoption_that_was_cut_off_is_completed_and_leaves_no_file(reconcile: Cli, world: World) -> None:
    remote = foreign(reconcile, world, "vertex")
    adopt(reconcile, remote, "vertex")
    lock_file(reconcile, "vertex").unlink()
    left = reconcile.specs / ".adder.yaml.0123abcd.tmp"
    left.hardlink_to(reconcile.specs / "adder.yaml")
    adopt(reconcile, remote, "vertex")
    assert not left.exists()


def test_forget_shows_the_model_before_the_confirmation(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    remote = orphan(reconcile)
    output = refused(reconcile, "forget", "adder", status=64)
    assert "adder: 1 generation will no longer be managed; nothing is deleted\n" in output
    assert f"ACTIVE {remote}\n" in output
    assert output.endswith("Error: stdin is not a terminal; pass --yes to approve\n")


def test_a_manifest_that_was_not_read_is_named_before_its_model_is_forgotten(
    reconcile: Cli, trained_world: World
) -> None:
    assert trained_world
    orphan(reconcile)
    manifest(reconcile)
    (reconcile.specs / "adder.yaml").rename(reconcile.specs / "adder.yaml.bak")
    asked = reconcile("forget", "adder", *chosen("gl"))
    assert "a manifest may declare it: specs/adder.yaml.bak is not read; remove that too, or an apply that" in asked.err


def test_the_pointer_forgets_it_too(reconcile: Cli, world: World) -> None:
    assert world
    file = reconcile.specs / "reconcile.gl.yaml"
    file.write_text(f"{file.read_text()}  publish: serving.json\n")
    orphaned(reconcile, "gl")
    pointer = reconcile.specs / "serving.json"
    assert [one["name"] for one in json.loads(pointer.read_text())["models"]] == ["adder"]
    document = reconcile("forget", "adder", "--yes", *chosen("gl"), "--format", "json").document
    held_to("change", document)
    assert (document["command"], document["outcome"], document["published"]) == ("forget", "done", "specs/serving.json")
    assert json.loads(pointer.read_text())["models"] == []
    assert lock_of(reconcile, "gl") == {}


def test_a_pointer_that_was_changed_stops_it(reconcile: Cli, world: World) -> None:
    file = reconcile.specs / "reconcile.gl.yaml"
    file.write_text(f"{file.read_text()}  publish: serving.json\n")
    remote = orphaned(reconcile, "gl")
    pointer = reconcile.specs / "serving.json"
    pointer.write_text(pointer.read_text().replace('"key": "adder-', '"key": "other-'))
    assert "changed out-of-band" in refused(reconcile, "forget", "adder", "--yes")
    assert MARK in world.ask("GET", f"/v1beta/{remote}")["description"]


def test_a_declared_model_is_not_forgotten(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    assert refused(reconcile, "forget", "adder", "--yes") == (
        "Error: adder cannot be forgotten: the manifest adder at specs/adder.yaml:3:18 declares it; delete that "
        "manifest first\n"
    )
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text().replace("{name: adder}", "{name: summer, formerly: [adder]}"))
    assert "the manifest summer at specs/adder.yaml:3:18 declares it" in refused(reconcile, "forget", "adder", "--yes")
    file.write_text("kind: TunedModel\n")
    assert "apiVersion: missing required field" in refused(reconcile, "forget", "adder", "--yes")


def test_there_must_be_something_to_forget(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    orphan(reconcile)
    assert "did you mean adder?" in refused(reconcile, "forget", "ader", "--yes")
    manifest(reconcile, "other")
    assert refused(reconcile, "forget", "adder", "specs/other.yaml", "--yes", status=64) == (
        "Error: no manifest adder in these paths; other paths may have one; name the whole root specs\n"
    )


def test_a_protected_model_is_not_forgotten(reconcile: Cli, world: World) -> None:
    assert world
    orphaned(reconcile, "gl", more="  lifecycle: {protect: true}\n")
    assert refused(reconcile, "forget", "adder", "--yes") == (
        "Error: adder is protected; restore its manifest without spec.lifecycle.protect, run reconcile apply"
        " --target gl, and"
        " remove the manifest again\n"
    )


def test_children_are_named(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    remote = serving(reconcile, "gl")["remote"]
    reconcile.manifest("child", base=BASE)
    child = reconcile.specs / "child.yaml"
    child.write_text(child.read_text().replace(f"baseModel: {BASE}", f"source: {{remote: {remote}}}"))
    applied(reconcile, "gl")
    (reconcile.specs / "adder.yaml").unlink()
    gone = reconcile("forget", "adder", "--yes", *chosen("gl"))
    assert "  note        child is tuned from it, and is not changed\n" in gone.out


def closed(line: str) -> Front:
    """A front end that forbids whatever begins with this."""

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            from starlette.responses import JSONResponse

            if not line_of(scope).startswith(line):
                await app(scope, receive, send)
                return
            error = {"error": {"code": 403, "message": "not yours", "status": "PERMISSION_DENIED"}}
            await JSONResponse(error, 403)(scope, receive, send)

        return answer

    return front


def test_a_mark_that_may_not_be_changed_stops_it(reconcile: Cli, trained_world: World) -> None:
    orphan(reconcile)
    trained_world.front = closed("PATCH")
    output = refused(reconcile, "forget", "adder", "--yes", status=3)
    assert output.endswith("; or pass --keep-marks to leave the marks as they are\n")


def test_a_generation_that_is_gone_is_forgotten_with_the_others(reconcile: Cli, trained_world: World) -> None:
    remote = orphan(reconcile)
    trained_world.ask("DELETE", f"/v1beta/{remote}")
    assert reconcile("forget", "adder", "--yes", *chosen("gl")).status == 0
    assert lock_of(reconcile, "gl") == {}


# cancel


def begun(reconcile: Cli, target: str, more: str = "") -> Json:
    """A training that is under way."""
    manifest(reconcile, more=more)
    applied(reconcile, target, "--no-wait")
    return generation(reconcile, target)


@pytest.fixture(scope="module")
def after_beginning(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A project whose model adder is in training at each target."""
    reconcile = Cli(tmp_path_factory.mktemp("begun"))
    fresh(served, reconcile, SLOW)
    for target in TARGETS:
        begun(reconcile, target)
    return reconcile.snapshot()


@pytest.fixture
def in_training(served: World, reconcile: Cli, after_beginning: Snapshot) -> World:
    """The services during these trainings, and a copy of the project."""
    return resume(served, reconcile, after_beginning, SLOW)


@EVERY
def test_a_canceled_training_is_held_until_a_retry(reconcile: Cli, in_training: World, target: str) -> None:
    one = generation(reconcile, target)

    stopped = reconcile("cancel", "adder", "--yes", *chosen(target))

    assert stopped.status == 0, stopped.err
    assert "adder: 1 training canceled\n" in stopped.out
    assert f"  generation  {one['key']} CANCELLED {one['remote']}\n" in stopped.out
    assert ("can cancel a training only by deleting its model" in stopped.out) is (target != "vertex")
    assert generation(reconcile, target)["state"] == "CANCELLED"
    for command in ("apply", "wait"):
        held = reconcile(command, *(["--yes"] if command == "apply" else []), *chosen(target))
        assert held.status == 1
        assert "held (Cancelled): the training was canceled at the service" in held.out
    applied(reconcile, target, "--retry", "adder")
    assert serving(reconcile, target)["key"] != one["key"]
    if target == "vertex":
        assert [job["state"] for job in in_training.jobs()] == ["JOB_STATE_CANCELLED", "JOB_STATE_SUCCEEDED"]
    if target == "gl":
        assert len(in_training.ask("GET", MODELS)["tunedModels"]) == 1


def test_the_serving_generation_keeps_serving(reconcile: Cli, slow: World) -> None:
    assert slow
    manifest(reconcile)
    applied(reconcile, "gl")
    before = serving(reconcile, "gl")["key"]
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text().replace("batchSize: 4", "batchSize: 8"))
    applied(reconcile, "gl", "--no-wait")
    document = held_to("change", reconcile("cancel", "adder", "--yes", *chosen("gl"), "--format", "json").document)
    assert (document["outcome"], [one["state"] for one in document["generations"]]) == ("done", ["CANCELLED"])
    assert lock_of(reconcile, "gl")["adder"]["serving"] == before


@EVERY
def test_where_nothing_trains_nothing_is_stopped(reconcile: Cli, trained_world: World, target: str) -> None:
    assert trained_world
    before = lock_file(reconcile, target).read_bytes()
    answer = reconcile("cancel", "adder", *chosen(target))
    assert (answer.status, "adder: no training in progress; nothing was changed\n" in answer.out) == (0, True)
    assert held_to("change", reconcile("cancel", "adder", *chosen(target), "--format", "json").document)
    assert lock_file(reconcile, target).read_bytes() == before


@pytest.mark.parametrize("target", ["gl", "vertex"])
def test_a_training_that_has_just_ended_is_not_canceled(reconcile: Cli, in_training: World, target: str) -> None:
    assert in_training
    one = generation(reconcile, target)
    reconcile.clock.now = reconcile.clock.now.replace(hour=15)
    answer = reconcile("cancel", "adder", "--yes", *chosen(target))
    assert answer.status == 0
    assert f"  note        {one['key']} ended as ACTIVE before it could be stopped; the next apply" in answer.out
    applied(reconcile, target)
    assert serving(reconcile, target)["key"] == one["key"]


def test_a_missing_training_counts_as_canceled(reconcile: Cli, in_training: World) -> None:
    one = generation(reconcile, "gl")
    in_training.ask("DELETE", f"/v1beta/{one['remote']}")
    assert reconcile("cancel", "adder", "--yes", *chosen("gl")).status == 0
    assert generation(reconcile, "gl")["state"] == "CANCELLED"


def test_a_waiting_run_records_the_cancellation(reconcile: Cli, in_training: World) -> None:
    assert in_training
    one = generation(reconcile, "gl")
    stopped: list[int] = []

    def stop(_now: object) -> None:
        if not stopped:
            stopped.append(0)
            lock = json.loads(lock_file(reconcile, "gl").read_text())
            lock["models"]["adder"]["generations"][0]["state"] = "CANCELLED"
            in_training.ask("DELETE", f"/v1beta/{one['remote']}")
            lock_file(reconcile, "gl").write_text(json.dumps(lock))

    reconcile.clock.on_move = stop
    waited = reconcile("apply", "--yes", *chosen("gl"))
    assert waited.status == 1
    assert generation(reconcile, "gl")["state"] == "CANCELLED"
    assert "held (Cancelled)" in reconcile("apply", "--yes", *chosen("gl")).out


def test_cancel_shows_the_training_before_the_confirmation(reconcile: Cli, in_training: World) -> None:
    assert in_training
    one = generation(reconcile, "gl")
    output = refused(reconcile, "cancel", "adder", status=64)
    assert "adder: 1 training will be canceled\n" in output
    assert f"  generation  {one['key']} CREATING {one['remote']}\n" in output
    assert "Generative Language API v1beta can cancel a training only by deleting its model" in output
    assert "stdin is not a terminal" in output


def test_one_generation_alone(reconcile: Cli, in_training: World) -> None:
    assert in_training
    first = generation(reconcile, "gl")
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text().replace("batchSize: 4", "batchSize: 8"))
    applied(reconcile, "gl", "--no-wait")
    assert reconcile("cancel", "adder", "--generation", first["key"], "--yes", *chosen("gl")).status == 0
    states = {one["key"]: one["state"] for one in lock_of(reconcile, "gl")["adder"]["generations"]}
    assert sorted(states.values()) == ["CANCELLED", "CREATING"]
    assert states[first["key"]] == "CANCELLED"
    assert "has no recorded generation adder-aaaaaaaa" in refused(
        reconcile, "cancel", "adder", "--generation", "adder-aaaaaaaa", "--yes", status=64
    )


def test_the_training_of_a_suspended_manifest_continues(reconcile: Cli, in_training: World) -> None:
    assert in_training
    file = reconcile.specs / "adder.yaml"
    file.write_text(f"{file.read_text()}  lifecycle: {{suspend: true}}\n")
    assert refused(reconcile, "cancel", "adder", "--yes") == (
        "Error: adder is suspended: spec.lifecycle.suspend in specs/adder.yaml prevents every change; remove it first\n"
    )


def test_protection_counts_where_a_training_is_stopped_by_deleting(reconcile: Cli, slow: World) -> None:
    assert slow
    protect = "  lifecycle: {protect: true}\n"
    begun(reconcile, "gl", more=protect)
    assert refused(reconcile, "cancel", "adder", "--yes") == (
        "Error: adder is protected, and Generative Language API v1beta can cancel a training only by "
        "deleting its model; remove spec.lifecycle.protect first\n"
    )
    begun(reconcile, "vertex", more=protect)
    assert reconcile("cancel", "adder", "--yes", *chosen("vertex")).status == 0


def test_a_refused_cancellation_is_reported(reconcile: Cli, in_training: World) -> None:
    in_training.front = closed(f"POST {JOBS}")
    output = refused(reconcile, "cancel", "adder", "--yes", target="vertex", status=3)
    assert ":cancel failed with 403 PERMISSION_DENIED" in output
    assert "ask for roles/aiplatform.user on the target's spec.project" in output


def test_without_a_record_there_is_nothing_to_stop(reconcile: Cli, world: World) -> None:
    assert world
    manifest(reconcile)
    answer = reconcile("cancel", "adder", "--yes", *chosen("gl"))
    assert answer.status == 0
    assert answer.out.splitlines()[-1] == "adder: no training in progress; nothing was changed"


def test_a_forgotten_model_that_is_declared_again_is_adopted_as_the_message_states(reconcile: Cli) -> None:
    manifest = reconcile.manifest("adder")
    reconcile.manifest("words")
    assert reconcile("apply", "--yes").status == 0
    text, serving = manifest.read_text(), reconcile.lock["adder"]["serving"]
    manifest.unlink()
    forgotten = reconcile("forget", "adder", "--yes")
    assert f"to manage it again, run reconcile adopt adder tunedModels/{serving}\n" in forgotten.out
    manifest.write_text(text)
    held = reconcile("apply", "--yes")
    assert held.status == 1
    assert "held (IdTaken)" in held.out
    assert f"run reconcile adopt adder tunedModels/{serving}; otherwise rename this manifest" in held.out
    manifest.write_text(text.replace("epochCount: 2", "epochCount: 3"))
    assert reconcile("adopt", "adder", f"tunedModels/{serving}").status == 1
    manifest.write_text(text)
    assert reconcile("adopt", "adder", f"tunedModels/{serving}").status == 0
    applied = reconcile("apply", "--yes")
    assert (applied.status, "0 to create" in applied.err) == (0, True), applied.err
    assert reconcile.lock["adder"]["serving"] == serving


def test_several_models_are_forgotten_at_once_or_none(reconcile: Cli) -> None:
    for name in ("adder", "words", "stay"):
        reconcile.manifest(name)
    assert reconcile("apply", "--yes").status == 0
    for name in ("adder", "words"):
        (reconcile.specs / f"{name}.yaml").unlink()
    refused = reconcile("forget", "adder", "stay", "specs", "--yes")
    assert (refused.status, len(reconcile.lock)) == (1, 3)
    forgotten = reconcile("forget", "adder", "words", "specs", "--yes", "--format", "json")
    assert (forgotten.status, list(reconcile.lock)) == (0, ["stay"])
    held_to("change", forgotten.document)
    assert [forgotten.document["name"], *(one["name"] for one in forgotten.document["others"])] == ["adder", "words"]
    assert reconcile("prune", "--older-than", "1d", "--yes").status == 0


def test_several_models_are_adopted_at_once_or_none(reconcile: Cli) -> None:
    world = {
        "tunedModels": [
            {
                "name": f"tunedModels/by-hand-{number}",
                "state": "ACTIVE",
                "baseModel": "models/gemini-3.5-flash",
                "createTime": "2026-01-01T00:00:00Z",
            }
            for number in range(2)
        ]
    }
    (reconcile.specs / "world.json").write_text(json.dumps(world))
    reconcile.target("  embedded: {world: world.json, stepSeconds: 1.65}\n")
    first, second = ("one", "tunedModels/by-hand-0"), ("two", "tunedModels/by-hand-1")
    for models, status in (
        ((*first, "two", "tunedModels/no-such-model"), 1),
        ((*first, "two", first[1]), 64),
        ((*first, *second, "--file", "specs/one.yaml"), 64),
        (("one",), 64),
    ):
        assert reconcile("adopt", *models).status == status, models
        assert not (reconcile.specs / "one.yaml").exists()
    adopted = reconcile("adopt", *first, *second, "specs", "--format", "json")
    assert (adopted.status, sorted(reconcile.lock)) == (0, ["one", "two"]), adopted.err
    held_to("change", adopted.document)
    assert [one["manifest"] for one in (adopted.document, *adopted.document["others"])] == [
        "specs/one.yaml",
        "specs/two.yaml",
    ]
    assert reconcile("apply", "--yes").status == 0
