"""``reconcile push``: push the files of a generation to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Output, confirm, progress, require_approver
from reconciler.commands._project import CommandInput, CommandResult, open_project
from reconciler.commands.export import (
    Exported,
    ExportedGeneration,
    ShowChecks,
    export_report,
    require_exports,
    select_generation,
    write_files,
)
from reconciler.domain.errors import Declined
from reconciler.environment import Environment
from reconciler.files import write_errors
from reconciler.reports.documents.check import ExportReport
from reconciler.reports.writer import render_text

if TYPE_CHECKING:
    from reconciler.providers.spec import ConnectedProvider


class PushRequest(Struct, frozen=True):
    """What is pushed to where: ``repository`` is ``hf://ORG/REPO``, ``key`` another generation than the serving one."""

    name: str
    repository: str
    key: str | None = None
    merged: bool = False
    private: bool = True
    stage: str | None = None


def push(
    environment: Environment,
    command_input: CommandInput,
    request: PushRequest,
    *,
    approve: Callable[[ExportReport], bool],
    show_checks: ShowChecks,
) -> CommandResult[ExportReport]:
    """Write the files of a generation into a model repository in one commit; records nothing.

    A repository that has these files already is not changed. Neither is one with files that were not pushed for this
    manifest. If a check fails because of a merge, nothing is pushed.

    Raises:
        Declined: when ``approve`` returns false.
        UsageError: when the repository is invalid, or ``request.key`` is not recorded.
        ReconcileError: when the generation cannot be exported, or the hub refuses the repository.
        AccessError: without a token, or when it is not allowed to write.
    """
    from reconciler.commands._model_hub import ModelHub, parse_repository

    repository = parse_repository(request.repository)
    project = open_project(environment, command_input, strict=False).in_stage(request.stage)
    generation = select_generation(project, request.name, request.key, merged=request.merged)
    project.session.query(partial(_require_exports, generation))
    hub = ModelHub(environment.environ, command_input.allow_endpoints)
    page, found = hub.page(repository), hub.read(repository)
    manifest = project.manifest(request.name)
    found.require_owner(project.target.scope, manifest.names if manifest else (request.name,), page)
    found.require_visibility(private=request.private, page=page)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        async def work(service: ConnectedProvider) -> Exported:
            with show_checks(request.name, project.capabilities.simulated) as sink:
                return await write_files(project, service, generation, folder, sink)

        with write_errors(f"the temporary folder {folder}"):
            exported = project.session.query(work)
        report = replace(
            export_report(project, generation, exported),
            command="push",
            outcome="planned",
            repository=repository,
            private=request.private,
            url=page,
        )
        changed, removed = found.changes(folder)
        if exported.regressed:
            return CommandResult(replace(report, outcome="held"), report.exit_status)
        if not changed and not removed:
            return CommandResult(replace(report, outcome="unchanged", commit=found.head))
        if not approve(report):
            raise Declined
        key = generation.recorded.key
        message = f"Push {key}" + (", merged into its base model" if request.merged else "")
        commit = hub.push(replace(found, private=request.private), changed, removed, message)
    return CommandResult(replace(report, outcome="done", commit=commit))


async def _require_exports(generation: ExportedGeneration, service: ConnectedProvider) -> None:
    require_exports(service, generation)


@click.command("push", epilog=_options.examples("push adder hf://acme/adder", "push adder hf://acme/adder --merged"))
@click.argument("name")
@click.argument("repository", metavar="hf://ORG/REPO")
@_options.model_options
@click.option("--merged", is_flag=True, help="Push the merged model, as export --merged writes it.")
@click.option("--generation", metavar="KEY", help="Generation to push instead of the serving one.")
@_options.stage
@click.option(
    "--private/--public", default=True, show_default=True, help="Who can read the repository; it is created if missing."
)
@_options.yes
@_options.environment
def command(environment: Environment, /, name: str, repository: str, *, yes: bool, **values: Any) -> int:
    """Push the files of a generation of NAME to the Hugging Face Hub.

    Writes what export writes, in one commit of a model repository. A repository with other files is never changed, and
    one that has these files already gets no commit. The token of HF_TOKEN needs write access.

    Exit status 1 with --merged can mean that a check passes before the merge, and fails after it. Then nothing is
    pushed.
    """
    output = output_of(values)
    require_approver(yes=yes)
    merged, key, private, stage = (values.pop(option) for option in ("merged", "generation", "private", "stage"))
    result = push(
        environment,
        input_of(values),
        PushRequest(name, repository, key, merged, private, stage),
        approve=lambda report: _approve(output, report, yes=yes),
        show_checks=lambda name, simulated: progress(environment, output, [name], simulated=simulated),
    )
    return output.finish(result)


def _approve(output: Output, report: ExportReport, *, yes: bool) -> bool:
    if not yes:
        output.say(lambda style, width: render_text(report, width=width, style=style))
    return confirm(f"Push to {report.url}?", yes=yes)
