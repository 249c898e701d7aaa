"""The input of a command, read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.commands._locks import lock_store
from reconciler.domain.errors import ExitStatus, InvalidInput, Problem, ReconcileError, UsageError
from reconciler.domain.lock import Lock, check_owner
from reconciler.domain.model import Capabilities, Manifest, Target
from reconciler.domain.ports import LockStore, Objects
from reconciler.environment import Environment
from reconciler.manifests.workspace import Workspace, load
from reconciler.planning.dataset_versions import addresses, pinned
from reconciler.planning.selection import Selection
from reconciler.providers.registry import capabilities_of
from reconciler.reports.documents.plan_and_result import Document
from reconciler.reports.text.format import counted
from reconciler.state.lockfile import loads

if TYPE_CHECKING:
    from reconciler.domain.lock import LockedGeneration, LockedModel
    from reconciler.providers.registry import Service


EVERYTHING = Selection()
ReadLock = Callable[[LockStore, Target, str], Lock]


@dataclass(frozen=True, slots=True)
class CommandInput:
    """What every command is about: paths, the target's name, which manifests, and further hosts that may see tokens.

    ``model_details`` asks for details of each recorded model in the document, which costs a longer list.
    """

    paths: tuple[str, ...] = ()
    target: str | None = None
    selection: Selection = EVERYTHING
    allow_endpoints: frozenset[str] = frozenset()
    model_details: bool = False


@dataclass(frozen=True, slots=True)
class Project:
    """Valid input.

    Data sets in Cloud Storage are those that the lockfile records, until they are looked at. ``complete`` says that
    this is all there is in the root; ``store`` keeps the lockfile, and ``lockfile`` is its path as shown.
    """

    workspace: Workspace
    manifests: tuple[Manifest, ...]
    complete: bool
    capabilities: Capabilities
    cwd: Path
    store: LockStore
    lockfile: str
    lock: Lock

    @property
    def target(self) -> Target:
        """The target that the command works on."""
        return self.workspace.target

    @property
    def root(self) -> str:
        """The root as shown, empty for the working folder."""
        return shown_root(self.workspace.root, self.cwd)


def read_workspace(env: Environment, what: CommandInput) -> Workspace:
    """Everything that stands in the files, its problems included; what the service cannot do, of the chosen manifests.

    Raises:
        UsageError: when there is no target.
    """
    return load(
        what.paths,
        target=what.target,
        cwd=env.cwd,
        stdin=env.stdin,
        environ=env.environ,
        capabilities=capabilities_of,
        selected=what.selection.matches,
    )


def open_project(env: Environment, what: CommandInput, *, strict: bool = True) -> Project:
    """Read manifests, target and lockfile; without ``strict``, manifests with problems are merely left out.

    Raises:
        InvalidInput: with every problem of every file.
        UsageError: when there is no target, or a name that no manifest bears.
        ReconcileError: when the lockfile cannot be read, or belongs to something else.
    """
    return load_project(env, read_workspace(env, what), what, strict=strict)


def read_lock(store: LockStore, target: Target, shown: str) -> Lock:
    """What a lockfile records, which messages call ``shown``; nothing where there is none.

    Raises:
        ReconcileError: when it cannot be read, or belongs to another target.
    """
    text = store.read()
    lock = Lock() if text is None else loads(text, shown)
    check_owner(lock, target, shown)
    return lock


def load_project(
    env: Environment, workspace: Workspace, what: CommandInput, *, strict: bool = True, read: ReadLock = read_lock
) -> Project:
    """The project in a workspace, with its lockfile as ``read`` reads it; raises as :func:`open_project` does."""
    if strict and workspace.errors:
        raise InvalidInput(workspace.problems)
    store = lock_store(env, workspace, what.allow_endpoints)
    shown = workspace.target.lock or shown_path(workspace.lockfile, env.cwd)
    lock = read(store, workspace.target, shown)
    return Project(
        workspace=workspace,
        manifests=pinned(what.selection.select(workspace.manifests), {}, lock),
        complete=workspace.complete and what.selection.selects_all,
        capabilities=capabilities_of(workspace.target),
        cwd=env.cwd,
        store=store,
        lockfile=shown,
        lock=lock,
    )


def reread_project(project: Project) -> Project:
    """The project with its lockfile as it is now, which another run may have saved meanwhile.

    Raises:
        ReconcileError: when the lockfile cannot be read, or belongs to something else by now.
    """
    return replace(project, lock=read_lock(project.store, project.target, project.lockfile))


def shown_root(root: Path, cwd: Path) -> str:
    """A root as the user would write it, empty for the working folder."""
    shown = shown_path(root, cwd)
    return "" if shown == "." else shown


def shown_path(path: Path, cwd: Path) -> str:
    """A path as the user would write it."""
    return path.relative_to(cwd).as_posix() if path.is_relative_to(cwd) else str(path)


def recorded_model(project: Project, name: str) -> LockedModel:
    """What is recorded under a manifest's name.

    Raises:
        ReconcileError: when nothing is.
    """
    locked = project.lock.models.get(name)
    if locked is None:
        raise _unserved(project, name)
    return locked


def serving_generation(project: Project, name: str) -> LockedGeneration:
    """The generation that serves a manifest, in whatever state it was recorded.

    Raises:
        ReconcileError: when nothing serves it, or nobody knows that name.
    """
    locked = project.lock.models.get(name)
    serving = locked.generation(locked.serving) if locked else None
    if serving is None:
        raise _unserved(project, name)
    return serving


def recorded_generation(project: Project, name: str, key: str) -> LockedGeneration:
    """The generation of a manifest that was recorded under that key.

    Raises:
        ReconcileError: when nothing is recorded under that name.
        UsageError: when no generation of it has that key; naming those that there are.
    """
    locked = recorded_model(project, name)
    found = locked.generation(key)
    if found is None:
        raise UsageError(f"{name} has no recorded generation {key}", _others(locked, key))
    return found


def _others(locked: LockedModel, key: str) -> str:
    keys = [one.key for one in locked.generations]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.8)
    return f"did you mean {near[0]}?" if near else f"the recorded ones are: {', '.join(keys) or 'none'}"


def _unserved(project: Project, name: str) -> ReconcileError:
    if name not in _known(project):
        return unknown_name(project, name, f"nothing serves {name}")
    why, remedy = _reason(name, project.lock.models.get(name))
    return ReconcileError(f"nothing serves {name}: {why}", remedy)


def unknown_name(project: Project, name: str, what: str) -> ReconcileError:
    """The error of a name that neither a manifest nor the lockfile knows; ``what`` says what comes of it."""
    known = sorted(_known(project))
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"the names are: {', '.join(known) or 'none'}"
    return ReconcileError(f"{what}: neither a manifest nor {project.lockfile} knows that name", remedy)


def _known(project: Project) -> set[str]:
    return {one.name for one in project.manifests} | project.lock.models.keys()


def _reason(name: str, locked: LockedModel | None) -> tuple[str, str]:
    """Why nothing serves a known manifest, and what to do about it."""
    if locked is None:
        return "it was never applied", "run reconcile apply first"
    newest = locked.generations[0] if locked.generations else None
    if newest and newest.key in locked.rejected:
        return f"{newest.key} was rolled back", f"reconcile promote {name} lets it serve again"
    if newest and newest.checks and newest.checks.failed:
        checks = counted(newest.checks.failed, "check")
        return f"{newest.key} failed {checks}", f"see reconcile history {name}; change the inputs or the checks"
    return "none of its generations has been promoted yet", "run reconcile apply first"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command: a versioned document, the status to exit with, and the warnings about the input."""

    document: Document
    exit_status: ExitStatus = ExitStatus.OK
    warnings: tuple[Problem, ...] = ()


async def pin_datasets(project: Project, service: Service) -> Project:
    """The project with its data sets in Cloud Storage as they are now; nothing is asked where there are none."""
    if not addresses(project.manifests):
        return project
    if not isinstance(service, Objects):
        raise TypeError("validation refuses data sets in Cloud Storage where a service cannot read them")
    from reconciler.engine.observe import pin

    found = await pin(service, project.manifests, project.target.limits.concurrency)
    return replace(project, manifests=pinned(project.manifests, found, project.lock))
