"""``reconcile data``: inspect, convert, split and compare data files. Needs no target and no manifest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import output_of
from reconciler.commands._project import CommandInput, CommandResult, open_project
from reconciler.domain.errors import InvalidInput, ReconcileError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.model import Manifest
from reconciler.environment import Environment
from reconciler.reports.documents.inspection import InspectionReport, inspection_report

if TYPE_CHECKING:
    from reconciler.commands._project import Project
    from reconciler.manifests.datasets.data_files import DataFile
    from reconciler.manifests.datasets.detect import Fields


def inspect_file(
    environment: Environment, file: str, *, checks: str | None = None, fields: Fields = (None, None)
) -> CommandResult[InspectionReport]:
    """Return the findings in a data file; ``checks`` is a file of examples that are held out.

    Raises:
        InvalidInput: when an example of ``checks`` is invalid.
        ReconcileError: when a file cannot be read, or its fields are ambiguous.
        UsageError: when a field of ``fields`` does not exist.
    """
    from reconciler.manifests.datasets.data_files import dataset_format
    from reconciler.manifests.datasets.inspection import inspect_dataset

    data = _open(environment, file, fields)
    held_out = _held_out_file(_open(environment, checks)) if checks else ()
    inspection = inspect_dataset(data.source, data.shape, held_out)
    report = inspection_report(inspection, file, read_as=dataset_format(data.options))
    return CommandResult(report, report.exit_status)


def inspect_manifest(
    environment: Environment, name: str, command_input: CommandInput
) -> CommandResult[InspectionReport]:
    """Return the findings in the training data of a manifest, with what is held out for its checks.

    Raises:
        InvalidInput: for problems of the manifests.
        ReconcileError: when there is no such manifest, or its examples are not in the repository.
    """
    from reconciler.manifests.datasets.data_files import dataset_format
    from reconciler.manifests.datasets.inspection import inspect_dataset

    project = open_project(environment, command_input, strict=False)
    manifest = project.manifest(name)
    if manifest is None:
        if project.workspace.errors:
            raise InvalidInput(project.workspace.errors)
        raise project.unknown_name(name)
    source = project.workspace.sources(manifest).training
    if source is None:
        message = f"the data set of {name} is {manifest.dataset.path or 'unknown'}, which is not in this repository"
        raise ReconcileError(message, "download it, and name the file")
    inspection = inspect_dataset(
        source,
        source.options.shape if source.options else "",
        _held_out(project, manifest),
        show_examples=project.target.show_examples,
    )
    file = source.locate(0)[0].file if source.path else "inline"
    read_as = dataset_format(source.options) if source.options else None
    report = inspection_report(inspection, file, manifest=name, read_as=read_as)
    return CommandResult(report, report.exit_status)


def _open(environment: Environment, file: str, fields: Fields = (None, None)) -> DataFile:
    from reconciler.manifests.datasets.data_files import open_data_file

    return open_data_file(environment.cwd / file, file, fields)


def _held_out(project: Project, manifest: Manifest) -> Iterator[tuple[str, str]]:
    from reconciler.manifests.checks import inputs

    sources = project.workspace.sources(manifest).held_out
    for check in manifest.checks:
        if check.prompt:
            yield check.name, check.prompt
        elif check.name in sources:
            yield from ((check.name, text) for _, text in inputs(sources[check.name].source))


def _held_out_file(data: DataFile) -> list[tuple[str, str]]:
    from reconciler.manifests.datasets.conversations import example_text
    from reconciler.manifests.datasets.validation import observe_examples

    texts: list[tuple[str, str]] = []
    problems = observe_examples(data.source, lambda row, _: texts.append((data.shown, example_text(row).input)))
    if any(problem.severity == "error" for problem in problems):
        raise InvalidInput(problems)
    return texts


_fields = _options.combine(
    click.option("--input", "input_field", metavar="FIELD", help="Column or member with the inputs."),
    click.option("--output", "output_field", metavar="FIELD", help="Column or member with the outputs."),
)


@click.group("data")
def command() -> None:
    """Inspect, convert, split and compare data files.

    The format and the fields of a file are recognized by its content. No target or manifest is needed. Offline.
    """


@command.command(
    "inspect", epilog=_options.examples("data inspect orders.csv", "data inspect adder --report data.html")
)
@click.argument("data", metavar="FILE|NAME")
@click.argument("paths", nargs=-1, metavar="[PATHS]...")
@_fields
@click.option(
    "--checks", metavar="FILE", help="Report examples whose inputs are also in FILE, which has examples for checks."
)
@_options.target
@_options.format_option
@_options.output_options
@_options.reports
@_options.environment
def inspect(
    environment: Environment,
    /,
    *,
    data: str,
    paths: tuple[str, ...],
    input_field: str | None,
    output_field: str | None,
    checks: str | None,
    target: str | None,
    **values: Any,
) -> int:
    """Show what is in a data file, and what is wrong with it.

    Shows the shape, the lengths, an estimate of the tokens and the labels, and finds duplicates, contradictions, near
    duplicates, leaks, likely secrets and personal data, and texts in a broken encoding. For the NAME of a manifest,
    inspects its training data, and compares it with the data of its checks. Exit status 1 means invalid examples.
    """
    output = output_of(values)
    if (environment.cwd / data).exists() or not re.fullmatch(NAME_PATTERN, data):
        if paths or target:
            raise UsageError(f"{data} is a file, which needs no PATHS and no --target", "remove them")
        return output.finish(inspect_file(environment, data, checks=checks, fields=(input_field, output_field)))
    if checks or input_field or output_field:
        message = f"no file {data}: --checks, --input and --output are for files, not for the manifest of this name"
        raise UsageError(message, "remove them, or fix the name of the file")
    return output.finish(inspect_manifest(environment, data, CommandInput(paths, target)))
