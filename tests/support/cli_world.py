"""The command line on a project of its own, in process, with a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from msgspec import Struct, field

from reconciler.commands.main import main
from reconciler.environment import Environment
from support.base_models import GEMINI_API
from support.fork_server import forked

EXAMPLES = [(str(number), str(number + 1)) for number in range(20)]
TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: default}
spec:
  provider: embedded
  scope: demo
"""
PACE = "  embedded: {stepSeconds: 1.65}\n"
"""Slow enough that a training is in progress when the clock has moved once."""


class Clock(Struct, dict=True):
    """A clock that starts at a fixed moment; its sleeper moves it and calls ``on_move``.

    It moves by at least ``least`` seconds: a command polls a training a few times rather than about a hundred.
    """

    now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)
    least: float = 5.0
    slept: list[float] = field(default_factory=list)
    on_move: Callable[[datetime], None] = lambda _now: None

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=max(seconds, self.least))
        self.on_move(self.now)
        await asyncio.sleep(0)


class TickingClock(Clock):
    """A clock that each look moves by a second, also while the event loop is blocked."""

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Result(Struct, frozen=True):
    """The exit status and both output streams of a command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as JSON."""
        document: dict[str, Any] = json.loads(self.out)
        return document


class Terminal(io.StringIO):
    """Standard input of a user who types the text."""

    def isatty(self) -> bool:
        return True


class Project:
    """The files of a project, and the environment of its commands."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.specs = folder / "specs"
        self.environ = dict(environ or {})
        self.specs.mkdir(parents=True, exist_ok=True)

    @property
    def lock_file(self) -> Path:
        """The lockfile of the default target."""
        return self.specs / "reconcile.lock.json"

    @property
    def lock(self) -> dict[str, Any]:
        """The lockfile's models."""
        models: dict[str, Any] = json.loads(self.lock_file.read_text())["models"]
        return models

    def target(self, text: str, name: str = "") -> None:
        """Write a target file; ``text`` is added to the common one."""
        file = f"reconcile.{name}.yaml" if name else "reconcile.yaml"
        whole = TARGET.replace("default", name or "default") + text.removesuffix("\n")
        (self.specs / file).write_text("\n".join((whole.rstrip("\n"), "" if "  embedded: " in text else PACE)))

    def manifest(
        self,
        name: str,
        *,
        epochs: int = 2,
        rate: float = 0.001,
        examples: Iterable[tuple[str, str]] = EXAMPLES,
        more: str = "",
        base: str = GEMINI_API,
        metadata: str = "",
    ) -> Path:
        """Write a manifest and its data set: 20 examples, batches of 4, so 5 steps an epoch."""
        lines = ["text_input,output", *(f"{given},{wanted}" for given, wanted in examples)]
        (self.specs / f"{name}.csv").write_text("\n".join(lines) + "\n")
        file = self.specs / f"{name}.yaml"
        file.write_text(
            "apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\n"
            f"metadata: {{name: {name}{metadata}}}\n"
            f"spec:\n  baseModel: {base}\n  dataset: {{path: {name}.csv}}\n"
            f"  hyperparameters: {{epochCount: {epochs}, batchSize: 4, learningRate: {rate}}}\n{more}"
        )
        return file


class Snapshot(Struct, frozen=True):
    """The files of a project that commands have prepared, to be copied, and when the last of them ended."""

    folder: Path
    now: datetime


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return cast("io.BytesIO", stream.buffer).getvalue().decode()


class Cli(Project):
    """``reconcile`` in a folder."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, environ)
        self.clock = Clock(least=30)  # the first or second poll of a training finds its end
        target = self.specs / "reconcile.yaml"
        if not target.exists():  # it exists in a copied project
            self.target("")

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result:
        environment = Environment(
            cwd=self.folder,
            environ=self.environ,
            stdin=io.BytesIO(stdin),
            clock=self.clock,
            sleeper=self.clock.sleep,
            rng=random.Random(7),  # noqa: S311 - reproducible, and no secret
        )
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments, environment)
        return Result(int(status), _written(out), _written(err))

    def snapshot(self) -> Snapshot:
        """Return the project as it is, for tests that continue with copies; this one must not change afterwards."""
        return Snapshot(self.folder, self.clock.now)

    def resume(self, before: Snapshot) -> None:
        """Continue where the project of a snapshot was; its files replace those here."""
        shutil.copytree(before.folder, self.folder, dirs_exist_ok=True)
        self.clock.now = before.now

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """The real command as a process of its own, on the real clock."""
        return subprocess.Popen(  # noqa: S603 - our own command
            forked("-m", "reconciler", *arguments),
            cwd=self.folder,
            env={**os.environ, **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
