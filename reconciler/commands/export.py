"""``reconcile export``: copy the files of a generation to a folder, or merge them into the base model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec import Struct

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import progress
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    prove_generation,
    prove_serving,
)
from reconciler.commands.prompt import gone, require_ready
from reconciler.domain.errors import ExitStatus, ReconcileError, UsageError
from reconciler.domain.text import sanitize
from reconciler.environment import Environment
from reconciler.files import check_folder, create_folder, write_errors, write_file
from reconciler.providers.spec import Exports
from reconciler.reports.documents.check import ExportReport, regressed_checks

if TYPE_CHECKING:
    from reconciler.domain.checks import CheckResults, RecordedChecks
    from reconciler.domain.lock import LockedGeneration
    from reconciler.domain.model import Manifest
    from reconciler.planning.events import EventSink
    from reconciler.providers.spec import ConnectedProvider

CARD: Final = "README.md"
CARD_FIELD: Final = "reconcile"
"""The field of a model card's metadata that names scope, manifest and generation."""
_OF_ADAPTERS: Final = ("library_name:", "base_model_relation:", f"{CARD_FIELD}:")
_MERGED: Final = 'library_name: "transformers"'
ShowChecks = Callable[[str, bool], "AbstractContextManager[EventSink]"]
"""Takes the name of the model and whether its training is simulated; returns a context that shows the checks."""


class ExportedGeneration(Struct, frozen=True):
    """A generation that is exported: its manifest's name, its record, and whether it is merged."""

    name: str
    recorded: LockedGeneration
    merged: bool


class Exported(Struct, frozen=True):
    """The files that were written, and the results of the checks before and after a merge."""

    files: tuple[str, ...]
    before: CheckResults | None = None
    after: CheckResults | None = None
    notes: tuple[str, ...] = ()

    @property
    def regressed(self) -> tuple[str, ...]:
        """The checks that failed because of the merge."""
        return regressed_checks(self.before, self.after) if self.before and self.after else ()


def export(
    environment: Environment,
    command_input: CommandInput,
    name: str,
    folder: Path,
    *,
    key: str | None,
    merged: bool,
    show_checks: ShowChecks,
    stage: str | None = None,
) -> CommandResult[ExportReport]:
    """Write the files of the serving generation of a manifest, or of the generation ``key``, into a new folder.

    With ``merged``, they are merged into the base model, and the checks run before and after. Records nothing.

    Raises:
        UsageError: when the folder has files or cannot be created, or ``key`` is not recorded.
        ReconcileError: when the generation is not ready, its files were changed, or the service keeps the weights.
    """
    path, shown = environment.cwd / folder, f"--to {folder}"
    with write_errors(shown, UsageError):
        check_folder(path)
    project = open_project(environment, command_input, strict=False).in_stage(stage)
    generation = select_generation(project, name, key, merged=merged)

    async def work(service: ConnectedProvider) -> Exported:
        with (
            write_errors(shown),
            create_folder(path) as aside,
            show_checks(name, project.capabilities.simulated) as sink,
        ):
            return await write_files(project, service, generation, aside, sink)

    report = export_report(project, generation, project.session.query(work), str(folder))
    return CommandResult(report, report.exit_status)


def export_report(
    project: Project, generation: ExportedGeneration, exported: Exported, folder: str = ""
) -> ExportReport:
    """Return the report of files that were written into a folder."""
    return ExportReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        exit_status=ExitStatus.ERROR if exported.regressed else ExitStatus.OK,
        command="export",
        name=generation.name,
        key=generation.recorded.key,
        merged=generation.merged,
        outcome="done",
        folder=folder,
        files=exported.files,
        before=exported.before,
        after=exported.after,
        regressed=exported.regressed,
        notes=exported.notes,
    )


def select_generation(project: Project, name: str, key: str | None, *, merged: bool) -> ExportedGeneration:
    """Return the generation to export, which must be recorded as ready."""
    recorded = project.recorded_generation(name, key) if key else project.serving_generation(name)
    require_ready(recorded, name)
    return ExportedGeneration(name, recorded, merged)


def require_exports(service: ConnectedProvider, generation: ExportedGeneration) -> Exports:
    """Return the service as one whose models are files; raises ReconcileError if it keeps the weights."""
    if isinstance(service, Exports):
        return service
    raise ReconcileError(
        f"{generation.recorded.key} cannot be exported: the weights of its model stay at the service",
        f"call it there, by the name that `reconcile resolve {generation.name}` prints",
    )


