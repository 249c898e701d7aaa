"""``reconcile destroy``: delete every generation of the selected models."""

from __future__ import annotations

from typing import Any

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._event_log import event_log, events, logged
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Progress, show_progress
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project
from reconciler.commands._rollout import publisher_of
from reconciler.commands.apply import Approve, approver
from reconciler.commands.prune import PruneRun, require_known
from reconciler.domain.errors import UsageError
from reconciler.domain.plan import Pruning, Request
from reconciler.domain.text import quote
from reconciler.environment import Environment
from reconciler.manifests.discovery import Selection
from reconciler.reports.documents.envelope import without_notices
from reconciler.reports.documents.plan import PlanReport
from reconciler.reports.documents.result import ResultReport
from reconciler.reports.text.format import Layout
from reconciler.reports.text.result import prune_text


def destroy(
    environment: Environment,
    command_input: CommandInput,
    names: frozenset[str],
    *,
    confirmed: str | None,
    approve: Approve | None,
    progress: Progress,
) -> CommandResult[PlanReport | ResultReport]:
    """Delete all generations of the selected models, or of ``names``; without ``approve``, return the plan.

    The rules of prune apply as if no manifest declared these models. A protected or suspended manifest stays declared.

    Raises:
        UsageError: when ``confirmed`` is the name of another target; for names that other options do not select.
        Declined: when ``approve`` returns false.
        ReconcileError: for unknown names, and if the root has no manifest at all.
        InvalidInput: for problems of the input.
        InterruptedRun: when a signal ended the run; the lockfile is saved.
    """
    chosen = open_project(environment, command_input)
    chosen.require_manifests()
    if confirmed not in {None, chosen.target.name}:
        raise UsageError(
            f"--confirm {quote(confirmed)}: the target is {quote(chosen.target.name)}", "check --target and --confirm"
        )
    require_known(chosen, names)
    whole = replace(command_input, paths=(str(chosen.session.root),), selection=Selection())
    project = chosen if chosen.complete else open_project(environment, whole)
    unread = project.unread(prunes=True)
    destroyed = names or _declared(chosen)
    if chosen.complete and not names:
        destroyed |= {name for name in project.lock.models.keys() - _declared(chosen) if not unread.reason(name)}
    pruning = Pruning(
        others=project.session.all_locks(), names=destroyed, destroys=True, published=publisher_of(project).keys()
    )
    request = Request(complete=project.complete, pruning=pruning, unread=unread)
    return PruneRun(project, request, ()).run(approve, progress)


def _declared(project: Project) -> frozenset[str]:
    return frozenset(name for manifest in project.manifests for name in manifest.names)


@click.command("destroy", epilog=_options.examples("destroy --dry-run", "destroy adder"))
@_options.named_run_options
@events
@click.option("--dry-run", is_flag=True, help="Show what would be deleted. Changes nothing.")
@click.option(
    "--confirm",
    "confirmed",
    metavar="TARGET",
    help="Approve with the name of the target instead of typing it. Required when stdin is not a terminal.",
)
@_options.environment
def command(environment: Environment, /, *, dry_run: bool, confirmed: str | None, **values: Any) -> int:
    """Delete every generation of the selected models.

    With NAMES, deletes only these models. Without NAMES and options that select, deletes all models that the target
    records, orphans included. Serving generations are taken out of service first. Asks for the name of the target.

    The rules of prune apply: never deletes protected, suspended or adopted models, generations that a lockfile of
    another target serves, publishes or protects, trainings in progress, parents of remaining generations, or more than
    limits.maxDeletes and limits.maxDeletePercent of the target allow. The manifests remain: apply trains them again.
    """
    output = output_of(values)
    with event_log(environment, output, values.pop("events"), "destroy") as log:
        names, values["paths"] = _options.split_names(values["paths"], environment.cwd)
        question = "Delete all of these models? This cannot be undone."
        result = destroy(
            environment,
            input_of(values),
            names,
            confirmed=confirmed,
            approve=None
            if dry_run
            else approver(output, log, question, yes=confirmed is not None, verbose=bool(output.verbose), typed=True),
            progress=lambda report: logged(show_progress(environment, output, report), log),
        )
        document = result.document
        if isinstance(document, PlanReport):
            log.planned(document)
        log.ended(result)
    if isinstance(document, PlanReport):
        return output.finish(result)
    unseen = without_notices(document, result.shown)
    return output.finish(result, lambda style, width: prune_text(unseen, Layout(width, style)))
