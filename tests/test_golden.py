"""Every face of one rich world, held to files that people review.

``python -m support.golden_world`` in the folder ``tests`` writes them anew.
"""

from __future__ import annotations

import difflib

import pytest

from support.cases import each_row
from support.golden_world import GOLDEN, faces


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    return faces()


def test_the_golden_files_are_those_of_the_world(shown: dict[str, str]) -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(shown)


@each_row("file", sorted(path.name for path in GOLDEN.iterdir()))
def test_a_face_is_what_was_reviewed(shown: dict[str, str], file: str) -> None:
    reviewed = (GOLDEN / file).read_text(encoding="utf-8")
    changes = difflib.unified_diff(reviewed.splitlines(), shown[file].splitlines(), "reviewed", "now", lineterm="", n=1)
    assert "\n".join(changes) == ""
