"""Which checkpoint of a model serves on Vertex AI, and from which checkpoint a child continues."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from support.cli_world import Cli, Snapshot
from support.vertex_runs import apply, declare, on
from support.vertex_world import ENDPOINTS, World, aim, fresh, lock_file, lock_of, resume

Json = dict[str, Any]
HALVES = "text_input,output\n" + "".join(f"word {n},{'early' if n < 10 else 'late'}\n" for n in range(20))
"""The first of two checkpoints has learned that every word is early."""
EARLY = '  checks:\n    - {name: early, prompt: "word 19", expect: {equals: early}}\n'
BOTH = EARLY.replace("early}}", "early}}\n    - {name: first, prompt: word 1, expect: {equals: early}}")
EPOCHS = "    hyperparameters: {epochCount: 2}\n"


def write(reconcile: Cli, serve: str = "", checks: str = EARLY) -> None:
    """Write the manifest of the model, which has two checkpoints."""
    declare(
        reconcile, "adder", "halves.csv", EPOCHS + (f"  serve: {{checkpoint: {serve}}}\n" if serve else "") + checks
    )


def served(reconcile: Cli) -> Json:
    model = lock_of(reconcile, "vertex")["adder"]
    (found,) = [generation for generation in model["generations"] if generation["key"] == model["serving"]]
    return dict(found)


def published(reconcile: Cli) -> Json:
    (model,) = json.loads((reconcile.specs / "serving.json").read_text())["models"]
    return dict(model)


def endpoints(reconcile: Cli) -> dict[str, str]:
    return {known["checkpointId"]: known["endpoint"] for known in served(reconcile)["resources"]["checkpoints"]}


def planned(reconcile: Cli) -> list[tuple[str, str]]:
    actions = on(reconcile, "plan", "--format", "json").document["actions"]
    return [(action["action"], action["reason"]) for action in actions]


@pytest.fixture(scope="module")
def after_best(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A model of which the best checkpoint serves: the first one."""
    reconcile = Cli(tmp_path_factory.mktemp("trained"))
    world = fresh(served, reconcile)
    (reconcile.specs / "halves.csv").write_text(HALVES)
    aim(reconcile, world.url, more="  publish: serving.json\n")
    write(reconcile, "best")
    done = apply(reconcile)
    assert done.status == 0, done.out + done.err
    assert "1 check before promotion, at most 10 prompts" in done.out + done.err, "for each possible checkpoint"
    return reconcile.snapshot()


@pytest.fixture
def world(served: World, reconcile: Cli, after_best: Snapshot) -> World:
    return resume(served, reconcile, after_best)


