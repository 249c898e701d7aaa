"""Run the console examples of pages in process, with a clock that only sleeping moves."""

from __future__ import annotations

import io
import random
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from reconciler.app.environment import Environment
from reconciler.cli.main import main
from support.cli_world import Clock

LEFT_OUT = "…"


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def examples(block: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block, each with the output that is shown."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def agrees(shown: str, real: str) -> bool:
    """Return whether the output is as shown; a line of three dots is any number of lines."""
    parts = ("(?:.*\n)*" if line == LEFT_OUT else f"{re.escape(line)}\n" for line in shown.splitlines())
    return re.fullmatch("".join(parts), real) is not None


def run(command: str, folder: Path, clock: Clock) -> str:
    """Return what a command prints on both streams; `reconcile` runs in process, anything else in a shell."""
    name, *arguments = shlex.split(command, comments=True)
    if name != "reconcile":
        shell = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S602 - the examples of this repository
        return shell.stdout + shell.stderr
    terminal = io.BytesIO()
    stream = io.TextIOWrapper(terminal, encoding="utf-8", write_through=True)
    environment = Environment(
        cwd=folder,
        environ={},
        stdin=io.BytesIO(),
        clock=clock,
        sleeper=clock.sleep,
        rng=random.Random(7),  # noqa: S311 - reproducible, and no secret
    )
    with chdir(folder), redirect_stdout(stream), redirect_stderr(stream):
        main(arguments, environment)
    return terminal.getvalue().decode()
