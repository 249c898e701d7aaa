"""Which recorded generation a command is about, and why there may be none."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from reconciler.core.problems import ReconcileError, UsageError
from reconciler.render.words import counted

if TYPE_CHECKING:
    from reconciler.app.project import Project
    from reconciler.core.lock import LockedGeneration, LockedModel


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
