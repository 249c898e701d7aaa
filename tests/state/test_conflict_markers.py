"""Conflict markers, in every style in which git writes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import ReconcileError
from reconciler.state.conflict_markers import Sides, has_markers, sides_of

FILE = "specs/reconcile.lock.json"
LINES = st.lists(st.sampled_from([f'  "{letter}": 1,\n' for letter in "abcde"]), max_size=8).map("".join)


def merged(folder: Path, base: str, ours: str, theirs: str, style: str) -> str:
    """What ``git merge-file`` makes of three texts."""
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        (folder / name).write_bytes(text.encode())
    options = [f"--{style}"] if style else []
    done = subprocess.run(  # noqa: S603 - git, on files of the test
        ["git", "merge-file", "-p", *options, "ours", "base", "theirs"],  # noqa: S607 - the git that there is
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return done.stdout.decode()


BASE, OURS, THEIRS = "{\n  1\n  2\n  3\n}\n", "{\n  1\n  x\n  3\n  o\n}\n", "{\n  1\n  y\n  3\n  t\n}\n"


@pytest.mark.parametrize("style", ["", "diff3", "zdiff3"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_sides_of_a_conflict(tmp_path: Path, style: str, end: str) -> None:
    base, ours, theirs = (text.replace("\n", end) for text in (BASE, OURS, THEIRS))
    text = merged(tmp_path, base, ours, theirs, style)
    assert has_markers(text)
    assert sides_of(text, FILE) == Sides(ours, theirs, base if style else None)


def test_what_merged_by_itself_is_on_both_sides(tmp_path: Path) -> None:
    far = "".join(f"  {number}\n" for number in range(9))
    text = merged(tmp_path, f"0\n{far}2\n", f"1\n{far}3\n", f"0\n{far}4\n", "")
    assert sides_of(text, FILE) == Sides(f"1\n{far}3\n", f"1\n{far}4\n")


def test_a_side_may_be_empty_and_labels_may_be_missing() -> None:
    text = "a\n<<<<<<<\n||||||| \nold\n=======\nnew\n>>>>>>>\nz\n"
    assert sides_of(text, FILE) == Sides("a\nz\n", "a\nnew\nz\n", "a\nold\nz\n")


def test_longer_markers_are_markers_too() -> None:
    text = "<<<<<<<<<< HEAD\n<<<<<<< x\n==========\nb\n>>>>>>>>>> other\n"
    assert sides_of(text, FILE) == Sides("<<<<<<< x\n", "b\n")


def test_only_line_feeds_end_lines() -> None:
    text = '{"preamble": "\u2028<<<<<<< x\u2028>>>>>>> y"}\n'
    assert not has_markers(text)
    assert sides_of(text, FILE) == Sides(text, text, text)


@given(LINES, LINES)
def test_a_text_without_markers_is_every_side(one: str, other: str) -> None:
    assert not has_markers(one)
    assert sides_of(one, FILE) == Sides(one, one, one)
    conflict = f"<<<<<<< HEAD\n{one}=======\n{other}>>>>>>> main\n"
    assert sides_of(conflict, FILE) == Sides(one, other)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<<<<<<< a\n1\n", "the last conflict has no end"),
        ("<<<<<<< a\n1\n=======\n2\n", "the last conflict has no end"),
        ("<<<<<<< a\n<<<<<<< b\n", "the one in line 2 belongs to no other"),
        ("<<<<<<< a\n=======\n<<<<<<< b\n=======\n>>>>>>> b\n>>>>>>> a\n", "the one in line 3 belongs to no other"),
        ("<<<<<<< a\n=======\n=======\n>>>>>>> b\n", "the one in line 3 belongs to no other"),
        ("<<<<<<< a\n>>>>>>> b\n", "the one in line 2 belongs to no other"),
        ("1\n>>>>>>> b\n", "the one in line 2 belongs to no other"),
        ("<<<<<<< a\n=======\n||||||| c\n>>>>>>> b\n", "the one in line 3 belongs to no other"),
    ],
)
def test_markers_that_do_not_pair_up_are_refused(text: str, why: str) -> None:
    assert has_markers(text)
    with pytest.raises(ReconcileError) as caught:
        sides_of(text, FILE)
    assert str(caught.value) == (
        f"{FILE} holds conflict markers that do not pair up: {why}; have git write it anew (git checkout --merge"
        f" {FILE}), and run reconcile refresh"
    )
