"""Several targets of a root: what each selects and overrides, one list of them, and one report on all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import yaml

from support.cases import each_row
from support.cli_world import Cli

DEV = "  selector: {names: [adder]}\n  overrides: [{spec: {hyperparameters: {epochCount: 1}}}]\n"


def two_targets(reconcile: Cli) -> None:
    """The manifests adder and speller; the target dev has the first alone, with less training, and prod has both."""
    reconcile.manifest("adder")
    reconcile.manifest("speller")
    (reconcile.specs / "reconcile.yaml").unlink(missing_ok=True)
    for name, more in {"dev": DEV, "prod": ""}.items():
        target(reconcile, name, more)


def target(reconcile: Cli, name: str, more: str = "") -> None:
    """Write a target with a scope of its own."""
    reconcile.target(more, name)
    file = reconcile.specs / f"reconcile.{name}.yaml"
    file.write_text(file.read_text().replace("scope: demo", f"scope: {name}" if name.isalpha() else "scope: other"))


def test_each_target_plans_its_own_manifests_and_the_rest_is_no_orphan(reconcile: Cli) -> None:
    two_targets(reconcile)
    (reconcile.specs / "reconcile.dev.yaml").write_text(
        (reconcile.specs / "reconcile.dev.yaml").read_text().replace("names: [adder]", "names: [adder, speller]")
    )
    assert reconcile("apply", "--target", "dev", "--yes").status == 0
    file = reconcile.specs / "reconcile.dev.yaml"
    file.write_text(file.read_text().replace(", speller]", "]"))

    planned = reconcile("plan", "--target", "dev", "--format", "json").document
    assert [(action["name"], action["reason"]) for action in planned["actions"]] == [("adder", "InSync")]
    assert [notice for notice in planned["notices"] if "not selected by the target: speller" in notice]
    drift = reconcile("drift", "--target", "dev", "--format", "json")
    assert (drift.status, [finding["class"] for finding in drift.document["findings"]]) == (0, ["InSync"])
    pruned = reconcile("prune", "--target", "dev", "--dry-run", "--format", "json").document
    assert pruned["summary"]["delete"] == 0
    named = reconcile("prune", "speller", "--target", "dev", "--dry-run", "--format", "json").document
    assert named["summary"]["delete"] == 1
    (message,) = (action["message"] for action in named["actions"] if action["name"] == "speller")
    assert message.startswith("the target does not select speller; it is recorded as serving")
    assert reconcile("validate", "--locked", "--target", "dev").status == 0
    assert "speller" in json.loads((reconcile.specs / "reconcile.dev.lock.json").read_text())["models"]

    listed = reconcile("targets", "--format", "json").document["targets"]
    dev, prod = listed
    assert [target["name"] for target in listed] == ["dev", "prod"]
    assert (dev["state"], prod["state"]) == ("inSync", "pending")
    assert (dev["manifests"], prod["manifests"]) == (["adder"], ["adder", "speller"])
    assert {state: count for state, count in dev["counts"].items() if count} == {
        "serving": 2,
        "inSync": 1,
        "unselected": 1,
    }
    assert prod["counts"]["pending"] == 2
    assert dev["lastChange"] > "2026-01-01T12:00:00Z"
    assert "lastChange" not in prod
    epochs = reconcile("plan", "--target", "prod", "--format", "json").document["actions"][0]["training"]["epochs"]
    assert epochs == 2


def test_commands_of_messages_name_the_target(reconcile: Cli) -> None:
    two_targets(reconcile)
    prod = ("--target", "prod")
    never = reconcile("promote", "adder", *prod, "--format", "json")
    assert reconcile("apply", *prod, "--yes").status == 0
    (reconcile.specs / "speller.yaml").unlink()
    reports = [word for end in ("md", "html", "xml") for word in ("--report", str(reconcile.folder / f"r.{end}"))]
    planned = reconcile("plan", *prod, "--format", "json", *reports)
    texts = {
        "promote": never.out + never.err,
        "plan": planned.out,
        "text": reconcile("plan", *prod).out,
        **{file.suffix: file.read_text() for file in reconcile.folder.glob("r.*")},
        "status": reconcile("status", *prod).out,
        "list": reconcile("list", *prod).err,
    }
    (reconcile.folder / "plan.json").write_text(planned.out)
    texts["render"] = reconcile("render", str(reconcile.folder / "plan.json")).out
    for name, text in texts.items():
        commands = re.findall(r"reconcile `?(?:apply|forget|promote|prune)\b.{20}", text.replace("\n", " "))
        assert commands, name
        assert [one for one in commands if "--target" not in one] == [], name


def test_a_broken_target_hides_no_other(reconcile: Cli) -> None:
    two_targets(reconcile)
    (reconcile.specs / "reconcile.bad.yaml").write_text("kind: Nonsense\n")
    reports = [
        word for end in ("md", "html", "xml", "json") for word in ("--report", str(reconcile.folder / f"r.{end}"))
    ]

    result = reconcile("plan", "--target", "all", "--offline", "--format", "json", *reports)

    combined = result.document
    assert (result.status, combined["kind"], combined["exitStatus"]) == (1, "Combined", 1)
    assert [(one["target"], one["exitStatus"], one["report"]["kind"]) for one in combined["reports"]] == [
        ("bad", 1, "Error"),
        ("dev", 0, "Plan"),
        ("prod", 0, "Plan"),
    ]
    texts = {file.suffix: file.read_text() for file in reconcile.folder.glob("r.*")}
    assert json.loads(texts[".json"]) == combined
    assert texts[".md"].startswith("<!-- reconcile:plan:bad%2C%20dev%2C%20prod -->\n### ❌ Plan for target")
    assert "`prod/speller`" in texts[".md"]
    assert "- dev (simulated training): " in texts[".md"]
    assert all(word in texts[".html"] for word in ("Plan", "bad", "speller", "for targets bad, dev, prod"))
    suites = ET.fromstring(texts[".xml"].encode())  # noqa: S314 - written here
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("reconcile plan bad", "2", "2"),
        ("reconcile plan dev", "1", "0"),
        ("reconcile plan prod", "2", "0"),
    ]
    text = reconcile("plan", "--target", "all", "--offline").out
    assert text.startswith("Target bad:\nspecs/reconcile.bad.yaml:1:1: ")
    assert text.endswith("3 targets: 1 failed (bad), 2 succeeded.\n")
    page = reconcile.folder / "targets.md"
    listed = reconcile("targets", "--report", str(page))
    assert listed.status == 1
    assert "\n| | target | details | file |\n" in page.read_text()
    assert listed.out.splitlines()[-1] == "3 targets: 1 invalid, 2 pending."
    assert "  specs/reconcile.bad.yaml:1:1: apiVersion: missing required field" in listed.out


def test_the_effective_manifest_is_shown_with_its_origins(reconcile: Cli) -> None:
    two_targets(reconcile)
    shown = reconcile("validate", "--target", "dev", "--show", "adder").out
    assert shown.startswith("# 1 manifest is valid\n---\n# specs/adder.yaml\n# spec.hyperparameters.epochCount: specs/")
    (document,) = yaml.safe_load_all(shown)
    assert document["spec"]["hyperparameters"] == {"epochCount": 1, "batchSize": 4, "learningRate": 0.001}
    (effective,) = reconcile("validate", "--target", "dev", "--show", "adder", "--format", "json").document["effective"]
    assert effective["manifest"] == document
    assert [field["path"] for field in effective["overridden"]] == ["spec.hyperparameters.epochCount"]
    for name, message in {
        "speller": "--show speller: the target does not select the manifest in specs/speller.yaml; name another target",
        "ader": "--show ader: no manifest of that name; did you mean adder?",
    }.items():
        refused = reconcile("validate", "--target", "dev", "--show", name)
        assert (refused.status, message in refused.err) == (64, True)


def test_hidden_examples_are_not_shown(reconcile: Cli) -> None:
    checks = '  checks: [{name: small, prompt: "secret prompt", expect: {equals: "9"}}]\n'
    reconcile.manifest("adder", more=checks)
    reconcile.target("  policy: {showExamples: false}\n")
    shown = reconcile("validate", "--show", "adder")
    assert (shown.status, "secret prompt" in shown.out, "name: small" in shown.out) == (0, False, True)


@each_row(
    ("command", "status"),
    [
        (["status", "--target", "dev", "--target", "prod"], 0),
        (["validate", "--target", "prod", "--target", "dev"], 0),
        (["validate", "--target", "all", "--locked"], 1),
        (["drift", "--target", "all"], 2),
        (["plan", "--target", "dev", "--target", "prod", "--detailed-exitcode"], 2),
        (["plan", "--target", "dev", "--target", "missing"], 64),  # the other one is planned nevertheless
        (["plan", "--target", "dev", "--target", "../prod"], 64),
        (["plan", "--target", "all", "--out", "plan.json"], 64),
        (["plan", "--target", "dev", "--target", "prod", "--only", "speller"], 64),  # dev does not have it
    ],
)
def test_one_exit_status_for_all_targets(reconcile: Cli, command: list[str], status: int) -> None:
    two_targets(reconcile)
    result = reconcile(*command, "--format", "json")
    assert result.status == status
    if "--out" not in command:
        assert result.document["exitStatus"] == status
        assert len(result.document["reports"]) == 2


@each_row("name", ["a b", "$(x)", "a\\q", "x\\1", "\\g<9>", "a'b"])
def test_an_invalid_name_of_a_target_is_refused(reconcile: Cli, name: str) -> None:
    target(reconcile, "dev")
    result = reconcile("plan", "--target", name)
    assert (result.status, "use letters, digits, hyphens and underscores" in result.err) == (64, True), result.err


@each_row(
    ("name", "message"),
    [
        (
            "all",
            'metadata.name: reserved name "all": --target all selects every target; rename the target and its file',
        ),
        ("a b", 'invalid target name "a b"; use letters, digits, hyphens and underscores'),
        ("$(x)", 'invalid target name "$(x)"; use letters, digits, hyphens and underscores'),
    ],
)
def test_names_of_targets(reconcile: Cli, name: str, message: str) -> None:
    target(reconcile, name)
    result = reconcile("targets", "--format", "json")
    (reconcile.specs / f"reconcile.{name}.yaml").unlink()
    assert result.status == 1
    (invalid,) = (target for target in result.document["targets"] if target["state"] == "invalid")
    (problem,) = invalid["problems"]
    assert message == ": ".join(filter(None, [problem.get("path"), f"{problem['message']}; {problem['remedy']}"]))


def test_a_folder_without_a_target(reconcile: Cli, tmp_path: Path) -> None:
    for file in reconcile.specs.iterdir():
        file.unlink()
    assert (tmp_path / "reconcile.yaml").exists() is False
    for command in (["targets"], ["plan", "--target", "all"]):
        result = reconcile(*command)
        assert result.status == 64
        assert "no target in specs or a directory above it; run `reconcile init` to create one" in result.err


@each_row(
    ("command", "status", "message"),
    [
        (
            ["plan", "--only", "speller"],
            64,
            "--only speller: the target does not select this manifest; change spec.selec",
        ),
        (
            ["check", "speller"],
            1,
            "speller not found: the target dev does not select the manifest in specs/speller.yaml;",
        ),
        (
            ["apply", "--yes", "--target", "all"],
            64,
            "--target all is not supported here: this command works on one target",
        ),
        (
            ["migrate", "adder"],
            1,
            "specs/reconcile.dev.yaml:9:12: spec.baseModel: the target sets this field; set it to models/",
        ),
        (
            ["migrate", "speller", "--target", "prod"],
            1,
            "specs/speller.yaml:5:14: spec.baseModel: its value has a variable of the target; change",
        ),
    ],
)
def test_what_a_target_decides_is_changed_there(reconcile: Cli, command: list[str], status: int, message: str) -> None:
    two_targets(reconcile)
    reconcile.manifest("speller", base="models/${BASE}")
    target(reconcile, "dev", "  selector: {names: [adder]}\n  overrides:\n  - spec: {baseModel: gemini-2.5-flash}\n")
    target(reconcile, "prod", "  variables: {BASE: gemini-2.5-flash}\n")
    before = {file: file.read_bytes() for file in reconcile.specs.iterdir()}
    result = reconcile(*command, *([] if "--target" in command else ["--target", "dev"]))
    assert (result.status, message in result.out + result.err) == (status, True), result.out + result.err
    assert {file: file.read_bytes() for file in reconcile.specs.iterdir()} == before
