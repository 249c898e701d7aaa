"""What a command imports and which files it opens."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest
from msgspec import Struct

from support.cli_world import Cli

_TRACED = """
import json, os, sys

opened, traces = [], []
sys.addaudithook(lambda event, arguments: opened.append(arguments[0]) if event == "open" else None)

from reconciler.commands.main import main

for arguments in json.loads(sys.argv[1]):
    opened.clear()
    status = main(arguments)
    files = {os.path.relpath(path) for path in opened if isinstance(path, str) and path.startswith(os.getcwd())}
    traces.append({"status": int(status), "modules": list(sys.modules), "files": list(files)})
print(json.dumps(traces), file=sys.stderr)
"""
"""Runs commands and prints the modules and the files of the project that each opened, as the last line of stderr."""

HTTP = {"httpx", "asyncio", "ssl", "starlette", "uvicorn", "google.auth"}
DRAWING = {"rich", "jinja2"}
PLUGINS = {"importlib.metadata"}
MANIFESTS = {"reconciler.manifests.workspace", "reconciler.manifests.manifest", "csv", "jsonschema"}
YAML = {"yaml"}


class Trace(Struct, frozen=True):
    """How a command ended, what is imported after it, and which files of the project it opened."""

    status: int
    modules: frozenset[str]
    files: frozenset[str]


def traces(reconcile: Cli, *commands: str) -> dict[str, Trace]:
    """Run commands in one process, which imports ever more."""
    process = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", _TRACED, json.dumps([command.split() for command in commands])],
        cwd=reconcile.folder.resolve(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    traced = msgspec.json.decode(process.stderr.splitlines()[-1], type=list[Trace])
    found = dict(zip(commands, traced, strict=True))
    assert {command: trace.status for command, trace in found.items()} == dict.fromkeys(commands, 0), process.stderr
    return found


def trace(reconcile: Cli, command: str) -> Trace:
    return traces(reconcile, command)[command]


@pytest.fixture
def applied(reconcile: Cli) -> Cli:
    """A project with two ready models."""
    reconcile.manifest("adder", metadata=", labels: {team: sums}", more="  sampling: {temperature: 0.5, topK: 3}\n")
    reconcile.manifest("words", metadata=", labels: {team: texts}")
    assert reconcile("apply", "--yes").status == 0
    return reconcile


@pytest.mark.parametrize(
    ("commands", "unneeded"),
    [
        (["--version", "--help"], HTTP | DRAWING | PLUGINS | MANIFESTS | YAML),
        (["schema Target"], HTTP | DRAWING | {"reconciler.manifests.manifest", "jsonschema"}),
        (
            ["resolve", "resolve adder", "resolve adder --format json", "status", "status --report status.md"],
            HTTP | DRAWING | PLUGINS | MANIFESTS,
        ),
        (
            ["validate", "validate --locked", "history adder", "graph", "plan --offline"],
            HTTP | DRAWING | PLUGINS | {"jsonschema"},
        ),
        (["plan"], PLUGINS | DRAWING | {"pygments", "jsonschema", "uvicorn", "google.auth"}),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else ", ".join(value),
)
def test_a_command_imports_what_it_needs(applied: Cli, commands: list[str], unneeded: set[str]) -> None:
    imported = {command: traced.modules & unneeded for command, traced in traces(applied, *commands).items()}
    assert imported == {command: set() for command in commands}


@pytest.mark.parametrize("provider", ["generativelanguage", "vertex"])
def test_without_a_connection_no_provider_imports_its_client(reconcile: Cli, provider: str) -> None:
    target = reconcile.specs / "reconcile.yaml"
    vertex = "  project: my-project\n  location: europe-west4\n  bucket: gs://my-bucket\n"
    text = target.read_text().replace("provider: embedded", f"provider: {provider}")
    target.write_text(text + vertex if provider == "vertex" else text)
    commands = ("resolve", "status", "validate", "plan --offline")
    unneeded = HTTP | DRAWING | PLUGINS | {"jsonschema"}
    imported = {command: traced.modules & unneeded for command, traced in traces(reconcile, *commands).items()}
    assert imported == {command: set() for command in commands}


def test_these_commands_open_the_target_and_the_lockfile_only(applied: Cli) -> None:
    commands = ("resolve", "resolve adder", "status", "status -l team=sums", "status specs/adder.yaml")
    recorded = {"specs/reconcile.yaml", "specs/reconcile.lock.json"}
    opened = {command: traced.files for command, traced in traces(applied, *commands).items()}
    assert opened == {**dict.fromkeys(commands, recorded), "status specs/adder.yaml": recorded | {"specs/adder.yaml"}}


def test_files_on_the_command_line_select_what_status_shows(applied: Cli) -> None:
    shown = applied("status", "specs/adder.yaml").out
    assert "adder" in shown
    assert "words" not in shown


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


def test_a_plugin_is_looked_up_for_a_provider_that_is_not_built_in(reconcile: Cli) -> None:
    target = reconcile.specs / "reconcile.yaml"
    target.write_text(target.read_text().replace("provider: embedded", "provider: elsewhere"))
    assert 'provider "elsewhere" is not installed' in reconcile("validate").out
    assert trace(reconcile, "resolve").modules >= PLUGINS


def test_the_files_of_a_project_are_seen(applied: Cli) -> None:
    assert {"specs/adder.yaml", "specs/adder.csv"} <= trace(applied, "validate").files
