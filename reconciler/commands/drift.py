"""The command that tells drift. It reads, and writes nothing anywhere."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from reconciler.commands import _options
from reconciler.commands._model_details import add_model_details
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project, pin_datasets
from reconciler.commands._runner import EventLoop
from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ExitStatus, ReconcileError, UsageError
from reconciler.engine.observe import observe_all
from reconciler.environment import Environment
from reconciler.planning.dataset_versions import loss_notices
from reconciler.planning.drift import drift, with_severities
from reconciler.planning.generations import Observation, is_suspicious
from reconciler.planning.planner import describe_suspicion
from reconciler.providers.registry import connect
from reconciler.reports.documents.drift import drift_document, drift_text

if TYPE_CHECKING:
    from reconciler.environment import Environment


UnmanagedDetail = Literal["all", "none", "summary"]
CLASSES: Final = tuple(kind for kind in DriftClass if kind is not DriftClass.IN_SYNC)
"""The classes that ``--fail-on`` accepts."""
_DEFAULT_CLASSES: Final = ", ".join(kind for kind in CLASSES if kind.severity == "drift")
_OTHER_CLASSES: Final = ", ".join(kind for kind in CLASSES if kind.severity == "note")
_STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class DriftOptions:
    """What counts: ``fail_on`` in place of what does by default, and ``exit_zero`` whatever is found.

    ``unmanaged`` says what is told of foreign models: each of them, nothing, or how many there are.
    """

    fail_on: frozenset[DriftClass] | None = None
    exit_zero: bool = False
    unmanaged: UnmanagedDetail = "summary"


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


def find_drift(env: Environment, what: CommandInput, judgement: DriftOptions) -> CommandResult:
    """What has changed behind the manifests' back, and where they are ahead.

    Raises:
        InvalidInput: for problems of the input.
        ReconcileError: when so much is gone at once that it is not believed.
    """
    project = open_project(env, what)
    project, seen = _looked(env, project, what, foreign=judgement.unmanaged != "none")
    if is_suspicious(project.lock, seen):
        raise ReconcileError(describe_suspicion(project.lock, seen))
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
    findings = with_severities(_wanted(everything, judgement.unmanaged), judgement.fail_on)
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
    if what.model_details:
        document = add_model_details(document, project.lock, project.target.scope, seen)
    return CommandResult(document, ExitStatus(document["exitStatus"]), project.workspace.problems)


def _looked(env: Environment, project: Project, what: CommandInput, *, foreign: bool) -> tuple[Project, Observation]:
    async def work() -> tuple[Project, Observation]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            pinned = await pin_datasets(project, service)
            seen = await observe_all(
                service, pinned.manifests, pinned.lock, pinned.target, progress=what.model_details, foreign=foreign
            )
            return pinned, seen

    with EventLoop() as session:
        return session.run(work())


def _wanted(findings: Iterable[Finding], unmanaged: UnmanagedDetail) -> Iterable[Finding]:
    return (one for one in findings if unmanaged == "all" or one.kind is not DriftClass.UNMANAGED)


def _where(what: CommandInput) -> str:
    """What further commands need to be about the same paths and target."""
    paths = [path for path in what.paths if path != _STDIN]
    return shlex.join([*paths, *(("--target", what.target) if what.target else ())])


def _notices(project: Project) -> tuple[str, ...]:
    partial = (
        "only a part of the manifests was read, so nobody can tell what is Orphaned, or another branch's; "
        f"name the whole of {project.root or '.'}, without labels, to see that"
    )
    return (*loss_notices(project.manifests), *(() if project.complete else (partial,)))


@click.command("drift")
@_options.manifest_options
@_options.output_options
@_options.reports
@click.option(
    "--fail-on",
    multiple=True,
    metavar="CLASS,...",
    help=f"The classes of findings that exit with 2; repeatable. Default: {_DEFAULT_CLASSES}. Other classes: "
    f"{_OTHER_CLASSES}.",
)
@click.option("--exit-zero", is_flag=True, help="Exit with 0 whatever is found.")
@click.option(
    "--unmanaged",
    type=click.Choice(["all", "none", "summary"]),
    default="summary",
    show_default=True,
    help="What to tell of foreign models: each, nothing, or how many there are.",
)
@_options.environment
def command(env: Environment, /, *, fail_on: tuple[str, ...], exit_zero: bool, unmanaged: Any, **values: Any) -> int:
    """Show what has changed behind the manifests' back, and where they are ahead. Changes nothing anywhere.

    Exit status 2 says that there is drift.
    """
    output = output_of(values)
    judgement = DriftOptions(fail_on=_classes(fail_on), exit_zero=exit_zero, unmanaged=unmanaged)
    what = replace(input_of(values), model_details=bool(output.reports))
    answer = find_drift(env, what, judgement)
    output.warn(answer.warnings)
    output.result(
        answer.document,
        lambda style, width: drift_text(answer.document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status


def _classes(texts: tuple[str, ...]) -> frozenset[DriftClass] | None:
    if not texts:
        return None
    return frozenset(class_of(name) for text in texts for name in text.split(","))
