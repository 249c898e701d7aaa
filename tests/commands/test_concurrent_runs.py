"""Two commands in one checkout, and a branch that is switched under a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from reconciler.commands.main import main
from reconciler.environment import Environment
from reconciler.state.lockfile import LockFile
from support.cli_world import TickingClock
from support.git_repository import Repository

if TYPE_CHECKING:
    from support.cli_world import Cli


def once(reconcile: Cli, act: Callable[[], object], when: Callable[[], bool] = lambda: True) -> None:
    """Do something when a command waits for the first time; in a thread, as another process would."""

    def move(_now: object) -> None:
        if when():
            reconcile.clock.on_move = lambda _now: None
            thread = Thread(target=act)
            thread.start()
            thread.join()

    reconcile.clock.on_move = move


def in_the_same_checkout(reconcile: Cli, *arguments: str) -> int:
    return main(arguments, Environment(cwd=reconcile.folder, environ={}, clock=reconcile.clock))


def test_a_rollback_while_apply_waits_is_kept(trained: Cli) -> None:
    before = trained.lock["adder"]["serving"]
    trained.manifest("adder", epochs=3)
    trained.manifest("slow", epochs=9)
    statuses: list[int] = []
    once(
        trained,
        lambda: statuses.append(in_the_same_checkout(trained, "rollback", "adder", "--reason", "bad")),
        when=lambda: trained.lock["adder"]["serving"] != before,
    )

    answer = trained("apply", "--yes")

    assert (statuses, answer.status) == ([0], 0)
    assert trained.lock["adder"]["serving"] == before
    assert trained.lock["adder"]["rejected"]
    assert trained.lock["slow"]["serving"]


def test_a_run_whose_branch_is_switched_ends(reconcile: Cli) -> None:
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\n")
    repository.commit()
    repository("switch", "--quiet", "--create", "feature")
    reconcile.manifest("adder")
    repository.commit()

    def switch() -> None:
        repository("stash", "--include-untracked", "--quiet")
        repository("switch", "--quiet", "main")

    once(reconcile, switch)

    answer = reconcile("apply", "--yes")

    assert answer.status == 1
    assert "reconcile.lock.json is not written: git switched from branch feature to branch main" in answer.err
    assert not reconcile.lock_file.exists()


@pytest.mark.parametrize("timeout", ["0", "20s"])
def test_a_timeout_ends_the_wait_for_another_run(reconcile: Cli, timeout: str) -> None:
    reconcile.manifest("adder")
    assert reconcile("apply", "--yes", "--no-wait").status == 0
    reconcile.clock = TickingClock(reconcile.clock.now)

    with LockFile(reconcile.lock_file).lease():
        ended = reconcile("apply", "--yes", "--timeout", timeout, "--format", "json")

    assert ended.status == 4
    (notice,) = ended.document["notices"]
    assert re.fullmatch(
        r"--timeout has passed: another run has the lock of reconcile\.lock\.json: process \d+ on \S+; wait until"
        r" that run has ended; run the command again, which finds the trainings that were started",
        notice,
    )
    assert ended.document["exitStatus"] == 4
    assert reconcile("apply", "--yes").status == 0


def test_a_timeout_ends_the_wait_for_git(reconcile: Cli) -> None:
    repository = Repository(reconcile.folder)
    reconcile.manifest("adder")
    repository.commit()
    clock = TickingClock(reconcile.clock.now)
    clock.on_move = lambda _now: (reconcile.folder / ".git/rebase-merge").mkdir(exist_ok=True)
    reconcile.clock = clock

    ended = reconcile("apply", "--yes", "--timeout", "60s")

    assert ended.status == 4
    assert (
        "Note: --timeout has passed: git has not ended its rebase; end it, or abort it with git rebase --abort; run the"
        in ended.out
    )
