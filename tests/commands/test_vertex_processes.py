"""Real processes that end in the middle, or run at once, on Vertex AI and on the services beside it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from support.cases import slow_except
from support.cli_world import Cli
from support.vertex_fronts import Holding, Meeting
from support.vertex_runs import chosen, manifest, trainings
from support.vertex_world import CREATE, UPLOAD, World, aim, lock_of

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts the real command somewhere; what still runs when the test is over is ended."""
    processes: list[subprocess.Popen[str]] = []

    def start(reconcile: Cli, *arguments: str) -> subprocess.Popen[str]:
        processes.append(reconcile.process(*arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


GL_CREATE = "POST /v1beta/tunedModels"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("target", "number", "line", "carried_out"),
    slow_except(
        [
            ("gl", signal.SIGKILL, GL_CREATE, True),
            ("vertex", signal.SIGKILL, f"POST {UPLOAD}", True),
            ("vertex", signal.SIGKILL, CREATE, False),
            ("vertex", signal.SIGKILL, CREATE, True),
            ("vertex", signal.SIGINT, CREATE, True),
        ],
        ("vertex", signal.SIGKILL, CREATE, True),
    ),
)
def test_a_process_that_ends_in_the_middle_of_a_request_is_gone_on_with(
    reconcile: Cli, world: World, started: Start, target: str, number: signal.Signals, line: str, *, carried_out: bool
) -> None:
    manifest(reconcile)
    world.front = holding = Holding(line, carried_out=carried_out)
    process = started(reconcile, "apply", "--yes", *chosen(target))
    assert holding.reached.wait(60)

    process.send_signal(number)
    _out, err = process.communicate(timeout=60)

    assert process.returncode == (-number if number is signal.SIGKILL else 130)
    assert "Traceback" not in err
    states = [one["state"] for one in lock_of(reconcile, target)["adder"]["generations"]] if target == "vertex" else []
    assert states == (["INTENDED"] if target == "vertex" else []), "the intent was on disk before the request"
    _goes_on(reconcile, world, target)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("target", "number"),
    slow_except(
        [("", signal.SIGKILL), ("vertex", signal.SIGKILL), ("vertex", signal.SIGINT)], ("vertex", signal.SIGINT)
    ),
)
def test_a_process_that_ends_while_it_waits_is_gone_on_with(
    reconcile: Cli, world: World, started: Start, target: str, number: signal.Signals
) -> None:
    manifest(reconcile)
    process = started(reconcile, "apply", "--yes", *chosen(target))
    assert process.stderr is not None
    assert any("training started" in line for line in process.stderr)

    process.send_signal(number)
    _out, err = process.communicate(timeout=60)

    if number is signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; the lockfile is saved, and trainings continue" in err
    _goes_on(reconcile, world, target)


def _goes_on(reconcile: Cli, world: World, target: str) -> None:
    """The next run ends with the one training that there ever was."""
    reconcile.clock.now = datetime.now(UTC)
    again = reconcile("apply", "--yes", *chosen(target))
    assert again.status == 0, again.err
    model = lock_of(reconcile, target)["adder"]
    assert [(one["key"], one["state"]) for one in model["generations"]] == [(model["serving"], "ACTIVE")]
    assert trainings(world, reconcile, target) == 1
    assert reconcile("apply", "--yes", *chosen(target)).out.startswith("No changes. 1 model matches its manifest; ")


@pytest.mark.parametrize(("target", "line"), slow_except([("gl", GL_CREATE), ("vertex", CREATE)], ("vertex", CREATE)))
def test_of_two_processes_that_create_at_once_one_training_is_left(
    reconcile: Cli,
    world: World,
    started: Start,
    target: str,
    line: str,
) -> None:
    """They have checkouts of their own: in one checkout they take turns."""
    manifest(reconcile)
    other = _another_checkout(reconcile, world)
    world.front = Meeting(line, 2)

    processes = [started(one, "apply", "--yes", "--no-wait", *chosen(target)) for one in (reconcile, other)]
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert world.count(line) == 2, "both had looked before either asked"
    assert trainings(world, reconcile, target) == 1
    for one in (reconcile, other):
        finished = one("apply", "--yes", *chosen(target))
        assert finished.status == 0, finished.err
    assert trainings(world, reconcile, target) == 1
    serving = [_serving(one, target) for one in (reconcile, other)]
    assert serving[0] == serving[1]
    if target == "vertex":
        assert [job["name"] for job in world.jobs("SUCCEEDED")] == [serving[0]]


def _another_checkout(reconcile: Cli, world: World) -> Cli:
    folder = reconcile.folder / "other"
    folder.mkdir()
    other = Cli(folder)
    other.clock = reconcile.clock
    aim(other, world.url)
    manifest(other)
    return other


def _serving(reconcile: Cli, target: str) -> str:
    model = lock_of(reconcile, target)["adder"]
    return str(next(one["remote"] for one in model["generations"] if one["key"] == model["serving"]))
