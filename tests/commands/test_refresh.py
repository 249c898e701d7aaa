"""refresh on the command line: what is brought up to date, what comes back, what is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.cases import in_turn, slow_except
from support.cli_world import Cli, Result
from support.render_values import held_to
from support.vertex_runs import BASE, chosen, manifest, trainings
from support.vertex_world import TARGETS, World, lock_file, lock_of

EVERY = in_turn("target", TARGETS)
UNSURE = {"serving", "published"}


def version(reconcile: Cli, epochs: int, target: str = "", name: str = "adder", more: str = "") -> str:
    """Train a version of the manifest, and give the key that serves then."""
    block = f"  vertex: {{baseModel: gemini-3.5-flash, hyperparameters: {{epochCount: {epochs}}}}}\n"
    reconcile.manifest(name, base=BASE, epochs=epochs, more=block + more)
    done = reconcile("apply", "--yes", *chosen(target))
    assert done.status == 0, done.err
    return str(lock_of(reconcile, target)[name]["serving"])


def refreshed(reconcile: Cli, *arguments: str, target: str = "", status: int = 0) -> Result:
    answer = reconcile("refresh", *arguments, *chosen(target))
    assert answer.status == status, answer.out + answer.err
    return answer


def refused(reconcile: Cli, *arguments: str, status: int = 1) -> str:
    """What is said when nothing is written."""
    before = reconcile.lock_file.read_bytes()
    answer = reconcile("refresh", *arguments)
    assert answer.status == status, answer.out + answer.err
    assert answer.out == ""
    assert reconcile.lock_file.read_bytes() == before
    return answer.err


def generations(reconcile: Cli, target: str = "", name: str = "adder") -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in lock_of(reconcile, target)[name]["generations"]}


# with a lockfile


@EVERY
def test_a_lockfile_that_is_up_to_date_stays_as_it_is_and_the_service_too(
    reconcile: Cli, trained_world: World, target: str
) -> None:
    for epochs in (2, 3):
        version(reconcile, epochs, target)
    before, asked = lock_file(reconcile, target).read_bytes(), len(trained_world.lines)

    answer = refreshed(reconcile, "--check", target=target)

    assert answer.out.endswith(".lock.json matches the manifests and live state; nothing to write\n")
    assert refreshed(reconcile, target=target).out == answer.out
    assert lock_file(reconcile, target).read_bytes() == before
    assert all(line.startswith("GET ") for line in trained_world.lines[asked:])
    assert bool(target) == bool(trained_world.lines[asked:])


@EVERY
def test_a_completed_training_is_recorded_and_not_promoted(reconcile: Cli, world: World, target: str) -> None:
    assert world
    manifest(reconcile)
    assert reconcile("apply", "--yes", "--no-wait", *chosen(target)).status == 0
    (key,) = generations(reconcile, target)
    assert generations(reconcile, target)[key]["state"] == "CREATING"
    reconcile.clock.now = reconcile.clock.now.replace(hour=20)

    dry = refreshed(reconcile, "--dry-run", target=target)

    assert generations(reconcile, target)[key]["state"] == "CREATING"
    assert refreshed(reconcile, "--check", target=target, status=2).out == dry.out
    assert " would be written: 1 model changed\n  ~ adder\n" in dry.out
    assert f"      ~ {key}  CREATING → ACTIVE: completeTime, " in dry.out
    done = refreshed(reconcile, target=target)
    assert done.out == dry.out.replace("would be written", "was written")
    assert generations(reconcile, target)[key]["state"] == "ACTIVE"
    assert "serving" not in lock_of(reconcile, target)["adder"]
    assert refreshed(reconcile, "--check", target=target).status == 0


def test_a_missing_serving_generation_stays_named(reconcile: Cli, trained_world: World) -> None:
    manifest(reconcile, "other")
    manifest(reconcile, "another", multiplier=2)
    first, second = (version(reconcile, epochs, "gl") for epochs in (2, 3))
    trained_world.ask("DELETE", f"/v1beta/tunedModels/{second}")

    answer = refreshed(reconcile, target="gl")

    assert f"      ~ {second}  ACTIVE → MISSING\n" in answer.out
    assert answer.out.endswith(
        f"note: {second}, the serving generation of adder, was not found at the service; run reconcile apply"
        " --target gl to fix "
        "this\n"
    )
    found = generations(reconcile, "gl")
    assert (found[first]["state"], found[second]["state"]) == ("ACTIVE", "MISSING")
    assert lock_of(reconcile, "gl")["adder"]["serving"] == second


def test_when_too_much_is_gone_nothing_is_written(reconcile: Cli, trained_world: World) -> None:
    keys = [version(reconcile, epochs, "gl") for epochs in (2, 3)]
    for key in keys:
        trained_world.ask("DELETE", f"/v1beta/tunedModels/{key}")
    before = lock_file(reconcile, "gl").read_bytes()

    answer = refreshed(reconcile, target="gl", status=1)

    assert answer.err.startswith("Error: 2 recorded models are gone at once (tunedModels/adder-")
    assert "which looks like a wrong project or wrong credentials" in answer.err
    assert lock_file(reconcile, "gl").read_bytes() == before


@EVERY
def test_facts_that_were_lost_come_back(reconcile: Cli, world: World, target: str) -> None:
    assert world
    key = version(reconcile, 2, target)
    file = lock_file(reconcile, target)
    whole = file.read_text()
    document = json.loads(whole)
    for field in ("completeTime", "finalLoss"):
        document["models"]["adder"]["generations"][0].pop(field, None)
    document["models"]["adder"]["generations"][0]["hyperparameters"].pop("effective")  # the declared ones prove it
    document["models"]["adder"]["manifest"] = "gone.yaml"
    document["models"]["adder"]["protect"] = True
    file.write_text(json.dumps(document))

    document = held_to("refresh", refreshed(reconcile, "--format", "json", target=target).document)

    assert (document["changed"], document["written"]) == (True, True)
    assert (document["merged"], document["exitStatus"]) == (False, 0)
    (model,) = document["models"]
    assert (model["name"], model["change"], model["fields"]) == ("adder", "changed", ["manifest", "protect"])
    (one,) = model["generations"]
    assert (one["key"], one["change"], one["state"]) == (key, "changed", "ACTIVE")
    assert {"completeTime", "hyperparameters"} <= set(one["fields"])
    again = json.loads(file.read_text())["models"]["adder"]
    wanted = json.loads(whole)["models"]["adder"]
    assert again == wanted


def test_a_matching_generation_is_adopted_and_others_are_skipped(reconcile: Cli, trained_world: World) -> None:
    first = version(reconcile, 2, "gl")
    before = lock_file(reconcile, "gl").read_text()
    second = version(reconcile, 3, "gl")
    lock_file(reconcile, "gl").write_text(before)
    third = version(reconcile, 4, "gl")
    lock_file(reconcile, "gl").write_text(before)
    assert trainings(trained_world, reconcile, "gl") == 3

    answer = refreshed(reconcile, target="gl")

    assert list(generations(reconcile, "gl")) == [third, first]
    assert lock_of(reconcile, "gl")["adder"]["serving"] == first
    assert f"      + {third}  ACTIVE\n" in answer.out
    assert f"note: {second}: has the mark of this scope, but is not recorded: it can belong" in answer.out
    assert trainings(trained_world, reconcile, "gl") == 3


def test_models_without_a_manifest_are_named(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    version(reconcile, 2, "gl")
    lock_file(reconcile, "gl").unlink()
    (reconcile.specs / "adder.yaml").unlink()
    answer = refreshed(reconcile, "specs", target="gl")
    assert answer.out.endswith("note: adder: models with the mark of this scope, but neither a manifest nor a record\n")
    assert not lock_file(reconcile, "gl").exists()


# without one


@EVERY
def test_a_lost_lockfile_is_rebuilt_from_live_state(reconcile: Cli, trained_world: World, target: str) -> None:
    older, newer = (version(reconcile, epochs, target) for epochs in (2, 3))
    before = generations(reconcile, target)
    lock_file(reconcile, target).unlink()

    answer = refreshed(reconcile, target=target)

    found = lock_of(reconcile, target)["adder"]
    assert not UNSURE & found.keys()
    after = generations(reconcile, target)
    assert list(after) == [newer, older]
    same = {"key", "remote", "spec", "attempt", "state", "source", "createTime", "completeTime", "finalLoss"}
    for key in (newer, older):
        assert {name: after[key].get(name) for name in same} == {name: before[key].get(name) for name in same}
    assert after[newer]["dataset"] == before[newer]["dataset"]
    assert after[older]["dataset"] == {"digest": before[older]["dataset"]["digest"]}
    assert " was written: 1 model changed\n  + adder\n" in answer.out
    first, second = (line for line in answer.out.splitlines() if line.startswith("note: "))
    assert first == (
        "note: adder: rebuilt from the marks; no generation is serving, because promotions, rollbacks and check "
        "results are recorded only in the lockfile; restore an older lockfile, for example from git, or run reconcile "
        "apply, or reconcile promote NAME --to KEY"
    )
    assert second == (f"note: {older}: no manifest matches, so the path of the data set and the preamble are unknown")
    count = trainings(trained_world, reconcile, target)
    applied = reconcile("apply", "--yes", *chosen(target))
    assert applied.status == 0, applied.err
    assert lock_of(reconcile, target)["adder"]["serving"] == newer
    assert trainings(trained_world, reconcile, target) == count
    assert refreshed(reconcile, "--check", target=target).status == 0


@pytest.mark.parametrize("target", slow_except([("gl",), ("vertex",)], ("vertex",)))
def test_a_lost_tree_of_models_comes_back(reconcile: Cli, world: World, target: str) -> None:
    assert world
    manifest(reconcile)
    source = "  source: {tunedModel: adder}\n"
    reconcile.manifest("child", base=BASE)
    file = reconcile.specs / "child.yaml"
    file.write_text(file.read_text().replace(f"  baseModel: {BASE}\n", source))
    if target == "vertex":
        file.write_text(file.read_text() + "  vertex: {hyperparameters: {epochCount: 2}}\n")
    assert reconcile("apply", "--yes", *chosen(target)).status == 0
    before = lock_of(reconcile, target)
    lock_file(reconcile, target).unlink()
    refreshed(reconcile, target=target)
    after = lock_of(reconcile, target)
    for name in ("adder", "child"):
        assert [one["key"] for one in after[name]["generations"]] == [before[name]["serving"]]
        assert after[name]["generations"][0]["source"] == before[name]["generations"][0]["source"]
    assert reconcile("plan", *chosen(target)).out.count("promote") >= 2


def test_an_empty_lock_is_not_written(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    answer = refreshed(reconcile, "--check")
    assert answer.out.endswith("reconcile.lock.json matches the manifests and live state; nothing to write\n")
    assert not reconcile.lock_file.exists()


# what is no lockfile


INVALID = {
    '{"version": 2, "models": {}}': "1:13: unsupported version 2: this reconcile reads up to version 1; upgrade",
    '{"lockfileVersion": 3}': "1:1: not a lockfile; run `mv ",
    '{"version": 1, "mod': "1:16: truncated JSON: the file ends too early; run `mv ",
    "<<<<<<< a\n": " the conflict markers do not pair up: the last conflict has no end marker",
}


def test_an_invalid_lockfile_is_not_overwritten(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    for text, message in INVALID.items():
        reconcile.lock_file.write_text(text)
        for arguments in ([], ["--check"], ["--dry-run"]):
            shown = refused(reconcile, *arguments).removeprefix("Error: ")
            assert shown.startswith(f"specs/reconcile.lock.json:{message}"), arguments


@pytest.mark.usefixtures("trained")
def test_a_lockfile_of_another_target_is_refused(reconcile: Cli) -> None:
    file = reconcile.specs / "reconcile.yaml"
    file.write_text(file.read_text().replace("scope: demo", "scope: theirs"))
    assert "belongs to another scope" in refused(reconcile)


@pytest.mark.usefixtures("trained")
def test_invalid_manifests_are_reported_and_skipped(reconcile: Cli) -> None:
    (reconcile.specs / "other.yaml").write_text("kind: TunedModel\n")
    before = reconcile.lock_file.read_bytes()
    answer = refreshed(reconcile)
    assert "warning: specs/other.yaml:1:1: " in answer.err
    assert reconcile.lock_file.read_bytes() == before


def test_without_a_target_it_is_64(reconcile: Cli) -> None:
    (reconcile.specs / "reconcile.yaml").unlink()
    answer = reconcile("refresh")
    assert answer.status == 64
    assert 'target "default" not found' in answer.err


def test_changes_of_another_run_are_not_overwritten(reconcile: Cli, world: World) -> None:
    assert world
    manifest(reconcile)
    assert reconcile("apply", "--yes", "--no-wait", "--target", "gl").status == 0
    reconcile.clock.now = reconcile.clock.now.replace(hour=20)
    file = lock_file(reconcile, "gl")
    rival = file.read_text().replace("adder.yaml", "moved.yaml")

    def saving(app: Any) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            file.write_text(rival)
            await app(scope, receive, send)

        return answer

    world.front = saving
    answer = refreshed(reconcile, target="gl", status=1)
    assert answer.err == (
        "Error: another run has saved specs/reconcile.gl.lock.json meanwhile; run reconcile refresh --target gl again\n"
    )
    assert file.read_text() == rival


# when many models are gone


def test_the_remedy_for_an_old_lockfile_after_prune_keeps_the_rollback(reconcile: Cli) -> None:
    """The lockfile of the last commit is restored after a prune that was not committed."""
    for epochs in (1, 2, 3, 4):
        reconcile.manifest("adder", epochs=epochs, more="  lifecycle: {retain: 1}\n")
        assert reconcile("apply", "--yes").status == 0
    assert reconcile("rollback", "adder", "--reason", "speaks French").status == 0
    committed = reconcile.lock_file.read_bytes()
    assert reconcile("prune", "--yes").status == 0
    reconcile.lock_file.write_bytes(committed)
    rejected = reconcile.lock["adder"]["rejected"]

    held = reconcile("apply", "--yes")
    assert held.status == 1
    assert "held (ListingSuspicious): 3 recorded models are gone at once" in held.out
    assert "run reconcile refresh --accept-missing, which records that and keeps everything else" in held.out
    assert "lockfile away" not in held.out
    assert "gone at once" in refused(reconcile)

    refreshed(reconcile, "--accept-missing")
    assert reconcile.lock["adder"]["rejected"] == rejected
    again = reconcile("apply", "--yes")
    assert (again.status, "held (RolledBack)" in again.out) == (0, True)
    assert reconcile("prune", "--yes").status == 0


@pytest.mark.usefixtures("trained")
def test_a_generation_whose_deletion_did_not_happen_is_usable_after_a_refresh(reconcile: Cli) -> None:
    reconcile.manifest("adder", epochs=3)
    assert reconcile("apply", "--yes").status == 0
    lock = json.loads(reconcile.lock_file.read_text())
    lock["models"]["adder"]["generations"][1]["state"] = "DELETING"
    reconcile.lock_file.write_text(json.dumps(lock))
    assert reconcile("rollback", "adder", "--reason", "no").status == 1
    assert reconcile("apply", "--yes").status == 0
    refreshed(reconcile)
    assert reconcile("rollback", "adder", "--reason", "no").status == 0
