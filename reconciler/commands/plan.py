"""``reconcile plan``: show what apply would do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._locks import other_locks
from reconciler.commands._model_details import add_model_details
from reconciler.commands._options import input_of, output_of, request_of
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    pin_datasets,
)
from reconciler.commands._saved_plan import saved_document
from reconciler.domain.errors import ExitStatus, UsageError
from reconciler.domain.plan import Plan, Request
from reconciler.environment import Environment
from reconciler.planning.cross_target import moving_notices
from reconciler.planning.dataset_versions import loss_notices
from reconciler.planning.generations import Observation
from reconciler.planning.planner import plan as make_plan
from reconciler.planning.selection import check_names
from reconciler.providers.registry import connect
from reconciler.reports.documents.dataset_diff import with_data_changes
from reconciler.reports.documents.plan_and_result import Document, plan_document
from reconciler.reports.text.plan import plan_text
from reconciler.state.document_files import check_plan_output, write_saved_plan

if TYPE_CHECKING:
    from reconciler.planning.dataset_diff import DataChanges


def plan(
    env: Environment,
    what: CommandInput,
    request: Request,
    *,
    offline: bool,
    detailed: bool,
    base: str | None = None,
    out: str | None = None,
) -> CommandResult:
    """What apply would do; ``offline`` believes the lockfile, ``detailed`` tells changes by the exit status.

    ``base`` is a commit, of which it is told how the data sets have changed since. ``out`` is a file to save the plan
    in, which apply can carry out.

    Raises:
        UsageError: when git does not know ``base``, or nothing can be saved in ``out``.
    """
    if out:
        check_plan_output(env.cwd / out, out)
    project = open_project(env, what)
    request = checked(request, project)
    seen = Observation()
    if offline:
        made = make_plan(
            project.manifests, seen, project.lock, project.target, request, project.capabilities, env.clock()
        )
    else:
        project, seen, made = _looked(env, project, what, request)
    status = ExitStatus.CHANGES if detailed and made.changes else ExitStatus.OK
    document = documented(project, made)
    if what.model_details:
        document = add_model_details(document, project.lock, project.target.scope, seen)
    if base is not None:
        document = with_data_changes(document, _data_changes(env, project, base))
    if out:
        write_saved_plan(env.cwd / out, out, saved_document(env, what, request, project, document))
    return CommandResult(document, ExitStatus.ERROR if made.failing else status, project.workspace.problems)


def _data_changes(env: Environment, project: Project, base: str) -> DataChanges:
    from reconciler.manifests.dataset_changes import data_changes

    found = data_changes(project.workspace, project.manifests, base, project.capabilities, env.environ)
    if project.target.show_examples:
        return found
    return replace(found, changes=tuple(one.without_samples for one in found.changes))


def checked(request: Request, project: Project) -> Request:
    """The request as it applies to this project; raises UsageError for names that no manifest bears."""
    check_names("--retry", request.retry, project.manifests)
    check_names("--replace", request.replace, project.manifests)
    return Request(request.retry, request.replace, complete=project.complete)


def documented(project: Project, made: Plan) -> Document:
    """The plan as a document, with what only the whole project can tell about it."""
    others = other_locks(project.workspace.root, project.workspace.lockfile)
    notices = (
        *made.notices,
        *moving_notices(made, project.target.provider, others),
        *loss_notices(project.manifests),
    )
    noted = replace(made, notices=notices)
    return plan_document(
        noted,
        project.target,
        project.capabilities,
        project.lockfile,
        root=project.root,
        places={manifest.name: manifest.place for manifest in project.manifests},
    )


def _looked(
    env: Environment, project: Project, what: CommandInput, request: Request
) -> tuple[Project, Observation, Plan]:
    from reconciler.commands._runner import EventLoop
    from reconciler.engine.observe import look

    async def work() -> tuple[Project, Observation, Plan]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            found = await pin_datasets(project, service)
            curves = what.model_details
            seen, made = await look(
                service, found.manifests, found.lock, found.target, request, env.clock, progress=curves
            )
            return found, seen, made

    with EventLoop() as session:
        return session.run(work())


@click.command("plan")
@_options.run_options
@_options.training_options
@click.option("--offline", is_flag=True, help="Take the lockfile for what is there, and ask no service.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@click.option(
    "--base", metavar="REF", help="Also show how the data sets have changed since that commit of git, like origin/main."
)
@click.option("--out", metavar="FILE", help="Also save the plan in FILE, which apply FILE carries out as it is.")
@_options.environment
def command(
    env: Environment,
    /,
    *,
    offline: bool,
    detailed_exitcode: bool,
    base: str | None,
    out: str | None,
    **values: Any,
) -> int:
    """Show what apply would do, and why. Changes nothing."""
    output, request = output_of(values, out), request_of(values)
    if out and offline:
        raise UsageError(
            "--offline asks no service, so there is nothing that --out could save", "leave one of them out"
        )
    what = replace(input_of(values), model_details=bool(output.reports))
    answer = plan(env, what, request, offline=offline, detailed=detailed_exitcode, base=base, out=out)
    output.warn(answer.warnings)
    output.result(
        answer.document,
        lambda style, width: plan_text(answer.document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status
