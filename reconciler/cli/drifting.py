"""drift."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from reconciler.app import drifting
from reconciler.app.drifting import Judgement, class_of
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.core.drift import DriftClass
from reconciler.render.drift import drift_text


@click.command()
@options.inputs
@options.voice
@options.reports
@click.option(
    "--fail-on",
    multiple=True,
    metavar="CLASS,...",
    help="What counts as drift, in place of Missing, Replaced, Failed, Degraded, Outdated, Modified and Orphaned; "
    "repeatable.",
)
@click.option("--exit-zero", is_flag=True, help="Exit with 0 whatever is found.")
@click.option(
    "--unmanaged",
    type=click.Choice(["all", "none", "summary"]),
    default="summary",
    show_default=True,
    help="What to tell of foreign models: each, nothing, or how many there are.",
)
@options.environment
def drift(env: Environment, /, *, fail_on: tuple[str, ...], exit_zero: bool, unmanaged: Any, **values: Any) -> int:
    """Show what has changed behind the manifests' back, and where they are ahead. Changes nothing anywhere.

    Exit status 2 says that there is drift.
    """
    output = output_of(values)
    judgement = Judgement(fail_on=_classes(fail_on), exit_zero=exit_zero, unmanaged=unmanaged)
    what = replace(input_of(values), portraits=bool(output.reports))
    answer = drifting.find_drift(env, what, judgement)
    output.warn(answer.warnings)
    output.result(
        answer.document,
        lambda style, width: drift_text(answer.document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status


def _classes(texts: tuple[str, ...]) -> frozenset[DriftClass] | None:
    if not texts:
        return None
    return frozenset(class_of(name) for text in texts for name in text.split(","))
