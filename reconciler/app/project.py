"""The input of a command, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.app.environment import Environment
from reconciler.app.locks import lock_store
from reconciler.app.services import capabilities_of
from reconciler.core.lock import Lock, check_owner
from reconciler.core.lock_text import loads
from reconciler.core.model import Capabilities, Manifest, Target
from reconciler.core.pinning import pinned
from reconciler.core.ports import LockStore
from reconciler.core.problems import InvalidInput
from reconciler.core.selection import Selection
from reconciler.files.workspace import Workspace, load

EVERYTHING = Selection()
ReadLock = Callable[[LockStore, Target, str], Lock]


@dataclass(frozen=True, slots=True)
class Input:
    """What every command is about: paths, the target's name, which manifests, and further hosts that may see tokens.

    ``portraits`` asks for a portrait of each recorded model in the document, which costs a longer list.
    """

    paths: tuple[str, ...] = ()
    target: str | None = None
    selection: Selection = EVERYTHING
    allow_endpoints: frozenset[str] = frozenset()
    portraits: bool = False


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


def read_workspace(env: Environment, what: Input) -> Workspace:
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
        selected=what.selection.chooses,
    )


def open_project(env: Environment, what: Input, *, strict: bool = True) -> Project:
    """Read manifests, target and lockfile; without ``strict``, manifests with problems are merely left out.

    Raises:
        InvalidInput: with every problem of every file.
        UsageError: when there is no target, or a name that no manifest bears.
        ReconcileError: when the lockfile cannot be read, or belongs to something else.
    """
    return project_of(env, read_workspace(env, what), what, strict=strict)


def read_lock(store: LockStore, target: Target, shown: str) -> Lock:
    """What a lockfile records, which messages call ``shown``; nothing where there is none.

    Raises:
        ReconcileError: when it cannot be read, or belongs to another target.
    """
    text = store.read()
    lock = Lock() if text is None else loads(text, shown)
    check_owner(lock, target, shown)
    return lock


def project_of(
    env: Environment, workspace: Workspace, what: Input, *, strict: bool = True, read: ReadLock = read_lock
) -> Project:
    """The project in a workspace, with its lockfile as ``read`` reads it; raises as :func:`open_project` does."""
    if strict and workspace.errors:
        raise InvalidInput(workspace.problems)
    store = lock_store(env, workspace, what.allow_endpoints)
    shown = workspace.target.lock or shown_path(workspace.lock.path, env.cwd)
    lock = read(store, workspace.target, shown)
    return Project(
        workspace=workspace,
        manifests=pinned(what.selection.of(workspace.manifests), {}, lock),
        complete=workspace.complete and what.selection.everything,
        capabilities=capabilities_of(workspace.target),
        cwd=env.cwd,
        store=store,
        lockfile=shown,
        lock=lock,
    )


def reread(project: Project) -> Project:
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
