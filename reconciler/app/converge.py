"""The commands that change something: apply and wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from reconciler.app.commands import Answer, checked, documented, with_pins
from reconciler.app.environment import Environment
from reconciler.app.locks import every_other_lock
from reconciler.app.portraying import portrayed
from reconciler.app.project import Input, Project, open_project
from reconciler.app.publishing import publisher_of
from reconciler.app.saving import SavedPlan
from reconciler.app.services import connect
from reconciler.app.session import Session
from reconciler.core.events import Event
from reconciler.core.locked import not_ready
from reconciler.core.model import State
from reconciler.core.plan import Pruning
from reconciler.core.problems import (
    AccessError,
    InterruptedRun,
    InvalidInput,
    Problem,
    ReconcileError,
    ServiceError,
    UsageError,
)
from reconciler.engine.reconcile import Options, Outcome, Reconciler
from reconciler.engine.recorder import Recorder
from reconciler.render.documents import Document, result_document
from reconciler.render.outcomes import Outcomes

Sink = Callable[[Event], None]
Approve = Callable[[Document, tuple[Problem, ...]], bool]
"""Shows a Plan document and the input's warnings, and says whether to go on."""
Progress = Callable[[Document], AbstractContextManager[Sink]]
"""Takes the Plan document, and is entered while the run goes on; what it gives takes every event."""


class Declined(ReconcileError):  # noqa: N818 - a person's no is no error
    """The plan was shown, and somebody said no: nothing was changed."""


def apply(
    env: Environment,
    what: Input,
    options: Options,
    *,
    locked: bool,
    approve: Approve,
    progress: Progress,
    saved: SavedPlan | None = None,
    prune: bool = False,
) -> Answer:
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
        unready = tuple(not_ready(project.manifests, project.target.scope, project.lock, project.lockfile))
        if unready:
            raise InvalidInput(unready)
        options = replace(options, creates=False)
    request = checked(options.request, project)
    if prune:
        others = every_other_lock(env, project.workspace, what.allow_endpoints)
        request = replace(request, pruning=Pruning(others=others))
    options = replace(options, request=request, curves=what.portraits)
    return _Run(env, what, project, options, saved).go(approve, progress)


def _saved_project(env: Environment, what: Input, saved: SavedPlan) -> Project:
    chosen = saved.input(what)
    try:
        return open_project(env, chosen)
    except UsageError as error:
        raise saved.stale(error.message) from error


class _Run:
    def __init__(
        self, env: Environment, what: Input, project: Project, options: Options, saved: SavedPlan | None
    ) -> None:
        self._env = env
        self._saved = saved
        self._options = options
        self._began = env.clock()
        self._project = project
        self._watchers: list[Sink] = []
        self._recorder = Recorder(project.lock, project.store, env.clock, self._watchers)
        self._outcomes = Outcomes(lambda: self._recorder.lock)
        self._watchers.append(self._outcomes)
        self._publisher = publisher_of(env, project, what.allow_endpoints)
        self._provider = connect(env, project.target, project.workspace.root, what.allow_endpoints)

    def go(self, approve: Approve, progress: Progress) -> Answer:
        with Session() as session:
            try:
                self._project = session.run(with_pins(self._project, self._provider))
                reconciler = self._reconciler()
                made = session.run(reconciler.look())
                document = documented(self._project, made)
                if self._saved:
                    self._saved.check(self._project, document)
                if not approve(document, self._project.workspace.problems):
                    raise Declined("nothing was changed")
                self._project.store.check_writable()
                self._clear_lockfile()
                outcome = self._run(session, reconciler.run(made), progress(document))
            finally:
                session.run(self._provider.aclose())
        document = self._document(outcome)
        if self._options.curves:
            document = portrayed(document, self._recorder.lock, self._project.target.scope, reconciler.observation)
        return Answer(document, outcome.exit_status)

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
        self, session: Session, work: Coroutine[Any, Any, Outcome], progress: AbstractContextManager[Sink]
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
            outcomes=[one for one in self._outcomes.all() if one.name in selected or one.retired],
            requests=self._provider.requests,
            seconds=(self._env.clock() - self._began).total_seconds(),
            exit_status=outcome.exit_status,
            unpublished=str(outcome.unpublished or ""),
            root=self._project.root,
            places={manifest.name: manifest.place for manifest in self._project.manifests},
        )
