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

from reconciler.commands.main import main
from reconciler.environment import Environment
from support.cli_world import Clock

OMITTED = "…"


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
    parts = ("(?:.*\n)*" if line == OMITTED else f"{re.escape(line)}\n" for line in shown.splitlines())
    return re.fullmatch("".join(parts), real) is not None


class Console:
    """A prompt in a folder: `reconcile` runs in process, `export NAME=VALUE` is kept, anything else is for a shell."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = folder
        self.clock = clock or Clock()
        self.environ: dict[str, str] = {}

    def run(self, command: str) -> str:
        """Return what a command prints on both streams."""
        name, *arguments = shlex.split(command)
        if name == "reconcile":
            return self._reconcile(arguments)
        if name == "export":
            self.environ |= dict(argument.split("=", 1) for argument in arguments)
            return ""
        shell = ["bash", "-c", f"exec 2>&1; {command}"]
        done = subprocess.run(shell, cwd=self.folder, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - the examples of this repository
        return done.stdout

    def _reconcile(self, arguments: list[str]) -> str:
        terminal = io.BytesIO()
        stream = io.TextIOWrapper(terminal, encoding="utf-8", write_through=True)
        environment = Environment(
            cwd=self.folder,
            environ=self.environ,
            stdin=io.BytesIO(),
            clock=self.clock,
            sleeper=self.clock.sleep,
            rng=random.Random(7),  # noqa: S311 - reproducible, and no secret
        )
        with chdir(self.folder), redirect_stdout(stream), redirect_stderr(stream):
            main(arguments, environment)
        return terminal.getvalue().decode()
