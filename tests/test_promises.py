"""docs/security.md and docs/reliability.md name a test for each promise; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("security.md", "reliability.md")}
NAMED = {page: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text) for page, text in PAGES.items()}


def test_each_named_test_exists() -> None:
    named = {test for tests in NAMED.values() for test in tests}
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file, _ in named}
    assert {(file, test) for file, test in named if f"\ndef {test}(" not in texts[file]} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_promise_names_a_test(page: str) -> None:
    assert len(NAMED[page]) == PAGES[page].count("`tests/")
    assert len(NAMED[page]) > 20


def test_every_row_of_the_promises_names_a_test() -> None:
    tables = re.findall(r"\| promise \| test \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGES["reliability.md"])
    assert len(tables) == 3
    for row in "".join(tables).splitlines():
        assert re.fullmatch(r"\| .+ \| (`tests/[\w/]+\.py::\w+`(, )?)+ \|", row), row


def test_the_last_full_run_of_the_sweep_lost_nothing() -> None:
    block = PAGES["reliability.md"].partition("<!-- last full run -->")[2].partition("<!-- end -->")[0]
    injected, _, outcome = block.partition("| result | number |")
    assert "not completed" not in block
    assert re.search(r"\| storms \| [3-9]\d\d \|", injected), "at least 300 seeds"
    assert re.findall(r"\| (\w+) \| 0 \|", outcome) == ["duplicates", "lost", "forgotten", "wedged", "broken"]
