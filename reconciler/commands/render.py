"""``reconcile render``: print a saved document as text, and write reports of it."""

from __future__ import annotations

from typing import Any

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import output_of
from reconciler.environment import Environment
from reconciler.reports.documents.saved_plan import SavedPlan
from reconciler.reports.writer import KINDS, type_of
from reconciler.state.document_files import read_document


@click.command("render", epilog=_options.examples("render plan.json --report plan.html"))
@click.argument("file")
@_options.format_option
@_options.output_options
@_options.reports
@_options.environment
def command(environment: Environment, /, file: str, **values: Any) -> None:
    """Print a saved JSON document as text. Offline.

    With --report, also writes reports. A saved plan is printed as a plan.
    """
    output = output_of(values)
    document = read_document(environment.cwd / file, file, (*KINDS, "SavedPlan"), type_of)
    if isinstance(document, SavedPlan):
        document = document.plan
    replace(output, run=None).result(document)
