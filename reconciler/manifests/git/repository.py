"""Git, asked for files as they once were. It fetches nothing, writes nothing and runs no program but itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final

from reconciler.paths import repository_of

_SECONDS: Final = 60
"""How long one question may take; the history of a large repository is long."""
_PART: Final = 2**20
_BLOB: Final = re.compile(rb"(?P<name>[0-9a-f]{40,64}) blob (?P<size>\d{1,18})")
_KEPT: Final = (
    "PATH",
    "HOME",
    "USERPROFILE",
    "SYSTEMROOT",
    "XDG_CONFIG_HOME",
    "GIT_EXEC_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
)
"""What git needs to find itself and the user's settings (such as ``safe.directory``); our secrets are none of it."""
_ALWAYS: Final = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # A partial clone would fetch what it lacks, with whatever transport its configuration names.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
_OPTIONS: Final = (
    "--no-pager",
    "--no-optional-locks",
    "--literal-pathspecs",
    # A folder that came with a pull request and looks like a bare repository is none.
    *("-c", "safe.bareRepository=explicit"),
)


class GitError(Exception):
    """Git is not installed, does not know this repository, lacks an object, or took too long."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of a file in some commit: the name under which git keeps it, and its size in bytes."""

    name: str
    size: int


class Git:
    """The repository whose top folder this is; paths are relative to that, with forward slashes.

    Plumbing alone is asked: no setting of a user or a repository makes it start pagers, hooks, filters or diff tools.
    All methods raise GitError.
    """

    def __init__(self, repository: Path, environ: Mapping[str, str]) -> None:
        self._command = ("git", "-C", str(repository), *_OPTIONS)
        kept = {name: environ[name] for name in _KEPT if name in environ}
        self._environ = {**kept, **_ALWAYS, "GIT_CEILING_DIRECTORIES": str(repository.parent)}

    def commits(self, paths: Sequence[str], most: int) -> tuple[str, ...]:
        """The newest ``most`` commits that lead to the present one and touch one of these paths, newest first."""
        told = self._run("rev-list", "--full-history", f"--max-count={most}", "HEAD", "--", *paths)
        return tuple(told.decode().split())

    def blobs(self, commits: Sequence[str], paths: Sequence[str]) -> Iterator[Mapping[str, Blob]]:
        """Which of these paths are files in each of these commits; a path must hold no line break."""
        asked = "".join(f"{commit}:{path}\n" for commit in commits for path in paths)
        told = self._run("cat-file", "--batch-check", given=asked.encode()).splitlines()
        if len(told) != len(commits) * len(paths):
            raise GitError
        answers = map(_BLOB.fullmatch, told)
        for _ in commits:
            found = zip(paths, answers, strict=False)
            yield {path: Blob(one["name"].decode(), int(one["size"])) for path, one in found if one}

    def is_shallow(self) -> bool:
        """Whether this is a clone that lacks some of the history."""
        return self._run("rev-parse", "--is-shallow-repository").strip() == b"true"

    def commit(self, ref: str) -> str:
        """The commit that a branch, a tag or any other expression of git means."""
        if ref.startswith("-"):
            raise GitError
        return self._run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()

    def files(self, commit: str, folder: str) -> tuple[str, ...]:
        """The paths of all files in a folder of a commit; ``.`` is the top."""
        within = () if folder == "." else (f"{folder}/",)
        told = self._run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "--", *within)
        return tuple(os.fsdecode(name) for name in told.split(b"\0") if name)

    def save_all(self, blobs: Mapping[Path, Blob]) -> None:
        """Write each content into a new file, with one call of git."""
        asked = "".join(f"{blob.name}\n" for blob in blobs.values())
        with TemporaryFile() as stream:
            self._run("cat-file", "--batch", given=asked.encode(), to=stream)
            stream.seek(0)
            for file, blob in blobs.items():
                head = _BLOB.fullmatch(stream.readline().rstrip(b"\n"))
                if head is None or int(head["size"]) != blob.size:
                    raise GitError
                with file.open("xb") as saved:
                    _copy(stream, saved, blob.size)
                stream.read(1)

    def save(self, blob: Blob, file: Path) -> None:
        """Write the content into a new file."""
        with file.open("xb") as stream:
            self._run("cat-file", "blob", blob.name, to=stream)

    def _run(self, *arguments: str, given: bytes = b"", to: IO[bytes] | int = subprocess.PIPE) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 - no shell, and what is untrusted stands after -- or in the input
                [*self._command, *arguments],
                input=given,
                stdout=to,
                stderr=subprocess.DEVNULL,
                env=self._environ,
                timeout=_SECONDS,
                check=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise GitError from error
        return done.stdout or b""


def _copy(source: IO[bytes], into: IO[bytes], size: int) -> None:
    while size:
        part = source.read(min(size, _PART))
        if not part:
            raise GitError
        into.write(part)
        size -= len(part)


_STAGES: Final = (":1", ":2", ":3")
"""The common ancestor, our side and theirs, as git names them; see gitrevisions(7)."""


@dataclass(frozen=True, slots=True)
class Unmerged:
    """Both sides whole, as they were committed; ``base`` is ``None`` where they have no common ancestor."""

    base: str | None
    ours: str
    theirs: str


def unmerged(file: Path, environ: Mapping[str, str]) -> Unmerged | None:
    """Both sides of a file that git could not merge; ``None`` where it could, or one side has no such file.

    So it is where there is no git, and for what is no text.
    """
    real = Path(os.path.realpath(file))
    repository = repository_of(real.parent)
    path = real.relative_to(repository).as_posix()
    if not (repository / ".git").exists() or "\n" in path:
        return None
    git = Git(repository, environ)
    try:
        found = [blobs.get(path) for blobs in git.blobs(_STAGES, (path,))]
        base, ours, theirs = (None if blob is None else _text(git, blob) for blob in found)
    except (GitError, UnicodeDecodeError):
        return None
    return None if ours is None or theirs is None else Unmerged(base, ours, theirs)


def _text(git: Git, blob: Blob) -> str:
    with TemporaryDirectory(prefix="reconcile-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "blob"
        git.save(blob, copy)
        return copy.read_bytes().decode()
