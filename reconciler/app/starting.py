"""The command that makes a project."""

from __future__ import annotations

from pathlib import Path

from reconciler.app.environment import Environment
from reconciler.files.scaffold import Scaffold, init


def scaffold(env: Environment, *, data: Path | None, name: str | None) -> Scaffold:
    """Write a target and a first manifest into the working folder; nothing that is there is overwritten.

    Raises:
        InvalidInput: for problems of the data set.
        ReconcileError: when a file is there already or cannot be written.
        UsageError: when ``name`` is no legal name.
    """
    return init(env.cwd, data=env.cwd / data if data else None, name=name)
