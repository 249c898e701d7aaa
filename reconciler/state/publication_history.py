"""Read what was published to a stage, and when, from the commits of a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import MsgspecError, Struct
from msgspec.json import decode

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import MAX_LOCKFILE_BYTES
from reconciler.manifests.git import FETCH_ALL, Blob, Git, GitError, IncomparableError, open_repository
from reconciler.planning.lock_review import Served
from reconciler.planning.soak import PublicationHistory, Sighting, commit_times

MAX_COMMITS: Final = 20_000
"""The most commits that are read; what was published before them is unknown."""
_BATCH: Final = 500
_GIT: Final = "publish this stage to an object (gs://), whose time the server reports"
Parse = Callable[[str], Mapping[str, Served]]
"""Returns what a committed text publishes; raises ReconcileError for an invalid one."""


def committed_history(
    file: Path, environ: Mapping[str, str], parse: Parse, *, now: datetime, enough: datetime
) -> PublicationHistory:
    """Return the history of a file on the first-parent line of HEAD, after the file on disk, which counts from now.

    Commits before ``enough`` are not needed, nor those before one without the file. An invalid version publishes
    nothing.
    """
    real = Path(os.path.realpath(file))
    try:
        git, folder = open_repository(real.parent, environ)
        path = f"{folder}/{real.name}" if folder != "." else real.name
        return _History(git, path, parse).read(_text(real), now, enough)
    except IncomparableError as error:
        return PublicationHistory(problem=str(error), remedy=f"use a clone with git, or {_GIT}")
    except GitError as error:
        return PublicationHistory(problem=str(error), remedy=error.remedy)


class _RecordedStage(Struct, frozen=True):
    serving: str | None = None
    checkpoint: str = ""
    key: str = ""


class _RecordedModel(Struct, frozen=True):
    serving: str | None = None
    generations: tuple[_RecordedStage, ...] = ()
    stages: Mapping[str, _RecordedStage] = {}

    def served(self, stage: str) -> Served | None:
        if stage:
            record = self.stages.get(stage, _RecordedStage())
            return Served(record.serving, record.checkpoint) if record.serving else None
        found = (Served(known.key, known.checkpoint) for known in self.generations if known.key == self.serving)
        return next(found, None)


class _RecordedTarget(Struct, frozen=True):
    stages: tuple[str, ...] = ()


class _RecordedLock(Struct, frozen=True):
    """The parts of a lockfile that say what is serving; thousands of models are read from each of many commits."""

    target: _RecordedTarget = _RecordedTarget()
    models: Mapping[str, _RecordedModel] = {}


def served_by_lockfile(text: str, stage: str, first_stage: str) -> Mapping[str, Served]:
    """Return what a committed lockfile records as serving in a stage; raises ReconcileError if it is invalid.

    One that was written before the target had stages has the generations of today's first one.
    """
    try:
        lock = decode(text, type=_RecordedLock)
    except (MsgspecError, RecursionError) as error:
        raise ReconcileError("invalid lockfile") from error
    recorded = "" if stage == (lock.target.stages[0] if lock.target.stages else first_stage) else stage
    return {name: served for name, model in lock.models.items() if (served := model.served(recorded))}


def _text(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_LOCKFILE_BYTES + 1)
    except OSError:
        return b""


class _History:
    def __init__(self, git: Git, path: str, parse: Parse) -> None:
        self._git = git
        self._path = path
        self._parse = parse
        self._known: dict[Blob, Mapping[str, Served]] = {}

    def read(self, text: bytes, now: datetime, enough: datetime) -> PublicationHistory:
        found = [Sighting(now, self._published(text))]
        commits = self._git.first_parents(MAX_COMMITS)
        times = commit_times([_time(seconds) for _, seconds in commits], now)
        for (name, _), time, blob in zip(commits, times, self._blobs([name for name, _ in commits]), strict=True):
            if blob is None and name == commits[0][0]:
                problem = f"{self._path} is not in the commit that is checked out"
                return PublicationHistory(problem=problem, remedy=f"commit it, or {_GIT}")
            if blob is None and self._git.has_file(name, self._path):
                problem, remedy = "this clone does not contain all files of earlier commits", "use a complete clone"
                return PublicationHistory(tuple(found), problem, remedy)
            found.append(Sighting(time, self._published_in(blob) if blob else {}))
            if blob is None or time <= enough:
                return PublicationHistory(tuple(found))
        if len(commits) == MAX_COMMITS:
            problem = f"only the last {MAX_COMMITS} commits are read"
            return PublicationHistory(tuple(found), problem, f"wait, or {_GIT}")
        if self._git.is_shallow():
            return PublicationHistory(tuple(found), "this clone is shallow, without earlier commits", FETCH_ALL)
        return PublicationHistory(tuple(found))

    def _blobs(self, commits: Sequence[str]) -> Iterator[Blob | None]:
        """Yield the file in each commit; a few commits at a time, because most of them are not needed."""
        for start in range(0, len(commits), _BATCH):
            found = self._git.blobs(commits[start : start + _BATCH], (self._path,))
            yield from (blobs.get(self._path) for blobs in found)

    def _published_in(self, blob: Blob) -> Mapping[str, Served]:
        if blob not in self._known:
            too_large = blob.size > MAX_LOCKFILE_BYTES
            self._known[blob] = {} if too_large else self._published(self._git.content(blob))
        return self._known[blob]

    def _published(self, text: bytes) -> Mapping[str, Served]:
        try:
            return self._parse(text.decode())
        except (ReconcileError, UnicodeDecodeError):
            return {}


def _time(seconds: int) -> datetime:
    """Return the time of a commit; one that is out of range is later than all others."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)
