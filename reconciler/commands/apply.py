"""``reconcile apply``: carry out a plan. ``wait`` runs the same code without writing to the service."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._event_log import EventLog, event_log, events, logged
from reconciler.commands._options import input_of, output_of, request_of
from reconciler.commands._output import Output, Progress, confirm, show_progress
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    details_of,
    open_project,
    pin_datasets,
)
from reconciler.commands._rollout import promotion_requests, publisher_of
from reconciler.commands._saved_plan import PlanFile, plan_file
from reconciler.commands._session import EventLoop
from reconciler.commands.plan import complete_request, detailed_option, offline_option, out_option, report_of, show
from reconciler.domain.errors import (
    AccessError,
    Declined,
    InterruptedRun,
    InvalidInput,
    Problem,
    ReconcileError,
    ServiceError,
    UsageError,
)
from reconciler.domain.model import State
from reconciler.domain.plan import Pruning, Request
from reconciler.engine.apply import Applier, ApplyOptions, ApplyOutcome, run_within
from reconciler.environment import Environment
from reconciler.planning.events import EventSink
from reconciler.planning.lock_review import verify_locked
from reconciler.planning.training_checks import require_startable
from reconciler.reports.documents.plan import PlanReport
from reconciler.reports.documents.result import Outcomes, ResultReport, result_report
from reconciler.reports.text.format import Layout, notices_text
from reconciler.reports.writer import render_text

if TYPE_CHECKING:
    from reconciler.commands._lock_review import LockReview

Approve = Callable[[PlanReport, tuple[Problem, ...]], bool]
"""Takes the report of a plan and the warnings about the input; returns whether to carry the plan out."""


def apply(
    environment: Environment,
    command_input: CommandInput,
    options: ApplyOptions,
    *,
    locked: bool,
    approve: Approve,
    progress: Progress,
    saved: PlanFile | None = None,
    prune: bool = False,
    base: str | None = None,
) -> CommandResult[ResultReport]:
    """Make the live state match the desired state; ``locked`` forbids trainings.

    With ``saved``, carry out exactly that plan; without ``options.writes`` only its trainings. With ``prune``, delete
    superseded and failed generations and orphans at the end. With ``base``, a commit, refuse changed facts in the
    lockfile that no manifest explains, and check each generation that serves in the lockfile and did not at the commit.

    Raises:
        StalePlan: when the saved plan is not the current plan.
        Declined: when ``approve`` returns false.
        InvalidInput: for problems of the input, with ``locked`` for manifests without a ready recorded generation, and
            with ``base`` for changed facts.
        UsageError: when git has no commit ``base``, or not all manifests are selected.
        InterruptedRun: when a signal ended the run; the lockfile is saved.
    """
    project = _saved_project(environment, command_input, saved) if saved else open_project(environment, command_input)
    if project.target.lock and not options.writes:
        _require_deployed_branch(project, train_only=options.creates)
    if saved:
        options = replace(options, request=saved.request, foreseen=False, exact=True)
    if locked:
        unready = tuple(verify_locked(project.manifests, project.target.scope, project.lock, project.lockfile))
        if unready:
            raise InvalidInput(unready)
        options = replace(options, creates=False)
    project.require_manifests()
    request = complete_request(options.request, project, prunes=prune)
    if prune:
        published = publisher_of(project).keys()
        request = replace(request, pruning=Pruning(others=project.session.all_locks(), published=published))
    options = replace(options, request=request, curves=command_input.model_details)
    base = (saved.saved.input.base or None) if saved else base
    review = _review(project, base, unselected=options.writes and not saved) if base else None
    requests = promotion_requests(project, review, offline=not options.writes)
    project = replace(project, publications=requests.publications)
    options = replace(options, request=replace(request, serving=requests.serving), withheld=requests.withheld)
    return _ApplyRun(project, options, saved, review).run(approve, progress)


def _review(project: Project, base: str, *, unselected: bool) -> LockReview:
    """Return how the lockfile differs from that at the base; ``unselected`` refuses manifests that are not selected."""
    from reconciler.commands._lock_review import review_project
    from reconciler.manifests.git import IncomparableError

    if unselected and not project.complete:
        raise UsageError(
            "--base needs all manifests of the target: each generation that serves is checked",
            f"remove -l, --only and --exclude, and pass the whole root {project.root or '.'}",
        )
    try:
        review = review_project(project, base)
    except IncomparableError as error:
        raise ReconcileError(f"the lockfile cannot be compared with {base}: {error}", error.remedy) from error
    problems = review.unexplained()
    if problems:
        raise InvalidInput(problems)
    return review


_UNMERGED_VARIABLES: Final = ("GITHUB_HEAD_REF", "CI_MERGE_REQUEST_IID", "RECONCILE_UNMERGED")
"""Variables that are set on unmerged branches only: by GitHub Actions, by GitLab CI, and by the job that settles."""


def _require_deployed_branch(project: Project, *, train_only: bool) -> None:
    """Refuse a lockfile in a bucket on an unmerged branch, whose run would write what the deployed branch serves from.

    Raises:
        ReconcileError: naming the lockfile.
    """
    environ = project.session.environment.environ
    if not train_only and not any(environ.get(name) for name in _UNMERGED_VARIABLES):
        return
    address, file = project.target.lock, project.session.lockfile.name
    raise ReconcileError(
        f"{address}: a lockfile in a bucket has no branches, so "
        + ("--train-only" if train_only else "reconcile wait in a pull request")
        + " would change the lockfile of the deployed branch",
        f"run reconcile apply on the deployed branch, or copy the object to {file} beside {project.target.file}, remove"
        " spec.lock there, and commit both",
    )


def _saved_project(environment: Environment, command_input: CommandInput, saved: PlanFile) -> Project:
    selected = saved.input(command_input)
    try:
        return saved.without_unrelated(open_project(environment, selected))
    except UsageError as error:
        raise saved.stale(error.message) from error


class Run:
    """The connection, the recorder and the publisher of one apply or prune."""

    def __init__(self, project: Project) -> None:
        self._clock = project.session.environment.clock
        self._began = self._clock()
        self._project = project
        self._sinks: list[EventSink] = []
        self._recorder = project.recorder(self._sinks)
        self._outcomes = Outcomes(lambda: self._recorder.lock)
        self._sinks.append(self._outcomes)
        self._publisher = publisher_of(project)
        self._provider = project.session.connect()

    def _result_report(self, outcome: ApplyOutcome, **more: Any) -> ResultReport:
        return result_report(
            target=self._project.target,
            capabilities=self._project.capabilities,
            requests=self._provider.requests,
            seconds=(self._clock() - self._began).total_seconds(),
            exit_status=outcome.exit_status,
            root=self._project.root,
            places=self._project.places,
            **more,
        )


class _ApplyRun(Run):
    def __init__(
        self, project: Project, options: ApplyOptions, saved: PlanFile | None, review: LockReview | None
    ) -> None:
        super().__init__(project)
        self._saved = saved
        self._review = review
        self._options = options

    def run(self, approve: Approve, progress: Progress) -> CommandResult[ResultReport]:
        with EventLoop() as loop:
            try:
                deadline = self._project.session.environment.deadline
                self._project = loop.run(run_within(deadline, pin_datasets(self._project, self._provider)))
                context = self._project.run_context(self._provider, self._recorder, self._publisher.publish)
                applier = Applier(context, self._options)
                planned = loop.run(applier.plan())
                require_startable(applier.observation.training_checks, planned.actions)
                report = report_of(self._project, planned)
                if self._review:
                    report = self._review.described(report)
                if self._saved:
                    self._saved.check(self._project, report)
                with deadline.paused():
                    approved = approve(report, self._project.workspace.problems)
                if not approved:
                    raise Declined
                self._project.store.check_writable()
                self._redact_lockfile()
                outcome = self._carry_out(loop, applier.apply(planned), progress(report))
            finally:
                loop.run(self._provider.aclose())
        result = self._result(outcome)
        if self._review:
            result = replace(result, **self._review.compared)
        if self._options.curves:
            details = details_of(self._project, self._recorder.lock, applier.observation)
            result = replace(result, model_details=details)
        project = replace(self._project, lock=self._recorder.lock)
        return CommandResult(result, outcome.exit_status, shown=report.notices, projects=(project,))

    def _redact_lockfile(self) -> None:
        """Remove examples that an earlier policy allowed in the lockfile, even if nothing else changes."""
        if not self._project.target.show_examples:
            self._recorder.must_save()

    def _carry_out(
        self, loop: EventLoop, work: Coroutine[Any, Any, ApplyOutcome], progress: AbstractContextManager[EventSink]
    ) -> ApplyOutcome:
        try:
            with progress as sink:
                self._sinks.append(sink)
                return loop.run(work)
        except KeyboardInterrupt:
            raise InterruptedRun from None
        except (AccessError, ServiceError) as error:
            models = self._recorder.lock.models.values()
            states = {generation.state for model in models for generation in model.generations}
            if State.CREATING in states:
                error.remedy = f"{error.remedy}; the trainings continue: run reconcile wait to wait for them"
            raise

    def _result(self, outcome: ApplyOutcome) -> ResultReport:
        """Return the result; it has no trainings of manifests that are not selected, even if they ended meanwhile."""
        names = {manifest.name for manifest in self._project.manifests}
        return self._result_report(
            outcome,
            plan=outcome.plan,
            outcomes=[model for model in self._outcomes.all() if model.name in names or model.deleted],
            unpublished=str(outcome.unpublished or ""),
            promotes=self._options.writes,
        )


@click.command(
    "apply",
    epilog=_options.examples(
        "apply",
        "apply --dry-run",
        "apply specs --yes --no-wait",
        "apply plan.json",
        "apply --base HEAD~1 --yes",
        "apply --retry adder --yes",
    ),
)
@_options.run_options
@_options.training_options
@_options.timeout
@events
@_options.yes
@click.option("--dry-run", is_flag=True, help="Show the plan, and change nothing, like reconcile plan.")
@offline_option
@detailed_option
@out_option
@click.option("--no-wait", is_flag=True, help="Start trainings without waiting for them. Run reconcile wait later.")
@click.option("--locked", is_flag=True, help="Train nothing. Fail unless the lockfile has a ready generation for each.")
@click.option(
    "--train-only", is_flag=True, help="Train and record only: no other changes at the service, no promotion."
)
@click.option(
    "--prune", is_flag=True, help="Also delete superseded and failed generations and orphans, like reconcile prune."
)
@click.option(
    "--base",
    metavar="REF",
    help="Review what was merged since the common ancestor of HEAD and this git branch or commit, such as the previous"
    " head: fail if no manifest explains a changed fact in the lockfile, list the changed decisions, and check every"
    " generation that serves now and did not then, before it is promoted or published.",
)
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    timeout: timedelta | None,
    yes: bool,
    dry_run: bool,
    offline: bool,
    detailed_exitcode: bool,
    out: str | None,
    no_wait: bool,
    locked: bool,
    train_only: bool,
    prune: bool,
    base: str | None,
    **values: Any,
) -> int:
    """Carry out a plan: train, update and promote models.

    Shows the plan, asks for approval, waits for the trainings, and records the result in the lockfile.

    PATHS may be one FILE that plan --out saved. Then exactly that plan is carried out, without a prompt, or nothing if
    the manifests, the lockfile or the live state have changed since. --train-only carries out its trainings only.

    --offline, --detailed-exitcode and --out need --dry-run; --yes and --no-wait have no effect with it.
    """
    environment = environment.limited(timeout)
    if dry_run:
        _options.require_compatible(
            (locked, "--dry-run", "--locked"),
            (train_only, "--dry-run", "--train-only"),
            (prune, "--dry-run", "--prune"),
            (bool(values.pop("events")), "--dry-run", "--events"),
        )
        return show(environment, values, offline=offline, detailed=detailed_exitcode, base=base, out=out)
    for given, option in ((offline, "--offline"), (detailed_exitcode, "--detailed-exitcode"), (out, "--out FILE")):
        if given:
            raise UsageError(f"{option} needs --dry-run", f"add --dry-run, or run reconcile plan {option}")
    output = output_of(values)
    request = request_of(values)
    retrains = request != Request()
    _options.require_compatible(
        (locked and retrains, "--locked", "--retry and --replace"),
        (locked and train_only, "--locked", "--train-only"),
        (prune and train_only, "--train-only", "--prune"),
        (no_wait and timeout is not None, "--no-wait", "--timeout"),
    )
    options = ApplyOptions(request=request, writes=not train_only, wait=not no_wait, foreseen=yes)
    with event_log(environment, output, values.pop("events"), "apply") as log:
        command_input = input_of(values, model_details=bool(output.reports))
        saved = plan_file(environment, command_input.paths)
        if saved and (locked or prune or retrains or base is not None):
            raise UsageError(
                f"{saved.file} already decides what to do", "remove --locked, --prune, --retry, --replace and --base"
            )
        result = apply(
            environment,
            command_input,
            options,
            locked=locked,
            approve=approver(output, log, "Apply this plan?", yes=yes or bool(saved)),
            progress=lambda report: logged(show_progress(environment, output, report), log),
            saved=saved,
            prune=prune,
            base=base,
        )
        log.ended(result)
    return output.finish(result)


def approver(
    output: Output, log: EventLog, question: str, *, yes: bool, verbose: bool = False, typed: bool = False
) -> Approve:
    """Return an approval that logs and prints the plan, and asks unless ``yes`` or without changes.

    With ``typed``, the answer is the name of the target.
    """

    def approve(report: PlanReport, warnings: tuple[Problem, ...]) -> bool:
        log.planned(report)
        output.warn(warnings)
        if not report.changes and not report.decisions:
            output.say(lambda style, width: notices_text(report.notices, Layout(width, style)))
            return True
        output.say(lambda style, width: render_text(report, width=width, verbose=verbose, style=style))
        return not report.changes or confirm(question, yes=yes, answer=report.target.name if typed else "")

    return approve
