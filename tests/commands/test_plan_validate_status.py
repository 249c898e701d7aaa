"""validate, plan, status and resolve on the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest

from support.cli_world import Cli
from support.git_repository import Repository
from support.render_values import held_to


def test_validate_reports_every_problem_at_once(reconcile: Cli) -> None:
    first = reconcile.manifest("first")
    first.write_text(first.read_text().replace("epochCount: 2", 'epochCount: "2"'))
    second = reconcile.manifest("second")
    second.write_text(second.read_text().replace("baseModel", "baseModle"))

    answer = reconcile("validate")

    assert answer.status == 1
    assert "specs/first.yaml:" in answer.out
    assert "specs/second.yaml:" in answer.out
    assert "did you mean baseModel?" in answer.out
    assert "in 2 files" in answer.out
    document = reconcile("validate", "--format", "json").document
    assert document["valid"] is False
    assert {problem["file"] for problem in document["problems"]} == {"specs/first.yaml", "specs/second.yaml"}


def test_problems_of_the_input_are_on_standard_error(reconcile: Cli) -> None:
    manifest = reconcile.manifest("first")
    manifest.write_text(manifest.read_text().replace("kind: TunedModel", "kind: TunedModle"))

    answer = reconcile("plan")

    assert answer.status == 1
    assert answer.out == ""
    assert "specs/first.yaml:2:" in answer.err


def test_problems_of_other_services_stop_no_run_without_them(reconcile: Cli) -> None:
    reconcile.manifest("both", metadata=", labels: {where: both}")
    chat = reconcile.manifest("chat")
    chat.write_text(chat.read_text().replace("chat.csv", "gs://bucket/chat.jsonl"))
    remote = "data sets in Cloud Storage are not supported by embedded service"

    assert remote in reconcile("plan").err
    assert remote in reconcile("validate").out
    assert remote in reconcile("plan", "--only", "chat").err
    for chosen in (["-l", "where=both"], ["--only", "both"], ["--exclude", "chat"]):
        planned = reconcile("plan", "--format", "json", *chosen)
        assert [one["name"] for one in planned.document["actions"]] == ["both"], planned.err
    assert reconcile("validate", "-l", "where=both").status == 0
    assert reconcile("apply", "--yes", "-l", "where=both").status == 0
    chat.write_text(chat.read_text().replace("baseModel", "baseModle"))
    assert "did you mean baseModel?" in reconcile("plan", "-l", "where=both").err


def test_plan_draws_the_tree_and_totals(reconcile: Cli) -> None:
    reconcile.manifest("adder", epochs=3)

    lines = reconcile("plan").out.splitlines()

    key = reconcile("plan", "--format", "json").document["actions"][0]["key"]
    assert lines == [
        "Target default: embedded service (simulated training), scope demo",
        "specs/adder.yaml",
        f"  + adder                create {key}",
        "      base model         models/gemini-3.5-flash",
        "      data set           adder.csv, 20 examples",
        "      training           3 epochs × batch 4 = 15 steps, about 27 s",  # noqa: RUF001 - as it is printed
        "Plan: 1 to create, 0 to update, 0 to delete. 15 training steps.",
    ]


def test_plan_reads_standard_input(reconcile: Cli) -> None:
    manifest = reconcile.manifest("adder")
    text = manifest.read_bytes()
    manifest.unlink()
    (reconcile.specs / "reconcile.yaml").rename(reconcile.folder / "reconcile.yaml")
    (reconcile.specs / "adder.csv").rename(reconcile.folder / "adder.csv")

    answer = reconcile("plan", "-", "--format", "json", stdin=text)

    assert answer.status == 0, answer.err
    assert [(one["file"], one["name"]) for one in answer.document["actions"]] == [("-", "adder")]


@pytest.mark.usefixtures("trained")
def test_plan_offline_believes_the_lockfile(reconcile: Cli) -> None:
    (reconcile.specs / ".reconcile" / "default.sqlite3").unlink()

    assert reconcile("plan", "--offline").out.splitlines()[-1] == "No changes. 1 model matches its manifest."
    assert "Missing" in reconcile("plan", "--format", "json").out


@pytest.mark.usefixtures("trained")
def test_a_deleted_manifest_is_an_orphan_and_kept(reconcile: Cli) -> None:
    reconcile.manifest("words")
    (reconcile.specs / "adder.yaml").unlink()

    document = reconcile("plan", "--format", "json").document
    action = next(action for action in document["actions"] if action["name"] == "adder")
    mention = (
        "recorded, and declared by no manifest: adder; review their models with reconcile prune --dry-run, or keep them"
        " with reconcile forget NAME"
    )

    assert (action["action"], action["reason"]) == ("noop", "Orphaned")
    assert mention in document["notices"]
    applied = reconcile("apply", "--yes")
    assert applied.status == 0
    assert mention in applied.out + applied.err
    assert reconcile.lock["adder"]["serving"]


def test_unmanaged_models_are_counted(reconcile: Cli) -> None:
    world = {"tunedModels": [{"name": f"tunedModels/foreign-{n}", "state": "ACTIVE"} for n in range(3)]}
    (reconcile.specs / "world.json").write_text(json.dumps(world))
    reconcile.target("  embedded: {world: world.json, stepSeconds: 1.65}\n")
    reconcile.manifest("adder")

    assert "3 unmanaged models" in reconcile("plan").out
    assert reconcile("apply", "--yes", "--format", "json").document["unmanaged"] == 3


def test_status_shows_what_is_recorded_and_what_is_live(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    assert "No models are recorded." in reconcile("status").out
    reconcile("apply", "--yes", "--no-wait")

    recorded = reconcile("status", "--format", "json").document
    assert recorded["verified"] is False
    assert recorded["models"][0]["inProgress"] is True
    live = reconcile("status", "--live", "--format", "json").document
    assert live["verified"] is True
    assert live["models"][0]["generations"][0]["state"] == "CREATING"


@pytest.mark.usefixtures("trained")
def test_a_report_of_status_has_the_curves_of_each_generation_where_the_service_was_asked(reconcile: Cli) -> None:
    report = reconcile.folder / "status.json"

    reconcile("status", "--report", str(report))
    (recorded,) = held_to("status", json.loads(report.read_text("utf-8")))["modelDetails"][0]["generations"]
    assert "curve" not in recorded
    reconcile("status", "--live", "--report", str(report))
    (live,) = held_to("status", json.loads(report.read_text("utf-8")))["modelDetails"][0]["generations"]
    assert live["curve"][-1] == [live["totalSteps"], live["finalLoss"]]
    assert "modelDetails" not in reconcile("status", "--format", "json").document


def test_resolve_prints_the_remote_name_alone(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    untrained = reconcile("resolve", "adder")
    assert untrained.status == 1
    assert "adder has no serving generation: it was never applied; run reconcile apply" in untrained.err
    reconcile("apply", "--yes", "--no-wait")
    assert "none of its generations has been promoted yet" in reconcile("resolve", "adder").err
    reconcile("wait")
    assert "none of its generations has been promoted yet" in reconcile("resolve", "adder").err
    reconcile("apply", "--yes")

    remote = reconcile.lock["adder"]["generations"][0]["remote"]
    assert reconcile("resolve", "adder").out == f"{remote}\n"
    assert reconcile("resolve").out == f"adder  {remote}\n"
    document = reconcile("resolve", "adder", "--format", "json").document
    assert document["models"][0]["remote"] == remote
    nobody = reconcile("resolve", "nobody")
    assert nobody.status == 1
    assert "no manifest and no model in specs/reconcile.lock.json has this name; known names: adder" in nobody.err
    assert "has this name; did you mean adder?" in reconcile("resolve", "ader").err


def test_no_target_names_the_way_out(reconcile: Cli) -> None:
    (reconcile.specs / "reconcile.yaml").unlink()
    reconcile.manifest("adder")

    answer = reconcile("plan")

    assert answer.status == 64
    assert "reconcile init" in answer.err
    assert "--target embedded" in answer.err
    assert reconcile("plan", "--target", "embedded").status == 0


def test_a_target_of_its_own_has_its_own_lockfile(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile.target("", name="prod")
    target = reconcile.specs / "reconcile.prod.yaml"
    target.write_text(target.read_text().replace("scope: demo", "scope: prod"))

    assert reconcile("apply", "--yes", "--target", "prod").status == 0

    assert (reconcile.specs / "reconcile.prod.lock.json").exists()
    assert not reconcile.lock_file.exists()


@pytest.mark.parametrize("versions", ["none", "HEAD", "an earlier commit"])
def test_the_remedy_for_an_invalid_lockfile_works(reconcile: Cli, versions: str) -> None:
    reconcile.manifest("adder")
    reconcile("apply", "--yes", "--no-wait")
    repository = Repository(reconcile.folder)
    key = reconcile.lock["adder"]["generations"][0]["key"]
    text = reconcile.lock_file.read_text().replace('"adder": {', f'"adder": {{"rejected": ["{key}"],')
    if versions != "none":
        reconcile.lock_file.write_text(text)
        repository.commit()
    reconcile.lock_file.write_text(text[: len(text) // 2])
    if versions != "HEAD":
        repository.commit()

    answer = reconcile("plan")

    assert answer.status == 1
    assert re.match(r"specs/reconcile.lock.json:\d+:\d+: (\S+: )?truncated JSON", answer.err)
    assert reconcile("refresh", "specs").err == answer.err
    assert reconcile.lock_file.read_text() == text[: len(text) // 2]
    for remedy in re.findall(r"`([^`]*)`", answer.err):
        match shlex.split(remedy):
            case "git", *arguments:
                repository("-C", str(reconcile.folder), *arguments)
            case "mv", source, destination:
                (reconcile.folder / source).rename(reconcile.folder / destination)
            case _, *arguments:
                assert reconcile(*arguments).status == 0
    assert reconcile("status").status == 0
    assert reconcile.lock["adder"]["generations"][0]["key"] == key
    assert ("rejected" in reconcile.lock["adder"]) is (versions != "none")


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [
        ("utf-8-sig", "begins with a byte order mark; save it as UTF-8 without a byte order mark\n"),
        ("utf-16", "not UTF-8 text: invalid byte 0xff; save it as UTF-8, or run `mv specs/reconcile.lock.json "),
    ],
)
def test_a_lockfile_in_another_encoding_is_one_message(reconcile: Cli, encoding: str, problem: str) -> None:
    reconcile.manifest("adder")
    reconcile.lock_file.write_bytes('{"version": 1, "models": {}}'.encode(encoding))
    for command in ("plan", "status", "refresh", "resolve"):
        answer = reconcile(command, "specs") if command != "resolve" else reconcile(command)
        assert answer.status == 1
        assert f"specs/reconcile.lock.json:1:1: {problem}" in answer.err
        assert answer.err.count("\n") == 1


def test_resolve_says_that_nothing_is_recorded(reconcile: Cli) -> None:
    warning = "warning: no model is recorded as serving; run reconcile apply to train and promote models\n"
    answer = reconcile("resolve")
    assert (answer.status, answer.out, answer.err) == (0, "", warning)
    assert reconcile("resolve", "--format", "json").document["models"] == []
    nobody = reconcile("resolve", "adder")
    assert nobody.status == 1
    assert "adder not found" in nobody.err
    assert nobody.err.endswith("has this name; add a manifest, or pass the root that has one\n")


def test_colour_only_where_it_is_wanted(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    assert "\x1b[" not in reconcile("plan").out
    assert "\x1b[" in reconcile("plan", "--color", "always").out


def test_problems_of_the_target_are_in_the_document(reconcile: Cli) -> None:
    reconcile.target("  colour: red\n")

    answer = reconcile("validate", "--format", "json")

    assert answer.status == 1
    assert answer.document["problems"][0]["file"] == "specs/reconcile.yaml"


def test_a_broken_data_set_of_one_does_not_hide_the_other(reconcile: Cli) -> None:
    reconcile.manifest("good")
    reconcile.manifest("bad")
    reconcile("apply", "--yes")
    (reconcile.specs / "bad.csv").write_text("version https://git-lfs.github.com/spec/v1\n")

    assert reconcile("plan").status == 1
    assert reconcile("resolve", "good").status == 0
    assert reconcile("status").status == 0


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("command", ["plan", "apply", "wait", "status", "drift", "validate"])
def test_a_name_in_place_of_a_path_is_selected_by_the_suggested_option(reconcile: Cli, command: str) -> None:
    mistaken = reconcile(command, "adder")
    assert mistaken.status == 64
    assert mistaken.err == (
        "Error: adder: no such file or directory; pass a manifest, or a directory with manifests; to select a model by"
        " its name, pass --only adder\n"
    )
    yes = ["--yes"] if command == "apply" else []
    assert reconcile(command, "--only", "adder", *yes).status == 0
    assert "did you mean adder?" in reconcile(command, "--only", "addre", "--exclude", "adder", *yes).err
    assert "--only" not in reconcile(command, "specs/adder.csv/x").err


@pytest.mark.parametrize("command", ["graph", "doctor", "refresh"])
def test_a_command_for_all_models_suggests_no_option_that_it_lacks(reconcile: Cli, command: str) -> None:
    assert reconcile(command, "adder").err == (
        "Error: adder: no such file or directory; pass a manifest, or a directory with manifests\n"
    )


def test_a_folder_without_manifests_is_reported(reconcile: Cli) -> None:
    (reconcile.specs / "reconcile.yaml").unlink()
    for command in ("plan", "apply", "drift"):
        done = reconcile(command, "--target", "embedded")
        assert done.status == 0
        assert done.err.startswith(
            "warning: specs:1:1: no manifest found; run reconcile init to write a target and a first manifest, or pass"
            " the directory that has your manifests\n"
        ), command
    assert "specs:1:1: warning: no manifest found" in reconcile("validate", "--target", "embedded").out
    shutil.rmtree(reconcile.specs)
    assert "warning: .:1:1: no manifest found" in reconcile("plan", "--target", "embedded").err
    assert reconcile("init").status == 0
    assert "no manifest found" not in reconcile("plan", "specs").err


def test_a_project_without_manifests_names_the_schema_in_place_of_init(reconcile: Cli) -> None:
    assert (
        "warning: specs:1:1: no manifest found; add one, see reconcile schema TunedModel, or pass"
        in reconcile("plan").err
    )


def test_paths_are_shown_relative_to_the_working_directory(reconcile: Cli) -> None:
    manifest = reconcile.manifest("adder")
    top, reconcile.folder = reconcile.folder, reconcile.folder / "docs"
    reconcile.folder.mkdir()
    assert "\n../specs/adder.yaml\n" in reconcile("plan", "../specs").out
    assert "Recorded state of ../specs/reconcile.lock.json;" in reconcile("status", "../specs").out
    assert "\n../specs/adder.yaml\n" in reconcile("plan", str(reconcile.specs)).out
    manifest.write_text(manifest.read_text().replace("baseModel", "baseModle"))
    for command in ("validate", "plan"):
        done = reconcile(command, "../specs")
        assert (done.out + done.err).startswith("../specs/adder.yaml:4:1: spec: missing required field")
        assert str(top) not in done.out + done.err
