"""``reconcile prune``: delete superseded and failed generations, and orphans."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._event_log import event_log, events, logged
from reconciler.commands._options import age, input_of, output_of
from reconciler.commands._output import Progress, show_progress
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project, pin_datasets
from reconciler.commands._rollout import publisher_of
from reconciler.commands._session import EventLoop
from reconciler.commands.apply import Approve, Run, approver
from reconciler.domain.errors import Declined, InterruptedRun, UsageError
from reconciler.domain.plan import Plan, Pruning, Request, limit_notices
from reconciler.domain.text import suggest
from reconciler.engine.apply import ApplyOutcome
from reconciler.engine.prune import Pruner
from reconciler.environment import Environment
from reconciler.planning.events import EventSink
from reconciler.planning.prune import approved_only
from reconciler.reports.documents.envelope import without_notices
from reconciler.reports.documents.plan import PlanReport, plan_report
from reconciler.reports.documents.result import ResultReport
from reconciler.reports.text.format import Layout
from reconciler.reports.text.result import prune_text


class PruneOptions(Struct, frozen=True):
    """Limits deletions to generations ``older_than`` this, and removes the protection of the models ``unprotect``.

    With ``names``, only generations of these models are deleted, also if a manifest that was not read may declare them.
    ``adopted`` are the remote names of adopted models that may be deleted.
    """

    older_than: timedelta | None = None
    unprotect: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    adopted: frozenset[str] = frozenset()


def prune(
    environment: Environment,
    command_input: CommandInput,
    options: PruneOptions,
    *,
    dry_run: bool,
    approve: Approve,
    progress: Progress,
) -> CommandResult[PlanReport | ResultReport]:
    """Delete superseded and failed generations and orphans; a ``dry_run`` returns the plan.

    Raises:
        Declined: when ``approve`` returns false.
        UsageError: for names to unprotect that are not protected, or that their manifest protects; for names that may
            be declared by a manifest that is not selected.
        ReconcileError: for unknown names, and without names if the root has no manifest at all.
        InvalidInput: for problems of the input: the models of an invalid manifest are not orphans.
        InterruptedRun: when a signal ended the run; the lockfile is saved.
    """
    project = open_project(environment, command_input)
    for path in command_input.paths:
        if path in project.lock.models:
            raise UsageError(
                f"{path} is a path and a recorded model",
                f"write ./{path} for the path, or run the command in another directory for the model",
            )
    if options.names:
        require_known(project, options.names)
    else:
        project.require_manifests()
    for name in sorted(options.unprotect):
        _require_protected(project, name)
    for remote in sorted(options.adopted):
        _require_recorded(project, remote)
    pruning = Pruning(
        older_than=options.older_than,
        others=project.session.all_locks(),
        names=options.names,
        adopted=options.adopted,
        published=publisher_of(project).keys(),
    )
    request = Request(complete=project.complete, pruning=pruning, unread=project.unread(prunes=True))
    run = PruneRun(project, request, sorted(options.unprotect))
    return run.run(None if dry_run else approve, progress)


class PruneRun(Run):
    """The deletions of one request."""

    def __init__(self, project: Project, request: Request, unprotect: Iterable[str]) -> None:
        super().__init__(project)
        self._request = request
        self._unprotect = tuple(unprotect)
        self._notices = tuple(f"{name} is no longer protected" for name in self._unprotect)

    def run(self, approve: Approve | None, progress: Progress) -> CommandResult[PlanReport | ResultReport]:
        """Plan, and carry the plan out if ``approve`` is given and approves it."""
        with EventLoop() as loop:
            try:
                self._project = loop.run(pin_datasets(self._project, self._provider))
                context = self._project.run_context(self._provider, self._recorder, self._publisher.publish)
                pruner = Pruner(context, self._request, self._unprotect)
                planned = loop.run(pruner.plan())
                report = self._plan_report(planned)
                problems = self._project.workspace.problems
                if approve is None:
                    return CommandResult(report, planned.exit_status, problems)
                if not approve(report, problems):
                    raise Declined
                outcome = self._carry_out(loop, pruner, planned, progress(report))
            finally:
                loop.run(self._provider.aclose())
        plan = replace(outcome.plan, notices=(*self._notices, *outcome.plan.notices))
        document = self._result_report(outcome, plan=plan, outcomes=self._outcomes.all())
        return CommandResult(document, outcome.exit_status, shown=report.notices)

    def _carry_out(
        self, loop: EventLoop, pruner: Pruner, planned: Plan, progress: AbstractContextManager[EventSink]
    ) -> ApplyOutcome:
        if not (planned.changes or self._unprotect or pruner.finds_deleted):
            return ApplyOutcome(planned)
        self._project.store.check_writable()
        try:
            with progress as sink:
                self._sinks.append(sink)
                left = loop.run(pruner.delete(planned))
        except KeyboardInterrupt:
            raise InterruptedRun(
                "interrupted; the lockfile is saved, and the remaining generations are not deleted",
                "run the same command again to resume",
            ) from None
        left = approved_only(left, planned)
        return ApplyOutcome(left, refused=pruner.refused, unfinished=left.changes)

    def _plan_report(self, planned: Plan) -> PlanReport:
        project = self._project
        notices = (*limit_notices(project.lock, project.target), *planned.notices, *self._notices)
        return plan_report(
            replace(planned, notices=notices),
            project.target,
            project.capabilities,
            project.lockfile,
            root=project.root,
            places=project.places,
            deletions_alone=True,
        )


def require_known(project: Project, names: Iterable[str]) -> None:
    """Refuse names that are neither declared nor recorded, and orphans if not the whole root is read."""
    declared = {name for manifest in project.manifests for name in manifest.names}
    for name in sorted(names):
        project.find_model(name)
        if name not in declared and not project.complete:
            raise UsageError(
                f"a manifest that is not selected may declare {name}",
                f"remove -l, --only and --exclude, and name the whole root {project.root or '.'}",
            )


def _require_protected(project: Project, name: str) -> None:
    """Refuse to unprotect a model that is not recorded as protected, or that a manifest protects."""
    option = f"--unprotect {name}"
    manifest = next((manifest for manifest in project.workspace.manifests if name in manifest.names), None)
    if manifest and manifest.lifecycle.protect:
        raise UsageError(
            f"{option}: spec.lifecycle.protect of the manifest at {manifest.place} protects it",
            "remove the field, and apply",
        )
    model = project.lock.models.get(name)
    if model is None:
        remedy = suggest(name, project.lock.models, otherwise="run reconcile status to list the recorded models")
        raise UsageError(f"{option}: not found in {project.lockfile}", remedy)
    if not model.protect:
        raise UsageError(f"{option}: {project.lockfile} does not record it as protected", "remove the option")
    if manifest is None and not project.workspace.complete:
        raise UsageError(
            f"{option}: a manifest outside these paths may protect it", f"name the whole root {project.root or '.'}"
        )


def _require_recorded(project: Project, remote: str) -> None:
    recorded = {generation.remote for model in project.lock.models.values() for generation in model.generations}
    if remote not in recorded:
        remedy = suggest(remote, sorted(recorded), otherwise="run reconcile history NAME to list the remote names")
        raise UsageError(f"--delete-adopted {remote}: not found in {project.lockfile}", remedy)


@click.command("prune", epilog=_options.examples("prune --dry-run", "prune --older-than 14d --yes", "prune adder"))
@_options.named_run_options
@events
@click.option("--dry-run", is_flag=True, help="Show what would be deleted. Changes nothing.")
@click.option(
    "--older-than",
    type=age,
    metavar="AGE",
    help="Delete only generations created longer ago than AGE, like 14d or 36h, including candidates in no lockfile.",
)
@click.option(
    "--unprotect",
    multiple=True,
    metavar="NAME",
    help="Remove the protection recorded for NAME, whose manifest no longer exists. Repeatable.",
)
@click.option(
    "--delete-adopted",
    multiple=True,
    metavar="REMOTE",
    help="Also delete this model, which was adopted and not trained by this project. Repeatable.",
)
@_options.yes
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    dry_run: bool,
    older_than: timedelta | None,
    unprotect: tuple[str, ...],
    delete_adopted: tuple[str, ...],
    yes: bool,
    **values: Any,
) -> int:
    """Delete superseded and failed generations, and orphans.

    With NAMES, deletes only generations of these models, also if a file that is not read may contain their manifest.
    An argument that exists as a path is a path.

    Keeps the newest superseded generations, as spec.lifecycle.retain declares. Deletes managed and recorded generations
    only, and adopted models only if --delete-adopted names them. Never deletes generations that a lockfile of the root
    serves, publishes or protects, parents of remaining generations, or more than limits.maxDeletes and
    limits.maxDeletePercent of the target allow.
    """
    output = output_of(values)
    with event_log(environment, output, values.pop("events"), "prune") as log:
        question = "Delete these generations? This cannot be undone."
        names, values["paths"] = _options.split_names(values["paths"], environment.cwd)
        result = prune(
            environment,
            input_of(values),
            PruneOptions(older_than, frozenset(unprotect), names, frozenset(delete_adopted)),
            dry_run=dry_run,
            approve=approver(output, log, question, yes=yes, verbose=bool(output.verbose)),
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
