"""``reconcile help``: print the help of a command."""

from __future__ import annotations

import click


@click.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Print the help of a command.

    It is that of the option --help. A command in another one has two names, as in reconcile help data split.
    """
    context = ctx.find_root()
    for name in names:
        group = context.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{context.command_path} has no commands; run reconcile help {context.info_name}")
        _, found, _ = group.resolve_command(context, [name])
        if found is None:
            raise LookupError(name)
        context = click.Context(found, parent=context, info_name=found.name, **found.context_settings)
    click.echo(context.get_help())
