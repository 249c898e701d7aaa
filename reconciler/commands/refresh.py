"""The command that rebuilds the lockfile, and git's merge driver for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    load_project,
    pin_datasets,
    read_workspace,
)
from reconciler.commands._runner import EventLoop
from reconciler.domain.errors import ExitStatus, LockConflict, ReconcileError, UsageError
from reconciler.domain.lock import Lock, check_owner
from reconciler.domain.plan import Request
from reconciler.environment import Environment
from reconciler.manifests.git.repository import Unmerged, unmerged
from reconciler.planning.events import record
from reconciler.planning.generations import Observation, is_suspicious
from reconciler.planning.planner import describe_suspicion, resolve_manifests
from reconciler.providers.registry import connect
from reconciler.reports.documents.refresh import Refreshed, refresh_document, refresh_text
from reconciler.reports.text.escape import terminal_safe
from reconciler.state.conflict_markers import has_conflict_markers, split_sides
from reconciler.state.json_reader import UPGRADE
from reconciler.state.lock_store import LockFile
from reconciler.state.lockfile import dumps, loads
from reconciler.state.merge import MergeResult, merge
from reconciler.state.refresh import refresh_events, refresh_notices

if TYPE_CHECKING:
    from reconciler.domain.model import Manifest, Target
    from reconciler.domain.ports import LockStore
    from reconciler.environment import Environment


_TAKE = "take the other side (git checkout --ours FILE, or --theirs, then git add FILE), and run reconcile refresh"


@dataclass(frozen=True, slots=True)
class _Found:
    """The lockfile as it was found: its text, what that means, and what was decided to unite the sides of a merge."""

    text: str | None
    lock: Lock
    merged: bool = False
    notes: tuple[str, ...] = ()


class _Reader:
    """Reads a lockfile as other commands do, and one that git could not merge besides."""

    def __init__(self, env: Environment, file: LockFile) -> None:
        self._environ = env.environ
        self._file = file
        self.found = _Found(None, Lock())

    def __call__(self, store: LockStore, target: Target, shown: str) -> Lock:
        text = store.read()
        self.found = _Found(None, Lock()) if text is None else self._read(store, text, shown)
        check_owner(self.found.lock, target, shown)
        return self.found.lock

    def _read(self, store: LockStore, text: str, shown: str) -> _Found:
        sides = unmerged(self._file.path, self._environ) if store is self._file else None
        if sides and (has_conflict_markers(text) or _lines(text) == _lines(sides.ours)):
            return _united(text, sides, shown)
        if has_conflict_markers(text):
            told = split_sides(text, shown)
            return _united(text, Unmerged(told.base, told.ours, told.theirs), shown)
        return _Found(text, loads(text, shown))


def _lines(text: str) -> str:
    """The text whatever its line ends: git may write them otherwise into the working folder."""
    return text.replace("\r\n", "\n")


def _united(text: str, sides: Unmerged, shown: str) -> _Found:
    """Both sides as one lock. Only with their ancestor can it be told what one of them has removed."""
    ours, theirs = _side(sides.ours, shown, "ours"), _side(sides.theirs, shown, "theirs")
    unknown: tuple[str, ...] = ()
    try:
        base = loads(sides.base, shown) if sides.base else None
    except ReconcileError:
        base = None
    if base is None:
        unknown = ("what both sides began with is not known, so what one of them removed is there again",)
    merged = merge(base, ours, theirs)
    return _Found(text, merged.lock, merged=True, notes=(*unknown, *merged.notes))


def _side(text: str, shown: str, name: str) -> Lock:
    try:
        return loads(text, shown)
    except ReconcileError as error:
        remedy = error.remedy if error.remedy == UPGRADE else _TAKE.replace("FILE", shown)
        raise ReconcileError(f"the side {name} of a merge cannot be read: {error.message}", remedy) from error


def refresh(env: Environment, what: CommandInput, *, check: bool, write: bool) -> CommandResult:
    """Rebuild the lockfile from manifests and service, and unite both sides of a merge that git left in it.

    The service is asked and never changed. Without ``write`` nothing is; with ``check`` the exit status tells whether
    anything would be.

    Raises:
        UsageError: when there is no target.
        ReconcileError: when the lockfile cannot be read, is another target's, or so much is gone from the service that
            it is not believed; the lockfile is as it was then.
        LockConflict: when another run has saved the lockfile meanwhile.
    """
    workspace = read_workspace(env, what)
    reader = _Reader(env, LockFile(workspace.lockfile))
    project = load_project(env, workspace, what, strict=False, read=reader)
    if write:
        project.store.check_writable()
    lease: AbstractContextManager[object] = project.store.lease() if write else nullcontext()
    with EventLoop() as session, lease:
        project = replace(project, lock=reader(project.store, project.target, project.lockfile))
        lock, notes = session.run(_rebuilt(env, what, project))
        worth = bool(lock.models or reader.found.text)  # a lock without models is not worth a file
        changed = worth and (reader.found.merged or lock != reader.found.lock)
        if write and changed:
            _save(project, reader.found.text, dumps(lock))
    told = Refreshed(
        before=reader.found.lock,
        after=lock,
        lockfile=project.lockfile,
        changed=changed,
        written=write and changed,
        merged=reader.found.merged,
        notices=(*reader.found.notes, *notes),
    )
    status = ExitStatus.CHANGES if check and changed else ExitStatus.OK
    document = refresh_document(told, project.target, project.capabilities, root=project.root, exit_status=status)
    return CommandResult(document, status, workspace.problems)


async def _rebuilt(env: Environment, what: CommandInput, project: Project) -> tuple[Lock, tuple[str, ...]]:
    from reconciler.engine.observe import observe

    lock, target = project.lock, project.target
    async with connect(env, target, project.workspace.root, what.allow_endpoints) as service:
        project = await pin_datasets(project, service)
        seen = await observe(service, lock, concurrency=target.limits.concurrency, progress=True)
    if is_suspicious(lock, seen):
        raise ReconcileError(describe_suspicion(lock, seen))
    manifests = _resolved(env, project, seen)
    complete = project.complete and not project.workspace.errors
    after = reduce(record, refresh_events(lock, seen, manifests, target, complete=complete), lock)
    return after, tuple(refresh_notices(lock, after, seen, manifests, target.scope))


def _resolved(env: Environment, project: Project, seen: Observation) -> tuple[Manifest, ...]:
    """The manifests with the parent generations that a plan would choose."""
    request = Request(complete=project.complete)
    surveyed = resolve_manifests(
        project.manifests, seen, project.lock, project.target, request, project.capabilities, env.clock()
    )
    return tuple(resolved.context.manifest for resolved in surveyed)


def _save(project: Project, before: str | None, text: str) -> None:
    if project.store.read() != before:
        raise LockConflict(f"another run has saved {project.lockfile} meanwhile", "run reconcile refresh again")
    project.store.write(text)


def merge_files(base: Path, ours: Path, theirs: Path) -> MergeResult:
    """Git's merge driver: unite three versions of a lockfile, and write the result over ``ours``.

    An empty ``base`` is none. Neither target nor manifests are read, and no service is asked.

    Raises:
        ReconcileError: when one of them cannot be read, or they belong to different targets; nothing is written then.
    """
    ancestor, one, other = (
        _version(path, side)
        for path, side in ((base, "the common ancestor"), (ours, "the side ours"), (theirs, "the side theirs"))
    )
    merged = merge(ancestor, one or Lock(), other or Lock())
    LockFile(ours).write(dumps(merged.lock))
    return merged


def _version(path: Path, side: str) -> Lock | None:
    text = LockFile(path).read()
    try:
        return loads(text, side) if text and text.strip() else None
    except ReconcileError as error:
        remedy = error.remedy if error.remedy == UPGRADE else _TAKE
        raise ReconcileError(f"the lockfiles cannot be merged: {error.message}", remedy) from error


_VERSION = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("refresh")
@_options.paths
@_options.target
@_options.allow_endpoint
@_options.format_option
@_options.output_options
@click.option("--check", is_flag=True, help="Write nothing, and exit with 2 when something would be written.")
@click.option("--dry-run", is_flag=True, help="Write nothing, and show what would be.")
@click.option(
    "--merge",
    nargs=3,
    type=_VERSION,
    metavar="BASE OURS THEIRS",
    help="Be git's merge driver (%O %A %B): unite three versions of a lockfile, and write the result over OURS.",
)
@_options.environment
def command(
    env: Environment, /, *, check: bool, dry_run: bool, merge: tuple[Path, Path, Path] | None, **values: Any
) -> int:
    """Rebuild the lockfile from manifests and service, and unite both sides of a merge that git left in it.

    What is recorded is brought up to date, generations of ours are taken up by their marks, and what is gone becomes
    MISSING; what serves stays. Changes the lockfile alone.
    """
    output = output_of(values)
    if merge:
        if check or dry_run or values["paths"]:
            raise UsageError("--merge takes three files and nothing else", "leave --check, --dry-run and PATHS out")
        notes = merge_files(*merge).notes
        output.say(lambda style, _: "\n".join(f"{style('warning', 'note:')} {terminal_safe(note)}" for note in notes))
        return ExitStatus.OK
    answer = refresh(env, input_of(values), check=check, write=not (check or dry_run))
    output.warn(answer.warnings)
    output.result(answer.document, lambda style, width: refresh_text(answer.document, width=width, style=style))
    return answer.exit_status
