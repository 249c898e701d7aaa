"""``reconcile list``: list the models of the lockfile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands.status import status
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names, terminal_safe
from reconciler.environment import Environment
from reconciler.reports.text.format import minute, table

if TYPE_CHECKING:
    from reconciler.reports.documents.status import ModelStatus, StatusReport

_HEADINGS: Final = ("NAME", "STATE", "SERVING", "SINCE")
_WIDE_HEADINGS: Final = (*_HEADINGS, "REMOTE", "GENERATIONS", "PROTECTED", "MANIFEST")
_MOST_NAMES: Final = 20


class _Form(click.Choice[str]):
    """The output format; kubectl accepts ``-o=json`` for ``-o json`` too."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(value.removeprefix("="), param, ctx)


def _text(report: StatusReport, form: str) -> str:
    if form == "name":
        return "\n".join(terminal_safe(model.name) for model in report.models)
    return "\n".join(table(_rows(report, wide=form == "wide"))) if report.models else ""


def _rows(report: StatusReport, *, wide: bool) -> Iterator[tuple[str, ...]]:
    yield _WIDE_HEADINGS if wide else _HEADINGS
    for model in report.models:
        yield (*_cells(model), *(_wide_cells(model) if wide else ()))


def _cells(model: ModelStatus) -> tuple[str, ...]:
    shown = model.shown
    since = shown.promote_time if shown and model.serving else ""
    return (
        terminal_safe(model.name),
        shown.state if shown else "-",
        terminal_safe(model.serving.key) if model.serving else "-",
        minute(since) if since else "-",
    )


def _wide_cells(model: ModelStatus) -> tuple[str, ...]:
    remote = model.shown.remote if model.shown else ""
    protected = "yes" if model.protect else "no"
    return terminal_safe(remote) or "-", str(len(model.generations)), protected, terminal_safe(model.manifest)


@click.command(
    "list", epilog=_options.examples("list", "list adder -o yaml", "list -l 'team in (nlp, search)' -o name")
)
@click.argument("paths", nargs=-1, metavar="[NAMES]... [PATHS]...")
@_options.target
@_options.labels
@_options.trust_options
@click.option(
    "-o",
    "--output",
    "--format",
    "format",
    type=_Form(["table", "wide", "json", "yaml", "name"]),
    default="table",
    show_default=True,
    help="Output format. wide has more columns, json and yaml have the document of status, name only the names.",
)
@_options.output_options
@_options.environment
def command(environment: Environment, /, **values: Any) -> int:
    """List models with their state. Offline. Also available as get.

    Reads the lockfile and no manifest: run reconcile plan to see models that were never applied. With
    NAMES, lists only these models. An argument that exists as a path is a path.
    """
    form = values["format"]
    values["format"] = form if form in {"json", "yaml"} else "text"
    names, values["paths"] = _options.split_names(values["paths"], environment.cwd)
    command_input = input_of({**values, "only": names, "exclude": ()})
    output = output_of(values)
    result = status(environment, command_input, live=False)
    if not result.document.models:
        output.warning(for_target("no models are recorded; run reconcile apply to train them"))
    if orphans := [model.name for model in result.document.models if model.orphaned]:
        output.warning(
            for_target(
                f"no manifest declares {join_names(orphans, _MOST_NAMES)}; run reconcile prune --dry-run to see what"
                " prune would delete, or reconcile forget NAME to stop managing a model"
            )
        )
    return output.finish(result, lambda _style, _width: _text(result.document, form))
