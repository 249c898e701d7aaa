"""validate, plan, status and resolve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from reconciler.app import commands
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of, request_of
from reconciler.core.problems import UsageError
from reconciler.render.plan_text import plan_text
from reconciler.render.text import resolve_text, status_text, validation_text


@click.command()
@options.inputs
@options.voice
@click.option(
    "--locked", is_flag=True, help="Also fail unless the lockfile names a ready generation for each manifest."
)
@options.environment
def validate(env: Environment, /, *, locked: bool, **values: Any) -> int:
    """Report every problem of the manifests, the target and the data sets. Asks no service."""
    output = output_of(values)
    answer = commands.validate(env, input_of(values), locked=locked)
    output.result(answer.document, lambda style, _: validation_text(answer.document, style=style))
    return answer.exit_status


@click.command()
@options.run
@options.trainings
@click.option("--offline", is_flag=True, help="Take the lockfile for what is there, and ask no service.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@click.option(
    "--base", metavar="REF", help="Also show how the data sets have changed since that commit of git, like origin/main."
)
@click.option("--out", metavar="FILE", help="Also save the plan in FILE, which apply FILE carries out as it is.")
@options.environment
def plan(
    env: Environment,
    /,
    *,
    offline: bool,
    detailed_exitcode: bool,
    base: str | None,
    out: str | None,
    **values: Any,
) -> int:
    """Show what apply would do, and why. Changes nothing."""
    output, request = output_of(values, out), request_of(values)
    if out and offline:
        raise UsageError(
            "--offline asks no service, so there is nothing that --out could save", "leave one of them out"
        )
    what = replace(input_of(values), portraits=bool(output.reports))
    answer = commands.plan(env, what, request, offline=offline, detailed=detailed_exitcode, base=base, out=out)
    output.warn(answer.warnings)
    output.result(
        answer.document,
        lambda style, width: plan_text(answer.document, width=width, verbose=output.verbose > 0, style=style),
    )
    return answer.exit_status


@click.command()
@options.inputs
@options.voice
@options.reports
@click.option("--live", is_flag=True, help="Also ask the service what it shows of the recorded models.")
@click.option(
    "--access",
    type=options.address,
    metavar="ADDRESS",
    help="Also ask the service which of the recorded models that e-mail address can reach.",
)
@options.environment
def status(env: Environment, /, *, live: bool, access: str | None, **values: Any) -> int:
    """Show what the lockfile records of each model."""
    output = output_of(values)
    what = replace(input_of(values), portraits=bool(output.reports))
    answer = commands.status(env, what, live=live, access=access)
    output.result(answer.document, lambda style, width: status_text(answer.document, width=width, style=style))
    return answer.exit_status


@click.command()
@click.argument("name", required=False)
@options.paths
@options.target
@options.document_format
@options.voice
@options.environment
def resolve(env: Environment, /, name: str | None, **values: Any) -> int:
    """Print the remote name of the model that serves NAME, or of all. Asks no service."""
    output = output_of(values)
    answer = commands.resolve(env, input_of(values), name)
    output.result(answer.document, lambda _style, _width: resolve_text(answer.document, bare=name is not None))
    return answer.exit_status
