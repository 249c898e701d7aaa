"""``reconcile completion``: print shell completion scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script.

    To activate it: eval "$(reconcile completion bash)".
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"completion for {shell} is not supported by click")
    click.echo(kind(ctx.find_root().command, {}, "reconcile", "_RECONCILE_COMPLETE").source())