async def write_files(
    project: Project, service: ConnectedProvider, generation: ExportedGeneration, folder: Path, sink: EventSink
) -> Exported:
    """Write the files of a generation into an empty folder, and run the checks of a merged one.

    Raises ReconcileError and OSError.
    """
    recorded, files = generation.recorded, require_exports(service, generation)
    with tempfile.TemporaryDirectory() as temporary:
        copied = Path(temporary) if generation.merged else folder
        note = await files.export(recorded.remote, copied)
        proved = await prove_generation(project, service, generation.name, recorded)
        if proved is None:
            raise gone(recorded, recorded.remote)
        exported = Exported((), notes=(note,) if note else ())
        checks: CheckResults | RecordedChecks | None = recorded.checks
        if generation.merged:
            remote = await files.merge(recorded.remote, copied, folder)
            exported = await _check(project, service, generation, (proved, remote), sink)
            checks = exported.after
    _write_card(folder / CARD, project.target.scope, generation, checks)
    return Exported(_names(folder), exported.before, exported.after, exported.notes)


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(sanitize(path.name) for path in folder.iterdir()))


async def _check(
    project: Project,
    service: ConnectedProvider,
    generation: ExportedGeneration,
    proved: tuple[LockedGeneration, str],
    sink: EventSink,
) -> Exported:
    """Return the results of the checks of the generation and of the merged model, which has a remote name."""
    from msgspec.structs import replace

    from reconciler.engine.check import Checker, checked_generation

    manifest = project.manifest(generation.name)
    if manifest is None or not manifest.checks:
        return Exported((), notes=(_unchecked(manifest, generation.name),))
    tuned, remote = proved
    checker = Checker(service, project.workspace, sink, project.target)
    serving = await prove_serving(project, service, project.lock, manifest, tuned.key)
    checked = checked_generation(tuned, serving, project.lock)
    before = await checker.check(manifest, checked)
    after = await checker.check(manifest, replace(checked, remote=remote))
    return Exported((), before, after)


def _unchecked(manifest: Manifest | None, name: str) -> str:
    reason = f"no manifest declares {name}" if manifest is None else f"{name} has no checks"
    return f"the merged model was not checked: {reason}"


def _write_card(
    card: Path, scope: str, generation: ExportedGeneration, checks: CheckResults | RecordedChecks | None
) -> None:
    """Complete a model card: its metadata name scope, manifest and generation, its end has the results of checks."""
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    key, merged = generation.recorded.key, generation.merged
    files = sorted({CARD, *_names(card.parent)})
    owner = json.dumps({"scope": scope, "name": generation.name, "generation": key, "files": files})
    lines = text.splitlines()
    end = lines.index("---", 1) if lines[:1] == ["---"] and "---" in lines[1:] else 0
    dropped = _OF_ADAPTERS if merged else (f"{CARD_FIELD}:",)
    head, skipped = [], False
    for line in lines[1:end]:
        skipped = line.startswith(dropped) or (skipped and line[:1].isspace())  # a field, and the lines below it
        head += [] if skipped else [line]
    head += [*([_MERGED] if merged else []), f"{CARD_FIELD}: {owner}"]
    body = lines[end + 1 :] if end else lines or ["", f"# {generation.name}"]
    body += ["", "The adapter is merged into the base model."] if merged else []
    write_file(card, ("\n".join(["---", *head, "---", *body, *_check_lines(checks)]) + "\n").encode())


def _check_lines(checks: CheckResults | RecordedChecks | None) -> Iterator[str]:
    if checks is None:
        return
    yield from ("", "## Checks", "", f"{checks.passed} of {checks.total} checks passed.")
    scores = getattr(checks, "scores", None) or {
        result.name: result.score for result in getattr(checks, "results", ()) if result.interval
    }
    if scores:
        yield from ("", "| check | score |", "|---|---|")
        yield from (f"| {name} | {score:g} |" for name, score in sorted(scores.items()))


@click.command(
    "export", epilog=_options.examples("export adder --to ./adder", "export adder --to ./adder-merged --merged")
)
@click.argument("name")
@_options.model_options
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER",
    help="The folder to write, a new or an empty one.",
)
@click.option(
    "--merged",
    is_flag=True,
    help="Merge the adapter into the unquantized base model, and run the checks on it.",
)
@click.option("--generation", metavar="KEY", help="Generation to export instead of the serving one.")
@_options.stage
@_options.environment
def command(environment: Environment, /, name: str, **values: Any) -> int:
    """Copy the files of a generation of NAME to a folder.

    Writes the adapter with tokenizer, chat template and model card. Files that were changed after the training are
    refused. Records nothing in the lockfile.

    Exit status 1 with --merged can mean that a check passes before the merge, and fails after it. The folder is kept.
    """
    output = output_of(values)
    folder, merged, key, stage = (values.pop(option) for option in ("folder", "merged", "generation", "stage"))
    result = export(
        environment,
        input_of(values),
        name,
        folder,
        key=key,
        merged=merged,
        stage=stage,
        show_checks=lambda name, simulated: progress(environment, output, [name], simulated=simulated),
    )
    return output.finish(result)
