"""``reconcile data``: inspect, convert, split and compare data files. Needs no target and no manifest."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import click

from reconciler.commands import _options
from reconciler.commands._options import output_of
from reconciler.commands._project import CommandInput, CommandResult, open_project
from reconciler.domain.errors import ExitStatus, InvalidInput, ReconcileError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.model import HUB_SCHEME, Manifest
from reconciler.domain.text import counted, join_names, quote, terminal_safe
from reconciler.environment import Environment
from reconciler.files import create_file, write_errors, write_file
from reconciler.manifests.datasets.conversion import TARGETS, check_conversion, converted, output_options
from reconciler.reports.documents.inspection import (
    DataDiffReport,
    InspectionReport,
    data_diff_report,
    inspection_report,
)

if TYPE_CHECKING:
    from reconciler.commands._project import Project
    from reconciler.manifests.datasets.data_files import DataFile
    from reconciler.manifests.datasets.detect import Fields
    from reconciler.manifests.datasets.splitting import HeldOutShare

_UNUSED_SHOWN: Final = 10
_LABELS_SHOWN: Final = 5


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
    report = inspection_report(inspection, data.shown, read_as=dataset_format(data.options))
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
    file = source.path if source.files > 1 else source.locate(0)[0].file if source.path else "inline"
    read_as = dataset_format(source.options) if source.options else None
    report = inspection_report(inspection, file, manifest=name, read_as=read_as)
    return CommandResult(report, report.exit_status)


def _open(environment: Environment, file: str, fields: Fields = (None, None)) -> DataFile:
    from reconciler.manifests.datasets.data_files import open_data_file, open_data_files
    from reconciler.manifests.datasets.hub_addresses import names_hub, parse_address

    if names_hub(file):
        from reconciler.manifests.datasets.hub import fetch, resolve_commit

        return open_data_files(fetch(resolve_commit(parse_address(file))), fields)
    from reconciler.manifests.datasets.folders import open_folder

    if files := open_folder(environment.cwd, file):
        return open_data_files(files, fields)
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
    if os.path.lexists(environment.cwd / data) or not re.fullmatch(NAME_PATTERN, data):
        if paths or target:
            raise UsageError(f"{data} is a file, which needs no PATHS and no --target", "remove them")
        return output.finish(inspect_file(environment, data, checks=checks, fields=(input_field, output_field)))
    if checks or input_field or output_field:
        message = f"no file {data}: --checks, --input and --output are for files, not for the manifest of this name"
        raise UsageError(message, "remove them, or fix the name of the file")
    return output.finish(inspect_manifest(environment, data, CommandInput(paths, target)))


@command.command(
    "convert",
    epilog=_options.examples(
        "data convert orders.csv --to messages --out orders.jsonl", "data convert chat.json --to csv"
    ),
)
@click.argument("file")
@click.option("--to", "form", type=click.Choice(list(TARGETS)), required=True, help="Format to convert to.")
@click.option(
    "--out",
    metavar="FILE",
    help="File to write; its ending selects .jsonl or .json, and .gz or .zst. Default: print to standard output.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file of --out.")
@_fields
@_options.quiet
@_options.environment
def convert(
    environment: Environment,
    /,
    *,
    file: str,
    form: str,
    out: str | None,
    overwrite: bool,
    input_field: str | None,
    output_field: str | None,
    quiet: bool,
) -> None:
    """Write the examples of a data file in another format.

    Refuses the conversion if an example would lose something, such as a second turn or a system instruction. Fields
    that are neither inputs nor outputs are not converted, and are named.
    """
    if overwrite and not out:
        raise UsageError("--overwrite needs a file to replace", "add --out FILE")
    data = _open(environment, file, (input_field, output_field))
    examples = convert_file(environment, data, form, out=out, overwrite=overwrite)
    if quiet:
        return
    if data.detected.unused:
        text = f"warning: {file}: not converted: {join_names(data.detected.unused, _UNUSED_SHOWN)}"
        click.echo(terminal_safe(text), err=True)
    if out:
        click.echo(terminal_safe(f"{out}: {counted(examples, 'example')} as {form}"))


def convert_file(
    environment: Environment, data: DataFile, form: str, *, out: str | None = None, overwrite: bool = False
) -> int:
    """Write a data file in another format to ``out``, or to standard output, and return the number of examples.

    Raises:
        InvalidInput: when an example is invalid.
        ReconcileError: when an example would lose something, or the output cannot be written.
        UsageError: when the ending of ``out`` does not fit the format.
    """
    from reconciler.manifests.datasets.file_formats import encoded

    options = output_options(out or "", form)
    path = environment.cwd / out if out else None
    if path and path.exists() and not overwrite:
        raise UsageError(f"{out} already exists, so nothing was written", "name another file, or add --overwrite")
    examples = check_conversion(data, form)
    texts = converted(data, form, options.format)
    if path is None:
        for text in texts:
            sys.stdout.write(f"{terminal_safe(text.rstrip())}\n" if sys.stdout.isatty() else text)
        return examples
    with write_errors(out):
        (write_file if overwrite else create_file)(path, encoded(texts, options))
    return examples


def _held_out_share(text: str) -> HeldOutShare:
    from reconciler.manifests.datasets.splitting import HeldOutShare

    found = re.fullmatch(r"(\d{1,2}(?:\.\d{1,6})?)%|([1-9]\d{0,8})", text.replace(" ", ""))
    if not found or (found[1] and not float(found[1])):
        raise click.BadParameter(f"invalid amount {text!r}: expected a share like 10% or a number of examples like 50.")
    return HeldOutShare(Fraction(found[1]) / 100) if found[1] else HeldOutShare(count=int(found[2]))


@command.command("split", epilog=_options.examples("data split orders.csv --held-out 10%"))
@click.argument("file")
@click.option(
    "--held-out",
    type=_held_out_share,
    required=True,
    metavar="AMOUNT",
    help="How much to hold out: a share like 10%, or a number of examples.",
)
@click.option(
    "--out",
    metavar="FILE",
    help="The files are named like FILE, with .train and .held-out before its ending. Default: like the data file.",
)
@_fields
@_options.environment
def split(
    environment: Environment,
    /,
    *,
    file: str,
    held_out: HeldOutShare,
    out: str | None,
    input_field: str | None,
    output_field: str | None,
) -> None:
    """Split a data file into one to train on and one for checks.

    For orders.csv, writes orders.train.csv and orders.held-out.csv in the same format; overwrites nothing. The same
    examples are always held out, in any order of the file. Examples with the same input are in one file, and if the
    outputs are labels, each label has the same share in both.
    """
    from reconciler.manifests.datasets.splitting import split_file

    if file.startswith(HUB_SCHEME) and not out:
        raise UsageError("a data set of the Hugging Face Hub is split into files of yours", "add --out FILE")
    data = _open(environment, file, (input_field, output_field))
    named = out or file
    for part in split_file(data, held_out, environment.cwd / out if out else None):
        labels = [f"{quote(label)} {count:,}" for label, count in part.labels.items()]
        shown = f": {join_names(labels, _LABELS_SHOWN)}" if labels else ""
        path = os.path.join(os.path.dirname(named), part.path.name)  # noqa: PTH118, PTH120 - as the user names it
        click.echo(terminal_safe(f"{path}: {counted(part.examples, 'example')}{shown}"))


def diff_files(
    environment: Environment, old: str, new: str, *, fields: Fields = (None, None), detailed: bool = False
) -> CommandResult[DataDiffReport]:
    """Return added, removed and changed examples; ``detailed`` reports them in the exit status.

    Raises:
        InvalidInput: when an example is invalid.
        ReconcileError: when a file cannot be read, or its fields are ambiguous.
        UsageError: when a field of ``fields`` does not exist.
    """
    from reconciler.manifests.datasets.comparison import compare_files

    before, after = _open(environment, old, fields), _open(environment, new, fields)
    found = compare_files(before, after)
    report = data_diff_report(
        before.shown, after.shown, (found.added, found.removed, found.changed, found.unchanged), found.examples
    )
    differs = bool(found.added or found.removed or found.changed)
    return CommandResult(report, ExitStatus.CHANGES if detailed and differs else ExitStatus.OK)


@command.command(
    "diff", epilog=_options.examples("data diff old.csv new.csv", "data diff old.csv new.jsonl --format json")
)
@click.argument("old")
@click.argument("new")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with status 2 if there are differences.")
@_fields
@_options.format_option
@_options.output_options
@_options.environment
def diff(
    environment: Environment,
    /,
    *,
    old: str,
    new: str,
    detailed_exitcode: bool,
    input_field: str | None,
    output_field: str | None,
    **values: Any,
) -> int:
    """Show which examples were added, removed and changed.

    A changed example has the same input and another output. The order of the examples, and the formats of the two
    files, make no difference. With -v, shows up to 100 examples of each kind.
    """
    output = output_of(values)
    fields = input_field, output_field
    return output.finish(diff_files(environment, old, new, fields=fields, detailed=detailed_exitcode))
