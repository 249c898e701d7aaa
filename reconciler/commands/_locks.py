"""Where a target's lockfile is kept, and what the other targets of its root recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock
from reconciler.domain.model import Target
from reconciler.environment import Environment
from reconciler.manifests.discovery import Root, target_files
from reconciler.manifests.target import read_target
from reconciler.providers.registry import connect_storage
from reconciler.state.lock_store import LockFile, RedactedLockStore
from reconciler.state.lockfile import loads

if TYPE_CHECKING:
    from reconciler.domain.ports import LockStore
    from reconciler.manifests.workspace import Workspace


_RUN_VARIABLES = ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "CI_JOB_URL", "BUILD_URL")
"""Variables by which CI systems name a run."""


def lock_store(env: Environment, workspace: Workspace, allow_endpoints: frozenset[str]) -> LockStore:
    """The lockfile beside the target file, or the one that the target keeps in a bucket."""
    target = workspace.target
    kept: LockStore = LockFile(workspace.lockfile)
    if target.lock:
        kept = bucket_text(env, target, target.lock, allow_endpoints, "the lockfile")
    return kept if target.show_examples else RedactedLockStore(kept)


def bucket_text(
    env: Environment, target: Target, address: str, allow_endpoints: frozenset[str], called: str
) -> LockStore:
    """A text that is kept at a ``gs://`` address, with compare-and-swap; messages call it ``called``."""
    from reconciler.providers.google.bucket_lock import BucketLock

    return BucketLock(
        address,
        lambda: connect_storage(env, target, allow_endpoints),
        clock=env.clock,
        sleep=env.sleeper,
        holder=_holder(env.environ),
        called=called,
    )


def _holder(environ: Mapping[str, str]) -> str:
    """This run, for people who wonder who holds a lease."""
    import socket

    named = [environ[name] for name in _RUN_VARIABLES if environ.get(name)]
    return " ".join([f"process {os.getpid()} on {socket.gethostname()}", *named])


def every_other_lock(env: Environment, workspace: Workspace, allow_endpoints: frozenset[str]) -> tuple[Lock, ...]:
    """The lockfiles of all other targets of a root, those that are kept in buckets too.

    Raises:
        ReconcileError: when one of them, or the target that says where it is, cannot be read: then nobody knows what
            it relies on.
    """
    own = workspace.lockfile
    beside = [LockFile(path) for path in sorted(own.parent.glob("reconcile*.lock.json")) if path != own]
    remote = (
        bucket_text(env, target, target.lock, allow_endpoints, "the lockfile")
        for target in _other_targets(workspace, env.environ)
        if target.lock and target.lock != workspace.target.lock
    )
    return tuple(_required(store) for store in (*beside, *remote))


def _other_targets(workspace: Workspace, environ: Mapping[str, str]) -> Iterator[Target]:
    for file in target_files(workspace.root):
        if file.with_suffix(".lock.json") == workspace.lockfile:
            continue
        found = read_target(Root(workspace.root, file), file.name, environ)
        if found.target is None:
            raise ReconcileError(
                f"{found.problems[0]}", "correct it: nobody knows what its lockfile relies on, so nothing is deleted"
            )
        yield found.target


def _required(store: LockStore) -> Lock:
    try:
        text = store.read()
        return Lock() if text is None else loads(text, str(store.path))
    except ReconcileError as error:
        error.remedy = f"{error.remedy}; nobody knows what it relies on, so nothing is deleted"
        raise


def other_locks(folder: Path, own: Path) -> Iterator[Lock]:
    """The lockfiles of the other targets in a folder, as far as they can be read."""
    for path in sorted(folder.glob("reconcile*.lock.json")):
        if path == own:
            continue
        try:
            text = LockFile(path).read()
            yield Lock() if text is None else loads(text, path.name)
        except ReconcileError:
            continue  # it is that target's affair, and told there
