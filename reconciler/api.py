"""The Python API, which ``reconciler`` exports: load a project, plan, and apply the plan.

The functions run the code of the commands, without output and without prompts. They use an event loop of their own:
call them from a thread in which no event loop is running.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from msgspec import structs
from msgspec.structs import replace

from reconciler.commands import apply as apply_command
from reconciler.commands import plan as plan_command
from reconciler.commands._project import CommandInput, Project, open_project
from reconciler.commands._rollout import promotion_requests
from reconciler.commands._run_info import begin_run
from reconciler.commands._saved_plan import PlanFile, saved_plan
from reconciler.commands.resolve import resolve_serving
from reconciler.domain.document import json_text
from reconciler.domain.errors import ExitStatus, InvalidInput, Problem, ReconcileError, StalePlan
from reconciler.domain.plan import Action, Kind, Reason, Request
from reconciler.domain.target_option import DEFAULT_TARGET, commands_for, use_target
from reconciler.engine.apply import ApplyOptions
from reconciler.environment import Environment
from reconciler.planning.events import Event, EventSink
from reconciler.redaction import redact, secrets_of
from reconciler.reports.documents.plan import PlanReport
from reconciler.reports.documents.result import ResultReport
from reconciler.reports.documents.saved_plan import SavedPlan

__all__ = [
    "Action",
    "ExitStatus",
    "InvalidInput",
    "Kind",
    "Problem",
    "Project",
    "ProjectPlan",
    "Reason",
    "ReconcileError",
    "Result",
    "StalePlan",
    "apply",
    "load",
    "plan",
    "resolve",
]


@contextmanager
def _redacted_errors() -> Iterator[None]:
    """Remove known secrets from the errors of a function, as the command line does; their causes are dropped."""
    with secrets_of(Environment().environ), commands_for(DEFAULT_TARGET):
        try:
            yield
        except ReconcileError as error:
            error.message, error.remedy = redact(error.message), redact(error.remedy)
            error.args = (error.message,)
            if isinstance(error, InvalidInput):
                error.problems = tuple(map(_redacted, error.problems))
            raise error from None


def _redacted(problem: Problem) -> Problem:
    return replace(problem, message=redact(problem.message), remedy=redact(problem.remedy))


@dataclass(frozen=True, slots=True)
class ProjectPlan:
    """What :func:`apply` would do about a project. The package exports it as ``reconciler.Plan``.

    Attributes:
        project: The project, with its data sets as they were planned.
        actions: One or more actions for each manifest, those that change nothing included.
        changes: Whether an action changes something.
        report: The plan with its totals and notices; its fields are those of the JSON, in snake case.
    """

    project: Project
    actions: tuple[Action, ...]
    changes: bool
    report: PlanReport = field(repr=False)
    saved: SavedPlan = field(repr=False)
    """The saved plan, as ``reconcile plan --out`` writes it."""

    def to_json(self) -> str:
        """Return the JSON that ``reconcile plan --format json`` prints."""
        return json_text(self.report)


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Attributes:
        exit_status: The status with which ``reconcile apply`` would exit; ``ExitStatus.OK`` means success.
        report: The outcome of each model, and the totals; its fields are those of the JSON, in snake case.
    """

    exit_status: ExitStatus
    report: ResultReport = field(repr=False)

    def to_json(self) -> str:
        """Return the JSON that ``reconcile apply --format json`` prints."""
        return json_text(self.report)

    @property
    def succeeded(self) -> bool:
        """Whether everything is done, and nothing is held."""
        return self.exit_status is ExitStatus.OK


@_redacted_errors()
def load(path: str | Path = ".", target: str = "default") -> Project:
    """Read and check the manifests in a directory, their target and its lockfile.

    Raises:
        InvalidInput: for invalid manifests, with every problem in ``problems``.
        ReconcileError: when there is no such target, or the lockfile cannot be read.
    """
    return open_project(Environment(), CommandInput(paths=(str(path),), target=target))


@_redacted_errors()
def plan(project: Project, *, retry: Iterable[str] = (), replace: Iterable[str] = ()) -> ProjectPlan:
    """Compare the project with the live and the recorded state. Changes nothing.

    ``retry`` and ``replace`` name models to train again, like the options of ``reconcile plan``.

    Raises:
        ReconcileError: when the service cannot be reached or refuses, a name is unknown, or an event loop is running.
        TypeError: when ``retry`` or ``replace`` is a string.
    """
    if isinstance(retry, str) or isinstance(replace, str):
        raise TypeError("retry and replace are collections of names, not one string")
    _require_no_event_loop()
    use_target(project.target.name)
    request = plan_command.complete_request(Request(frozenset(retry), frozenset(replace)), project)
    project = project.reread_lock()
    requests = promotion_requests(project)
    started, request = requests.withhold(project), structs.replace(request, serving=requests.serving)
    started, _, planned = plan_command.observe_and_plan(started, request, progress=False)
    project = structs.replace(started, lock=project.lock)
    run = begin_run(project.session.environment).info
    report = structs.replace(plan_command.report_of(project, planned), run=run)
    saved = saved_plan(request, project, report)
    return ProjectPlan(project, planned.actions, planned.changes, report, saved)


@_redacted_errors()
def apply(plan: ProjectPlan, *, wait: bool = True, timeout: timedelta | None = None) -> Result:
    """Carry out exactly this plan, and wait for its trainings, for at most ``timeout`` in total.

    Failed trainings and held actions do not raise: see :attr:`Result.exit_status`.

    Raises:
        StalePlan: when the manifests, the lockfile or the live state have changed since the plan; nothing is changed.
        ReconcileError: when the service cannot be reached or refuses, or an event loop is running.
        TypeError: when ``timeout`` is not a timedelta; nothing is started.
    """
    if not isinstance(timeout, timedelta | None):
        raise TypeError(f"timeout must be a datetime.timedelta or None, not {type(timeout).__name__}")
    _require_no_event_loop()
    run = begin_run(plan.project.session.environment).info
    result = apply_command.apply(
        plan.project.session.environment.limited(timeout),
        plan.project.input,
        ApplyOptions(wait=wait),
        locked=False,
        approve=lambda _report, _warnings: True,
        progress=lambda _report: _no_progress(),
        saved=PlanFile("the plan", plan.saved),
    )
    return Result(result.exit_status, structs.replace(result.document, run=run))


@_redacted_errors()
def resolve(project: Project, name: str, *, stage: str | None = None) -> str:
    """Return the remote name of the serving generation of a manifest, according to the lockfile.

    ``stage`` is that of the target; the default is the first one.

    Raises:
        ReconcileError: when there is no serving generation, or it is not ready, or no such stage.
    """
    use_target(project.target.name)
    return resolve_serving(project.reread_lock().in_stage(stage), name).remote


@contextmanager
def _no_progress() -> Iterator[EventSink]:
    def ignore(_event: Event) -> None:
        """Show nothing."""

    yield ignore


def _require_no_event_loop() -> None:
    """Raise ReconcileError in a thread that already runs an event loop, such as the main thread of a notebook."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ReconcileError(
        "an event loop is running in this thread", "call this function in another thread, with asyncio.to_thread"
    )
