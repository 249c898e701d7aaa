"""The command that deletes: what is superseded, what failed, and what no manifest declares any more."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._event_log import event_log, events, watched
from reconciler.commands._locks import every_other_lock
from reconciler.commands._options import age, input_of, output_of
from reconciler.commands._output import Output, confirm, progress
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project, pin_datasets
from reconciler.commands._publish import publisher_of
from reconciler.commands._runner import EventLoop
from reconciler.commands.apply import Approve, Progress
from reconciler.domain.errors import Declined, ExitStatus, InterruptedRun, Place, Problem, UsageError
from reconciler.domain.plan import Plan, Pruning, Request, limit_notices
from reconciler.engine.apply import Outcome
from reconciler.engine.prune import Pruner
from reconciler.engine.recorder import Recorder
from reconciler.environment import Environment
from reconciler.planning.events import EventSink
from reconciler.planning.prune import approved_only
from reconciler.providers.registry import connect
from reconciler.reports.documents.outcomes import Outcomes
from reconciler.reports.documents.plan_and_result import Document, plan_document, result_document
from reconciler.reports.text.documents import pruned_text
from reconciler.reports.text.plan import notices_text, plan_text

if TYPE_CHECKING:
    from datetime import timedelta

    from reconciler.environment import Environment


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """What is to be deleted: with ``older_than`` only that; ``unprotect`` are names whose protection is lifted."""

    older_than: timedelta | None = None
    unprotect: frozenset[str] = frozenset()


def prune(
    env: Environment, what: CommandInput, wishes: PruneOptions, *, dry_run: bool, approve: Approve, progress: Progress
) -> CommandResult:
    """Delete what is no longer needed; a ``dry_run`` only says what that is.

    Raises:
        Declined: when ``approve`` says no.
        UsageError: for names to unprotect that are not protected, or still are by their manifest.
        InvalidInput: for problems of the input: a manifest that cannot be read is no reason to delete its models.
        InterruptedRun: when a signal ended the run; the lockfile is saved.
    """
    project = open_project(env, what)
    for name in sorted(wishes.unprotect):
        _require_protected(project, name)
    others = every_other_lock(env, project.workspace, what.allow_endpoints)
    request = Request(complete=project.complete, pruning=Pruning(wishes.older_than, others))
    run = _Run(env, what, project, request, sorted(wishes.unprotect))
    return run.go(None if dry_run else approve, progress)


class _Run:
    def __init__(
        self, env: Environment, what: CommandInput, project: Project, request: Request, unprotect: Iterable[str]
    ) -> None:
        self._env = env
        self._began = env.clock()
        self._project = project
        self._request = request
        self._unprotect = tuple(unprotect)
        self._watchers: list[EventSink] = []
        self._recorder = Recorder(project.lock, project.store, env.clock, self._watchers)
        self._outcomes = Outcomes(lambda: self._recorder.lock)
        self._watchers.append(self._outcomes)
        self._publisher = publisher_of(env, project, what.allow_endpoints)
        self._provider = connect(env, project.target, project.workspace.root, what.allow_endpoints)

    def go(self, approve: Approve | None, progress: Progress) -> CommandResult:
        """Plan, and carry the plan out where there is somebody to ``approve`` it."""
        with EventLoop() as session:
            try:
                self._project = session.run(pin_datasets(self._project, self._provider))
                pruner = self._pruner()
                made = session.run(pruner.look())
                document = self._planned(made)
                problems = self._project.workspace.problems
                if approve is None:
                    return CommandResult(document, ExitStatus.ERROR if made.failing else ExitStatus.OK, problems)
                if not approve(document, problems):
                    raise Declined
                outcome = self._carried_out(session, pruner, made, progress(document))
            finally:
                session.run(self._provider.aclose())
        return CommandResult(self._ended(outcome), outcome.exit_status)

    def _pruner(self) -> Pruner:
        return Pruner(
            provider=self._provider,
            manifests=self._project.manifests,
            target=self._project.target,
            recorder=self._recorder,
            clock=self._env.clock,
            request=self._request,
            publish=self._publisher.publish,
            unprotected=self._unprotect,
        )

    def _carried_out(
        self, session: EventLoop, pruner: Pruner, made: Plan, progress: AbstractContextManager[EventSink]
    ) -> Outcome:
        if not (made.changes or self._unprotect):
            return Outcome(made)
        self._project.store.check_writable()
        try:
            with progress as sink:
                self._watchers.append(sink)
                left = session.run(pruner.run(made))
        except KeyboardInterrupt:
            raise InterruptedRun(
                "interrupted; the lockfile is saved, and what is not deleted stays",
                "run the same command again to go on",
            ) from None
        left = approved_only(left, made)
        return Outcome(left, refused=pruner.refused, unfinished=left.changes)

    def _planned(self, made: Plan) -> Document:
        project = self._project
        notices = (*limit_notices(project.lock, project.target), *self._notices())
        return plan_document(
            replace(made, notices=notices),
            project.target,
            project.capabilities,
            project.lockfile,
            root=project.root,
            places=self._places(),
            deletions_alone=True,
        )

    def _ended(self, outcome: Outcome) -> Document:
        return result_document(
            plan=replace(outcome.plan, notices=(*self._notices(), *outcome.plan.notices)),
            target=self._project.target,
            capabilities=self._project.capabilities,
            outcomes=self._outcomes.all(),
            requests=self._provider.requests,
            seconds=(self._env.clock() - self._began).total_seconds(),
            exit_status=outcome.exit_status,
            root=self._project.root,
            places=self._places(),
        )

    def _notices(self) -> Iterator[str]:
        yield from (f"{name} is protected no longer" for name in self._unprotect)

    def _places(self) -> dict[str, Place]:
        return {manifest.name: manifest.place for manifest in self._project.manifests}


def _require_protected(project: Project, name: str) -> None:
    """Refuse to lift what nobody recorded, or what a manifest would at once record again."""
    manifest = next((one for one in project.workspace.manifests if name in one.names), None)
    if manifest and manifest.lifecycle.protect:
        raise UsageError(
            f"--unprotect {name}: spec.lifecycle.protect of the manifest at {manifest.place} protects it",
            "take it out there, and apply",
        )
    model = project.lock.models.get(name)
    if model is None:
        near = difflib.get_close_matches(name, project.lock.models, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"see what {project.lockfile} records: reconcile status"
        raise UsageError(f"--unprotect {name}: {project.lockfile} records no model of that name", remedy)
    if not model.protect:
        raise UsageError(f"--unprotect {name}: {project.lockfile} does not record it as protected", "leave it out")
    if manifest is None and not project.workspace.complete:
        raise UsageError(
            f"--unprotect {name}: its manifest may be elsewhere, and protect it",
            f"name the whole of {project.root or '.'}",
        )


@click.command("prune")
@_options.run_options
@events
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted; nothing changes, the lockfile neither.")
@click.option(
    "--older-than",
    type=age,
    metavar="AGE",
    help="Only what was created longer ago, like 14d or 36h; of what stands in no lockfile of the root, too.",
)
@click.option(
    "--unprotect",
    multiple=True,
    metavar="NAME",
    help="Lift the protection that a manifest left in the lockfile; repeatable.",
)
@_options.yes
@_options.environment
def command(
    env: Environment,
    /,
    *,
    dry_run: bool,
    older_than: timedelta | None,
    unprotect: tuple[str, ...],
    yes: bool,
    **values: Any,
) -> int:
    """Delete superseded generations beyond spec.lifecycle.retain, failed ones, and models that no manifest declares.

    Only what is ours and recorded in the lockfile; never what any lockfile of the root serves, publishes or protects,
    what something descends from that stays, or more than the target's limits.maxDeletePercent.
    """
    output = output_of(values)
    with event_log(env, output, values.pop("events"), "prune") as log:

        def approve(document: Document, warnings: tuple[Problem, ...]) -> bool:
            log.planned(document)
            return _approve(output, document, warnings, yes=yes)

        answer = prune(
            env,
            input_of(values),
            PruneOptions(older_than, frozenset(unprotect)),
            dry_run=dry_run,
            approve=approve,
            progress=lambda document: watched(_progress(env, output, document), log),
        )
        if dry_run:
            log.planned(answer.document)
        log.ended(answer.document | {"exitStatus": int(answer.exit_status)})
    _tell(output, answer, dry_run=dry_run)
    return answer.exit_status


def _approve(output: Output, document: Document, warnings: tuple[Problem, ...], *, yes: bool) -> bool:
    """Show what would be deleted, and ask unless it was answered beforehand or nothing would be."""
    output.warn(warnings)
    if not document["changes"]:
        output.say(lambda style, width: notices_text(document, width=width, style=style))
        return True
    output.say(lambda style, width: plan_text(document, width=width, verbose=bool(output.verbose), style=style))
    return confirm("Delete these generations? This cannot be undone.", yes=yes)


def _progress(env: Environment, output: Output, document: Document) -> AbstractContextManager[EventSink]:
    names = {action["name"] for action in document["actions"]}
    return progress(env, output, names, simulated=bool(document["simulated"]))


def _tell(output: Output, answer: CommandResult, *, dry_run: bool) -> None:
    document = answer.document
    if not dry_run:
        output.result(document, lambda style, width: pruned_text(document, width=width, style=style))
        return
    output.warn(answer.warnings)
    verbose = bool(output.verbose)
    output.result(document, lambda style, width: plan_text(document, width=width, verbose=verbose, style=style))
