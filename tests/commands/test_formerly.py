"""metadata.formerly on the command line: everything is carried over, and nothing trains."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cases import in_turn, slow_except
from support.cli_world import EXAMPLES, Cli, Result
from support.render_values import held_to
from support.vertex_runs import BASE, chosen, manifest, trainings
from support.vertex_world import TARGETS, World, lock_file, lock_of

if TYPE_CHECKING:
    from support.vertex_fronts import Json

EVERY = in_turn("target", TARGETS)
ON_PORTS = in_turn("target", ["gl", "vertex"])


def applied(reconcile: Cli, target: str, *arguments: str) -> Result:
    done = reconcile("apply", "--yes", *arguments, *chosen(target))
    assert done.status == 0, done.err
    return done


def rename(reconcile: Cli, *, keep: bool = True) -> Path:
    """Call adder summer, and say so in the manifest if that is to be kept in mind."""
    file = reconcile.specs / "adder.yaml"
    formerly = ", formerly: [adder]" if keep else ""
    text = re.sub(r"\{name: \w+[^}]*\}", f"{{name: summer{formerly}}}", file.read_text(), count=1)
    file.write_text(text)
    return file


def summer(reconcile: Cli, target: str) -> Json:
    (name,) = lock_of(reconcile, target)
    assert name == "summer"
    return dict(lock_of(reconcile, target)["summer"])


@EVERY
def test_everything_is_carried_over_and_nothing_trains(reconcile: Cli, trained_world: World, target: str) -> None:
    file = reconcile.specs / "adder.yaml"
    file.write_text(file.read_text().replace("epochCount: 2", "epochCount: 3"))
    applied(reconcile, target)
    assert reconcile("rollback", "adder", "--reason", "worse", *chosen(target)).status == 0
    before = lock_of(reconcile, target)["adder"]
    trained = trainings(trained_world, reconcile, target)
    rename(reconcile)
    assert reconcile("validate", *chosen(target)).status == 0

    plan = reconcile("plan", *chosen(target))

    assert "  < summer               adopt " in plan.out
    assert "recorded as adder before: its 2 generations are moved to summer, nothing is trained" in plan.out
    assert "0 to create" in plan.out
    document = held_to("plan", reconcile("plan", "--format", "json", *chosen(target)).document)
    assert ("adopt", "Renamed") in {(one["action"], one["reason"]) for one in document["actions"]}
    done = applied(reconcile, target)
    assert "renamed: previously recorded as adder" in done.err
    assert summer(reconcile, target) == before
    again = applied(reconcile, target)
    assert "held (RolledBack)" in again.out
    assert reconcile("promote", "summer", *chosen(target)).status == 0
    assert applied(reconcile, target).out.startswith("No changes. 1 model matches its manifest")
    assert trainings(trained_world, reconcile, target) == trained


@EVERY
def test_a_merge_queue_and_a_locked_apply_take_it(reconcile: Cli, trained_world: World, target: str) -> None:
    assert trained_world
    rename(reconcile)
    assert reconcile("validate", "--locked", *chosen(target)).status == 0
    applied(reconcile, target, "--locked")
    assert summer(reconcile, target)["serving"].startswith("adder-")


@ON_PORTS
def test_a_training_continues_under_the_new_name(reconcile: Cli, slow: World, target: str) -> None:
    manifest(reconcile)
    applied(reconcile, target, "--no-wait")
    rename(reconcile)
    applied(reconcile, target)
    assert summer(reconcile, target)["serving"].startswith("adder-")
    assert trainings(slow, reconcile, target) == 1


@ON_PORTS
def test_the_lockfile_can_be_lost_at_the_same_time(reconcile: Cli, trained_world: World, target: str) -> None:
    key = lock_of(reconcile, target)["adder"]["serving"]
    lock_file(reconcile, target).unlink()
    rename(reconcile)
    applied(reconcile, target)
    assert summer(reconcile, target)["serving"] == key
    assert trainings(trained_world, reconcile, target) == 1


@ON_PORTS
def test_without_the_former_name_the_lockfile_alone_is_not_believed(
    reconcile: Cli, trained_world: World, target: str
) -> None:
    """The mark has the former name, and an edited lockfile could name the model of any manifest."""
    rename(reconcile)
    applied(reconcile, target)
    rename(reconcile, keep=False)
    held = reconcile("apply", "--yes", *chosen(target))
    assert held.status == 1
    assert "summer  held (RecordMismatch): " in held.out
    assert "it has the ownership mark of adder; " in held.out
    rename(reconcile)
    assert applied(reconcile, target).out.startswith("No changes")
    assert trainings(trained_world, reconcile, target) == 1


def test_without_the_former_name_it_is_a_new_model(reconcile: Cli, trained_world: World) -> None:
    rename(reconcile, keep=False)
    applied(reconcile, "gl")
    assert trainings(trained_world, reconcile, "gl") == 2
    assert sorted(lock_of(reconcile, "gl")) == ["adder", "summer"]


def test_a_mark_that_is_gone_is_restored_under_the_name_of_the_key(reconcile: Cli, trained_world: World) -> None:
    rename(reconcile)
    applied(reconcile, "gl")
    remote = summer(reconcile, "gl")["generations"][0]["remote"]
    mark = trained_world.ask("GET", f"/v1beta/{remote}")["description"]
    assert " name=adder " in mark
    trained_world.ask("PATCH", f"/v1beta/{remote}", b'{"description": ""}', updateMask="description")
    applied(reconcile, "gl")
    assert trained_world.ask("GET", f"/v1beta/{remote}")["description"] == mark


def test_a_retry_and_a_change_are_made_under_the_new_name(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    file = rename(reconcile)
    applied(reconcile, "gl", "--replace", "summer")
    newest, first = (one["key"] for one in summer(reconcile, "gl")["generations"])
    assert (newest[:7], first[:6]) == ("summer-", "adder-")
    (reconcile.specs / "adder.csv").write_text("text_input,output\n" + "".join(f"{a},{a}\n" for a, _ in EXAMPLES))
    applied(reconcile, "gl")
    assert len(summer(reconcile, "gl")["generations"]) == 3
    assert file.exists()


@pytest.mark.parametrize("target", slow_except([(target,) for target in TARGETS], ("",)))
def test_renaming_a_parent_trains_no_child(reconcile: Cli, world: World, target: str) -> None:
    manifest(reconcile)
    manifest(reconcile, "child")
    child = reconcile.specs / "child.yaml"
    text = child.read_text().replace(f"baseModel: {BASE}", "source: {tunedModel: adder}")
    child.write_text(text.replace("baseModel: gemini-3.5-flash, ", ""))
    applied(reconcile, target)
    before = lock_of(reconcile, target)["child"]
    trained = trainings(world, reconcile, target)
    rename(reconcile)
    result = reconcile("validate", *chosen(target))
    assert 'no manifest is named "adder"; did you mean summer? Otherwise' in result.out
    child.write_text(child.read_text().replace("tunedModel: adder", "tunedModel: summer"))
    applied(reconcile, target)
    assert lock_of(reconcile, target)["child"] == before
    assert applied(reconcile, target).out.startswith("No changes. 2 models match their manifests")
    assert trainings(world, reconcile, target) == trained


def test_the_new_name_is_published(reconcile: Cli, world: World) -> None:
    assert world
    file = reconcile.specs / "reconcile.gl.yaml"
    file.write_text(f"{file.read_text()}  publish: serving.json\n")
    manifest(reconcile)
    applied(reconcile, "gl")
    rename(reconcile)
    applied(reconcile, "gl")
    pointer = json.loads((reconcile.specs / "serving.json").read_text())
    assert [one["name"] for one in pointer["models"]] == ["summer"]
    assert summer(reconcile, "gl")["published"] == summer(reconcile, "gl")["serving"]


def test_two_models_become_one_with_what_both_had(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    rename(reconcile, keep=False)
    applied(reconcile, "gl")
    serves = lock_of(reconcile, "gl")["summer"]["serving"]
    rename(reconcile)
    applied(reconcile, "gl")
    merged = summer(reconcile, "gl")
    assert merged["serving"] == serves
    assert [one["key"][:6] for one in merged["generations"]] == ["summer", "adder-"]


def test_a_renamed_model_is_not_an_orphan_before_apply(reconcile: Cli, trained_world: World) -> None:
    assert trained_world
    file = rename(reconcile)
    file.write_text(f"{file.read_text()}  lifecycle: {{suspend: true}}\n")
    document = reconcile("plan", "--format", "json", *chosen("gl")).document
    assert {(one["name"], one["reason"]) for one in document["actions"]} == {
        ("summer", "Renamed"),
        ("summer", "Suspended"),
    }
