"""``reconcile forget``: stop managing a model without deleting it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Output, confirm
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    recorded_model,
    reread_project,
)
from reconciler.commands._publish import Publisher, publisher_of
from reconciler.commands._runner import EventLoop
from reconciler.domain.errors import AccessError, Declined, InvalidInput, ReconcileError, ServiceError, UsageError
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Handle, RemoteModel, Update
from reconciler.engine.observe import bounded
from reconciler.engine.recorder import Recorder
from reconciler.environment import Environment
from reconciler.planning.events import Forgotten, Published, record
from reconciler.planning.forget import forgetting_notes, keeps_marks, require_forgettable
from reconciler.planning.generations import Observation, find_live_model
from reconciler.providers.registry import connect
from reconciler.reports.documents.change import Change, change_document, change_text
from reconciler.reports.documents.plan_and_result import Document

if TYPE_CHECKING:
    from reconciler.domain.ports import Provider
    from reconciler.environment import Environment


Approve = Callable[[Document], bool]
"""Shows a Change document of what would be done, and says whether to go on."""


def forget(env: Environment, what: CommandInput, name: str, *, keep_marks: bool, approve: Approve) -> CommandResult:
    """Manage a model no longer, which goes on at the service as it is.

    The marks are taken out of what the service shows, where it lets them be changed, unless ``keep_marks`` says no.

    Raises:
        Declined: when ``approve`` says no.
        UsageError: when it cannot be told whether there is a manifest.
        ReconcileError: when a manifest declares it, nothing is recorded, it is protected, or what may be training is
            unknown; and when the service refuses.
    """
    project = open_project(env, what, strict=False)
    _require_undeclared(project, name)
    model = recorded_model(project, name)
    require_forgettable(name, model)
    marked = keep_marks or keeps_marks(project.capabilities)
    change = Change(
        command="forget",
        name=name,
        outcome="planned",
        lockfile=project.lockfile,
        generations=model.generations,
        notes=tuple(forgetting_notes(name, project.lock, marked=marked)),
    )
    document = partial(change_document, target=project.target, capabilities=project.capabilities, root=project.root)
    if not approve(document(change)):
        raise Declined
    publisher = publisher_of(env, project, what.allow_endpoints)
    with EventLoop() as session, project.store.lease():
        project = _unchanged(project, name, model)
        project.store.check_writable()
        publisher.check(record(project.lock, Forgotten(name)))
        if not marked:
            session.run(_unmarked(env, what, project, name, model))
        _forgotten(env, project, publisher, name)
    return CommandResult(
        document(replace(change, outcome="done", published=publisher.shown if model.published else ""))
    )


def _require_undeclared(project: Project, name: str) -> None:
    """Refuse what a manifest declares, wherever it is: the next apply would take it up again."""
    for manifest in project.workspace.manifests:
        if name in manifest.names:
            raise ReconcileError(
                f"{name} cannot be forgotten: the manifest {manifest.name} at {manifest.place} has it managed",
                "delete that manifest first",
            )
    if project.workspace.errors:
        raise InvalidInput(project.workspace.problems)
    if not project.workspace.complete:
        raise UsageError(
            f"no manifest {name} is in these paths, and there may be one elsewhere",
            f"name the whole of {project.root or '.'}",
        )


def _unchanged(project: Project, name: str, model: LockedModel) -> Project:
    """The project as it is now; somebody was asked about what was recorded, and that must still be so."""
    now = reread_project(project)
    if now.lock.models.get(name) != model:
        raise ReconcileError(
            f"another run has changed what {project.lockfile} records of {name}", "look at it, and run again"
        )
    return now


async def _unmarked(env: Environment, what: CommandInput, project: Project, name: str, model: LockedModel) -> None:
    scope, concurrency = project.target.scope, project.target.limits.concurrency

    async def unmark(service: Provider, one: LockedGeneration) -> None:
        live = await shown_now(service, one, scope, name)
        if live and live.mark == one.mark(scope, name):
            await service.update(live.remote, Update(mark=None, description=live.description))

    try:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            await bounded(partial(unmark, service), [one for one in model.generations if one.remote], concurrency)
    except (AccessError, ServiceError) as error:
        error.remedy = f"{error.remedy}; or leave the marks where they are, with --keep-marks"
        raise


async def shown_now(service: Provider, one: LockedGeneration, scope: str, name: str) -> RemoteModel | None:
    """A recorded generation as the service shows it; under its remote name another model may be by now."""
    found = await service.observe(Handle(one.remote))
    return find_live_model(one, scope, name, Observation({one.remote: found})) if found else None


def _forgotten(env: Environment, project: Project, publisher: Publisher, name: str) -> None:
    recorder = Recorder(project.lock, project.store, env.clock)
    recorder.emit(Forgotten(name))
    if not project.target.publish:
        recorder.emit(Published(name, None))  # nobody is left to be told
    recorder.flush()
    try:
        recorder.emit(*publisher.publish(recorder.lock))
    except ReconcileError as error:
        error.remedy = f"{error.remedy}; {name} is forgotten, and the next apply tells applications"
        raise
    recorder.flush()


@click.command("forget")
@click.argument("name")
@_options.model_options
@_options.yes
@click.option("--keep-marks", is_flag=True, help="Change nothing at the service, where the models say whose they are.")
@_options.environment
def command(env: Environment, /, name: str, *, yes: bool, keep_marks: bool, **values: Any) -> int:
    """Manage the models of NAME no longer, whose manifest is gone. Deletes nothing.

    They are taken out of the lockfile, and the mark out of their descriptions, where the service can do that: then they
    are foreign.
    """
    output = output_of(values)
    approve = partial(ask, output, f"Stop managing {name}?", yes=yes)
    return tell(output, forget(env, input_of(values), name, keep_marks=keep_marks, approve=approve))


def ask(output: Output, question: str, document: Document, *, yes: bool) -> bool:
    """Show the change and return whether the user approves it; ``yes`` approves without output or prompt."""
    if not yes:
        output.say(lambda style, width: change_text(document, width=width, style=style))
    return confirm(question, yes=yes)


def tell(output: Output, answer: CommandResult) -> int:
    document = answer.document
    output.result(document, lambda style, width: change_text(document, width=width, style=style))
    return answer.exit_status
