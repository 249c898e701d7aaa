"""A run starts the trainings that wait for a slot, and resumes those that were interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from reconciler.domain.model import Handle, Manifest, Source
from reconciler.domain.ports import Provider
from reconciler.providers.local.hosts import Slots
from reconciler.providers.local.provider import Local
from reconciler.trainer import run_files
from reconciler.trainer.run_files import RunError
from support import engine_world
from support.local_world import HOST, OTHER, ClockLauncher, machine, make_base, write_adapter

T = TypeVar("T")


class World(engine_world.World, dict=True):
    """Checkouts whose service is a machine with one slot."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.base = make_base(self.folder)
        self.launcher = ClockLauncher(self.time.clock)
        self.host = HOST

    def with_provider(self, act: Callable[[Provider], Awaitable[T]]) -> T:
        async def run() -> T:
            found = machine(self.folder, self.time.clock, self.time.sleep, self.launcher, self.host)
            async with Local(replace(found, slots=Slots(found.slots.folder))) as provider:
                return await act(provider)

        return asyncio.run(run())

    def manifest(self, name: str = "numbers") -> Manifest:
        return engine_world.manifest(name, source=Source(self.base))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_one_slot_trains_several_models_one_after_the_other(world: World) -> None:
    ran = world.run(world.manifest("first"), world.manifest("second"))
    assert sorted(name.rpartition("-")[0] for name in world.launcher.launched) == ["first", "second"]
    assert ran.happened.count("Promoted") == 2
    assert not world.launcher.running


def test_wait_resumes_what_another_run_has_left(world: World) -> None:
    world.run(world.manifest(), wait=False)
    (run,) = world.launcher.running
    world.launcher.kill(run)
    assert world.look(world.manifest()).actions[0].kind == "wait"
    assert len(world.launcher.launched) == 1  # a plan starts nothing
    ran = world.run(world.manifest(), creates=False, writes=False)
    assert world.launcher.launched == [run.name] * 2
    assert ran.happened == ["Completed"]


def test_a_run_on_another_host_waits_for_the_training(world: World) -> None:
    world.run(world.manifest(), wait=False)
    world.host = OTHER
    ran = world.run(world.manifest())
    assert len(world.launcher.launched) == 1
    assert ran.happened == ["Completed", "Promoted"]


def test_a_training_that_was_canceled_on_another_host_is_recorded(world: World) -> None:
    world.run(world.manifest(), wait=False)
    (run,) = world.launcher.running
    world.host = OTHER
    world.with_provider(lambda provider: provider.cancel(Handle(f"local/{run.name}")))
    assert world.run(world.manifest()).happened == ["Cancelled"]


def test_a_failed_training_that_a_user_has_resumed_by_hand_is_promoted(world: World) -> None:
    world.run(world.manifest(), wait=False)
    (run,) = world.launcher.running
    status = run_files.read_status(run)
    assert status
    world.launcher.kill(run)
    full = replace(status, state="failed", error=RunError(message="the disk is full", remedy="free disk space"))
    run_files.write_record(run_files.start_folder(run, 1) / run_files.STATUS_FILE, full)
    assert world.run(world.manifest()).happened == ["Failed"]
    write_adapter(run, run_files.claim_start(run))
    assert world.run(world.manifest()).happened[-1] == "Promoted"
    assert len(world.launcher.launched) == 1
