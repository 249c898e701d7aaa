"""``reconcile version``: print the version."""

from __future__ import annotations

import json
import platform

import click

from reconciler.domain.version import __version__


@click.command("version")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)
def command(*, form: str) -> None:
    """Print the version."""
    if form == "json":
        click.echo(json.dumps({"reconcile": __version__, "python": platform.python_version()}, indent=2))
    else:
        click.echo(f"reconcile {__version__}, Python {platform.python_version()}")
