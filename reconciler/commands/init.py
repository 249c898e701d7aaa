"""The command that makes a project, and what runs it in CI."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from reconciler.commands import _options
from reconciler.domain.errors import InvalidInput, UsageError
from reconciler.environment import Environment
from reconciler.manifests.discovery import DEFAULT, find_root, target_file_name
from reconciler.manifests.scaffold import Scaffold, init, init_flow
from reconciler.manifests.target import read_target
from reconciler.manifests.workflows import Platform, Workflows, workflows
from reconciler.reports.text.escape import terminal_safe


def scaffold(env: Environment, *, data: Path | None, name: str | None) -> Scaffold:
    """Write a target and a first manifest into the working folder; nothing that is there is overwritten.

    Raises:
        InvalidInput: for problems of the data set.
        ReconcileError: when a file is there already or cannot be written.
        UsageError: when ``name`` is no legal name.
    """
    return init(env.cwd, data=env.cwd / data if data else None, name=name)


def scaffold_flow(
    env: Environment, platform: Platform, *, target: str | None, data: Path | None, name: str | None
) -> Scaffold:
    """Write the pull-request flow for a target that is there, or for a project that is made first.

    Raises:
        InvalidInput: for problems of the target file or the data set.
        ReconcileError: when a file is there already or cannot be written.
        UsageError: when there is no such target, its lockfile is in a bucket, or a project is to be made where one is.
    """
    made = None
    if target is None and not _has_target(env):
        made = scaffold(env, data=data, name=name)
    elif data or name:
        raise UsageError("--from and --name are for a new project, and there is one", "leave them out")
    written = init_flow(env.cwd, _flow(env, platform, target or DEFAULT))
    return (
        replace(written, created=(*made.created, *written.created), next_command=made.next_command) if made else written
    )


def _has_target(env: Environment) -> bool:
    try:
        find_root(_specs(env), DEFAULT, env.cwd)
    except UsageError:
        return False
    return True


def _flow(env: Environment, platform: Platform, name: str) -> Workflows:
    root = find_root(_specs(env), name, env.cwd)
    read = read_target(root, os.path.relpath(root.folder / target_file_name(name), env.cwd), env.environ)
    if read.target is None:
        raise InvalidInput(read.problems)
    return workflows(platform, root, read.target, env.cwd, _specs(env))


def _specs(env: Environment) -> str:
    """What commands take without paths."""
    return "specs" if (env.cwd / "specs").is_dir() else "."


@click.command("init")
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
@_options.target
@_options.environment
def command(env: Environment, /, *, data: Path | None, name: str | None, platform: Any, target: str | None) -> None:
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
