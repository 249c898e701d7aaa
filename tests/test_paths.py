"""Nothing outside the repository is read or written, wherever links lead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.domain.document import Document
from reconciler.domain.errors import InvalidInput, ReconcileError
from reconciler.manifests.scaffold import init
from reconciler.paths import repository_of
from reconciler.state.document_files import read_document
from reconciler.state.lockfile import LockFile
from support.files_samples import MANIFEST, TARGET, data_file, load_in, messages, sample, write

_SECRET = "https://user:ghp_0123456789@example.com"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a valid root, beside a folder of somebody's secrets and another root."""
    write(tmp_path, {"home/.git-credentials": _SECRET, "home/reconcile.yaml": TARGET, "home/m.yaml": MANIFEST})
    (tmp_path / "repo/.git").mkdir(parents=True)
    sample(tmp_path / "repo/specs")
    return tmp_path / "repo"


@pytest.mark.parametrize("paths", [("specs",), ("specs/evil.yaml",)])
@pytest.mark.parametrize("to", ["../../home/.git-credentials", "../../home/m.yaml", "/dev/null"])
def test_a_manifest_that_is_a_link_out_of_the_repository(repository: Path, paths: tuple[str, ...], to: str) -> None:
    (repository / "specs/evil.yaml").symlink_to(to)
    assert messages(load_in(repository, *paths)) == [
        "specs/evil.yaml:1:1: outside the repository; move the file into repo"
    ]


def test_a_link_within_the_repository_is_followed(repository: Path) -> None:
    (repository / "specs/m.yaml").rename(repository / "m.yaml")
    (repository / "specs/m.yaml").symlink_to("../m.yaml")
    workspace = load_in(repository, "specs")
    assert not workspace.problems
    assert [one.file for one in workspace.manifests] == ["m.yaml"]


def test_without_git_the_root_is_the_repository(repository: Path) -> None:
    (repository / ".git").rmdir()
    (repository / "specs/m.yaml").rename(repository / "m.yaml")
    (repository / "specs/m.yaml").symlink_to("../m.yaml")
    assert messages(load_in(repository, "specs")) == [
        "specs/m.yaml:1:1: outside the repository; move the file into specs"
    ]


def test_a_target_that_is_a_link_out_of_the_repository(repository: Path) -> None:
    target = repository / "specs/reconcile.yaml"
    target.unlink()
    target.symlink_to("../../home/.git-credentials")
    with pytest.raises(InvalidInput) as caught:
        load_in(repository, "specs")
    assert str(caught.value) == "specs/reconcile.yaml:1:1: outside the repository; move the file into repo"


def test_another_target_that_is_a_link_out_of_the_repository_is_not_read(repository: Path) -> None:
    write(repository.parent, {"home/blue.yaml": TARGET.replace("default", "blue")})
    (repository / "specs/reconcile.blue.yaml").symlink_to("../../home/blue.yaml")
    assert not messages(load_in(repository, "specs"))


@pytest.mark.parametrize("target", [None, "embedded"])
def test_a_folder_that_is_a_link_out_of_the_repository(repository: Path, target: str | None) -> None:
    (repository / "more").symlink_to("../home")
    with pytest.raises(ReconcileError) as caught:
        load_in(repository, "more", target=target)
    lock = f"reconcile{'.embedded' if target else ''}.lock.json"
    assert str(caught.value) == (
        f"{repository}/more/{lock}: outside the repository; remove the link, or point it into {repository}"
    )


def test_a_checkout_may_be_reached_through_a_link(repository: Path) -> None:
    link = repository.parent / "link"
    link.symlink_to("repo")
    assert repository_of(link / "specs") == repository
    assert not load_in(repository.parent, "link/specs").problems


@pytest.mark.parametrize("to", ["../../home/.git-credentials", "../../home/nothing-yet"])
def test_a_lockfile_that_is_a_link_out_of_the_repository(repository: Path, to: str) -> None:
    lock = repository / "specs/reconcile.lock.json"
    lock.symlink_to(to)
    with pytest.raises(ReconcileError) as caught:
        load_in(repository, "specs")
    assert str(caught.value) == (f"{lock}: outside the repository; remove the link, or point it into {repository}")
    assert not (repository.parent / "home/nothing-yet").exists()


