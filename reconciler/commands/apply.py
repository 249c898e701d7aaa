"""The commands that change something: apply and wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._event_log import EventLog, event_log, events, watched
from reconciler.commands._locks import every_other_lock
from reconciler.commands._model_details import add_model_details
from reconciler.commands._options import input_of, output_of, request_of
from reconciler.commands._output import Output, confirm, progress
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project, pin_datasets
from reconciler.commands._publish import publisher_of
from reconciler.commands._runner import EventLoop
from reconciler.commands._saved_plan import SavedPlan, saved_plan
from reconciler.commands.plan import checked, documented
from reconciler.domain.errors import (
    AccessError,
    Declined,
    InterruptedRun,
    InvalidInput,
    Problem,
    ServiceError,
    UsageError,
)
from reconciler.domain.model import State
from reconciler.domain.plan import Pruning, Request
from reconciler.engine.apply import Options, Outcome, Reconciler
from reconciler.engine.recorder import Recorder
from reconciler.environment import Environment
from reconciler.planning.events import EventSink
from reconciler.planning.verify_locked import verify_locked
from reconciler.providers.registry import connect
from reconciler.reports.documents.outcomes import Outcomes
from reconciler.reports.documents.plan_and_result import Document, result_document
from reconciler.reports.text.documents import result_text
from reconciler.reports.text.plan import notices_text, plan_text

Approve = Callable[[Document, tuple[Problem, ...]], bool]
"""Shows a Plan document and the input's warnings, and says whether to go on."""
Progress = Callable[[Document], AbstractContextManager[EventSink]]
"""Takes the Plan document, and is entered while the run goes on; what it gives takes every event."""


def apply(
    env: Environment,
    what: CommandInput,
    options: Options,
    *,
    locked: bool,
    approve: Approve,
    progress: Progress,
    saved: SavedPlan | None = None,
    prune: bool = False,
) -> CommandResult:
    """Bring the service to what is declared; ``locked`` forbids every training.

    With a ``saved`` plan that one is carried out, and nothing else. With ``prune`` what is superseded, failed or no
    longer declared is deleted at the end.

    Raises:
        StalePlan: when the saved plan is not what would be done now.
        Declined: when ``approve`` says no.
        InvalidInput: for problems of the input, and with ``locked`` for what the lockfile does not hold ready.
        InterruptedRun: when a signal ended the run; the lockfile is saved.
    """
    project = _saved_project(env, what, saved) if saved else open_project(env, what)
    if saved:
        options = replace(options, request=saved.request, foreseen=False, exact=True)
    if locked:
        unready = tuple(verify_locked(project.manifests, project.target.scope, project.lock, project.lockfile))
        if unready:
            raise InvalidInput(unready)
        options = replace(options, creates=False)
    request = checked(options.request, project)
    if prune:
        others = every_other_lock(env, project.workspace, what.allow_endpoints)
        request = replace(request, pruning=Pruning(others=others))
    options = replace(options, request=request, curves=what.model_details)
    return _Run(env, what, project, options, saved).go(approve, progress)


def _saved_project(env: Environment, what: CommandInput, saved: SavedPlan) -> Project:
    chosen = saved.input(what)
    try:
        return open_project(env, chosen)
    except UsageError as error:
        raise saved.stale(error.message) from error


class _Run:
    def __init__(
        self, env: Environment, what: CommandInput, project: Project, options: Options, saved: SavedPlan | None
    ) -> None:
        self._env = env
        self._saved = saved
        self._options = options
        self._began = env.clock()
        self._project = project
        self._watchers: list[EventSink] = []
        self._recorder = Recorder(project.lock, project.store, env.clock, self._watchers)
        self._outcomes = Outcomes(lambda: self._recorder.lock)
        self._watchers.append(self._outcomes)
        self._publisher = publisher_of(env, project, what.allow_endpoints)
        self._provider = connect(env, project.target, project.workspace.root, what.allow_endpoints)

    def go(self, approve: Approve, progress: Progress) -> CommandResult:
        with EventLoop() as session:
            try:
                self._project = session.run(pin_datasets(self._project, self._provider))
                reconciler = self._reconciler()
                made = session.run(reconciler.look())
                document = documented(self._project, made)
                if self._saved:
                    self._saved.check(self._project, document)
                if not approve(document, self._project.workspace.problems):
                    raise Declined
                self._project.store.check_writable()
                self._clear_lockfile()
                outcome = self._run(session, reconciler.run(made), progress(document))
            finally:
                session.run(self._provider.aclose())
        document = self._document(outcome)
        if self._options.curves:
            document = add_model_details(
                document, self._recorder.lock, self._project.target.scope, reconciler.observation
            )
        return CommandResult(document, outcome.exit_status)

    def _clear_lockfile(self) -> None:
        """What an earlier policy let into the lockfile goes, even where nothing else changes."""
        if not self._project.target.show_examples:
            self._recorder.rewrite()

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            provider=self._provider,
            manifests=self._project.manifests,
            target=self._project.target,
            recorder=self._recorder,
            examples=self._project.workspace,
            clock=self._env.clock,
            sleeper=self._env.sleeper,
            options=self._options,
            publish=self._publisher.publish,
        )

    def _run(
        self, session: EventLoop, work: Coroutine[Any, Any, Outcome], progress: AbstractContextManager[EventSink]
    ) -> Outcome:
        try:
            with progress as sink:
                self._watchers.append(sink)
                return session.run(work)
        except KeyboardInterrupt:
            raise InterruptedRun from None
        except (AccessError, ServiceError) as error:
            if any(
                one.state is State.CREATING
                for model in self._recorder.lock.models.values()
                for one in model.generations
            ):
                error.remedy = f"{error.remedy}; the trainings go on, and reconcile wait resumes the waiting"
            raise

    def _document(self, outcome: Outcome) -> Document:
        """Other models' trainings may have ended meanwhile: they are recorded, and not what was asked about."""
        selected = {manifest.name for manifest in self._project.manifests}
        return result_document(
            plan=outcome.plan,
            target=self._project.target,
            capabilities=self._project.capabilities,
            outcomes=[one for one in self._outcomes.all() if one.name in selected or one.deleted],
            requests=self._provider.requests,
            seconds=(self._env.clock() - self._began).total_seconds(),
            exit_status=outcome.exit_status,
            unpublished=str(outcome.unpublished or ""),
            root=self._project.root,
            places={manifest.name: manifest.place for manifest in self._project.manifests},
        )


