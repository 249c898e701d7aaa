"""Under GitHub Actions: annotations and a summary, and nothing from outside that steers the runner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cli_world import Cli
from support.github_runner import commands_in

FORGED = "::add-mask::e"


@pytest.fixture
def actions(reconcile: Cli) -> Cli:
    """``reconcile`` on a runner, in a checkout."""
    (reconcile.folder / ".git").mkdir()
    reconcile.environ |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(reconcile.folder / "summary.md")}
    return reconcile


def summary(actions: Cli) -> str:
    return (actions.folder / "summary.md").read_text(encoding="utf-8")


def test_outside_github_no_command_is_printed(reconcile: Cli) -> None:
    (reconcile.specs / "a.yaml").write_text("apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\n")
    answer = reconcile("validate")
    assert (answer.status, answer.err) == (1, "")


def test_problems_stand_at_their_lines(actions: Cli) -> None:
    file = actions.manifest("adder")
    file.write_text(file.read_text().replace("baseModel", "baseMode"))

    answer = actions("validate")

    found = commands_in(answer.err)
    assert [one.name for one in found] == ["error"] * len(found)
    assert {(one.properties["file"], one.properties["line"]) for one in found} >= {("specs/adder.yaml", "5")}
    assert "did you mean baseModel" in " ".join(one.data for one in found)
    assert commands_in(answer.out) == []
    assert summary(actions).startswith("<!-- reconcile:validation -->\n### ❌ Validation\n")


def test_a_command_that_ends_for_problems_points_at_them_too(actions: Cli) -> None:
    file = actions.manifest("adder")
    file.write_text(file.read_text().replace("baseModel", "baseMode"))

    answer = actions("plan")

    assert answer.status == 1
    assert commands_in(answer.err)[0].properties["file"] == "specs/adder.yaml"
    assert summary(actions).startswith("<!-- reconcile:plan:default -->\n### ❌ Plan for target `default`\n")
    assert "did you mean baseModel?" in summary(actions)


def test_an_error_is_an_annotation(actions: Cli) -> None:
    answer = actions("plan", "--target", "nowhere")

    (found,) = commands_in(answer.err)
    assert found.properties == {"title": "reconcile plan error"}
    assert f"Error: {found.data}" in answer.err
    assert "no `reconcile.nowhere.yaml` in specs" in summary(actions)


def test_a_plan_and_its_result_make_a_summary(actions: Cli) -> None:
    actions.manifest("adder")

    planned, applied = actions("plan"), actions("apply", "--yes", "--format", "json")

    assert commands_in(planned.err) == commands_in(applied.err) == []
    assert applied.document["models"][0]["file"] == "adder.yaml"
    first, second = summary(actions).split("<!-- reconcile:result:default -->")
    assert first.startswith("<!-- reconcile:plan:default -->\n### ✅ Plan for target `default`\n")
    assert "**1 to create, 0 to update, 0 to delete. 10 training steps.**" in first
    assert second.startswith("\n### ✅ Result for target `default`\n")


def test_status_has_neither(actions: Cli) -> None:
    actions.manifest("adder")
    actions("status")
    assert not (actions.folder / "summary.md").exists()


def test_held_actions_are_annotated(actions: Cli) -> None:
    actions.manifest("adder", metadata=", labels: {team: demo}")
    actions.target("  limits: {maxCreates: 0}\n")

    answer = actions("plan")

    (found,) = commands_in(answer.err)
    assert found.name == "error"
    assert found.properties == {"file": "specs/adder.yaml", "line": "3", "col": "18", "title": "adder held"}
    assert found.data.startswith("Guarded: models to create in this plan: 1, but limits.maxCreates of the target is 0")


@pytest.mark.parametrize(("folder", "path"), [("", "specs"), ("specs", "."), ("specs", "../specs/adder.yaml")])
def test_paths_begin_at_the_top_of_the_repository(actions: Cli, folder: str, path: str) -> None:
    file = actions.manifest("adder")
    file.write_text(file.read_text().replace("baseModel", "baseMode"))
    actions.folder = actions.folder / folder

    found = commands_in(actions("validate", path).err)

    assert {one.properties["file"] for one in found} == {"specs/adder.yaml"}


def test_untrusted_text_is_not_a_workflow_command(actions: Cli) -> None:
    hostile = f"##[stop-commands]x\\n{FORGED}\\n  {FORGED}"
    actions.manifest("adder", more=f'  displayName: "{hostile[:38]}"\n  description: "{hostile}"\n')
    forged = actions.specs / f"{FORGED}.yaml"
    forged.write_text(f'apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\nmetadata: {{name: "{hostile}"}}\n')

    results = [
        actions(command, f"specs/{FORGED}.yaml", *more) for command in ("validate", "plan") for more in ((), ("-v",))
    ]

    for answer in results:
        assert commands_in(answer.out) == []
        assert {one.name for one in commands_in(answer.err)} == {"error"}


def test_a_file_named_like_a_workflow_command_is_escaped(actions: Cli) -> None:
    file = actions.manifest("adder")
    file.write_text(file.read_text().replace("baseModel", "baseMode"))
    actions.specs.rename(actions.folder / FORGED)

    answer = actions("validate", FORGED)

    assert commands_in(answer.out) == []
    assert answer.out.startswith(":\\u003aadd-mask::e/adder.yaml:")
    assert {one.properties["file"] for one in commands_in(answer.err)} == {f"{FORGED}/adder.yaml"}


def test_json_stays_the_same_document(actions: Cli) -> None:
    actions.manifest("adder", more='  description: "so ##[add-mask]e"\n')
    actions("apply", "--yes")
    actions.manifest("adder", more='  description: "now ##[add-mask]e"\n')

    answer = actions("plan", "--format", "json")

    assert commands_in(answer.out) == []
    assert "##\\u005badd-mask]e" in answer.out
    (change,) = json.loads(answer.out)["actions"][0]["changes"]
    assert change["declared"] == "now ##[add-mask]e"


def test_a_summary_that_cannot_be_written_fails_nothing(actions: Cli) -> None:
    actions.manifest("adder")
    actions.environ["GITHUB_STEP_SUMMARY"] = str(actions.folder / "nowhere" / "summary.md")

    answer = actions("plan")

    assert answer.status == 0
    assert "warning: the summary of this step cannot be written: No such file or directory" in answer.err


def test_a_full_summary_is_left_as_it_is(actions: Cli) -> None:
    actions.manifest("adder")
    file = Path(actions.environ["GITHUB_STEP_SUMMARY"])
    file.write_bytes(b"x" * 1024 * 1024)

    answer = actions("plan")

    assert answer.status == 0
    assert "warning: the summary of this step is full; the result of this command is not in it" in answer.err
    assert file.stat().st_size == 1024 * 1024
