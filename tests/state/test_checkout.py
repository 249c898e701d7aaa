"""The lock of the runs in one checkout, and the branch that a run began on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from reconciler.domain.errors import LockConflict
from reconciler.environment import Deadline
from reconciler.state.checkout import SwitchedBranch
from reconciler.state.lockfile import LockFile
from support.git_repository import Repository

HOLD = (
    "import sys; from pathlib import Path; from reconciler.state.lockfile import LockFile\n"
    "with LockFile(Path(sys.argv[1])).lease():\n"
    "    print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/reconcile.lock.json").write_text("a")
    repository.commit()
    return repository


def lockfile(
    repository: Repository,
    wait: Callable[[], None] = lambda: pytest.fail("it waits"),
    deadline: Deadline | None = None,
) -> LockFile:
    lock = LockFile(repository.folder / "specs/reconcile.lock.json", deadline, wait)
    assert lock.read() is not None
    return lock


def test_the_lock_is_in_the_folder_of_git(repository: Repository) -> None:
    repository("worktree", "add", "--quiet", "linked")
    linked = Repository.__new__(Repository)
    linked.folder = repository.folder / "linked"
    with lockfile(repository).lease(), lockfile(linked).lease():
        assert [len(list(folder.iterdir())) for folder in repository.folder.glob(".git/**/reconcile")] == [1, 1]
    assert repository("status", "--porcelain", "--", "specs") == ""


def test_a_run_waits_for_the_one_that_has_the_lock_and_says_so(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[None] = []
    first = lockfile(repository).lease()

    def wait() -> None:
        waits.append(None)
        if len(waits) == 6:
            first.__exit__(None, None, None)

    first.__enter__()
    second = lockfile(repository, wait)
    assert second.write("b")
    assert len(waits) == 6
    (message,) = caplog.messages
    assert message.startswith(f"waiting for another run with reconcile.lock.json: process {os.getpid()} on ")


def test_the_lock_ends_with_its_process(repository: Repository) -> None:
    lock = lockfile(repository)
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own script
        [sys.executable, "-c", HOLD, str(lock.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        other = lockfile(repository, lambda: holder.send_signal(signal.SIGKILL))
        assert other.write("b")


def test_a_text_that_another_run_has_changed_is_not_replaced(repository: Repository) -> None:
    ours, theirs = lockfile(repository), lockfile(repository)
    theirs.write("theirs")
    with pytest.raises(LockConflict):
        ours.write("ours")
    assert ours.read() == "theirs"
    assert ours.write("ours")


def test_nothing_is_written_into_another_branch(repository: Repository) -> None:
    lock = lockfile(repository)
    repository("switch", "--quiet", "--create", "feature")
    with pytest.raises(SwitchedBranch) as caught:
        lock.write("b")
    assert str(caught.value) == (
        "reconcile.lock.json is not written: git switched from branch main to branch feature while this run was in"
        " progress; run git switch main, and then reconcile wait, which finds the trainings that were started"
    )
    with pytest.raises(SwitchedBranch), lock.lease():
        pytest.fail("another branch's lockfile is changed")
    assert lock.read() == "a"
    repository("switch", "--quiet", "main")
    assert lock.write("b")


@pytest.mark.parametrize("detached", [False, True])
def test_a_commit_in_the_meantime_does_not_matter(repository: Repository, *, detached: bool) -> None:
    if detached:
        repository("switch", "--quiet", "--detach")
    lock = lockfile(repository)
    (repository.folder / "README.md").touch()
    repository.commit()
    assert lock.write("b")


def test_an_unrelated_commit_is_another_branch(repository: Repository) -> None:
    (repository.folder / "README.md").touch()
    later = repository.commit()
    repository("switch", "--quiet", "--detach")
    lock = lockfile(repository)
    repository("switch", "--quiet", "--detach", "HEAD~1")
    with pytest.raises(SwitchedBranch, match=f"from commit {later[:12]} to commit ") as caught:
        lock.write("b")
    repository(*caught.value.remedy.removeprefix("run git ").partition(",")[0].split())
    assert lock.write("b"), "the remedy works"


@pytest.mark.parametrize("leased", [False, True])
def test_saving_waits_for_the_end_of_a_rebase(
    repository: Repository, caplog: pytest.LogCaptureFixture, *, leased: bool
) -> None:
    waits: list[None] = []
    rebase = repository.folder / ".git/rebase-merge"

    def wait() -> None:
        waits.append(None)
        if len(waits) == 3:
            rebase.rmdir()
            repository("switch", "--quiet", "main")

    lock = lockfile(repository, wait)
    with lock.lease() if leased else nullcontext():
        repository("switch", "--quiet", "--detach")
        rebase.mkdir()
        assert lock.write("b")
    assert caplog.messages == ["waiting until git has ended its rebase: reconcile.lock.json is saved afterwards"]


def test_a_run_that_begins_in_a_merge_does_not_wait_for_its_end(repository: Repository) -> None:
    (repository.folder / ".git/MERGE_HEAD").touch()
    assert lockfile(repository).write("b")


def test_a_canceled_run_saves_if_the_other_run_ends_within_a_moment(repository: Repository) -> None:
    first, waits = lockfile(repository).lease(), 0

    def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            first.__exit__(None, None, None)

    async def save() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        lockfile(repository, wait).write("b")

    first.__enter__()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(save())
    assert lockfile(repository).read() == "b"
