"""The commands of the examples, and of the page on troubleshooting, print what their pages show."""

from __future__ import annotations

import csv
import re
import shutil
from itertools import pairwise
from pathlib import Path

from support.cases import each_row
from support.console import Console, agrees, blocks, examples
from support.training import WORDS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
PAGES = sorted(FOLDER.glob("*/README.md"))
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (.+)\n((?:(?!#).*\n)*)", TROUBLESHOOTING, re.MULTILINE))


def open_example(name: str, folder: Path) -> Console:
    """Return a prompt in a copy of an example."""
    copy = folder / name
    shutil.copytree(FOLDER / name, copy, ignore=shutil.ignore_patterns(".reconcile", "*.lock.json"))
    return Console(copy)


@each_row("page", PAGES, ids=lambda page: page.parent.name)
def test_the_commands_of_an_example_print_what_its_page_shows(page: Path, tmp_path: Path) -> None:
    console = open_example(page.parent.name, tmp_path)
    commands = [example for block in blocks(page.read_text(encoding="utf-8"), "console") for example in examples(block)]
    assert commands
    for command, shown in commands:
        real = console.run(command)
        assert agrees(shown, real), f"$ {command}\n{real}"


@each_row("title", SECTIONS)
def test_every_error_on_the_page_about_troubleshooting_is_real(title: str, tmp_path: Path) -> None:
    """Each section starts from an example; what leads to the error is a comment that readers do not see."""
    preparation = re.search(r"<!-- in (\S+)\n(.*?)-->", SECTIONS[title], re.DOTALL)
    assert preparation is not None
    console = open_example(preparation[1], tmp_path)
    for command in preparation[2].splitlines():
        console.run(command)
    ((command, shown),) = examples(blocks(SECTIONS[title], "console")[0])
    real = console.run(command)
    assert agrees(shown, real), f"$ {command}\n{real}"


def test_every_error_on_the_page_about_troubleshooting_has_a_cause_and_a_remedy() -> None:
    assert len(SECTIONS) >= 15
    assert [title for title, text in SECTIONS.items() if "**Cause:**" not in text or "**Remedy:**" not in text] == []


def test_examples_are_numbered_and_listed() -> None:
    names = [page.parent.name for page in PAGES]
    assert [name[:2] for name in names] == [f"{number:02}" for number in range(1, len(names) + 1)]
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"]({name}/)" not in listed] == []


def test_the_unseen_numbers_of_example_12_follow_the_rule_of_its_page() -> None:
    folder = FOLDER / "12-train-here"
    data, unseen = (pairs(folder / name) for name in ("next-number.csv", "unseen-numbers.csv"))
    assert data == pairs(ROOT / "specs" / "datasets" / "next-number.csv")
    ways = [[str(number) for number in range(1, 11)], WORDS]
    first = [[pair for pair in pairwise(way) if pair[0] not in dict(data)][:5] for way in ways]
    assert unseen == [*first[0], *first[1]]


def pairs(file: Path) -> list[tuple[str, str]]:
    """Return the inputs and outputs of a CSV file."""
    with file.open(encoding="utf-8", newline="") as rows:
        return [(row["text_input"], row["output"]) for row in csv.DictReader(rows)]