@click.command("apply")
@_options.run_options
@_options.training_options
@_options.timeout
@events
@_options.yes
@click.option("--no-wait", is_flag=True, help="Start the trainings and return; reconcile wait takes up from there.")
@click.option(
    "--locked", is_flag=True, help="Train nothing: fail unless the lockfile names a ready generation of each."
)
@click.option(
    "--train-only",
    is_flag=True,
    help="Train, and record: patch no model, share none, delete none, and tell applications nothing.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Also delete what is superseded, failed or declared no longer, as reconcile prune does.",
)
@_options.environment
def command(
    env: Environment,
    /,
    *,
    timeout: timedelta | None,
    yes: bool,
    no_wait: bool,
    locked: bool,
    train_only: bool,
    prune: bool,
    **values: Any,
) -> int:
    """Create what is missing, wait for it, and record it in the lockfile.

    PATHS may be one FILE that plan --out has saved: then exactly that plan is carried out, without a question, or
    nothing at all where what it was made from has changed since.
    """
    output = output_of(values)
    request = request_of(values)
    if locked and (request.retry or request.replace):
        raise UsageError("--locked forbids training, which --retry and --replace ask for", "leave one of them out")
    if locked and train_only:
        raise UsageError("--locked forbids training, and --train-only all else", "leave one of them out")
    if prune and train_only:
        raise UsageError("--train-only deletes nothing, which --prune asks for", "leave one of them out")
    wanted = Options(request=request, writes=not train_only, wait=not no_wait, foreseen=yes, timeout=timeout)
    with event_log(env, output, values.pop("events"), "apply") as log:
        what = replace(input_of(values), model_details=bool(output.reports))
        saved = saved_plan(env, what.paths)
        if saved and (locked or train_only or prune or request != Request()):
            raise UsageError(
                f"{saved.file} says already what is to be done",
                "leave out --locked, --train-only, --prune, --retry and --replace",
            )
        answer = apply(
            env,
            what,
            wanted,
            locked=locked,
            approve=noted(log, lambda document, warnings: _approve(output, document, warnings, yes=yes or bool(saved))),
            progress=lambda document: watched(show_progress(env, output, document), log),
            saved=saved,
            prune=prune,
        )
        log.ended(answer.document)
    return tell(output, answer)


def noted(log: EventLog, approve: Approve) -> Approve:
    """The question, before which the plan is noted."""

    def noted(document: Document, warnings: tuple[Problem, ...]) -> bool:
        log.planned(document)
        return approve(document, warnings)

    return noted


def _approve(output: Output, document: Document, warnings: tuple[Problem, ...], *, yes: bool) -> bool:
    """Show what would be done, and ask unless it was answered beforehand or nothing would be."""
    output.warn(warnings)
    if not document["changes"]:
        output.say(lambda style, width: notices_text(document, width=width, style=style))
        return True
    output.say(lambda style, width: plan_text(document, width=width, style=style))
    return confirm("Apply this plan?", yes=yes)


def show_progress(env: Environment, output: Output, document: Document) -> AbstractContextManager[EventSink]:
    names = {action["name"] for action in document["actions"]}
    return progress(env, output, names, simulated=bool(document["simulated"]))


def tell(output: Output, answer: CommandResult) -> int:
    output.result(answer.document, lambda style, width: result_text(answer.document, width=width, style=style))
    return answer.exit_status
