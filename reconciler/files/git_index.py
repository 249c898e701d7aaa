"""What git's index holds of a file while a merge, a rebase or a cherry-pick waits for somebody to resolve it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from reconciler.files.git import Blob, Git, GitError
from reconciler.files.repository import repository_of

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
