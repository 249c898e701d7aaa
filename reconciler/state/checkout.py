"""The git checkout that a lockfile belongs to: the lock of its runs, and the branch that a run began on.

Two runs in one checkout take turns: each holds the lock while it reads, decides, acts and saves, and not while it
waits for trainings. The lock is the kernel's, so that it ends with its process, however that ends. It is not promised
on network file systems, and between containers with kernels of their own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from reconciler.domain.errors import InterruptedRun, ReconcileError, TimeoutReached
from reconciler.domain.text import sanitize
from reconciler.environment import GRACE, Deadline, is_canceled
from reconciler.files import acquire_lock
from reconciler.paths import git_repository_of

_LOG = logging.getLogger(__name__)
_OPERATIONS: Final = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
"""What git leaves in its directory while an operation is in progress; see gitrepository-layout(5)."""
_BRANCH: Final = "ref: refs/heads/"
_REFTABLE: Final = f"{_BRANCH}.invalid"
"""The content of HEAD where the references are in a table, which only git reads."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")


_PAUSE: Final = 0.1  # seconds
_MOMENT: Final = timedelta(seconds=1)
"""How long a run waits that must not wait: another one may be saving."""
_RESUME: Final = "run the command again, which finds the trainings that were started"
_QUIET_ATTEMPTS: Final = 5
"""How often the lock is tried before the user is reported: saving takes a moment only."""


class SwitchedBranch(ReconcileError):  # noqa: N818 - the program did nothing wrong
    """Another branch was checked out under a run, whose lockfile is not written then."""


class Checkout:
    """The worktree and branch of a file, as they are when this is made.

    Args:
        file: The file that runs read and write.
        deadline: How long the run waits for other runs, and for git.
        pause: Lets a moment pass between two attempts.
    """

    def __init__(self, file: Path, deadline: Deadline, pause: Callable[[], None]) -> None:
        self._file = file
        self._deadline = deadline
        self._pause = pause
        self._repository = git_repository_of(file.parent)
        self._git = _git_directory(self._repository) if self._repository else None
        self._head = self._read_head()
        self._operation = self._find_operation()
        self._held = False

    @contextmanager
    def locked(self, *, saves: bool = False) -> Iterator[None]:
        """Hold the lock of the file's runs; inside of another call it is held already.

        A canceled run stops to wait at once, but one that ``saves`` waits a moment longer.

        Raises:
            SwitchedBranch: another branch is checked out than at the start of the run.
            TimeoutReached: another run still has the lock at the deadline, or git has not ended its operation.
            InterruptedRun: the same, in a canceled run that saves.
            OSError: the lock cannot be created.
        """
        wait = self._waiter(saves=saves)
        self._await_git(wait)
        if self._held:
            self._require_same_branch()
            yield
            return
        descriptor = self._acquire(wait)
        self._held = True
        try:
            self._require_same_branch()
            yield
        finally:
            self._held = False
            if descriptor is not None:
                os.close(descriptor)

    def _waiter(self, *, saves: bool) -> Callable[[str, str], None]:
        """Return a function that lets a moment pass; it takes what the run waits for, and a remedy for its errors."""
        has_passed = self._deadline.countdown(GRACE if saves else _MOMENT)
        is_last: Callable[[], bool] | None = None

        def wait(cause: str, remedy: str) -> None:
            nonlocal is_last
            self._pause()
            if has_passed():
                raise TimeoutReached(f"--timeout has passed: {cause}", remedy)
            if not is_canceled():
                return
            if not saves:
                from asyncio import CancelledError

                raise CancelledError
            is_last = is_last or Deadline(timedelta()).countdown(GRACE)
            if is_last():
                raise InterruptedRun(f"interrupted, and {self._file.name} is not saved: {cause}", remedy)

        return wait

    def _acquire(self, wait: Callable[[str, str], None]) -> int | None:
        """Return the descriptor that holds the lock, ``None`` where the system has no such locks."""
        import socket

        holder = f"process {os.getpid()} on {socket.gethostname()}"
        attempts = 0

        def wait_for(other: str) -> None:
            nonlocal attempts
            attempts += 1
            other = sanitize(other)
            if attempts == _QUIET_ATTEMPTS:
                _LOG.warning("waiting for another run with %s: %s", self._file.name, other)
            wait(f"another run has the lock of {self._file.name}: {other}", f"wait until that run has ended; {_RESUME}")

        return acquire_lock(self._lock_path(), holder, wait_for)

    def _lock_path(self) -> Path:
        """Return the path of the lock's file, which is never removed: removing it would give the lock two holders."""
        if self._git and self._repository and os.access(self._git, os.W_OK):
            digest = hashlib.sha256(os.path.relpath(self._file, self._repository).encode(errors="surrogateescape"))
            folder = self._git / "reconcile"
            folder.mkdir(exist_ok=True)
            return folder / f"{digest.hexdigest()[:16]}.lock"
        return self._file.with_name(f".{self._file.name}.lock")

    def _await_git(self, wait: Callable[[str, str], None]) -> None:
        """Wait until git has ended a rebase, merge or similar operation that began after the run."""
        reported = False
        while (operation := self._find_operation()) and not self._operation:
            if not reported:
                _LOG.warning("waiting until git has ended its %s: %s is saved afterwards", operation, self._file.name)
            reported = True
            wait(f"git has not ended its {operation}", f"end it, or abort it with git {operation} --abort; {_RESUME}")

    def _find_operation(self) -> str:
        return next((name for file, name in _OPERATIONS.items() if self._git and (self._git / file).exists()), "")

    def _require_same_branch(self) -> None:
        if self._operation or not self._head:
            return  # HEAD could not be read, or the run began during a rebase or merge, which moves HEAD
        head = self._read_head()
        if head == self._head or self._is_descendant(head):
            return
        before, now = _describe(self._head), _describe(head)
        switch = "" if self._head.startswith(_BRANCH) else "--detach "
        switch += shlex.quote(sanitize(self._head.removeprefix(_BRANCH)))
        raise SwitchedBranch(
            f"{self._file.name} is not written: git switched from {before} to {now} while this run was in progress",
            f"run git switch {switch}, and then reconcile wait, which finds the trainings that were started",
        )

    def _is_descendant(self, head: str) -> bool:
        """Whether both heads are commits, and the earlier one is an ancestor of this one."""
        if self._repository is None or _BRANCH in head + self._head or not (head and self._head):
            return False
        from reconciler.manifests.git import Git, GitError

        git = Git(self._repository, os.environ)
        try:
            return git.merge_base(self._head, head) == self._head
        except GitError:
            return False

    def _read_head(self) -> str:
        """Return the content of HEAD: a reference to a branch, or a commit; empty outside of git."""
        if self._git is None or self._repository is None:
            return ""
        head = _read(self._git / "HEAD")
        return _ask_git(self._repository, os.environ) if head == _REFTABLE else head


