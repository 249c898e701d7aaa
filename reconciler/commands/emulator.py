"""``reconcile emulator``: serve the embedded service on a port."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.commands import _options
from reconciler.environment import Environment
from reconciler.providers import registry


@click.command("emulator")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 picks a free port.")
@click.option("--store", type=click.Path(path_type=Path), metavar="FILE", help="Keep the models in this SQLite file.")
@click.option(
    "--world",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Start with these models: a saved tunedModels list.",
)
@click.option(
    "--step-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long one simulated training step takes.",
)
@_options.environment
def command(
    env: Environment, /, *, host: str, port: int, store: Path | None, world: Path | None, step_seconds: float | None
) -> None:
    """Serve the embedded service on a port, for any client. Its training is simulated.

    Without --store the models are kept in memory, and are gone when it ends.
    """
    registry.serve(
        env,
        registry.Served(store=store, world=world, step_seconds=step_seconds),
        host=host,
        port=port,
        started=lambda url: click.echo(f"Embedded service (simulated training) on {url}"),
    )
