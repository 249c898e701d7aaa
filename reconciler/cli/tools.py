"""schema, emulator and completion: commands that read no manifests."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from reconciler.app import services
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.files.schema import SCHEMA_KINDS, schema_text


@click.command()
@click.argument("kind", required=False)
def schema(kind: str | None) -> None:
    """Print the JSON Schema of a KIND of document; without KIND, the kinds."""
    click.echo(schema_text(kind).rstrip() if kind else "\n".join(SCHEMA_KINDS))


@click.command()
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
@options.environment
def emulator(
    env: Environment, /, *, host: str, port: int, store: Path | None, world: Path | None, step_seconds: float | None
) -> None:
    """Serve the embedded service on a port, for any client. Its training is simulated.

    Without --store the models are kept in memory, and are gone when it ends.
    """
    services.serve(
        env,
        services.Served(store=store, world=world, step_seconds=step_seconds),
        host=host,
        port=port,
        started=lambda url: click.echo(f"Embedded service (simulated training) on {url}"),
    )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL: eval "$(reconcile completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "reconcile", "_RECONCILE_COMPLETE").source())
