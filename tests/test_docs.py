"""The pages say what is: references are as generated, and console examples show what the commands print."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import random
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from reconciler.commands.main import main
from reconciler.domain.drift import DriftClass
from reconciler.emulator.app import create_app
from reconciler.environment import Environment
from reconciler.manifests.schema_validation import explain
from reconciler.manifests.yaml_parser import parse
from support.cases import each_row
from support.cli_world import Clock

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LEFT_OUT = "…"
KINDS = {"Target", "TunedModel"}


@cache
def generated_pages() -> dict[Path, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.pages())


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def examples(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def agrees(shown: str, real: str) -> bool:
    """Whether the output is as shown; a line of three dots stands for any number of lines."""
    parts = ("(?:.*\n)*" if line == LEFT_OUT else f"{re.escape(line)}\n" for line in shown.splitlines())
    return re.fullmatch("".join(parts), real) is not None


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path)


def copy_project(folder: Path) -> Path:
    ignored = shutil.ignore_patterns(".reconcile", "*.lock.json")
    shutil.copytree(ROOT / "specs", folder / "specs", ignore=ignored)
    return folder


def run(command: str, folder: Path, clock: Clock) -> str:
    """What ``reconcile …`` prints on both streams, with a clock that only sleeping moves."""
    name, *arguments = shlex.split(command)
    assert name == "reconcile"
    terminal = io.BytesIO()
    stream = io.TextIOWrapper(terminal, encoding="utf-8", write_through=True)
    environment = Environment(
        cwd=folder,
        environ={},
        stdin=io.BytesIO(),
        clock=clock,
        sleeper=clock.sleep,
        rng=random.Random(7),  # noqa: S311 - reproducible, and no secret
    )
    with redirect_stdout(stream), redirect_stderr(stream):
        main(arguments, environment)
    return terminal.getvalue().decode()


def test_references_are_as_generated() -> None:
    stale = [page.name for page, text in generated_pages().items() if page.read_text(encoding="utf-8") != text]
    assert not stale, f"run python docs/generate.py: {stale}"


def test_the_references_are_there() -> None:
    pages = {page.name for page in generated_pages()}
    assert pages > {"README.md", "commands.md", "drift.md", "manifests.md", "plans.md", "doctor.schema.json"}


def test_every_console_example_of_the_readme_is_real(project: Path) -> None:
    clock = Clock()
    told = [example for block in blocks(README, "console") for example in examples(block)]
    assert told
    for command, shown in told:
        if command.startswith("cat "):
            (project / command.removeprefix("cat ")).write_text(shown)
        else:
            real = run(command, project, clock)
            assert agrees(shown, real), f"$ {command}\n{real}"


def test_the_readme_shows_the_manifest_of_the_specs() -> None:
    shown = next(block for block in blocks(README, "yaml") if "kind: TunedModel" in block)
    assert shown == (ROOT / "specs" / "number-generator.yaml").read_text(encoding="utf-8")


def whole_documents(page: Path) -> list[tuple[dict[str, Any], str]]:
    """The targets and manifests that a page shows, each with its text."""
    shown = [(yaml.safe_load(block), block) for block in blocks(page.read_text(encoding="utf-8"), "yaml")]
    return [(value, text) for value, text in shown if isinstance(value, dict) and value.get("kind") in KINDS]


def test_yaml_examples_that_are_whole_documents_are_valid(tmp_path: Path) -> None:
    for page in filter(whole_documents, PAGES):
        project = copy_project(tmp_path / page.name)
        targets = ["default"]
        for document, text in whole_documents(page):
            name = document["metadata"]["name"]
            if document["kind"] == "Target":
                targets.append(name)
                name = "reconcile" if name == "default" else f"reconcile.{name}"
                if document["spec"]["provider"] == "local" or (name, document["spec"]["provider"]) == (
                    "reconcile",
                    "vertex",
                ):  # the other manifests have base models or hyperparameters that are not for it
                    for other in (project / "specs").glob("*.yaml"):
                        other.unlink()
            (project / "specs" / f"{name}.yaml").write_text(text)
            if document["spec"].get("method") == "preference":
                for data in blocks(page.read_text(encoding="utf-8"), "jsonl"):  # a page may show its data
                    (project / "specs" / document["spec"]["dataset"]["path"]).write_text(data)
        for target in targets:
            said = run(f"reconcile validate specs --target {target}", project, Clock())
            assert re.search(r"^\d+ manifests? (is|are) valid", said, re.MULTILINE), f"{page.name}: {said}"


def test_yaml_examples_that_are_parts_of_documents_fit_the_schema() -> None:
    problems = []
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), "yaml"):
            (document,) = parse(block.encode(), page.name).documents or (None,)
            if document and isinstance(document.value, dict) and document.value.keys() == {"spec"}:
                kind = "Target" if "provider" in document.value["spec"] else "TunedModel"
                problems += [f"{page.name}: {one}" for one in explain(document, kind) if one.path.startswith("spec.")]
    assert [problem for problem in problems if "missing required field" not in problem] == []


@each_row(
    ("shown", "real", "agreed"),
    [("a\n", "a\n", True), ("a\n…\n", "a\nb\nc\n", True), ("…\nc\n", "c\n", True), ("a\n", "a\nb\n", False)],
)
def test_how_examples_are_compared(*, shown: str, real: str, agreed: bool) -> None:
    assert agrees(shown, real) is agreed


def test_the_page_about_drift_has_every_class() -> None:
    page = (ROOT / "docs" / "drift.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| .+ \| .+ \|$", page, re.MULTILINE)
    assert rows == [(str(kind), "2" if kind.severity == "drift" else "0") for kind in DriftClass]


def test_the_help_of_drift_names_every_class_that_it_accepts() -> None:
    text = str(generated_pages()[ROOT / "docs" / "commands.md"])
    (row,) = re.findall(r"^\| `--fail-on .*$", text, re.MULTILINE)
    assert [kind for kind in DriftClass if kind not in row] == [DriftClass.IN_SYNC]


def test_the_example_on_the_page_about_drift_is_real(project: Path) -> None:
    clock = Clock()
    run("reconcile apply specs --yes", project, clock)
    clock.now = clock.now.replace(hour=13, minute=0, second=0, microsecond=0)
    (key,) = re.findall(r"number-generator-\w{8}", run("reconcile resolve number-generator specs", project, clock))
    asyncio.run(rename(project, clock, f"/v1beta3/tunedModels/{key}"))
    page = (ROOT / "docs" / "drift.md").read_text(encoding="utf-8")
    ((command, shown),) = examples(blocks(page, "console")[0])
    real = run(command, project, clock)
    assert real.endswith(shown), real  # after the warnings about the input


async def rename(project: Path, clock: Clock, path: str) -> None:
    """What somebody else does to a model."""
    store = project / "specs" / ".reconcile" / "default.sqlite3"
    app = create_app(store=store, clock=clock, random=random.Random(7))  # noqa: S311 - no secret
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://embedded.localhost") as http:
        fields = {"displayName": "not mine"}
        answer = await http.patch(path, params={"updateMask": "displayName"}, json=fields)
    assert answer.is_success, answer.text
