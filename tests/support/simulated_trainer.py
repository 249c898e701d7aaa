"""Trainings on this machine in a simulated world: the programs that the provider starts, without a training library.

The program of the trainer is the real one, with its locks, starts, checkpoints and signals; only its steps are pauses,
and its adapter is a digest of the examples.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from msgspec import Struct

from reconciler.domain.document import json_text
from reconciler.domain.errors import ReconcileError
from reconciler.providers.local import start
from reconciler.providers.local.processes import LIBRARIES
from reconciler.trainer import __main__ as program
from reconciler.trainer import run_files
from reconciler.trainer.checkpoints import (
    checkpoint_folder,
    finish_folder,
    last_checkpoint,
    partial_folder,
    remove_old_checkpoints,
    remove_partial,
)
from reconciler.trainer.progress import Progress
from reconciler.trainer.run_files import Estimate, RowTokens, RunCheck, RunConfig, Weights, effective

STEPS = 2
STEP_SECONDS = 60.0
Launch = Callable[[Path, tuple[int, ...]], None]


def simulate_processes(launch: Launch) -> None:
    """Start trainers with ``launch``, and check trainings here, instead of starting processes of this process."""
    run = subprocess.run

    def start_program(command: list[str], **options: Any) -> Any:
        if start.__file__ not in command:
            return run(command, **options)
        return launch(Path(command[4]), tuple(options["pass_fds"]))

    async def check(_python: str, *arguments: str, **_options: Any) -> Any:
        runs = [Path(argument) for argument in arguments if (Path(argument) / run_files.RUN_FILE).is_file()]

        async def communicate() -> tuple[bytes, bytes]:
            return "".join(json_text(_check(run)) for run in runs).encode(), b""

        return SimpleNamespace(returncode=0, communicate=communicate)

    subprocess.run = start_program  # type: ignore[assignment]  # one of its forms
    asyncio.create_subprocess_exec = check
    for name in LIBRARIES:
        _provide(name)


def _provide(name: str, **members: Any) -> None:
    """Provide a module that needs a training library, or is one."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(members)
    sys.modules[name] = module


def _check(run: Path) -> RunCheck:
    config = run_files.read_run(run)
    return RunCheck(
        hyperparameters=_effective(config, run),
        rows=tuple(RowTokens(line, 2, 1) for line in range(1, len(_examples(run)) + 1)),
        weights=Weights(present=True, source=str(run / config.base.folder), bytes=1),
        estimate=Estimate("cpu", STEPS, 1.0, 1, 2, 1, 2),
    )


def _examples(run: Path) -> list[str]:
    return (run / run_files.EXAMPLES_FILE).read_text(encoding="utf-8").splitlines()


def _effective(config: RunConfig, run: Path) -> run_files.Hyperparameters:
    return effective(config.hyperparameters, config.method, config.tuning, len(_examples(run)))


class Interrupted(Exception):  # noqa: N818 - as that of the trainer
    """A signal ended the training."""


class Canceled(Exception):  # noqa: N818 - as that of the trainer
    """The training was canceled."""


class StopRequest(Struct):
    """As that of the trainer."""

    requested: bool = False
    in_steps: bool = False


class Inputs(Struct):
    """As those of the trainer."""

    all: str
    data: str
    base: str


def run_trainer(run: Path, clock: Callable[[], float], pause: Callable[[float], None]) -> int:
    """Run the trainer in this process, which has its own time, and return its exit status."""

    def train(prepared: Any, number: int, progress: Progress, stop: StopRequest, inputs: Inputs) -> None:
        try:
            _train(prepared.run, number, progress, stop, inputs, pause)
        except OSError as error:
            message = f"the checkpoint cannot be written: {os.strerror(error.errno or errno.EIO)}"
            raise ReconcileError(message, "free disk space") from error

    def prepare(config: RunConfig, run: Path) -> Any:
        return SimpleNamespace(
            run=run,
            errors=[],
            warnings=[],
            device=SimpleNamespace(name="cpu", precision="fp32"),
            hyperparameters=_effective(config, run),
            data=SimpleNamespace(lengths=[]),
        )

    nothing = dict.fromkeys(("set_num_threads", "use_deterministic_algorithms"), lambda *_, **__: None)
    _provide("torch", get_num_interop_threads=lambda: 1, **nothing)
    _provide(
        "reconciler.trainer.preparation",
        prepare=prepare,
        disk_problem=lambda _prepared: None,
        require_valid=lambda _prepared: None,
    )
    members = {kind.__name__: kind for kind in (Canceled, Interrupted, StopRequest, Inputs)}
    _provide("reconciler.trainer.training", train=train, **members)
    time.time, time.sleep = clock, pause
    return program.main([str(run)])


def _train(
    run: Path, number: int, progress: Progress, stop: StopRequest, inputs: Inputs, pause: Callable[[float], None]
) -> None:
    remove_partial(run)
    folder, step = run_files.start_folder(run, number), 0
    if found := last_checkpoint(run, inputs.all):
        step, earlier, _ = found
        progress.resume(run_files.start_folder(run, earlier), step)
    stop.in_steps = True
    progress.update(state="running", step=step, total_steps=STEPS)
    while step < STEPS:
        pause(STEP_SECONDS)
        step += 1
        if run_files.newest_start(run) > number:
            raise ReconcileError("another start has taken over this training", "wait for it")
        if run_files.is_canceled(run):
            raise Canceled
        progress.measure(step, step / STEPS, loss=1 / step)
        progress.update(step=step)
        _write(checkpoint_folder(folder, step), inputs.all, {"state.json": str(step)})
        remove_old_checkpoints(run)
        if stop.requested:
            raise Interrupted
    stop.in_steps = False
    files = {"adapter_config.json": json.dumps({"r": 16}), "adapter_model.safetensors": "".join(_examples(run))}
    digest = _write(folder / run_files.ADAPTER_FOLDER, inputs.all, files)
    progress.update(state="succeeded", adapter_digest=digest)
    remove_old_checkpoints(run, kept=0)


def _write(final: Path, inputs: str, files: dict[str, str]) -> str:
    partial = partial_folder(final)
    for name, text in files.items():
        (partial / name).write_text(text, encoding="utf-8")
    return finish_folder(partial, final, inputs)
