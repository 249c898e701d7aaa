"""``reconcile refresh``: rebuild the lockfile; with ``--merge``, act as git's merge driver for lockfiles."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct
from msgspec.structs import replace

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
from reconciler.commands._session import EventLoop
from reconciler.domain.errors import ExitStatus, LockConflict, ReconcileError, UsageError
from reconciler.domain.lock import Lock, check_owner
from reconciler.domain.plan import Request
from reconciler.domain.text import terminal_safe
from reconciler.environment import Environment
from reconciler.files import write_errors, write_file
from reconciler.manifests.git import Unmerged, unmerged
from reconciler.planning.events import record
from reconciler.planning.generations import is_suspicious
from reconciler.planning.planner import describe_suspicion, resolve_manifests
from reconciler.reports.documents.change import RefreshReport, refreshed_models
from reconciler.state.json_decoder import UPGRADE, has_conflict_markers, split_sides
from reconciler.state.lockfile import LockFile, dumps, loads
from reconciler.state.merge import TAKE_ONE_SIDE, MergeResult, merge
from reconciler.state.refresh import refresh_events, refresh_notices

if TYPE_CHECKING:
    from reconciler.domain.model import Target
    from reconciler.domain.ports import LockStore


class _StoredLock(Struct, frozen=True):
    """The text of a lockfile and its lock; ``notes`` state decisions of a merge."""

    text: str | None
    lock: Lock
    merged: bool = False
    notes: tuple[str, ...] = ()


class _LockfileReader:
    """Reads a lockfile as other commands do, and also one that git could not merge."""

    def __init__(self, environment: Environment, path: Path) -> None:
        self._environ = environment.environ
        self._path = path
        self.stored = _StoredLock(None, Lock())

    def __call__(self, store: LockStore, target: Target, shown: str) -> Lock:
        text = store.read()
        self.stored = _StoredLock(None, Lock()) if text is None else self._parse(target, text, shown)
        check_owner(self.stored.lock, target, shown)
        return self.stored.lock

    def _parse(self, target: Target, text: str, shown: str) -> _StoredLock:
        sides = None if target.lock else unmerged(self._path, self._environ)  # git does not know a lockfile in a bucket
        if sides and (has_conflict_markers(text) or _unix_lines(text) == _unix_lines(sides.ours)):
            return _merge_sides(text, sides, shown)
        if has_conflict_markers(text):
            split = split_sides(text, shown)
            return _merge_sides(text, Unmerged(split.base, split.ours, split.theirs), shown)
        return _StoredLock(text, loads(text, shown))


def _unix_lines(text: str) -> str:
    """Return the text with the line ends of the index, which git may convert in the working directory."""
    return text.replace("\r\n", "\n")


def _merge_sides(text: str, sides: Unmerged, shown: str) -> _StoredLock:
    """Merge both sides; without their common ancestor, keep what only one of them has."""
    ours, theirs = _read_side(sides.ours, shown, "ours"), _read_side(sides.theirs, shown, "theirs")
    try:
        base = loads(sides.base, shown) if sides.base else None
    except ReconcileError:
        base = None
    unknown = "the common ancestor is unknown, so models that one side removed are restored"
    merged = merge(base, ours, theirs)
    return _StoredLock(text, merged.lock, merged=True, notes=(*([unknown] if base is None else []), *merged.notes))


def _read_side(text: str, shown: str, side: str) -> Lock:
    try:
        return loads(text, shown)
    except ReconcileError as error:
        remedy = error.remedy if error.remedy == UPGRADE else TAKE_ONE_SIDE.replace("FILE", shown)
        raise ReconcileError(f"the side `{side}` of a merge cannot be read: {error.message}", remedy) from error


def refresh(
    environment: Environment, command_input: CommandInput, *, check: bool, write: bool, accept_missing: bool = False
) -> CommandResult[RefreshReport]:
    """Rebuild the lockfile from manifests and live state, and merge the two sides that git left in it.

    The service is never changed. Without ``write``, neither is the lockfile; with ``check``, the exit status reports
    whether it would be. With ``accept_missing``, models that are gone are recorded as missing however many they are.

    Raises:
        UsageError: when there is no target.
        ReconcileError: when the lockfile cannot be read, is another target's, or so many models are gone at once that
            the project or the credentials are probably wrong; the lockfile is not changed then.
        LockConflict: when another run has saved the lockfile meanwhile.
    """
    workspace = read_workspace(environment, command_input)
    reader = _LockfileReader(environment, workspace.lockfile)
    project = load_project(environment, workspace, command_input, strict=False, read=reader)
    if write:
        project.store.check_writable()
    lease: AbstractContextManager[object] = project.store.lease() if write else nullcontext()
    with EventLoop() as loop, lease:
        project = replace(project, lock=reader(project.store, project.target, project.lockfile))
        stored = reader.stored
        lock, notes = loop.run(_rebuild(project, accept_missing=accept_missing))
        has_content = bool(lock.models or stored.text)  # a lock without models needs no file
        changed = has_content and (stored.merged or lock != stored.lock)
        if write and changed:
            lock = record(lock, project.recorder().decided("refresh"))
            _save(project, stored.text, dumps(lock))
    report = RefreshReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        lockfile=project.lockfile,
        exit_status=ExitStatus.CHANGES if check and changed else ExitStatus.OK,
        changed=changed,
        written=write and changed,
        merged=stored.merged,
        models=refreshed_models(stored.lock, lock),
        notices=(*stored.notes, *notes),
    )
    return CommandResult(report, report.exit_status, workspace.problems)


async def _rebuild(project: Project, *, accept_missing: bool) -> tuple[Lock, tuple[str, ...]]:
    from reconciler.engine.observe import observe

    lock, target = project.lock, project.target
    async with project.session.connect() as service:
        project = await pin_datasets(project, service)
        observation = await observe(service, lock, concurrency=target.limits.concurrency, progress=True)
    if is_suspicious(lock, observation) and not accept_missing:
        raise ReconcileError(describe_suspicion(lock, observation))
    world = project.world(observation)
    manifests = tuple(resolved.context.manifest for resolved in resolve_manifests(world))
    complete = project.complete and not project.workspace.errors
    request = Request(complete=complete, accept_missing=accept_missing)
    world = replace(world, manifests=manifests, request=request)
    after = reduce(record, refresh_events(world), lock)
    return after, tuple(refresh_notices(lock, replace(world, lock=after)))


def _save(project: Project, before: str | None, text: str) -> None:
    if project.store.read() != before:
        raise LockConflict(f"another run has saved {project.lockfile} meanwhile", "run reconcile refresh again")
    project.store.write(text)


def merge_files(base: Path, current: Path, other: Path) -> MergeResult:
    """Merge three versions of a lockfile as git's merge driver, and write the result to ``current``.

    An empty ``base`` means no common ancestor. Reads neither target nor manifests, and sends no request.

    Raises:
        ReconcileError: when a version cannot be read, or they belong to different targets; nothing is written then.
    """
    ancestor, current_lock, other_lock = (
        _read_version(path, side)
        for path, side in (
            (base, "the common ancestor"),
            (current, "the current version"),
            (other, "the other version"),
        )
    )
    merged = merge(ancestor, current_lock or Lock(), other_lock or Lock())
    with write_errors(current):
        write_file(current, dumps(merged.lock).encode())
    return merged


def _read_version(path: Path, side: str) -> Lock | None:
    text = LockFile(path).read()
    try:
        return loads(text, side) if text and text.strip() else None
    except ReconcileError as error:
        remedy = error.remedy if error.remedy == UPGRADE else TAKE_ONE_SIDE
        raise ReconcileError(f"the lockfiles cannot be merged: {error.message}", remedy) from error


_VERSION = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("refresh", epilog=_options.examples("refresh", "refresh --check"))
@_options.model_options
@click.option("--check", is_flag=True, help="Write nothing. Exit with status 2 if the lockfile would change.")
@click.option("--dry-run", is_flag=True, help="Write nothing. Show how the lockfile would change.")
@click.option(
    "--accept-missing",
    is_flag=True,
    help="Record models that are gone as MISSING even if they are so many that project or credentials may be wrong.",
)
@click.option(
    "--merge",
    nargs=3,
    type=_VERSION,
    metavar="BASE CURRENT OTHER",
    help="Act as git's merge driver (%O %A %B): merge three versions of a lockfile, and write the result to CURRENT.",
)
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    check: bool,
    dry_run: bool,
    accept_missing: bool,
    merge: tuple[Path, Path, Path] | None,
    **values: Any,
) -> int:
    """Rebuild the lockfile from manifests and live state.

    Merges the two sides that git left in a lockfile. Updates recorded generations, adopts managed ones by their marks,
    and records those that are gone as MISSING. The serving generations stay the same. Changes only the lockfile.
    """
    _options.require_compatible((check and dry_run, "--check", "--dry-run"))
    output = output_of(values)
    if merge:
        if check or dry_run or accept_missing or values["paths"]:
            raise UsageError("--merge excludes --check, --dry-run, --accept-missing and PATHS", "remove them")
        notes = merge_files(*merge).notes
        output.say(lambda style, _: "\n".join(f"{style('warning', 'note:')} {terminal_safe(note)}" for note in notes))
        return ExitStatus.OK
    result = refresh(
        environment,
        input_of(values),
        check=check,
        write=not (check or dry_run),
        accept_missing=accept_missing,
    )
    return output.finish(result)
