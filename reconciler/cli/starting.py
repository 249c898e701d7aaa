"""init."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from reconciler.app.environment import Environment
from reconciler.app.starting import scaffold, scaffold_flow
from reconciler.cli import options
from reconciler.core.problems import UsageError
from reconciler.render.safe import terminal_safe


@click.command()
@click.option(
    "--from",
    "data",
    envvar="RECONCILE_INIT_FROM",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A data set to start from (.csv .tsv .jsonl .json); its fields are guessed. Without it, a sample is written.",
)
@click.option("--name", metavar="NAME", help="The model's name; by default that of the data set.")
@click.option(
    "--ci",
    "platform",
    envvar="RECONCILE_INIT_CI",
    type=click.Choice(["github", "gitlab"]),
    help="Write the pull-request flow for this platform, too; where there is a target already, that alone.",
)
@options.target
@options.environment
def init(env: Environment, /, *, data: Path | None, name: str | None, platform: Any, target: str | None) -> None:
    """Write a target and a first manifest here, and say what to do next. Overwrites nothing."""
    if not platform and click.get_current_context().get_parameter_source("target") is ParameterSource.COMMANDLINE:
        raise UsageError("--target chooses the target of --ci", "leave it out, or say --ci github or --ci gitlab")
    made = (
        scaffold_flow(env, platform, target=target, data=data, name=name)
        if platform
        else scaffold(env, data=data, name=name)
    )
    for file in made.created:
        click.echo(f"wrote {terminal_safe(file)}")
    if made.next_command:
        click.echo(f"Next: {made.next_command}")
    if made.steps:
        click.echo("To set up, each explained in docs/ci.md of reconcile:")
    for number, step in enumerate(made.steps, start=1):
        click.echo(f"{number}. {terminal_safe(step)}")
