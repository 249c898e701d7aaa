"""Both sides of a file that waits to be merged, out of git's index."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reconciler.manifests.git import Unmerged, unmerged
from support.git_repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two branches that each wrote another second line, brought together in vain."""
    folder = tmp_path / "repository"
    (folder / "specs").mkdir(parents=True)
    repository = Repository(folder)
    file = folder / "specs" / "x.json"
    for branch, text in (("main", "1\nold\n"), ("theirs", "1\nthéirs\n"), ("ours", "1\nours\n")):
        if branch != "main":
            repository("switch", "--quiet", "--create", branch, "main")
        file.write_bytes(text.encode())
        repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository("merge", "theirs")
    return repository


def test_both_sides_and_their_ancestor(repository: Repository) -> None:
    found = unmerged(repository.folder / "specs" / "x.json", os.environ)
    assert found == Unmerged("1\nold\n", "1\nours\n", "1\nthéirs\n")
    link = repository.folder / "link.json"
    link.symlink_to("specs/x.json")
    assert unmerged(link, os.environ) == found


def test_what_is_merged_has_no_sides(repository: Repository) -> None:
    file = repository.folder / "specs" / "x.json"
    repository("add", "--all")
    assert unmerged(file, os.environ) is None
    assert unmerged(file.with_name("other.json"), os.environ) is None


def test_a_file_that_one_side_deleted_has_one_side(repository: Repository) -> None:
    repository("merge", "--abort")
    (repository.folder / "specs" / "x.json").unlink()
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository("merge", "theirs")
    assert unmerged(repository.folder / "specs" / "x.json", os.environ) is None


def test_a_file_that_both_sides_added_has_no_ancestor(repository: Repository) -> None:
    repository("merge", "--abort")
    for branch in ("one", "other"):
        repository("switch", "--quiet", "--create", branch, "main")
        (repository.folder / "new").write_text(branch)
        repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository("merge", "one")
    assert unmerged(repository.folder / "new", os.environ) == Unmerged(None, "other", "one")


def test_without_git_or_a_repository_there_are_none(repository: Repository, tmp_path: Path) -> None:
    assert unmerged(repository.folder / "specs" / "x.json", {"PATH": ""}) is None
    assert unmerged(tmp_path / "x.json", os.environ) is None


def test_what_is_no_text_is_not_read(repository: Repository) -> None:
    repository("merge", "--abort")
    (repository.folder / "specs" / "x.json").write_bytes(b"\xff")
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository("merge", "theirs")
    assert unmerged(repository.folder / "specs" / "x.json", os.environ) is None
