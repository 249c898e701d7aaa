"""What a command imports and which files it opens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
import yaml
from msgspec import Struct

from support.cli_world import Cli, Snapshot
from support.render_values import held_to

_TRACED = """
import json, os, sys

opened, traces = [], []
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)

from reconciler.commands.main import main

for folder, *arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    opened.clear()
    status = main(arguments)
    files = {os.path.relpath(path) for path in opened if isinstance(path, str) and path.startswith(os.getcwd())}
    traces.append({"status": int(status), "modules": list(sys.modules), "files": list(files)})
print(json.dumps(traces), file=sys.stderr)
"""
"""Runs commands, each in a folder. The last line of stderr has the modules and the files that each opened there."""

HTTP = {"httpx", "asyncio", "ssl", "starlette", "uvicorn", "google.auth"}
DRAWING = {"rich", "jinja2"}
PLUGINS = {"importlib.metadata"}
EXTRAS = {"huggingface_hub", "pyarrow"}
MANIFESTS = {"reconciler.manifests.workspace", "reconciler.manifests.manifest", "csv", "jsonschema"}
YAML = {"yaml"}
PROCESSES = {"reconciler.manifests.git", "subprocess"}
RECORDS = {"reconciler.domain.lock", "reconciler.environment", "reconciler.state.checkout", "logging"}
MONITORING = {"reconciler.commands._monitoring", "apprise"}
TARGETS = {"reconciler.reports.documents.targets"}
PLANNING = {"reconciler.planning.events", "reconciler.planning.prune", "reconciler.planning.stages"}


class Trace(Struct, frozen=True):
    """How a command ended, what is imported after it, and which files of the project it opened."""

    status: int
    modules: frozenset[str]
    files: frozenset[str]


def run_traced(projects: Mapping[str, Cli], commands: Iterable[str]) -> dict[str, Trace]:
    """Run commands such as ``gl: validate`` in one process, which imports ever more, each in the project it names."""
    calls = [
        [str(projects[project].folder.resolve()), *arguments.split()]
        for project, arguments in (command.split(": ") for command in commands)
    ]
    process = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", _TRACED, json.dumps(calls)], capture_output=True, text=True, timeout=60, check=True
    )
    *_, last = process.stderr.splitlines()
    found = dict(zip(commands, msgspec.json.decode(last, type=list[Trace]), strict=True))
    failed = [command for command, trace in found.items() if trace.status]
    assert failed == [], process.stderr.removesuffix(f"{last}\n")
    return found


RECORDED = tuple(
    f"applied: {command}"
    for command in (
        "resolve",
        "resolve adder",
        "list",
        "list adder -o name",
        "status",
        "status -l team=sums",
        "status specs/adder.yaml",
    )
)
WITH_RUN = ("applied: resolve adder --format json", "applied: status --report status.md")
OFFLINE = (
    *(f"applied: {command}" for command in ("validate", "validate --locked", "graph")),
    *(
        f"{project}: {command}"
        for project in ("gl", "vertex")
        for command in ("resolve", "status", "validate", "plan --offline")
    ),
    "applied: plan --offline",
)
UNNEEDED = {
    **dict.fromkeys(
        ("applied: --version", "applied: version", "applied: --help", "applied: help"),
        HTTP | DRAWING | PLUGINS | MANIFESTS | YAML | PROCESSES | RECORDS | MONITORING | TARGETS,
    ),
    **dict.fromkeys(RECORDED, HTTP | DRAWING | PLUGINS | MANIFESTS | PROCESSES | MONITORING | TARGETS | PLANNING),
    **dict.fromkeys(WITH_RUN, HTTP | DRAWING | PLUGINS | MANIFESTS | PROCESSES | MONITORING),
    **dict.fromkeys(OFFLINE, HTTP | DRAWING | PLUGINS | EXTRAS | PROCESSES | MONITORING | {"jsonschema"}),
    "applied: history adder": HTTP | DRAWING | PLUGINS | EXTRAS | MONITORING | {"jsonschema"},
    "applied: plan": PLUGINS | EXTRAS | DRAWING | MONITORING | {"pygments", "jsonschema", "uvicorn", "google.auth"},
}
"""What each command must not import, in the order in which one process runs them."""
PLUGIN = "elsewhere: resolve"


@pytest.fixture(scope="module")
def after_apply(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    reconcile = Cli(tmp_path_factory.mktemp("applied"))
    reconcile.manifest("adder", metadata=", labels: {team: sums}", more="  sampling: {temperature: 0.5, topK: 3}\n")
    reconcile.manifest("words", metadata=", labels: {team: texts}")
    assert reconcile("apply", "--yes").status == 0
    return reconcile.snapshot()


@pytest.fixture
def applied(reconcile: Cli, after_apply: Snapshot) -> Cli:
    """A project with two ready models."""
    reconcile.resume(after_apply)
    return reconcile


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, after_apply: Snapshot) -> dict[str, Trace]:
    """The traces of all these commands, and of one whose provider is not built in."""
    vertex = "  project: my-project\n  location: europe-west4\n  bucket: gs://my-bucket\n"
    providers = {"applied": "embedded", "gl": "generativelanguage", "vertex": "vertex", "elsewhere": "elsewhere"}
    projects = {name: Cli(tmp_path_factory.mktemp(name)) for name in providers}
    projects["applied"].resume(after_apply)
    for name, provider in providers.items():
        target = projects[name].specs / "reconcile.yaml"
        text = target.read_text().replace("provider: embedded", f"provider: {provider}")
        target.write_text(text + vertex if name == "vertex" else text)
    return run_traced(projects, [*UNNEEDED, PLUGIN])


def test_a_command_imports_what_it_needs(traced: dict[str, Trace]) -> None:
    imported = {command: traced[command].modules & unneeded for command, unneeded in UNNEEDED.items()}
    assert imported == {command: set() for command in UNNEEDED}


def test_a_schema_imports_plugins_and_reads_no_manifest(reconcile: Cli) -> None:
    """In a process of its own: other commands import no plugins, and read manifests."""
    (trace,) = run_traced({"empty": reconcile}, ["empty: schema Target"]).values()
    assert trace.modules & (HTTP | DRAWING | {"reconciler.manifests.manifest", "jsonschema"}) == set()


def test_these_commands_open_the_target_and_the_lockfile_only(traced: dict[str, Trace]) -> None:
    recorded = {"specs/reconcile.yaml", "specs/reconcile.lock.json"}
    opened = {command: traced[command].files for command in RECORDED}
    selected = {"applied: status specs/adder.yaml": recorded | {"specs/adder.yaml"}}
    assert opened == dict.fromkeys(RECORDED, recorded) | selected
    assert {"specs/adder.yaml", "specs/adder.csv"} <= traced["applied: validate"].files, (
        "the files of a project are traced"
    )


def test_a_plugin_is_looked_up_for_a_provider_that_is_not_built_in(reconcile: Cli, traced: dict[str, Trace]) -> None:
    assert traced[PLUGIN].modules >= PLUGINS
    target = reconcile.specs / "reconcile.yaml"
    target.write_text(target.read_text().replace("provider: embedded", "provider: elsewhere"))
    assert 'provider "elsewhere" is not installed' in reconcile("validate").out


def test_files_on_the_command_line_select_what_status_shows(applied: Cli) -> None:
    shown = applied("status", "specs/adder.yaml").out
    assert "adder" in shown
    assert "words" not in shown


def test_watching_shows_each_state_until_it_is_interrupted(applied: Cli) -> None:
    recorded = applied.lock_file.read_text()
    changed = recorded.replace('"state": "ACTIVE"', '"state": "MISSING"')
    states = iter([recorded, changed, changed, "<<<<<<< HEAD", recorded])

    def change(_now: datetime) -> None:
        try:
            applied.lock_file.write_text(next(states))
        except StopIteration:
            raise KeyboardInterrupt from None

    applied.clock.on_move = change
    watched = applied("status", "--watch", "--interval", "30s")
    assert watched.status == 0
    assert watched.err == "Updated every 30 s. Press Ctrl-C to stop.\n"
    first, second, failed, last = watched.out.split("\n\n")
    assert (first, last) == (applied("status").out.rstrip("\n"), first + "\n")
    assert first != second
    assert "MISSING" in second
    assert failed.startswith("Error: specs/reconcile.lock.json:1:1: ")
    assert applied.clock.slept == [30.0] * 6
    applied.lock_file.write_text("{")
    assert applied("status", "--watch").status == 1, "an error at the beginning ends it"
    assert applied("status", "--watch", "--format", "json").status == 64
    assert "expected at least 1s" in applied("status", "--watch", "--interval", "0").err


def test_several_names_have_one_result(applied: Cli) -> None:
    assert applied("resolve", "words", "adder").out.split()[::2] == ["words", "adder"]
    shown = applied("history", "adder", "words")
    assert shown.status == 0
    assert shown.out.endswith("\n\n2 models: 2 succeeded.\n")
    document = held_to("combined", applied("history", "adder", "words", "--format", "json").document)
    assert [(result["model"], result["report"]["name"]) for result in document["reports"]] == [
        ("adder", "adder"),
        ("words", "words"),
    ]
    applied.environ["GITHUB_ACTIONS"] = "true"
    mixed = applied("rollback", "adder", "bogus", "--reason", "worse")
    assert mixed.status == 1
    assert "there is no generation to roll back to from adder-" in mixed.out
    assert "bogus not found: no manifest and no model in" in mixed.out
    assert mixed.out.endswith("2 models: 2 failed (adder, bogus).\n")
    assert applied("cancel", "adder", "words", "--yes").status == 0
    for command in (
        "promote adder words --to x",
        "cancel adder words --generation x",
        "check adder words --generation x",
    ):
        refused = applied(*command.split())
        assert (refused.status, " is about one model, not adder, words; pass one NAME with -" in refused.err) == (
            64,
            True,
        )
    assert "adder has no checks; add some under spec.checks" in applied("check", "adder", "words").err


PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"


def test_the_commands_of_other_tools_lead_to_ours(applied: Cli) -> None:
    rows = re.findall(
        r"^\| `(terraform|kubectl|argocd) ([^`]+)` \| `reconcile ([^`]+)` \|",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert Counter(tool for tool, _, _ in rows) == {"terraform": 10, "kubectl": 10, "argocd": 10}
    for _, known, ours in rows:
        assert applied("help", ours.split()[0]).status == 0
        if known != ours:
            answer = applied(*known.split())
            assert answer.status == 0 or f"`reconcile {ours}" in answer.err, (known, answer.err)
            assert "run `reconcile" not in answer.err or ours.split()[0] not in {"destroy", "rollback"}, known


def test_list_answers_from_the_lockfile(applied: Cli) -> None:
    rows = [line.split() for line in applied("list").out.splitlines()]
    assert rows[0] == ["NAME", "STATE", "SERVING", "SINCE"]
    assert [row[:2] for row in rows[1:]] == [["adder", "ACTIVE"], ["words", "ACTIVE"]]
    assert applied("get", "words", "adder", "-o", "name").out == "adder\nwords\n"
    assert applied("list", "-l", "team=texts", "-o", "name").out == "words\n"
    wide = applied("list", "adder", "-o", "wide").out
    assert wide.splitlines()[0].split()[4:] == ["REMOTE", "GENERATIONS", "PROTECTED", "MANIFEST"]
    assert applied("resolve", "adder").out.strip() in wide
    document = applied("list", "adder", "-o", "json").document
    same = applied("status", "specs/adder.yaml", "--format", "json").document
    assert {**document, "run": {}} == {**same, "run": {}}
    assert {**yaml.safe_load(applied("list", "adder", "-o", "yaml").out), "run": document["run"]} == document
    unknown = applied("list", "addr", "-o", "json")
    assert (unknown.status, unknown.document["kind"]) == (1, "Error")
    assert "did you mean adder?" in unknown.err


def test_the_lockfile_answers_with_what_was_last_applied(applied: Cli) -> None:
    before = applied("resolve", "adder", "--format", "json").document["models"]
    assert before[0]["sampling"] == {"temperature": 0.5, "topK": 3}
    applied.manifest("adder", more="  sampling: {temperature: 0.7}\n")
    assert applied("resolve", "adder", "--format", "json").document["models"] == before
    applied("apply", "--yes")
    assert applied("resolve", "adder", "--format", "json").document["models"][0]["sampling"] == {"temperature": 0.7}
    applied.manifest("adder")
    applied("apply", "--yes")
    assert "sampling" not in applied("resolve", "adder", "--format", "json").document["models"][0]
    assert "labels" not in applied.lock["adder"]


def test_neither_a_broken_nor_a_removed_manifest_hides_a_serving_generation(applied: Cli) -> None:
    names = applied("resolve").out
    (applied.specs / "adder.yaml").unlink()
    (applied.specs / "words.yaml").write_text("kind: [")
    assert applied("resolve").out == names
    assert applied("resolve", "adder").status == 0
    assert {model["name"] for model in applied("status", "--format", "json").document["models"]} == {"adder", "words"}


def test_an_unknown_name_is_compared_with_the_manifests_too(applied: Cli) -> None:
    applied.manifest("later")
    assert (
        "later has no serving generation: it was never applied; run reconcile apply" in applied("resolve", "later").err
    )
    assert "has this name; did you mean later?" in applied("resolve", "latr").err


def test_status_selects_by_the_recorded_labels(applied: Cli) -> None:
    applied.manifest("words")  # this label is not applied
    (model,) = applied("status", "-l", "team=texts", "--format", "json").document["models"]
    assert model["name"] == "words"
    refused = applied("status", "-l", "team=none")
    assert refused.status == 64
    assert (
        "no models match in specs/reconcile.lock.json; check the paths, --label, --only and --exclude;"
        " reconcile apply records the labels" in refused.err
    )


def test_status_refuses_a_path_without_a_manifest(applied: Cli) -> None:
    (applied.specs / "empty").mkdir()
    assert "no models match" in applied("status", "specs/empty").err
    (applied.specs / "empty" / "broken.yaml").write_text("kind: [")
    refused = applied("status", "specs/empty")
    assert refused.status == 1
    assert "specs/empty/broken.yaml" in refused.err


def test_status_reads_a_manifest_from_standard_input(applied: Cli) -> None:
    manifest = (applied.specs / "words.yaml").read_bytes()
    shown = applied("status", "-", "--target", "embedded", stdin=manifest)
    assert shown.status == 0, shown.err
