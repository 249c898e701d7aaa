"""The command that makes a project, and what runs it in CI."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from reconciler.app.environment import Environment
from reconciler.core.problems import InvalidInput, UsageError
from reconciler.files.discover import target_file_name
from reconciler.files.scaffold import Scaffold, init, init_flow
from reconciler.files.target_file import read_target
from reconciler.files.targets import DEFAULT, find_root
from reconciler.files.workflows import Platform, Workflows, workflows


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
