"""A small part of the sweeps: runs that are killed, that meet, and that a failing service disturbs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import sweeps
from support.cases import slow, slow_except
from support.simulation import preload
from sweeps import BUGS, CASES, TARGETS, Part, Sweep, Tally, finds, kill, meet, races, storms

FIRST, GL_BUCKET, VERTEX, BUCKET, LOCAL = TARGETS
KILLED = [(case.name, (FIRST, BUCKET)[number % 2]) for number, case in enumerate(CASES) if case.name != "prune"]
_ORDINARY = (("prune", FIRST), ("apply to a stage", FIRST))


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Import what all runs use before they are forked."""
    preload()


@pytest.mark.parametrize(("name", "target"), slow_except(sorted({*KILLED, *_ORDINARY}), *_ORDINARY))
def test_a_killed_run_loses_nothing(tmp_path: Path, name: str, target: str) -> None:
    tally = Tally()
    kill(tally, tmp_path, target, name, [signal.SIGKILL], 4, 0)
    assert tally.injected["SIGKILL before a file operation"] or target == BUCKET
    assert tally.injected["different states that signals left"]
    assert tally.examples == []


@pytest.mark.parametrize(
    ("name", "most"), slow_except([("first apply", 1), ("apply", 4), ("wait", 4)], ("first apply", 1))
)
def test_killed_trainers_and_runs_lose_nothing(tmp_path: Path, name: str, most: int) -> None:
    tally = Tally()
    kill(tally, tmp_path, LOCAL, name, [signal.SIGKILL], most, most)
    kinds = ("before a file operation", "of one process before a file operation")
    assert all(tally.injected[f"SIGKILL {kind}"] for kind in kinds)
    assert tally.examples == []


@pytest.mark.parametrize(("target", "number"), slow([(VERTEX, signal.SIGTERM)]))
def test_an_interrupted_run_loses_nothing(tmp_path: Path, target: str, number: int) -> None:
    tally = Tally()
    kill(tally, tmp_path, target, "apply", [number], 3, 3)
    assert tally.examples == []


@pytest.mark.parametrize(
    ("target", "name"),
    slow(
        [
            (BUCKET, "apply and rollback"),
            (FIRST, "rollback and rollback of the same model"),
            (GL_BUCKET, "prune and rollback"),
        ]
    ),
)
def test_runs_that_meet_lose_nothing(tmp_path: Path, target: str, name: str) -> None:
    tally = Tally()
    meet(tally, tmp_path, target, name, 3)
    assert tally.injected["meetings at a point of a run"] == 3
    assert tally.examples == []


@pytest.mark.parametrize(("target", "seed"), slow([(FIRST, 8), (BUCKET, 7), (LOCAL, 1)]))
def test_runs_that_race_lose_nothing(tmp_path: Path, target: str, seed: int) -> None:
    tally = Tally()
    races(tally, tmp_path, target, [seed])
    assert tally.examples == []


@pytest.mark.parametrize(("target", "seeds"), slow([(BUCKET, range(3, 6)), (FIRST, range(3)), (LOCAL, range(3))]))
def test_a_storm_of_faults_loses_nothing(tmp_path: Path, target: str, seeds: range) -> None:
    tally = Tally()
    storms(tally, tmp_path, target, seeds)
    assert tally.injected["storms"] == len(seeds)
    assert tally.examples == []


@pytest.mark.parametrize("seeds", slow([(range(2),)]))
def test_random_sequences_lose_nothing(tmp_path: Path, seeds: range) -> None:
    tally = Tally()
    sweeps.sequences(tally, tmp_path, FIRST, seeds)
    assert tally.injected["sequences"] == len(seeds)
    assert tally.examples == []


@pytest.mark.parametrize("bug", slow([(bug,) for bug in BUGS]))
def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
    tally = finds(bug, tmp_path)
    assert tally.failed
    assert not tally.outcome["broken"], tally.examples


def test_a_part_that_raises_is_a_violation_and_the_others_are_carried_out(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.run([Part(meet, FIRST, ("no such meeting", 1)), Part(kill, FIRST, ("no such case", (), 1, 1))], 1)
    assert len(sweep.progress.done) == 2
    assert sweep.progress.tally.outcome["broken"] == 2
    assert "no such meeting" in sweep.progress.tally.examples[0]
    assert "KeyError" in sweep.progress.tally.examples[1]


def _interrupt_the_sweep(*_arguments: object) -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    while True:
        time.sleep(0.01)


def _die(*_arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_interrupted_sweep_keeps_what_it_found(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    parts = [Part(_die, FIRST, ()), Part(_interrupt_the_sweep, FIRST, ()), Part(meet, FIRST, ("not reached", 1))]
    Sweep(tmp_path, kept=kept).run(parts, 1)
    progress = Sweep(tmp_path, kept=kept).progress
    assert progress.done == []
    (example,) = progress.tally.examples
    assert "ended early, with status -9" in example


def test_an_interrupted_sweep_continues(tmp_path: Path) -> None:
    part, kept = Part(meet, FIRST, ("no such meeting", 1)), tmp_path / "kept.json"
    for _ in range(2):
        Sweep(tmp_path, kept=kept).run([part], 1)
    progress = Sweep(tmp_path, kept=kept).progress
    assert progress.done == [str(part)]
    assert len(progress.tally.examples) == 1