def edit(reconcile: Cli, **fields: object) -> None:
    """Change the record of the newest generation as a pull request does."""
    file = lock_file(reconcile, "vertex")
    document = json.loads(file.read_text())
    document["models"]["adder"]["generations"][0].update(fields)
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def test_the_best_checkpoint_serves(reconcile: Cli, world: World) -> None:
    record, names = served(reconcile), endpoints(reconcile)
    assert record["checkpoint"] == record["checks"]["checkpoint"] == "1"
    assert record["checks"]["candidates"] == [
        {"checkpoint": "1", "passed": 1, "failed": 0, "score": 1.0},
        {"checkpoint": "2", "passed": 0, "failed": 1, "score": 0.0},
    ]
    (resolved,) = on(reconcile, "resolve", "--live", "--format", "json").document["models"]
    for shown in (resolved, published(reconcile)):
        assert (shown["checkpoint"], shown["remote"]) == ("1", names["1"])
    assert record["resources"]["endpoint"] == names["2"], "the default checkpoint"
    assert on(reconcile, "prompt", "adder", "word 19").out == "early\n"
    page = reconcile.folder / "page.html"
    assert f"{record['key']} checkpoint 1 " in on(reconcile, "status", "--report", str(page)).out
    assert "checkpoint 1" in page.read_text(), "in the timeline"
    history = on(reconcile, "history", "adder").out
    assert "ACTIVE, serving checkpoint 1 since" in history
    assert "checkpoint 1 is the best (1: 1 of 1 checks, score 1.00; 2: 0 of 1 checks, score 0.00)" in history
    assert on(reconcile, "check", "adder").status == 0
    assert planned(reconcile) == [("noop", "InSync")]
    assert on(reconcile, "drift").status == 0

    before = len(world.jobs())
    for serve, hold in (("last", "ChecksFailed"), ("9", "CheckpointMissing")):
        write(reconcile, serve)
        done = apply(reconcile)
        assert (done.status, f"held ({hold})" in done.out) == (1, True), done.out
        assert served(reconcile)["checkpoint"] == published(reconcile)["checkpoint"] == "1"
    assert f"{record['key']} has no checkpoint 9; set spec.serve.checkpoint to one of 1, 2" in done.out
    write(reconcile, "2", checks="")
    assert planned(reconcile) == [("promote", "Ready")]
    drifted = on(reconcile, "drift", "--format", "json").document["findings"]
    assert [(each["class"], each["field"], each["live"]) for each in drifted] == [("Outdated", "serve.checkpoint", "1")]
    assert apply(reconcile).status == 0
    assert published(reconcile)["remote"] == names["2"]
    write(reconcile, "best")
    shown = on(reconcile, "plan").out
    assert "the best of the checkpoints 1, 2 is to serve" in shown
    assert apply(reconcile).status == 0
    assert (published(reconcile)["remote"], len(world.jobs())) == (names["1"], before), "nothing was trained"


def test_a_checkpoint_in_a_changed_lockfile_does_not_serve(reconcile: Cli, world: World) -> None:
    honest, record, names = lock_file(reconcile, "vertex").read_text(), served(reconcile), endpoints(reconcile)
    forged_checks = {**record["checks"], "checkpoint": "2"}
    for fields in ({"checkpoint": "2"}, {"checkpoint": "2", "checks": forged_checks}):
        edit(reconcile, **fields)
        asked = len(world.lines)
        assert apply(reconcile).status == 0
        checked = [name for name in names if f"POST /v1/{names[name]}:generateContent" in world.lines[asked:]]
        assert checked == (["1", "2"] if "checks" in fields else []), "or the published one is restored"
        assert served(reconcile)["checkpoint"] == published(reconcile)["checkpoint"] == "1"
        assert published(reconcile)["remote"] == names["1"]

    write(reconcile, "9")  # nothing is promoted in this run that could replace the forged checkpoint
    edit(reconcile, checkpoint="2")
    assert apply(reconcile).status == 1
    assert (served(reconcile)["checkpoint"], published(reconcile)["remote"]) == ("1", names["1"])
    write(reconcile, "best")

    theirs = names["1"][:-1] + "666"
    points = [{**known, "endpoint": theirs} for known in record["resources"]["checkpoints"]]
    lock_file(reconcile, "vertex").write_text(honest)
    edit(reconcile, resources={**record["resources"], "checkpoints": points})
    assert on(reconcile, "resolve", "adder", "--live").out == f"{names['1']}\n"
    assert on(reconcile, "prompt", "adder", "word 19").out == "early\n"
    assert ("adopt", "RecordDiffers") in planned(reconcile)
    assert apply(reconcile).status == 0
    assert (published(reconcile)["remote"], endpoints(reconcile)) == (names["1"], names)
    assert not [line for line in world.lines if theirs in line]

    before = published(reconcile)
    edit(reconcile, checkpoint="7")
    for command, message in (
        (("resolve", "adder"), "no endpoint of the checkpoint 7 is recorded"),
        (("resolve", "adder", "--live"), "no endpoint of the checkpoint 7 is recorded"),
        (("prompt", "adder", "x"), "the model has no checkpoint 7"),
    ):
        done = on(reconcile, *command)
        assert (done.status, f"checkpoint: {message}" in done.err) == (1, True), command
    assert apply(reconcile).status == 0
    assert (published(reconcile), served(reconcile)["checkpoint"]) == (before, "1")