def head_of(folder: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the commit and the branch of the worktree around a folder; empty if there is none.

    Files are read where they have the answer, because starting git takes longer than most commands.
    """
    repository = git_repository_of(folder)
    git = _git_directory(repository) if repository else None
    if repository is None or git is None:
        return "", ""
    head = _read(git / "HEAD")
    in_table = head == _REFTABLE
    if in_table:
        head = _ask_git(repository, environ)
    if not head.startswith(_BRANCH):
        return head, ""
    found = "" if in_table else _resolve(git, head.removeprefix("ref: "))
    is_known = _COMMIT.fullmatch(found) or not (found or in_table)  # before the first commit there is none
    return found if is_known else _ask_commit(repository, environ), head.removeprefix(_BRANCH)


def _resolve(git: Path, reference: str) -> str:
    """Return the content of a reference, which has a file of its own or is packed; linked worktrees share them."""
    common = git / (_read(git / "commondir") or ".")
    lines = (line.partition(" ") for line in _read(common / "packed-refs").splitlines())
    return _read(common / reference) or next((commit for commit, _, name in lines if name == reference), "")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""


def _ask_commit(repository: Path, environ: Mapping[str, str]) -> str:
    from reconciler.manifests.git import Git, GitError

    try:
        return Git(repository, environ).commit("HEAD")
    except GitError:
        return ""


def pause() -> None:
    """Let a moment pass."""
    time.sleep(_PAUSE)


def _ask_git(repository: Path, environ: Mapping[str, str]) -> str:
    from reconciler.manifests.git import Git, GitError

    try:
        return Git(repository, environ).head()
    except GitError:
        return ""


def _git_directory(repository: Path) -> Path | None:
    """Return git's directory of a worktree; ``.git`` is a file with its path in linked worktrees and submodules."""
    entry = repository / ".git"
    if entry.is_dir():
        return entry
    try:
        linked = Path(entry.read_text().removeprefix("gitdir:").strip())
    except (OSError, UnicodeDecodeError):
        return None
    directory = repository / linked
    return directory if directory.is_dir() else None


def _describe(head: str) -> str:
    return f"branch {sanitize(head.removeprefix(_BRANCH))}" if head.startswith(_BRANCH) else f"commit {head[:12]}"
