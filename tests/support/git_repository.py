"""Real git repositories, independent of the settings of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path


class Repository:
    """A git repository in a folder; commits get moments of their own, one minute apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._minutes = 0
        self.clock: Callable[[], datetime] | None = None  # in place of moments one minute apart
        self("init", "--quiet", "--template=", "--initial-branch=main")  # without a template of hooks and notes

    def __call__(self, *arguments: str) -> str:
        """Run git in the folder with a user name, and return its standard output."""
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
        moment = self.clock().isoformat() if self.clock else f"2026-01-01T12:{self._minutes:02}:00Z"
        done = subprocess.run(  # noqa: S603 - git, on a folder of the test
            ["git", "-C", str(self.folder), *who, *arguments],  # noqa: S607 - the git that there is
            env={
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_AUTHOR_DATE": moment,
                "GIT_COMMITTER_DATE": moment,
            },
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def commit(self) -> str:
        """Commit every file of the folder, and return the hash."""
        self._minutes += 1
        self("add", "--all")
        self("commit", "--quiet", "--message", "a state")
        head = (self.folder / ".git" / "HEAD").read_text()  # costs less than a process
        _, _, branch = head.strip().partition("ref: ")
        return (self.folder / ".git" / branch).read_text().strip() if branch else head.strip()

    def clone(self, folder: Path, *options: str) -> Repository:
        """Clone it into another folder."""
        self("clone", "--quiet", *options, self.folder.as_uri(), str(folder))
        return self._in(folder)

    def copy(self, folder: Path) -> Repository:
        """Copy it with all files, also those that are not committed; no process is needed."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        return self._in(folder)

    def _in(self, folder: Path) -> Repository:
        other = object.__new__(Repository)
        other.folder, other._minutes, other.clock = folder, self._minutes, self.clock
        return other
