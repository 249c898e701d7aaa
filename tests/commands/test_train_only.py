"""apply --train-only, which an unmerged branch may do: it trains, and leaves alone what serves and who may use it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.cli_world import Cli
from support.git_repository import Repository
from support.vertex_runs import apply, manifest
from support.vertex_world import JOBS, World


@pytest.fixture
def pointer(reconcile: Cli) -> Path:
    """Where the target publishes."""
    reconcile.target("  publish: serving.json\n")
    return reconcile.specs / "serving.json"


def _pointer(pointer: Path) -> dict[str, str]:
    document: Any = json.loads(pointer.read_text(encoding="utf-8"))
    return {model["name"]: model["key"] for model in document["models"]}


def test_train_only_publishes_nothing_until_a_full_apply(reconcile: Cli, pointer: Path) -> None:
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes").status == 0
    first = reconcile.lock["adder"]["serving"]
    reconcile.manifest("adder", epochs=3)

    trained = reconcile("apply", "--yes", "--train-only")

    assert trained.status == 0, trained.err
    second = reconcile.lock["adder"]["generations"][0]["key"]
    assert second != first
    assert reconcile.lock["adder"]["serving"] == first
    assert "promoteTime" not in reconcile.lock["adder"]["generations"][0]
    assert reconcile.lock["adder"]["published"] == first
    assert _pointer(pointer) == {"adder": first}
    assert reconcile("apply", "--locked", "--yes").status == 0
    assert reconcile.lock["adder"]["serving"] == second
    assert _pointer(pointer) == {"adder": second}


def test_wait_publishes_nothing(reconcile: Cli, pointer: Path) -> None:
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes", "--no-wait").status == 0

    waited = reconcile("wait")

    assert waited.status == 0, waited.err
    assert "serving" not in reconcile.lock["adder"]
    assert not pointer.exists()
    assert reconcile("apply", "--yes").status == 0
    assert _pointer(pointer) == {"adder": reconcile.lock["adder"]["serving"]}


def test_train_only_keeps_the_serving_generation(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes").status == 0
    reconcile.manifest("adder", more="  displayName: a new name\n")
    reconcile.manifest("other")

    trained = reconcile("apply", "--yes", "--train-only", "--format", "json")

    assert trained.status == 0, trained.err
    assert "serving" not in reconcile.lock["other"]
    assert reconcile("plan", "--format", "json").document["summary"]["update"] == 1


def test_a_child_is_trained_from_the_parent_that_will_be_promoted(reconcile: Cli) -> None:
    reconcile.manifest("parent", more="  access: [{role: reader, everyone: true}]\n")
    file = reconcile.manifest("child")
    file.write_text(
        file.read_text().replace("  baseModel: models/gemini-3.5-flash\n", "  source: {tunedModel: parent}\n")
    )

    trained = reconcile("apply", "--yes", "--train-only")

    assert trained.status == 0, trained.out + trained.err
    (parent,), (child,) = (reconcile.lock[name]["generations"] for name in ("parent", "child"))
    assert child["source"] == {"tunedModel": "parent", "generation": parent["key"]}
    assert [name for name, model in reconcile.lock.items() if "serving" in model] == []
    assert reconcile("validate", "--locked").status == 0
    assert reconcile("apply", "--locked", "--yes").status == 0
    assert reconcile.lock["child"]["serving"] == child["key"]


def test_a_family_is_trained_on_a_branch_merged_with_a_conflict_and_promoted(reconcile: Cli) -> None:
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\n")
    reconcile.manifest("parent")
    assert reconcile("apply", "--yes").status == 0
    repository.commit()
    first = reconcile.lock["parent"]["serving"]

    repository("switch", "--quiet", "--create", "change")
    reconcile.manifest("parent", epochs=3, more="  access: [{role: reader, everyone: true}]\n")
    file = reconcile.manifest("child")
    file.write_text(
        file.read_text().replace("  baseModel: models/gemini-3.5-flash\n", "  source: {tunedModel: parent}\n")
    )
    assert reconcile("apply", "--yes", "--train-only").status == 0
    second = reconcile.lock["parent"]["generations"][0]["key"]
    assert reconcile.lock["parent"]["serving"] == first
    assert reconcile.lock["child"]["generations"][0]["source"]["generation"] == second
    repository.commit()

    repository("switch", "--quiet", "main")
    reconcile.manifest("parent", epochs=4)
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository("merge", "change")
    assert reconcile("validate").out.startswith(
        "specs/parent.yaml:7:1: contains git conflict markers: <<<<<<< in line 7, ======= in line 9, >>>>>>> in"
        " line 12; edit the lines between the markers, and remove the markers\n"
    )
    repository("checkout", "--theirs", "specs/parent.yaml")
    repository.commit()
    assert reconcile("apply", "--locked", "--yes").status == 0
    assert reconcile.lock["parent"]["serving"] == second

    (promoted,) = (one for one in reconcile.lock["parent"]["generations"] if one["key"] == second)
    since = promoted["promoteTime"].replace("T", " ")[:16]
    assert since > promoted["completeTime"].replace("T", " ")[:16]
    assert next(line for line in reconcile("status").out.splitlines() if second in line).endswith(since)
    unknown = ("--to", "parent-x")
    for command in (
        ("rollback", "parent", *unknown, "--reason", "worse"),
        ("promote", "parent", *unknown),
        ("check", "parent", "--generation", "parent-x"),
        ("prompt", "parent", "7", "--generation", "parent-x"),
        ("cancel", "parent", "--generation", "parent-x"),
        ("export", "parent", "--generation", "parent-x", "--to", "out"),
    ):
        refused = reconcile(*command)
        assert (refused.status, "no recorded generation parent-x" in refused.err) == (64, True), refused.err


def test_a_generation_without_its_declared_access_is_not_promoted(reconcile: Cli) -> None:
    reconcile.manifest("adder", more="  access: [{role: reader, everyone: true}]\n")

    trained = reconcile("apply", "--yes", "--train-only")

    assert trained.status == 0, trained.err
    assert "serving" not in reconcile.lock["adder"]
    assert reconcile("validate", "--locked").status == 0
    assert reconcile("apply", "--locked", "--yes").status == 0
    assert reconcile.lock["adder"]["serving"]


def test_duplicate_trainings_are_still_canceled(slow: World, reconcile: Cli) -> None:
    manifest(reconcile)
    assert apply(reconcile, "--no-wait").status == 0
    (job,) = slow.jobs()
    again = {name: job[name] for name in ("baseModel", "supervisedTuningSpec", "tunedModelDisplayName", "labels")}
    slow.ask("POST", JOBS, json.dumps(again).encode())

    assert apply(reconcile, "--train-only", "--no-wait").status == 0

    assert (len(slow.jobs()), len(slow.jobs("CANCELLED", "CANCELLING"))) == (2, 1)


def test_it_contradicts_locked(reconcile: Cli) -> None:
    answer = reconcile("apply", "--yes", "--train-only", "--locked")

    assert answer.status == 64
    assert answer.err == ("Error: --locked excludes --train-only; remove one of them\n")
