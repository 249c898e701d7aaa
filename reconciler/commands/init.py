"""``reconcile init``: write a project, and the pull-request workflow for CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.domain.errors import InvalidInput, UsageError
from reconciler.domain.text import terminal_safe
from reconciler.environment import Environment
from reconciler.manifests.datasets.detect import Fields
from reconciler.manifests.discovery import DEFAULT, find_root, target_file_name
from reconciler.manifests.scaffold import Platform, Scaffold, Workflows, create_workflows, init, init_workflows
from reconciler.manifests.target import read_target


def scaffold(
    environment: Environment, *, data: Path | None, name: str | None, fields: Fields = (None, None)
) -> Scaffold:
    """Write a target and a first manifest into the working directory; overwrite nothing.

    Raises:
        InvalidInput: for problems of the data set.
        ReconcileError: when a file exists or cannot be written.
        UsageError: when ``name`` is invalid.
    """
    return init(environment.cwd, data=environment.cwd / data if data else None, name=name, fields=fields)


def scaffold_flow(
    environment: Environment,
    platform: Platform,
    *,
    target: str | None,
    data: Path | None,
    name: str | None,
    fields: Fields = (None, None),
) -> Scaffold:
    """Write the pull-request workflow for an existing target, or for a project that is written first.

    Raises:
        InvalidInput: for problems of the target file or the data set.
        ReconcileError: when a file exists or cannot be written.
        UsageError: when there is no such target, its lockfile is in a bucket, or ``data`` or ``name`` are given for an
            existing project.
    """
    project = None
    if target is None and not _has_target(environment):
        project = scaffold(environment, data=data, name=name, fields=fields)
    elif data or name:
        raise UsageError("--from and --name need a new project, but a target exists", "remove them")
    flow = init_workflows(environment.cwd, _flow(environment, platform, target or DEFAULT))
    if project is None:
        return flow
    return replace(project, created=(*project.created, *flow.created), steps=flow.steps)


def _has_target(environment: Environment) -> bool:
    try:
        find_root(_default_path(environment), DEFAULT, environment.cwd)
    except UsageError:
        return False
    return True


def _flow(environment: Environment, platform: Platform, name: str) -> Workflows:
    path = _default_path(environment)
    root = find_root(path, name, environment.cwd)
    file = os.path.relpath(root.folder / target_file_name(name), environment.cwd)
    result = read_target(root, file, environment.environ)
    if result.target is None:
        raise InvalidInput(result.problems)
    return create_workflows(platform, root, result.target, environment.cwd)


def _default_path(environment: Environment) -> str:
    """Return the path that commands read by default."""
    return "specs" if (environment.cwd / "specs").is_dir() else "."


@click.command("init", epilog=_options.examples("init --from capitals.csv", "init --ci github"))
@click.option(
    "--from",
    "data",
    envvar="RECONCILE_INIT_FROM",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Data set. Its format and fields are recognized, and written into the manifest. Default: write a sample.",
)
@click.option("--input", "input_field", metavar="FIELD", help="Column or member with the inputs; needs --from.")
@click.option("--output", "output_field", metavar="FIELD", help="Column or member with the outputs; needs --from.")
@click.option("--name", metavar="NAME", help="Name of the model. Default: the name of the data set.")
@click.option(
    "--ci",
    "platform",
    envvar="RECONCILE_INIT_CI",
    type=click.Choice(["github", "gitlab"]),
    help="Write the pull-request workflow for this platform: to a new project, or for an existing target.",
)
@_options.target
@_options.environment
def command(
    environment: Environment,
    /,
    *,
    data: Path | None,
    input_field: str | None,
    output_field: str | None,
    name: str | None,
    platform: Any,
    target: str | None,
) -> None:
    """Write a target and a first manifest here.

    Prints the next steps. Overwrites nothing.
    """
    if not platform and click.get_current_context().get_parameter_source("target") is ParameterSource.COMMANDLINE:
        raise UsageError("--target needs --ci", "remove it, or add --ci github or --ci gitlab")
    if data is None and (input_field or output_field):
        raise UsageError("--input and --output name fields of a data set", "add --from FILE")
    fields = (input_field, output_field)
    result = (
        scaffold_flow(environment, platform, target=target, data=data, name=name, fields=fields)
        if platform
        else scaffold(environment, data=data, name=name, fields=fields)
    )
    for line in result.mapping:
        click.echo(terminal_safe(line))
    for file in result.created:
        click.echo(f"wrote {terminal_safe(file)}")
    if result.next_command:
        click.echo(f"Next: {result.next_command}")
    if result.steps:
        click.echo("To set up, see docs/ci.md of reconcile:")
    for number, step in enumerate(result.steps, start=1):
        click.echo(f"{number}. {terminal_safe(step)}")
