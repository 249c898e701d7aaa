"""Splitting texts with conflict markers in each of git's styles."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import ReconcileError
from reconciler.state.json_decoder import MergeSides, has_conflict_markers, split_sides
from support.cases import each_row

FILE = "specs/reconcile.lock.json"
LINES = st.lists(st.sampled_from([f'  "{letter}": 1,\n' for letter in "abcde"]), max_size=8).map("".join)


def merged(folder: Path, base: str, ours: str, theirs: str, style: str) -> str:
    """Merge three texts with ``git merge-file``."""
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_bytes(text.encode())
    options = [f"--{style}"] if style else []
    done = subprocess.run(  # noqa: S603 - git, on files of the test
        ["git", "merge-file", "-p", *options, "ours", "base", "theirs"],  # noqa: S607 - git of the PATH
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return done.stdout.decode()


BASE, OURS, THEIRS = "{\n  1\n  2\n  3\n}\n", "{\n  1\n  x\n  3\n  o\n}\n", "{\n  1\n  y\n  3\n  t\n}\n"


@each_row("style", ["", "diff3", "zdiff3"])
@each_row("end", ["\n", "\r\n"])
def test_the_sides_of_a_conflict(tmp_path: Path, style: str, end: str) -> None:
    base, ours, theirs = (text.replace("\n", end) for text in (BASE, OURS, THEIRS))
    text = merged(tmp_path, base, ours, theirs, style)
    assert has_conflict_markers(text)
    assert split_sides(text, FILE) == MergeSides(ours, theirs, base if style else None)


def test_merged_lines_are_on_both_sides(tmp_path: Path) -> None:
    far = "".join(f"  {number}\n" for number in range(9))
    text = merged(tmp_path, f"0\n{far}2\n", f"1\n{far}3\n", f"0\n{far}4\n", "")
    assert split_sides(text, FILE) == MergeSides(f"1\n{far}3\n", f"1\n{far}4\n")


def test_sides_can_be_empty_and_labels_are_optional() -> None:
    text = "a\n<<<<<<<\n||||||| \nold\n=======\nnew\n>>>>>>>\nz\n"
    assert split_sides(text, FILE) == MergeSides("a\nz\n", "a\nnew\nz\n", "a\nold\nz\n")


def test_markers_can_be_longer() -> None:
    text = "<<<<<<<<<< HEAD\n<<<<<<< x\n==========\nb\n>>>>>>>>>> other\n"
    assert split_sides(text, FILE) == MergeSides("<<<<<<< x\n", "b\n")


def test_only_line_feeds_end_lines() -> None:
    text = '{"preamble": "\u2028<<<<<<< x\u2028>>>>>>> y"}\n'
    assert not has_conflict_markers(text)
    assert split_sides(text, FILE) == MergeSides(text, text, text)


@given(LINES, LINES)
def test_a_text_without_markers_is_the_same_on_every_side(ours: str, theirs: str) -> None:
    assert not has_conflict_markers(ours)
    assert split_sides(ours, FILE) == MergeSides(ours, ours, ours)
    conflict = f"<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> main\n"
    assert split_sides(conflict, FILE) == MergeSides(ours, theirs)


@each_row(
    ("text", "detail"),
    [
        ("<<<<<<< a\n1\n", "the last conflict has no end marker"),
        ("<<<<<<< a\n1\n=======\n2\n", "the last conflict has no end marker"),
        ("<<<<<<< a\n<<<<<<< b\n", "line 2 has an unexpected marker"),
        ("<<<<<<< a\n=======\n<<<<<<< b\n=======\n>>>>>>> b\n>>>>>>> a\n", "line 3 has an unexpected marker"),
        ("<<<<<<< a\n=======\n=======\n>>>>>>> b\n", "line 3 has an unexpected marker"),
        ("<<<<<<< a\n>>>>>>> b\n", "line 2 has an unexpected marker"),
        ("1\n>>>>>>> b\n", "line 2 has an unexpected marker"),
        ("<<<<<<< a\n=======\n||||||| c\n>>>>>>> b\n", "line 3 has an unexpected marker"),
    ],
)
def test_unpaired_markers_are_an_error(text: str, detail: str) -> None:
    assert has_conflict_markers(text)
    with pytest.raises(ReconcileError) as caught:
        split_sides(text, FILE)
    assert str(caught.value) == (
        f"{FILE}: the conflict markers do not pair up: {detail}; run git checkout --merge {FILE}, then "
        "reconcile refresh"
    )
