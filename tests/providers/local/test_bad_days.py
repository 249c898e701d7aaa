"""Trainings that are killed, moved or changed, on a machine whose trainers are functions of the clock."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ServiceError
from reconciler.domain.model import Handle, RemoteModel, Resources, Source, State, Update
from reconciler.domain.ports import Created, Exists, Prompt
from reconciler.providers.local.base_models import Fault
from reconciler.providers.local.hosts import Host, Slots, lock_folder
from reconciler.providers.local.models import ELSEWHERE, INTERRUPTED, PREPARING, QUEUED
from reconciler.providers.local.provider import Local
from reconciler.testing.service import EXAMPLES
from reconciler.trainer import run_files
from support.cases import each_row
from support.local_world import HOST, OTHER, LocalService, machine

T = TypeVar("T")


class World(LocalService):
    """A machine with one slot, seen from this host or another one."""

    def __init__(self, root: Path, slots: int = 1, environ: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(root)
        self.root, self.slots = root, Slots.of(HOST, environ, root / "store", slots)

    def on(self, host: Host, work: Callable[[Local], Awaitable[T]]) -> T:
        """Return the result of work with a connection of its own on a host."""

        async def run() -> T:
            found = replace(machine(self.root, self.clock, self.sleep, self.launcher, host), slots=self.slots)
            async with Local(found) as provider:
                return await work(provider)

        return asyncio.run(run())

    def create(self, name: str = "number-generator") -> Path:
        created = self.on(HOST, lambda provider: provider.create(self.request(name=name), EXAMPLES))
        assert isinstance(created, Created)
        return self.folder(created.handle.remote)

    def folder(self, remote: str) -> Path:
        return self.root / "store" / remote.removeprefix("local/")

    def start(self, host: Host = HOST) -> None:
        """Do what a run that waits does at each poll."""
        self.on(host, lambda provider: provider.start_queued())

    def cancel(self, run: Path, host: Host = HOST) -> None:
        self.on(host, lambda provider: provider.cancel(Handle(f"local/{run.name}")))

    def see(self, run: Path, host: Host = HOST) -> RemoteModel:
        model = self.on(host, lambda provider: provider.observe(Handle(f"local/{run.name}")))
        assert model
        return model

    def listed(self) -> dict[str, RemoteModel]:
        return {model.remote: model for model in self.on(HOST, lambda provider: provider.list(progress=True))}

    def phase(self, run: Path, host: Host = HOST) -> tuple[State, str]:
        model = self.see(run, host)
        return model.state, model.phase

    def kill(self, run: Path) -> None:
        """Kill the trainer of a run as the system does, after its state was written."""
        self.launcher.is_running(run)
        self.launcher.kill(run)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_killed_training_is_resumed_by_the_next_run(world: World) -> None:
    run = world.create()
    world.advance(timedelta(seconds=10))
    world.kill(run)
    assert world.phase(run) == (State.CREATING, INTERRUPTED)
    world.start()
    assert world.phase(run) == (State.CREATING, PREPARING)
    world.advance()
    model = world.see(run)
    assert (model.state, model.completed_steps) == (State.ACTIVE, 24)
    assert run_files.complete_adapter(run) == run / "starts/2/adapter"


def test_after_a_restart_of_the_host_a_training_is_resumed_although_its_number_is_taken(world: World) -> None:
    run = world.create()
    world.advance(timedelta(seconds=10))
    world.kill(run)
    status = run_files.read_status(run)
    assert status
    taken = replace(status, process=os.getpid())  # of another process, which is not the trainer
    run_files.write_record(run_files.start_folder(run, 1) / run_files.STATUS_FILE, taken)
    restarted = replace(HOST, boot="boot-9")
    assert world.phase(run, restarted) == (State.CREATING, INTERRUPTED)
    world.start(restarted)
    assert world.launcher.launched == [run.name] * 2


def test_the_result_of_an_earlier_start_does_not_count(world: World) -> None:
    run = world.create()
    world.kill(run)
    world.start()
    late = run / "starts/1/adapter"
    late.mkdir()
    run_files.write_record(late / run_files.MARKER_FILE, run_files.make_marker(late, f"sha256:{'0' * 64}"))
    assert world.phase(run) == (State.CREATING, PREPARING)


def test_a_run_that_is_killed_before_the_start_leaves_a_queued_training(world: World) -> None:
    world.launcher.dies = True
    with pytest.raises(KeyboardInterrupt):
        world.create()
    world.launcher.dies = False
    (model,) = world.listed().values()
    assert (model.state, model.phase) == (State.CREATING, INTERRUPTED)
    again = world.on(HOST, lambda provider: provider.create(world.request(), EXAMPLES))
    assert isinstance(again, Exists)
    world.start()
    world.advance()
    assert world.see(world.folder(model.remote)).state is State.ACTIVE


@pytest.mark.parametrize("act", [World.create, World.start])
def test_what_killed_runs_have_left_of_any_model_is_no_model_and_is_removed(
    world: World, act: Callable[[World], object]
) -> None:
    world.create("other")
    store = world.root / "store"
    left = [store / f".{name}.0badcafe.{state}" for name in ("adder-1", "words-2") for state in ("new", "deleted")]
    for folder in left:
        folder.mkdir()
        (folder / "run.json").write_text("{", encoding="utf-8")
    written = store / ".adder-1.0badf00d.new"
    written.mkdir()
    writer = lock_folder(written)
    assert writer
    assert len(world.listed()) == 1
    act(world)
    assert not [folder for folder in left if folder.exists()]
    assert written.exists()
    os.close(writer)


def test_trainings_wait_for_a_slot_in_their_order(world: World) -> None:
    runs = [world.create(name) for name in ("first", "second", "third")]
    assert [(world.phase(run))[1] for run in runs] == [PREPARING, QUEUED, QUEUED]
    world.advance()
    world.start()
    world.advance()
    world.start()
    assert world.launcher.launched == [run.name for run in runs]


def test_a_machine_without_the_training_libraries_starts_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    run = world.create()
    world.kill(run)
    world.launcher.fault = Fault("training needs torch", "install it")
    world.start()
    assert world.phase(run) == (State.CREATING, INTERRUPTED)
    assert world.launcher.launched == [run.name]
    assert [record.getMessage() for record in caplog.records] == [f"{run.name} waits: training needs torch; install it"]


def test_more_slots_let_more_trainings_run(tmp_path: Path) -> None:
    world = World(tmp_path, slots=2)
    runs = [world.create(name) for name in ("first", "second", "third")]
    assert [(world.phase(run))[1] for run in runs] == [PREPARING, PREPARING, QUEUED]


def test_two_stores_of_a_user_share_the_slots_of_a_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (World(tmp_path / name, environ={"HOME": str(tmp_path)}) for name in ("first", "second"))
    running, waiting = first.create(), second.create()
    assert (first.phase(running)[1], second.phase(waiting)[1]) == (PREPARING, QUEUED)
    assert [record.getMessage() for record in caplog.records] == [
        f"{waiting.name} waits for a slot of this machine: trainings of other stores run, {running}"
    ]
    first.advance()
    first.see(running)
    second.start()
    assert second.phase(waiting)[1] == PREPARING


@each_row(
    ("environ", "folder"),
    [
        ({"HOME": "/users/ada"}, "/users/ada/.local/state/reconcile/slots/boot-1"),
        ({"HOME": "/users/ada", "XDG_STATE_HOME": "/state"}, "/state/reconcile/slots/boot-1"),
        ({"HOME": "/users/ada", "XDG_STATE_HOME": "state"}, "/users/ada/.local/state/reconcile/slots/boot-1"),
        ({}, "/store/.slots/boot-1"),
    ],
)
def test_the_slots_of_a_user_are_in_the_state_folder(environ: dict[str, str], folder: str) -> None:
    assert Slots.of(HOST, environ, Path("/store"), 1).folder == Path(folder)


def test_another_host_does_not_continue_a_training_until_a_user_allows_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    run = world.create()
    world.kill(run)
    world.start(OTHER)
    assert world.phase(run, OTHER) == (State.CREATING, ELSEWHERE)
    assert world.launcher.launched == [run.name]
    (record,) = caplog.records
    file = run / "host.json"
    assert f"if it does not, run `mv {file} {file}.former`" in record.getMessage()
    file.rename(f"{file}.former")
    world.start(OTHER)
    assert world.launcher.launched == [run.name] * 2
    assert json.loads(file.read_text(encoding="utf-8"))["name"] == OTHER.name


@pytest.mark.parametrize(
    ("host", "same"),
    [
        (HOST, True),
        (replace(HOST, boot="boot-9"), True),
        (Host("container-7", "", HOST.boot), True),
        (Host(HOST.name, "machine-9", "boot-9"), False),
        (Host("gpu-9", HOST.machine, "boot-9"), False),
        (OTHER, False),
    ],
    ids=["itself", "restarted", "container", "namesake", "clone", "other"],
)
def test_a_host_is_known_by_its_kernel_or_by_name_and_machine(host: Host, same: bool) -> None:  # noqa: FBT001 - a table
    assert HOST.is_same(host) == same


def test_a_trainer_that_always_ends_at_the_same_step_fails_with_its_last_words(world: World) -> None:
    run = world.create()
    for _ in range(2):
        world.kill(run)
        world.start()
    (run / "launches/3.log").write_text("Traceback\n  File\nKilled: out of memory\n\n", encoding="utf-8")
    world.kill(run)
    model = world.see(run)
    assert model.failure
    assert model.failure.message == (
        f"the trainer ended 3 times after step 0 without a result: Killed: out of memory; read {run / 'launches/3.log'}"
    )
    world.start()
    assert len(world.launcher.launched) == 3


def test_a_trainer_that_makes_progress_is_started_again(world: World) -> None:
    run = world.create()
    for seconds in (2, 4, 6, 8):
        world.advance(timedelta(seconds=seconds))
        world.kill(run)
        world.start()
    assert world.phase(run) == (State.CREATING, PREPARING)


def test_an_edited_adapter_is_another_model(world: World) -> None:
    run = world.create()
    world.advance()
    before = world.see(run)
    weights = run / "starts/1/adapter/adapter_model.safetensors"
    weights.write_text(weights.read_text(encoding="utf-8").replace("4", "5"), encoding="utf-8")
    after = world.see(run)
    assert before.mark
    assert after.mark is None
    assert after.create_time != before.create_time


def test_a_store_that_moves_with_its_repository_keeps_its_models(world: World) -> None:
    (world.root / ".git").mkdir()
    run = world.create()
    world.advance()
    before = world.see(run)
    moved = world.root.with_name("moved")
    world.root.rename(moved)
    world.root = moved
    after = world.see(world.folder(before.remote))
    assert after == before
    assert json.loads((world.folder(before.remote) / "run.json").read_text(encoding="utf-8"))["base"] == {
        "folder": "../../base"
    }


def test_a_training_of_another_host_can_be_canceled_and_is_not_resumed(world: World) -> None:
    run = world.create()
    world.cancel(run, OTHER)
    world.advance(timedelta(seconds=1))
    assert world.phase(run) == (State.CANCELLED, "CANCELLED")
    world.start()
    assert world.launcher.launched == [run.name]


def test_a_queued_training_can_be_canceled_and_deleted(world: World) -> None:
    world.create("first")
    run = world.create("second")
    world.cancel(run)
    assert world.phase(run) == (State.CANCELLED, "CANCELLED")
    world.on(HOST, lambda provider: provider.delete(Handle(f"local/{run.name}"), Resources()))
    assert not run.exists()
    assert [path.name for path in (world.root / "store").glob(".*.deleted")] == []


def test_an_adapter_that_a_user_has_copied_is_an_unmanaged_model(world: World) -> None:
    copied = world.root / "store/old-adapter"
    copied.mkdir(parents=True)
    config = {"base_model_name_or_path": "acme/tiny", "revision": "a" * 40, "r": 8, "lora_alpha": 16}
    (copied / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (copied / "adapter_model.safetensors").write_text(json.dumps({"3": "4"}), encoding="utf-8")
    model = world.see(copied)
    assert (model.state, model.mark, model.source) == (State.ACTIVE, None, Source(f"acme/tiny@{'a' * 40}"))
    assert (model.chosen_id, model.hyperparameters["rank"]) == ("old-adapter", 8)
    reply = world.on(HOST, lambda provider: provider.infer(model.remote, Prompt("3")))
    assert reply.answers[0].text == "4"
    mark = world.request().mark
    marked = world.on(HOST, lambda provider: provider.update(model.remote, Update(mark, description="")))
    assert marked.mark == mark
    (copied / "adapter_model.safetensors").write_text(json.dumps({"3": "5"}), encoding="utf-8")
    assert (world.see(copied)).mark is None


def test_an_adapter_without_the_commit_of_its_base_model_names_the_file(world: World) -> None:
    copied = world.root / "store/old-adapter"
    copied.mkdir(parents=True)
    (copied / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/tiny"}', encoding="utf-8")
    with pytest.raises(ServiceError, match="set its member revision to the 40 digits") as raised:
        world.see(copied)
    assert raised.value.message == (
        "old-adapter: adapter_config.json does not name a commit of its base model acme/tiny"
    )


def test_an_invalid_run_file_fails_its_training_only(world: World) -> None:
    run, other = world.create("first"), world.create("second")
    world.kill(run)
    (run / "run.json").write_text("{}", encoding="utf-8")
    models = world.listed()
    failed = models[f"local/{run.name}"]
    assert failed.state is State.FAILED
    assert failed.failure
    assert "run.json" in failed.failure.message
    assert models[f"local/{other.name}"].state is State.CREATING