def test_the_serving_checkpoint_is_deployed_again_rolled_back_to_and_pruned(reconcile: Cli, world: World) -> None:
    first, names = served(reconcile)["key"], endpoints(reconcile)
    (deployed,) = world.ask("GET", f"/v1/{names['1']}")["deployedModels"]
    world.ask("POST", f"/v1/{names['1']}:undeployModel", json.dumps({"deployedModelId": deployed["id"]}).encode())
    world.ask("DELETE", f"/v1/{names['1']}")
    assert planned(reconcile) == [("update", "Undeployed")]
    assert on(reconcile, "resolve", "adder", "--live").status == 1
    assert apply(reconcile).status == 0
    now = endpoints(reconcile)
    assert (now["1"] != names["1"], now["2"]) == (True, names["2"])
    (deployed,) = world.ask("GET", f"/v1/{now['1']}")["deployedModels"]
    assert deployed["checkpointId"] == "1"
    assert published(reconcile)["remote"] == now["1"]

    (reconcile.specs / "halves.csv").write_text(HALVES + "word 20,late\n")
    write(reconcile, checks="")
    assert apply(reconcile).status == 0
    second = served(reconcile)
    assert (second["key"] != first, "checkpoint" in second) == (True, False)
    assert published(reconcile)["remote"] == second["resources"]["endpoint"]
    done = on(reconcile, "rollback", "adder", "--reason", "late", "--format", "json")
    assert (done.status, done.document["serving"]) == (0, {"key": first, "remote": now["1"], "checkpoint": "1"})
    assert (published(reconcile)["remote"], on(reconcile, "prompt", "adder", "word 19").out) == (now["1"], "early\n")
    write(reconcile, "last", checks="")
    done = on(reconcile, "promote", "adder", "--format", "json")
    assert (done.status, done.document["serving"]["checkpoint"]) == (0, "2")
    assert published(reconcile)["remote"] == served(reconcile)["resources"]["endpoint"]
    write(reconcile, "last", checks="  lifecycle: {retain: 1}\n")
    assert on(reconcile, "prune", "--yes").status == 0
    left = [endpoint["name"] for endpoint in world.ask("GET", ENDPOINTS)["endpoints"]]
    assert sorted(left) == sorted(endpoints(reconcile).values()), "the new endpoint of the checkpoint is gone too"


def test_a_child_continues_from_a_checkpoint(reconcile: Cli, world: World) -> None:
    child = reconcile.specs / "child.yaml"

    def continue_from(checkpoint: int) -> None:
        declare(reconcile, "child", "halves.csv", EPOCHS)
        text = child.read_text().replace("    baseModel: gemini-3.5-flash\n", "")
        source = f"source: {{tunedModel: adder, checkpoint: {checkpoint}}}"
        child.write_text(re.sub(r"baseModel: \S+", source, text, count=1))

    continue_from(9)
    done = apply(reconcile)
    assert (done.status, "held (CheckpointMissing)" in done.out, len(world.jobs())) == (1, True, 1), done.out
    assert "has no checkpoint 9; set spec.source.checkpoint to one of 1, 2" in done.out
    continue_from(1)
    assert apply(reconcile).status == 0
    job = world.jobs()[-1]
    assert job["preTunedModel"]["checkpointId"] == "1"
    record = lock_of(reconcile, "vertex")["child"]["generations"][0]
    assert record["source"] == {"tunedModel": "adder", "generation": served(reconcile)["key"], "checkpoint": "1"}
    child.write_text(child.read_text().replace(", checkpoint: 1", ""))
    assert {reason for _, reason in planned(reconcile)} == {"InSync"}, "what is not declared matches every checkpoint"
    continue_from(2)
    (create,) = [
        action
        for action in on(reconcile, "plan", "--format", "json").document["actions"]
        if action["action"] == "create"
    ]
    assert (create["reason"], create["changes"]) == (
        "ContentChanged",
        [{"field": "source.checkpoint", "live": "1", "declared": "2"}],
    )
