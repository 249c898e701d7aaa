"""A small part of the sweeps: runs that are killed, that meet, and that a failing service disturbs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import sweeps
from support.cases import slow_except
from support.simulation import preload
from sweeps import BUGS, CASES, TARGETS, Tally, finds, kill, race, storm

FIRST, _, VERTEX, BUCKET = TARGETS


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Import what all runs use before they are forked."""
    preload()


def case_of(name: str) -> sweeps.Case:
    (case,) = (case for case in CASES if case.name == name)
    return case


@pytest.mark.parametrize(
    ("name", "target"),
    slow_except([(case.name, target) for case in CASES for target in (FIRST, BUCKET)], ("rollback", FIRST)),
)
def test_a_killed_run_loses_nothing(tmp_path: Path, name: str, target: str) -> None:
    tally = Tally()
    kill(tally, tmp_path, case_of(name), target, [signal.SIGKILL], 1)
    assert tally.injected
    assert tally.examples == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_loses_nothing(tmp_path: Path, number: int) -> None:
    tally = Tally()
    kill(tally, tmp_path, case_of("apply"), VERTEX, [number], 2)
    assert tally.examples == []


@pytest.mark.slow
@pytest.mark.parametrize(("target", "seed"), [(FIRST, 4), (BUCKET, 7)])
def test_runs_that_meet_lose_nothing(tmp_path: Path, target: str, seed: int) -> None:
    tally = Tally()
    race(tally, tmp_path, target, seed)
    assert tally.examples == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 7))
def test_a_storm_of_faults_loses_nothing(tmp_path: Path, seed: int) -> None:
    tally = Tally()
    storm(tally, tmp_path, list(TARGETS)[seed % len(TARGETS)], seed)
    assert tally.examples == []


@pytest.mark.slow
def test_random_sequences_lose_nothing(tmp_path: Path) -> None:
    tally = Tally()
    sweeps.sequences(tally, tmp_path, FIRST, 2)
    assert tally.injected["sequences"] == 2
    assert tally.examples == []


@pytest.mark.slow
@pytest.mark.parametrize("bug", [bug for bug, (_, part) in BUGS.items() if part != "races"])
def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
    assert finds(bug, tmp_path).failed
