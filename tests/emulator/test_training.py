from __future__ import annotations

import json
import math
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.identity import canonical_number, round_to_float32
from reconciler.domain.model import State
from reconciler.emulator.training import MAX_SNAPSHOTS, SimulatedTraining, timestamp, total_steps
from support.cases import each_row
from support.emulator_world import FIXTURES, START

SHORT = SimulatedTraining(
    created=timestamp(START),
    examples=15,
    batch_size=2,
    epochs=3,
    learning_rate=0.001,
    seed="content",
    step_seconds=1,
    overhead_seconds=10,
)

trainings = st.builds(
    SimulatedTraining,
    created=st.just(timestamp(START)),
    examples=st.integers(1, 500),
    batch_size=st.integers(1, 64),
    epochs=st.integers(1, 50),
    learning_rate=st.floats(1e-6, 1e6),
    seed=st.text(max_size=4),
    step_seconds=st.floats(0, 100),
    overhead_seconds=st.floats(0, 100),
)
seconds = st.floats(-10, 1e6)


def losses(training: SimulatedTraining, steps: int) -> list[float]:
    return [snapshot["meanLoss"] for snapshot in training.snapshots(steps)]


@each_row(("batch_size", "epochs", "steps"), [(2, 3, 23), (4, 3, 12), (4, 50, 188)])
def test_steps_are_counted_like_the_real_service_does(batch_size: int, epochs: int, steps: int) -> None:
    assert total_steps(15, epochs, batch_size) == steps


def test_epochs_are_counted_like_the_real_service_does() -> None:
    real = json.loads((FIXTURES / "operations.v1beta3.json").read_text(encoding="utf-8"))["progress_188_steps"]
    long = replace(SHORT, batch_size=4, epochs=50)
    shown = {snapshot["step"]: snapshot["epoch"] for snapshot in long.snapshots(188)}
    recorded = {row["snapshot"]["step"]: row["snapshot"]["epoch"] for row in real}
    assert {step: shown[step] for step in recorded if step in shown} == {40: 10, 120: 32, 160: 42, 188: 50}
    assert {step: step * 4 // 15 for step in recorded} == recorded


@each_row(
    ("at", "state", "steps", "started", "ended"),
    [
        (-5, State.CREATING, 0, False, False),
        (0, State.CREATING, 0, False, False),
        (1, State.CREATING, 0, True, False),
        (9.999999, State.CREATING, 0, True, False),
        (10, State.CREATING, 1, True, False),
        (31.999999, State.CREATING, 22, True, False),
        (32, State.CREATING, 23, True, False),
        (32.999999, State.CREATING, 23, True, False),
        (33, State.ACTIVE, 23, True, True),
        (1e8, State.ACTIVE, 23, True, True),
    ],
)
def test_progress_is_a_function_of_time(at: float, state: State, steps: int, started: bool, ended: bool) -> None:  # noqa: FBT001 - a row of the table
    progress = SHORT.progress(START + timedelta(seconds=at))
    assert (progress.state, progress.completed_steps) == (state, steps)
    assert progress.start_time == (START + timedelta(seconds=1) if started else None)
    assert progress.end_time == (START + timedelta(seconds=33) if ended else None)


def test_a_training_without_duration_is_done_at_once() -> None:
    progress = replace(SHORT, step_seconds=0, overhead_seconds=0).progress(START)
    assert (progress.state, progress.completed_steps, progress.end_time) == (State.ACTIVE, 23, START)


def test_a_rate_of_one_or_more_fails_partway() -> None:
    wild = replace(SHORT, learning_rate=1.5)
    assert wild.failing_step == 8
    at = [wild.progress(START + timedelta(seconds=seconds)) for seconds in (16.9, 17, 1e6)]
    assert [(each.state, each.completed_steps) for each in at] == [
        (State.CREATING, 7),
        (State.FAILED, 7),
        (State.FAILED, 7),
    ]
    assert losses(wild, 7)[-1] > 1e6
    assert wild.failure == (
        "Tuning failed: the mean loss is not a number at step 8 of 23. "
        "The effective learning rate 1.5 is too high; lower it, or its multiplier, and tune again. (simulated training)"
    )


def test_equal_content_gives_equal_losses_and_other_content_others() -> None:
    assert losses(SHORT, 23) == losses(replace(SHORT, created="2030-01-01T00:00:00Z"), 23)
    assert losses(SHORT, 23) != losses(replace(SHORT, seed="other"), 23)


def test_losses_fall_like_those_of_the_quickstart() -> None:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def curve(learning_rate: float, epochs: int) -> list[float]:
        runs = [replace(SHORT, learning_rate=learning_rate, epochs=epochs, seed=str(seed)) for seed in range(30)]
        return [mean(list(column)) for column in zip(*(losses(run, run.total_steps) for run in runs), strict=True)]

    slow, fast, long = curve(0.001, 3), curve(0.02, 3), curve(0.001, 25)
    assert 6 < slow[0] < 9
    assert 3 < slow[-1] < 6
    assert fast[-1] < 0.05
    assert abs(long[-1]) < 0.01


def test_long_trainings_show_a_bounded_number_of_steps_with_the_last_among_them() -> None:
    long = replace(SHORT, examples=500, batch_size=4, epochs=7)
    steps = [snapshot["step"] for snapshot in long.snapshots(long.total_steps)]
    assert (len(steps), steps[:3], steps[-1]) == (98, [9, 18, 27], 875)
    assert [snapshot["step"] for snapshot in long.snapshots(20)] == [9, 18]


def test_the_longest_training_is_answered_at_once() -> None:
    endless = replace(SHORT, examples=1, batch_size=1, epochs=2**31 - 1)
    assert len(endless.snapshots(endless.total_steps)) <= MAX_SNAPSHOTS + 1


@given(trainings, seconds, seconds)
def test_time_only_adds_to_a_training(training: SimulatedTraining, one: float, other: float) -> None:
    early, late = (training.progress(START + timedelta(seconds=at)) for at in sorted((one, other)))
    assert early.completed_steps <= late.completed_steps <= training.total_steps
    assert early.state in (State.CREATING, late.state)
    before, after = training.snapshots(early.completed_steps), training.snapshots(late.completed_steps)
    assert after[: len(before)] == before


@given(trainings)
def test_every_loss_is_a_number_that_survives_a_32_bit_float(training: SimulatedTraining) -> None:
    end = training.progress(START + timedelta(days=4000))
    for snapshot in training.snapshots(end.completed_steps):
        loss = snapshot["meanLoss"]
        assert math.isfinite(round_to_float32(loss))
        assert canonical_number(loss) == loss


@given(trainings)
def test_an_ended_training_has_converged_completely_or_failed_before_the_end(training: SimulatedTraining) -> None:
    end = training.progress(START + timedelta(days=40_000))
    failed = training.learning_rate >= 1
    assert end.state is (State.FAILED if failed else State.ACTIVE)
    assert (end.completed_steps < training.total_steps) == failed


@each_row(
    ("microsecond", "text"),
    [(0, "2026-01-01T00:00:00Z"), (120_000, "2026-01-01T00:00:00.120Z"), (1, "2026-01-01T00:00:00.000001Z")],
)
def test_timestamps_have_no_three_or_six_fraction_digits(microsecond: int, text: str) -> None:
    assert timestamp(START.replace(microsecond=microsecond)) == text