@pytest.mark.parametrize("name", ["specs", ".gitignore", "specs/datasets"])
def test_a_scaffold_is_not_written_through_a_link_out_of_the_repository(repository: Path, name: str) -> None:
    for file in (repository / "specs").iterdir():
        file.unlink()
    if name == "specs":
        (repository / "specs").rmdir()
    (repository / name).symlink_to(repository.parent / "home/new")
    with pytest.raises(ReconcileError, match="outside the repository; remove the link, or point it into"):
        init(repository, data=None, name=None)
    assert sorted(entry.name for entry in (repository.parent / "home").iterdir()) == [
        ".git-credentials",
        "m.yaml",
        "reconcile.yaml",
    ]


def test_links_that_go_round_in_circles(repository: Path) -> None:
    (repository / "specs/loop.yaml").symlink_to("loop.yaml")
    assert messages(load_in(repository, "specs")) == [
        ("specs/loop.yaml:1:1: loop of symbolic links; set the path of a file")
    ]


def test_pipes_are_not_waited_for(repository: Path) -> None:
    os.mkfifo(repository / "specs/pipe.yaml")
    os.mkfifo(repository / "specs/reconcile.blue.yaml")
    for path in ("specs", "specs/pipe.yaml"):
        assert messages(load_in(repository, path)) == [
            ("specs/pipe.yaml:1:1: not a regular file; set the path of a regular file")
        ]


def test_a_folder_below_the_root_that_is_a_link_out_of_the_repository_is_not_listed(repository: Path) -> None:
    (repository.parent / "home/reconcile.yaml").unlink()
    (repository / "specs/more").symlink_to("../../home")
    for paths in (("specs", "specs/more"), ("specs/m.yaml", "specs/more")):
        with pytest.raises(ReconcileError, match="specs/more: outside the repository; remove the link") as caught:
            load_in(repository, *paths)
        assert ".git-credentials" not in str(caught.value)


def test_a_file_that_a_link_hides_is_not_searched_and_may_be_a_manifest(repository: Path) -> None:
    """Whether the user's own files contain a word must not show in a plan."""
    (repository / "specs/part").mkdir()
    (repository / "specs/m.yaml").rename(repository / "specs/part/m.yaml")
    assert load_in(repository, "specs/part").complete
    for to in ("../../home/.git-credentials", "../../home/m.yaml"):
        (repository / "specs/other.yaml").unlink(missing_ok=True)
        (repository / "specs/other.yaml").symlink_to(to)
        assert not load_in(repository, "specs/part").complete


def test_a_file_that_a_user_names_is_not_read_through_a_link_out_of_the_repository(repository: Path) -> None:
    (repository.parent / "home/secret.json").write_text(f'{{"kind": "{_SECRET}", "version": 1}}')
    (repository.parent / "home/secret.csv").write_text(f"{_SECRET},b\n")
    for name in ("plan.json", "reconcile.blue.lock.json", "data.csv"):
        (repository / name).symlink_to(repository.parent / "home" / f"secret{Path(name).suffix}")
    (repository / "folder").symlink_to(repository.parent / "home")
    for read in (
        lambda: read_document(repository / "plan.json", "plan.json", (), lambda _kind: Document),
        lambda: read_document(repository / "folder/secret.json", "plan.json", (), lambda _kind: Document),
        LockFile(repository / "reconcile.blue.lock.json").read,
        lambda: init(repository, data=data_file(repository / "data.csv"), name="adder"),
    ):
        with pytest.raises(ReconcileError, match="outside the repository: ") as caught:
            read()
        assert _SECRET not in str(caught.value)


def test_links_of_the_user_outside_of_repositories_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    LockFile(tmp_path / "real/lock.json").write("a")
    assert LockFile(tmp_path / "link/lock.json").read() == "a"
