"""init."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.app.environment import Environment
from reconciler.app.starting import scaffold
from reconciler.cli import options
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
@options.environment
def init(env: Environment, /, *, data: Path | None, name: str | None) -> None:
    """Write a target and a first manifest here, and say what to do next. Overwrites nothing."""
    made = scaffold(env, data=data, name=name)
    for file in made.created:
        click.echo(f"wrote {terminal_safe(file)}")
    click.echo(f"Next: {made.next_command}")
