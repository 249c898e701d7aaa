"""The public API: the example of docs/python-api.md runs, and importing the package is cheap."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reconciler
from support.console import blocks
from support.render_values import held_to

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
EXAMPLE = "examples/01-first-model"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a copy of the example."""
    ignored = shutil.ignore_patterns(".reconcile", "*.lock.json")
    shutil.copytree(ROOT / EXAMPLE, tmp_path / EXAMPLE, ignore=ignored)
    monkeypatch.chdir(tmp_path)
    return tmp_path / EXAMPLE


@pytest.mark.usefixtures("folder")
def test_the_example_of_the_page_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    (script,), (shown,) = blocks(PAGE, "python"), blocks(PAGE, "text")
    exec(compile(script, "docs/python-api.md", "exec"), {})  # noqa: S102 - the page of this repository
    printed = capsys.readouterr().out
    assert re.sub(r"(?<=capital-finder-)\w+", "…", printed) == shown


def test_a_plan_is_applied_once(folder: Path) -> None:
    plan = reconciler.plan(reconciler.load(folder))
    assert (plan.changes, [str(action.kind) for action in plan.actions]) == (True, ["create"])
    result = reconciler.apply(plan)
    assert result.succeeded
    assert [model.key for model in result.report.models] == [action.key for action in plan.report.actions]
    held_to("plan", json.loads(plan.to_json()))
    held_to("result", json.loads(result.to_json()))
    with pytest.raises(reconciler.StalePlan, match="the plan is stale, and nothing was changed"):
        reconciler.apply(plan)
    assert not reconciler.plan(reconciler.load(folder)).changes


def test_an_error_contains_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hush-hush-0123456789"
    monkeypatch.setenv("SERVICE_TOKEN", secret)
    with pytest.raises(reconciler.ReconcileError, match=r"\[secret\]: no such file or directory") as raised:
        reconciler.load(folder.parent / secret)
    assert secret not in str(raised.value) + repr(raised.value)
    manifest = folder / "capital-finder.yaml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("epochCount: 3", f'epochCount: "{secret}"'), encoding="utf-8")
    with pytest.raises(reconciler.InvalidInput) as invalid:
        reconciler.load(folder)
    assert invalid.value.problems
    assert "[secret]" in str(invalid.value)
    assert secret not in "".join([str(invalid.value), repr(invalid.value), *map(str, invalid.value.problems)])
    assert invalid.value.__cause__ is None


def test_invalid_manifests_are_reported_with_every_problem(folder: Path) -> None:
    manifest = folder / "capital-finder.yaml"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace("epochCount: 3", "epochCount: 0"), encoding="utf-8"
    )
    with pytest.raises(reconciler.InvalidInput) as raised:
        reconciler.load(folder)
    assert [problem.path for problem in raised.value.problems] == ["spec.hyperparameters.epochCount"]
    assert issubclass(reconciler.InvalidInput, reconciler.ReconcileError)


def test_arguments_of_a_wrong_type_start_nothing(folder: Path) -> None:
    project = reconciler.load(folder)
    with pytest.raises(TypeError, match=r"timeout must be a datetime\.timedelta or None, not str"):
        reconciler.apply(reconciler.plan(project), timeout="1h")  # type: ignore[arg-type] # what is tested
    with pytest.raises(TypeError, match="retry and replace are collections of names, not one string"):
        reconciler.plan(project, retry="capital-finder")
    assert reconciler.plan(project).changes


def test_a_running_event_loop_is_one_error_with_a_remedy_that_works(folder: Path) -> None:
    project = reconciler.load(folder)

    async def in_a_loop() -> bool:
        with pytest.raises(reconciler.ReconcileError, match="an event loop is running in this thread"):
            reconciler.plan(project)
        return (await asyncio.to_thread(reconciler.plan, project)).changes

    assert asyncio.run(in_a_loop())


def test_a_model_without_a_serving_generation_is_not_resolved(folder: Path) -> None:
    with pytest.raises(reconciler.ReconcileError, match="capital-finder has no serving generation: it was never"):
        reconciler.resolve(reconciler.load(folder), "capital-finder")


def test_the_page_has_every_public_name() -> None:
    names = {name for name in reconciler.__all__ if not name.startswith("__")}
    assert names <= set(re.findall(r"\b\w+\b", " ".join(re.findall(r"^\| (`.+?`) \|", PAGE, re.MULTILINE))))
    assert all(getattr(reconciler, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        reconciler.nothing  # noqa: B018 - the attribute is what is tested


def test_the_package_imports_nothing_until_a_name_is_used() -> None:
    script = "import sys, reconciler; print([name for name in sys.modules if name.startswith('reconciler.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert done.stdout == "[]\n"
