"""``reconcile plan``: show what apply would do."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of, request_of, targets_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    details_of,
    open_project,
    pin_datasets,
)
from reconciler.commands._saved_plan import saved_plan
from reconciler.commands._targets import finish_targets
from reconciler.domain.errors import ExitStatus, UsageError
from reconciler.domain.plan import Observation, Plan, Request
from reconciler.domain.text import terminal_safe
from reconciler.environment import Environment
from reconciler.manifests.discovery import ALL_TARGETS, check_names
from reconciler.planning.datasets import missing_dataset_notices
from reconciler.planning.planner import cross_target_notices
from reconciler.reports.documents.plan import PlanReport, plan_report, with_data_changes
from reconciler.state.document_files import check_plan_output, write_saved_plan

if TYPE_CHECKING:
    from reconciler.commands._lock_review import LockReview
    from reconciler.planning.datasets import DatasetChanges
    from reconciler.providers.spec import ConnectedProvider


def plan(
    environment: Environment,
    command_input: CommandInput,
    request: Request,
    *,
    offline: bool,
    detailed: bool,
    base: str | None = None,
    out: str | None = None,
) -> CommandResult[PlanReport]:
    """Return what apply would do; ``offline`` trusts the lockfile, ``detailed`` reports changes in the exit status.

    With ``base``, a commit, the result shows how the lockfile and the data sets have changed since. ``out`` is the
    file of a saved plan.

    Raises:
        UsageError: when git has no commit ``base``, or no plan can be saved in ``out``.
    """
    if out:
        check_plan_output(environment.cwd / out, out)
    project = open_project(environment, command_input)
    request = complete_request(request, project)
    review, obstacle = _review(project, base) if base is not None else (None, "")
    observation, started = Observation(), project
    if review or not offline:
        from reconciler.commands._rollout import promotion_requests

        requests = promotion_requests(project, review, offline=offline)
        request, started = replace(request, serving=requests.serving), requests.withhold(project)
    if offline:
        planned = started.plan(observation, request)
    else:
        started, observation, planned = observe_and_plan(started, request, progress=command_input.model_details)
        project = replace(started, lock=project.lock)
    report = report_of(project, planned, verified=not offline)
    if command_input.model_details:
        report = replace(report, model_details=details_of(project, project.lock, observation))
    if base is not None:
        report = with_data_changes(report, _data_changes(project, base, review.commit if review else ""))
        compared = report.base is not None and report.base.commit
        notices = (f"the lockfile is not compared with {base}: {obstacle}",) if compared and obstacle else ()
        report = replace(report, notices=(*report.notices, *notices))
    if review:
        report = review.described(report)
    if out:
        saved = saved_plan(request, project, report, base=review.commit if review else "")
        write_saved_plan(environment.cwd / out, out, saved)
    status = ExitStatus.CHANGES if detailed and planned.changes else ExitStatus.OK
    status = planned.exit_status or (ExitStatus.ERROR if report.unexplained else status)
    return CommandResult(report, status, project.workspace.problems, projects=(project,))


def _data_changes(project: Project, base: str, commit: str) -> DatasetChanges:
    from reconciler.manifests.base_commit import data_changes

    environ = project.session.environment.environ
    report = data_changes(project.workspace, project.manifests, base, commit, project.capabilities, environ)
    if project.target.show_examples:
        return report
    return replace(report, changes=tuple(change.without_samples for change in report.changes))


def _review(project: Project, base: str) -> tuple[LockReview | None, str]:
    """Return how the lockfile differs from that at the base, or else why it cannot be compared."""
    from reconciler.commands._lock_review import review_project
    from reconciler.manifests.git import IncomparableError

    try:
        return review_project(project, base), ""
    except IncomparableError as error:
        return None, error.advice


def complete_request(request: Request, project: Project, *, prunes: bool = False) -> Request:
    """Return the request for this project; raise UsageError for names that no manifest has."""
    check_names("--retry", request.retry, project.manifests)
    check_names("--replace", request.replace, project.manifests)
    return Request(request.retry, request.replace, complete=project.complete, unread=project.unread(prunes=prunes))


def report_of(project: Project, planned: Plan, *, verified: bool = True) -> PlanReport:
    """Return the report of a plan, with notices about other targets and lost data sets."""
    notices = (
        *planned.notices,
        *cross_target_notices(planned, project.target.provider, project.session.readable_locks()),
        *missing_dataset_notices(project.manifests),
    )
    return plan_report(
        replace(planned, notices=notices),
        project.target,
        project.capabilities,
        project.lockfile,
        root=project.root,
        places=project.places,
        verified=verified,
    )


def observe_and_plan(project: Project, request: Request, *, progress: bool) -> tuple[Project, Observation, Plan]:
    """Return the project with its current data sets, the live state and the plan; ``progress`` includes loss curves."""
    from reconciler.engine.observe import plan_live_state

    async def work(service: ConnectedProvider) -> tuple[Project, Observation, Plan]:
        pinned = await pin_datasets(project, service)
        observation, planned = await plan_live_state(
            service,
            pinned.world(request=request),
            pinned.session.environment.clock,
            progress=progress,
            examples=pinned.workspace,
        )
        return pinned, observation, planned

    return project.session.query(work)


offline_option = click.option("--offline", is_flag=True, help="Plan from the lockfile, without contacting the service.")
detailed_option = click.option("--detailed-exitcode", is_flag=True, help="Exit with status 2 if there are changes.")
out_option = click.option("--out", metavar="FILE", help="Save the plan to FILE, to carry it out with apply FILE.")


@click.command(
    "plan",
    epilog=_options.examples(
        "plan",
        "plan specs/adder.yaml --target prod",
        "plan --base origin/main --report plan.md",
        "plan --out plan.json",
    ),
)
@_options.targets_options
@_options.output_options
@_options.reports
@_options.monitoring
@_options.training_options
@offline_option
@detailed_option
@click.option(
    "--base",
    metavar="REF",
    help="Also show what changed in the lockfile and in the data sets since the common ancestor of HEAD and this git"
    " branch or commit, like origin/main.",
)
@out_option
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    offline: bool,
    detailed_exitcode: bool,
    base: str | None,
    out: str | None,
    **values: Any,
) -> int:
    """Show what apply would do, and why. Changes nothing. Also available as diff.

    Exit status 2 means changes, with --detailed-exitcode.
    """
    return show(environment, values, offline=offline, detailed=detailed_exitcode, base=base, out=out)


def show(
    environment: Environment,
    values: dict[str, Any],
    *,
    offline: bool,
    detailed: bool,
    base: str | None,
    out: str | None,
) -> int:
    """Print the plan for the other ``values`` of the options, and return the exit status."""
    output, request, names = output_of(values, out), request_of(values), targets_of(values)
    if out and offline:
        raise UsageError("--out needs a plan from the live state, which --offline does not read", "remove one of them")
    if out and (len(names) > 1 or ALL_TARGETS in names):
        raise UsageError("--out saves the plan of one target", "pass one --target NAME, or remove --out")
    command_input = input_of(values, model_details=bool(output.reports))

    def run(command_input: CommandInput) -> CommandResult[PlanReport]:
        return plan(environment, command_input, request, offline=offline, detailed=detailed, base=base, out=out)

    status = finish_targets(environment, output, command_input, names, run, "plan")
    if out:
        file = terminal_safe(shlex.quote(out))
        output.say(lambda _style, _width: f"saved {terminal_safe(out)}; carry it out with `reconcile apply {file}`")
    return status
