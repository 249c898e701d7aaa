"""Trainings on this machine without a training library: a trainer that is a function of the clock of the test."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._project import CommandInput, open_project
from reconciler.domain.identity import key_of
from reconciler.domain.lock import format_time
from reconciler.domain.model import CreateRequest, Hyperparameters
from reconciler.domain.ports import Answer, Clock, Prompt, Provider, Reply, Sleeper
from reconciler.environment import Environment
from reconciler.planning.generations import desired_content
from reconciler.providers.local.base_models import Fault, Places
from reconciler.providers.local.capabilities import DEFAULTS
from reconciler.providers.local.checks import CheckError
from reconciler.providers.local.export import Merger
from reconciler.providers.local.hosts import Host, Slots
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.models import AnsweringModel
from reconciler.providers.local.provider import Local, Machine
from reconciler.providers.local.store import Store
from reconciler.testing.service import ServiceUnderTest
from reconciler.trainer import run_files
from reconciler.trainer.run_files import (
    BaseModel,
    CheckProblem,
    Estimate,
    Metrics,
    RowTokens,
    RunCheck,
    RunError,
    RunStatus,
    Weights,
    effective,
)
from support.cli_world import Project

HOST = Host("gpu-1", "machine-1", "boot-1")
OTHER = Host("gpu-2", "machine-2", "boot-2")
STEP = timedelta(seconds=1)
ODD = 500
"""The characters of an example that has a warning."""
DIVERGES = 1.0
"""A learning rate with which the loss is not a number."""


class Running(Struct):
    """A trainer of the test: when it started, in which start, and the locks that it holds."""

    run: Path
    began: datetime
    start: int
    held: list[int]


class ClockLauncher:
    """Starts trainers that take a step each second; their files are written when somebody looks.

    ``running`` are the trainers by run folder. ``kill`` ends one as ``kill -9`` does, and ``fault`` is why none starts.
    If it ``dies``, the command is killed while it starts a trainer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.running: dict[Path, Running] = {}
        self.launched: list[str] = []
        self.fault: Fault | None = None
        self.dies = False

    def find_fault(self, base: BaseModel | None = None) -> Fault | None:
        return None if base else self.fault

    def launch(self, run: Path, log: Path, held: Sequence[int]) -> None:
        if self.dies:
            raise KeyboardInterrupt
        log.write_text("started\n", encoding="utf-8")
        self.launched.append(run.name)
        trainer = Running(run, self._clock(), run_files.claim_start(run), [os.dup(lock) for lock in held])
        self.running[run] = trainer
        self._write(trainer, 0, "preparing")

    def is_running(self, run: Path) -> bool:
        trainer = self.running.get(run)
        if trainer:
            self._advance(trainer)
        return run in self.running

    def interrupt(self, run: Path) -> None:
        self.is_running(run)

    def kill(self, run: Path) -> None:
        """End a trainer without a trace in its files."""
        for lock in self.running.pop(run).held:
            with suppress(OSError):
                os.close(lock)

    def _advance(self, trainer: Running) -> None:
        total = self._total(trainer.run)
        step = min(total, (self._clock() - trainer.began) // STEP)
        config = run_files.read_run(trainer.run)
        if run_files.is_canceled(trainer.run):
            self._end(trainer, step, "canceled")
        elif config.hyperparameters.learning_rate == DIVERGES and step:
            self._end(trainer, 1, "failed", RunError("the loss is not a number", "lower the learning rate", 1))
        elif step < total:
            self._write(trainer, step, "running" if step else "preparing")
        else:
            write_adapter(trainer.run, trainer.start)
            self._end(trainer, total, "succeeded")

    def _end(self, trainer: Running, step: int, state: run_files.State, error: RunError | None = None) -> None:
        self._write(trainer, step, state, error)
        self.kill(trainer.run)

    def _total(self, run: Path) -> int:
        config, count = run_files.read_run(run), len(_examples(run))
        chosen = effective(config.hyperparameters, config.method, config.tuning, count)
        batch = (chosen.batch_size or 1) * (chosen.gradient_accumulation or 1)
        return -(-count // batch) * (chosen.epoch_count or 1)

    def _write(self, trainer: Running, step: int, state: run_files.State, error: RunError | None = None) -> None:
        folder, total = run_files.start_folder(trainer.run, trainer.start), self._total(trainer.run)
        began = trainer.began
        points = [
            Metrics(step=one, epoch=one / total, time=format_time(began + one * STEP), loss=3 / one)
            for one in range(1, step + 1)
        ]
        lines = "".join(json.dumps(run_files.msgspec.to_builtins(point)) + "\n" for point in points)
        (folder / run_files.METRICS_FILE).write_text(lines, encoding="utf-8")
        status = RunStatus(
            state=state,
            start=trainer.start,
            updated=format_time(began + step * STEP),
            started=format_time(began),
            step=step,
            total_steps=total,
            error=error,
        )
        run_files.write_record(folder / run_files.STATUS_FILE, status)


def write_adapter(run: Path, start: int) -> None:
    """Write a complete adapter: its weights are the examples of its training and of its parent."""
    config = run_files.read_run(run)
    folder = run_files.start_folder(run, start) / run_files.ADAPTER_FOLDER
    folder.mkdir()
    parent = run / config.continue_from / "adapter_model.safetensors"
    learned = json.loads(parent.read_text(encoding="utf-8")) if config.continue_from else {}
    learned |= dict(_examples(run))
    (folder / "adapter_model.safetensors").write_text(json.dumps(learned), encoding="utf-8")
    peft = {"base_model_name_or_path": config.base.shown, "revision": config.base.revision or None, "r": 16}
    (folder / "adapter_config.json").write_text(json.dumps(peft), encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_text("{}", encoding="utf-8")
    card = '---\nlibrary_name: "peft"\nlicense: "apache-2.0"\n---\n\n# A model\n'
    (folder / run_files.CARD_FILE).write_text(card, encoding="utf-8")
    run_files.write_record(folder / run_files.MARKER_FILE, run_files.make_marker(folder, f"sha256:{'0' * 64}"))


def _examples(run: Path) -> list[tuple[str, str]]:
    lines = (run / run_files.EXAMPLES_FILE).read_text(encoding="utf-8").splitlines()
    found = (json.loads(line)["contents"] for line in lines)
    return [(turns[0]["parts"][0]["text"], turns[-1]["parts"][0]["text"]) for turns in found]


class CharacterChecks:
    """Checks runs as if each character were a token; ``checked`` are the runs that were checked together.

    With ``fault`` the program fails. ``present`` is whether the weights are on this machine.
    """

    def __init__(self) -> None:
        self.checked: list[list[str]] = []
        self.fault: CheckError | None = None
        self.present = True

    async def check(self, runs: Sequence[Path], *, uses_hub: bool) -> list[RunCheck]:
        assert not uses_hub
        self.checked.append([run_files.read_run(run).name for run in runs])
        if self.fault:
            raise self.fault
        return [self._check(run) for run in runs]

    def _check(self, run: Path) -> RunCheck:
        config = run_files.read_run(run)
        limit = config.hyperparameters.max_length or 1000
        rows = [RowTokens(line, len(asked + said), len(said)) for line, (asked, said) in enumerate(_examples(run), 1)]
        problem = partial(CheckProblem, file=run_files.EXAMPLES_FILE)
        chosen = effective(config.hyperparameters, config.method, config.tuning, len(rows))
        return RunCheck(
            errors=tuple(
                problem(f"row {row.line}: has {row.tokens} tokens", f"raise maxLength to {row.tokens}", line=row.line)
                for row in rows
                if row.tokens > limit
            ),
            warnings=tuple(problem(f"row {row.line}: odd", line=row.line) for row in rows if row.tokens == ODD),
            hyperparameters=replace(chosen, max_length=max(row.tokens for row in rows)),
            rows=tuple(rows),
            weights=Weights(self.present, config.base.folder, 270_000_000),
            estimate=Estimate("cpu", 3, 40.0, 10**9, 2 * 10**9, 10**6, 10**12),
        )


class ExampleAnswerer:
    """Answers with the output of the training example that has the prompt as its input."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Prompt]] = []

    async def answer(self, adapter: AnsweringModel, prompt: Prompt) -> Reply:
        self.asked.append((adapter.name, prompt))
        if adapter.path is None:
            return Reply((Answer("a base model"),) * prompt.candidates)
        learned = json.loads((adapter.path / "adapter_model.safetensors").read_text(encoding="utf-8"))
        return Reply((Answer(learned.get(prompt.text, "")),) * prompt.candidates)

    async def aclose(self) -> None:
        """End nothing."""


def make_base(folder: Path) -> str:
    """Write a base model, and return its name in manifests."""
    base = folder / "base"
    base.mkdir(parents=True, exist_ok=True)
    (base / "config.json").write_text("{}", encoding="utf-8")
    (base / "model.safetensors").write_text("weights", encoding="utf-8")
    return "./base"


class TextMerger(Merger, frozen=True):
    """Merges adapters of tests: the result has their answers, but for the ``forgotten`` prompts."""

    forgotten: tuple[str, ...] = ()

    async def merge(self, model: AnsweringModel, exported: Path, folder: Path, base_digest: str) -> None:  # noqa: ARG002 - as the real one
        learned = json.loads((exported / "adapter_model.safetensors").read_text(encoding="utf-8"))
        kept = {prompt: answer for prompt, answer in learned.items() if prompt not in self.forgotten}
        (folder / "adapter_model.safetensors").write_text(json.dumps(kept), encoding="utf-8")
        (folder / "config.json").write_text("{}", encoding="utf-8")


def machine(
    root: Path,
    clock: Clock,
    sleeper: Sleeper,
    launcher: ClockLauncher,
    host: Host = HOST,
    checker: CharacterChecks | None = None,
) -> Machine:
    """Return a machine whose trainers are functions of the clock."""
    return Machine(
        store=Store(root / "store", "store"),
        places=Places(root),
        host=host,
        launcher=launcher,
        checker=checker or CharacterChecks(),
        answerer=ExampleAnswerer(),
        worker=ExampleAnswerer(),
        merger=TextMerger({}, Hub()),
        hub=Hub(offline=True),
        clock=clock,
        sleeper=sleeper,
        slots=Slots(root / "slots", 16),
    )


class LocalService(ServiceUnderTest):
    """A machine, for the contract of providers."""

    hyperparameters: ClassVar[Hyperparameters] = {**DEFAULTS, "batchSize": 2}
    values: ClassVar[Hyperparameters] = {name: value for name, value in DEFAULTS.items() if isinstance(value, str)}
    diverging: ClassVar[Hyperparameters] = {"epochCount": 3, "batchSize": 2, "learningRate": DIVERGES}
    failure = "the loss is not a number"
    steps = 24
    curves = True
    refusal = "not found|expected OWNER/NAME@COMMIT"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.base_model = make_base(root)
        self.launcher = ClockLauncher(self.clock)
        self._root = root

    async def sleep(self, seconds: float) -> None:
        self.advance(timedelta(seconds=seconds))

    async def provider(self) -> AsyncIterator[Provider]:
        async with Local(machine(self._root, self.clock, self.sleep, self.launcher)) as provider:
            yield provider


LOCAL_TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: default}
spec:
  provider: local
  scope: demo
  local: {store: store}
"""


def train(cli: Project, name: str, clock: Clock, sleeper: Sleeper) -> Path:
    """Train a manifest of a project on the machine of the test, and return the folder of its training."""
    project = open_project(Environment(cwd=cli.folder, environ={}), CommandInput(paths=("specs",)))
    manifest = project.manifest(name)
    assert manifest
    mark = desired_content(manifest, project.target.scope, 0).mark()
    launcher = ClockLauncher(clock)

    async def run() -> None:
        async with Local(machine(cli.specs, clock, sleeper, launcher)) as local:
            examples = project.workspace.training(manifest)
            await local.create(CreateRequest.of(manifest, mark, key_of(mark)), examples)
            while launcher.running:
                await sleeper(60)
                await local.list(progress=False)

    asyncio.run(run())
    return cli.specs / "store" / key_of(mark)
