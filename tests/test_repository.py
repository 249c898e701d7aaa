"""The repository stands alone and keeps its promises about itself."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from reconciler.commands.main import cli
from support.cases import each_row

ROOT = Path(__file__).parents[1]
IGNORED = {".git", ".venv", "venv", "build", "dist", "__pycache__", ".reconcile", ".hypothesis"}
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

FORBIDDEN = {
    # The expressions begin with letters, for which the library searches quickly.
    "a machine's path": re.compile(r"/(?<![\w.$}]/)(?:work|home|root|Users|opt)/\w|/tmp/\w"),
    "the host of a package registry": re.compile(
        r"(?:pypi|pythonhosted|npmjs|crates|rubygems)\.(?:org|io|com)\b|deb\.debian\.org|proxy\.golang"
    ),
    "the marker of unfinished work": re.compile(r"[TFX](?<!\w\w)(?:ODO|IXME|XX)\b"),
}


@cache
def own_files() -> list[Path]:
    """Every file of the repository that is not made by tools; an environment in it is not looked into."""
    own: list[Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not is_made_by_tools(name)]
        own += (Path(folder, name) for name in files if name not in IGNORED)  # a worktree has .git as a file
    return sorted(path for path in own if path.name not in {Path(__file__).name, "reconcile.lock.json"})


def is_made_by_tools(folder: str) -> bool:
    return folder in IGNORED or folder.endswith(("_cache", ".egg-info"))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower() for requirement in requirements}


def test_no_file_mentions_what_is_not_for_users() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {reason}: {line.strip()[:100]}"
        for path in own_files()
        if (text := path.read_bytes().decode("utf-8", "replace"))
        for reason, pattern in FORBIDDEN.items()
        if pattern.search(text)
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


@each_row("group", ["dependencies", "test", "dev"])
def test_every_dependency_is_explained(group: str) -> None:
    page = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| ([\w., -]+) \| .+ \|$", page, re.MULTILINE)
    explained = {name for cell in cells for name in cell.split(", ")}
    extras = PROJECT["optional-dependencies"]
    declared = names(PROJECT["dependencies"] if group == "dependencies" else extras[group])
    assert declared - {PROJECT["name"]} <= explained


def test_every_run_time_dependency_has_a_lower_bound_alone() -> None:
    bound = re.compile(r"[a-z0-9.-]+>=[0-9.]+(; python_version < .*)?")
    assert all(map(bound.fullmatch, PROJECT["dependencies"]))


def test_every_decision_says_why_what_and_with_what_consequences() -> None:
    assert DECISIONS
    for number, page in enumerate(DECISIONS, start=1):
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {number:04}: "), page.name
        assert page.name.startswith(f"{number:04}-"), page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], page.name


def test_the_quick_starts_are_a_line_each() -> None:
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    main_job, tests, training = lines
    assert main_job.endswith(" && .venv/bin/reconcile apply specs --yes")
    assert "pytest" in tests
    assert "'.[local]' && .venv/bin/reconcile apply examples/12-train-here/" in training


def test_the_readme_has_every_command_and_no_other() -> None:
    section = README.split("\n## Commands\n")[1].split("\n## ")[0].split("| exit status |")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == cli.list_commands(click.Context(cli))


def test_links_between_files_lead_somewhere() -> None:
    broken = []
    for page in own_files():
        if page.suffix != ".md":
            continue
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
        broken += [f"{page.relative_to(ROOT)}: {link}" for link in links if not leads_somewhere(page, link)]
    assert broken == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    file = page.parent / path if path else page
    if not file.exists():
        return False
    return not anchor or anchor in {slug(title) for title in headings(file)}


@cache
def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def slug(title: str) -> str:
    """The anchor that forges make of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_the_gate_can_be_run() -> None:
    gate = ROOT / ".ci" / "run"
    assert gate.stat().st_mode & stat.S_IXUSR
    assert gate.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")


def test_the_hooks_run_what_the_gate_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = {hook["entry"].split()[0] for repo in config["repos"] for hook in repo["hooks"]}
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert entries == {"ruff", "mypy", "lint-imports", "reconcile"}
    assert all(f'"$tools/{entry}"' in gate for entry in entries)


def test_the_changelog_names_versions_and_their_days() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *released = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert first == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", title) for title in released)


@each_row("number", [1, 2, pytest.param(3, id="three"), 4])
def failing_table(number: int) -> None:
    if number == 1:
        pytest.skip("this row only")
    if number == 3:
        with pytest.raises(ValueError, match="never raised"):
            pass
    assert number == 2


def test_every_failing_row_of_a_table_is_reported() -> None:
    with pytest.raises(BaseExceptionGroup, match="2 of 4 rows failed") as caught:
        failing_table()
    assert [error.__notes__ for error in caught.value.exceptions] == [["in the row three"], ["in the row (4,)"]]
