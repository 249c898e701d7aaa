"""check."""

from __future__ import annotations

from typing import Any

import click

from reconciler.app import checking
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.event_log import event_log, events, watched
from reconciler.cli.options import input_of, output_of
from reconciler.cli.watching import progress
from reconciler.render.check import check_text


@click.command()
@click.argument("name", required=False)
@options.paths
@options.target
@options.labels
@options.allow_endpoint
@options.document_format
@options.voice
@options.reports
@events
@click.option("--generation", metavar="KEY", help="Check this generation of NAME instead of the one that serves.")
@options.environment
def check(env: Environment, /, name: str | None, *, generation: str | None, **values: Any) -> int:
    """Run the checks of NAME, or of every manifest that has some, and record how the models did.

    The generations that serve are checked. What used to pass and does not any more is told. Trains nothing, and changes
    the lockfile alone.
    """
    output = output_of(values)
    with event_log(env, output, values.pop("events"), "check") as log:
        answer = checking.check(
            env,
            input_of(values),
            name,
            key=generation,
            progress=lambda names, simulated: watched(progress(env, output, names, simulated=simulated), log),
        )
        log.ended(answer.document)
    output.warn(answer.warnings)
    output.result(answer.document, lambda style, width: check_text(answer.document, width=width, style=style))
    return answer.exit_status
