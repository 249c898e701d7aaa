"""The command that tells drift. It reads, and writes nothing anywhere."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from reconciler.app.commands import Answer, with_pins
from reconciler.app.portraying import portrayed
from reconciler.app.project import Input, Project, open_project
from reconciler.app.services import connect
from reconciler.app.session import Session
from reconciler.core.drift import DriftClass, Finding, drift, judged
from reconciler.core.generations import Observation, is_suspicious
from reconciler.core.pinning import loss_notices
from reconciler.core.planner import suspicion
from reconciler.core.problems import ExitStatus, ReconcileError, UsageError
from reconciler.engine.look import look_around
from reconciler.render.drift import drift_document

if TYPE_CHECKING:
    from reconciler.app.environment import Environment

Foreign = Literal["all", "none", "summary"]
CLASSES: Final = tuple(one for one in DriftClass if one is not DriftClass.IN_SYNC)
"""What a run can be told to fail on."""
_STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What counts: ``fail_on`` in place of what does by default, and ``exit_zero`` whatever is found.

    ``unmanaged`` says what is told of foreign models: each of them, nothing, or how many there are.
    """

    fail_on: frozenset[DriftClass] | None = None
    exit_zero: bool = False
    unmanaged: Foreign = "summary"


def class_of(text: str) -> DriftClass:
    """The class of that name, in whatever case.

    Raises:
        UsageError: naming the nearest class, or all of them.
    """
    by_name = {one.lower(): one for one in CLASSES}
    found = by_name.get(text.strip().lower())
    if found is None:
        near = difflib.get_close_matches(text.strip().lower(), by_name, n=1)
        remedy = f"did you mean {by_name[near[0]]}?" if near else f"the classes are: {', '.join(CLASSES)}"
        raise UsageError(f"--fail-on {text}: no class of that name", remedy)
    return found


def find_drift(env: Environment, what: Input, judgement: Judgement) -> Answer:
    """What has changed behind the manifests' back, and where they are ahead.

    Raises:
        InvalidInput: for problems of the input.
        ReconcileError: when so much is gone at once that it is not believed.
    """
    project = open_project(env, what)
    project, seen = _looked(env, project, what, foreign=judgement.unmanaged != "none")
    if is_suspicious(project.lock, seen):
        raise ReconcileError(suspicion(project.lock, seen))
    everything = drift(
        project.manifests,
        seen,
        project.lock,
        project.target,
        project.capabilities,
        env.clock(),
        complete=project.complete,
        where=_where(what),
    )
    findings = judged(_wanted(everything, judgement.unmanaged), judgement.fail_on)
    foreign = sum(one.kind is DriftClass.UNMANAGED for one in everything)
    document = drift_document(
        findings,
        project.target,
        project.capabilities,
        project.lockfile,
        unmanaged=None if judgement.unmanaged == "none" else foreign,
        notices=_notices(project),
        exit_zero=judgement.exit_zero,
        root=project.root,
    )
    if what.portraits:
        document = portrayed(document, project.lock, project.target.scope, seen)
    return Answer(document, ExitStatus(document["exitStatus"]), project.workspace.problems)


def _looked(env: Environment, project: Project, what: Input, *, foreign: bool) -> tuple[Project, Observation]:
    async def work() -> tuple[Project, Observation]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            pinned = await with_pins(project, service)
            seen = await look_around(
                service, pinned.manifests, pinned.lock, pinned.target, progress=what.portraits, foreign=foreign
            )
            return pinned, seen

    with Session() as session:
        return session.run(work())


def _wanted(findings: Iterable[Finding], unmanaged: Foreign) -> Iterable[Finding]:
    return (one for one in findings if unmanaged == "all" or one.kind is not DriftClass.UNMANAGED)


def _where(what: Input) -> str:
    """What further commands need to be about the same paths and target."""
    paths = [path for path in what.paths if path != _STDIN]
    return shlex.join([*paths, *(("--target", what.target) if what.target else ())])


def _notices(project: Project) -> tuple[str, ...]:
    partial = (
        "only a part of the manifests was read, so nobody can tell what is Orphaned, or another branch's; "
        f"name the whole of {project.root or '.'}, without labels, to see that"
    )
    return (*loss_notices(project.manifests), *(() if project.complete else (partial,)))
