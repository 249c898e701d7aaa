"""Every example works as its page shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.cli_world import Clock
from support.console import agrees, blocks, examples, run

FOLDER = Path(__file__).parents[1] / "examples"
PAGES = sorted(FOLDER.glob("*/README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_commands_of_an_example_print_what_its_page_shows(page: Path, tmp_path: Path) -> None:
    root = tmp_path / page.parent.name
    shutil.copytree(page.parent, root, ignore=shutil.ignore_patterns(".reconcile", "*.lock.json"))
    clock = Clock()
    commands = [example for block in blocks(page.read_text(encoding="utf-8"), "console") for example in examples(block)]
    assert commands
    for command, shown in commands:
        real = run(command, root, clock)
        assert agrees(shown, real), f"$ {command}\n{real}"


def test_examples_are_numbered_and_listed() -> None:
    names = [page.parent.name for page in PAGES]
    assert [name[:2] for name in names] == [f"{number:02}" for number in range(1, len(names) + 1)]
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"]({name}/)" not in listed] == []
