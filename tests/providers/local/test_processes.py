"""Trainers as processes: they are detached, and only their own locks show that they live."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import Struct

from reconciler.domain.errors import ServiceError
from reconciler.domain.lock import format_time
from reconciler.environment import utc_now
from reconciler.providers.local.export import Merger, merge_model
from reconciler.providers.local.hosts import Slots, try_lock
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.models import AnsweringModel
from reconciler.providers.local.processes import LAUNCH_LOCK, DetachedProcesses, trainer_environment
from reconciler.providers.local.store import Folder
from reconciler.trainer import run_files
from reconciler.trainer.run_files import BaseModel, RunConfig, RunStatus
from support import fake_trainer

HUB = "https://huggingface.co"


class Trainer(Struct):
    """A run folder with the pipes of a fake trainer, and the processes that were started in it."""

    run: Path
    processes: DetachedProcesses
    started: list[int] = []

    @property
    def slots(self) -> Slots:
        return Slots(self.run.parent / "slots")

    def launch(self) -> int:
        """Start a trainer and return its process number when it has its lock."""
        slot, lock = self.slots.take(self.run), try_lock(self.run / LAUNCH_LOCK)
        assert slot is not None
        assert lock is not None
        self.processes.launch(self.run, self.run / "log", (lock, slot))
        os.close(slot)
        os.close(lock)
        return self.read("ready")

    def read(self, pipe: str) -> int:
        """Wait for the number of a process."""
        process = int((self.run / pipe).read_text(encoding="utf-8"))
        self.started.append(process)
        return process

    def wait(self) -> None:
        """Wait until all locks are free."""
        for path in (self.run / run_files.LOCK_FILE, self.run / LAUNCH_LOCK, self.slots.folder / "0"):
            with path.open(encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH)


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    run = tmp_path / "run"
    run.mkdir()
    for pipe in ("ready", "go", "child", "never"):
        os.mkfifo(run / pipe)
    run_files.write_record(run / run_files.RUN_FILE, RunConfig(base=BaseModel(folder="base")))
    made = Trainer(run, DetachedProcesses({}, Hub(), fake_trainer.__file__))
    yield made
    for process in made.started:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_killed_trainer_frees_its_locks_although_its_child_lives(trainer: Trainer) -> None:
    process = trainer.launch()
    assert os.getsid(process) != os.getsid(0)
    assert trainer.processes.is_running(trainer.run)
    assert trainer.slots.take(trainer.run) is None
    (trainer.run / "go").write_text("fork\n", encoding="utf-8")
    child = trainer.read("child")
    os.kill(process, signal.SIGKILL)
    trainer.wait()
    os.kill(child, 0)
    assert not trainer.processes.is_running(trainer.run)


@pytest.mark.slow
def test_sigterm_ends_the_group_of_the_trainer(trainer: Trainer) -> None:
    trainer.launch()
    (trainer.run / "go").write_text("fork\n", encoding="utf-8")
    trainer.read("child")
    trainer.processes.interrupt(trainer.run)
    trainer.wait()


def test_a_number_that_another_process_has_today_gets_no_signal(trainer: Trainer) -> None:
    start = run_files.start_folder(trainer.run, run_files.claim_start(trainer.run))
    now = format_time(utc_now())
    status = RunStatus(state="running", start=1, updated=now, started=now, process=os.getpid())
    run_files.write_record(start / run_files.STATUS_FILE, status)
    (trainer.run / run_files.LOCK_FILE).touch()
    trainer.processes.interrupt(trainer.run)
    assert not trainer.processes.is_running(trainer.run)


@pytest.mark.parametrize(
    ("address", "allowed", "fault"),
    [
        ("", frozenset(), ""),
        ("https://huggingface.co/", frozenset(), ""),
        ("http://127.0.0.1:8080", frozenset(), ""),
        ("https://mirror.example", frozenset({"mirror.example"}), ""),
        (
            "https://mirror.example",
            frozenset(),
            (
                "HF_ENDPOINT names https://mirror.example, which is not the hub; unset it, or pass --allow-endpoint"
                " mirror.example if you trust this host with base models"
            ),
        ),
        ("https://huggingface.co.example", frozenset(), "HF_ENDPOINT names https://huggingface.co.example, which"),
    ],
)
def test_base_models_come_from_the_hub_or_an_allowed_host(address: str, allowed: frozenset[str], fault: str) -> None:
    assert str(Hub.of({"HF_ENDPOINT": address}, allowed).fault or "").startswith(fault)
    assert bool(Hub.of({"HF_ENDPOINT": address}, allowed).fault) == bool(fault)


@pytest.mark.parametrize(
    ("address", "uses_hub", "has_token"),
    [(HUB, True, True), (HUB, False, False), ("https://mirror.example", True, False)],
)
def test_the_token_of_the_hub_goes_to_the_hub_alone(address: str, uses_hub: bool, has_token: bool) -> None:  # noqa: FBT001 - a table
    environ = {"HF_TOKEN": "hf_secret", "HUGGING_FACE_HUB_TOKEN": "hf_secret", "PATH": "/bin"}
    found = trainer_environment(environ, Hub(address), uses_hub=uses_hub)
    assert ("hf_secret" in found.values()) == has_token
    assert (found["PATH"], found["HF_ENDPOINT"]) == ("/bin", address)
    assert found.get("HF_HUB_DISABLE_IMPLICIT_TOKEN") == (None if has_token or not uses_hub else "1")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "import json; print(json.dumps({'message': 'base: no such file', 'remedy': 'name it'})); exit(1)",
            "base: no such file; name it",
        ),
        ("exit('killed')", "the program that merges adder has ended: killed; run `reconcile doctor`"),
    ],
)
def test_a_merge_that_fails_has_a_reason(tmp_path: Path, program: str, message: str) -> None:
    merger = Merger({}, Hub(), ("-c", program))
    with pytest.raises(ServiceError, match=re.escape(message)):
        asyncio.run(merger.merge(AnsweringModel(tmp_path, "adder", BaseModel(folder="/base")), tmp_path, tmp_path, ""))


def test_a_whole_model_is_copied_instead_of_merged(tmp_path: Path) -> None:
    exported, folder = tmp_path / "exported", tmp_path / "folder"
    exported.mkdir()
    folder.mkdir()
    (exported / "model.safetensors").write_text("weights", encoding="utf-8")
    whole = AnsweringModel(exported, "adder", BaseModel(folder="/base"))
    fails = Merger({}, Hub(), ("-c", "exit('started')"))
    asyncio.run(merge_model(fails, Folder(tmp_path), whole, exported, folder))
    assert (folder / "model.safetensors").read_text(encoding="utf-8") == "weights"
