"""Numbers, times and values as people read them."""

from __future__ import annotations

from reconciler.reports.text.format import (
    clock_time,
    counted,
    duration,
    elapsed,
    loss,
    minute,
    share,
    steps_and_loss,
    value,
)
from support.cases import each_row


@each_row(("seconds", "said"), [(0, "0 s"), (40.0, "40 s"), (119, "119 s"), (300, "5 min"), (9000, "2 h")])
def test_a_rough_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@each_row(("seconds", "said"), [(0.2, "0.2 s"), (41.26, "41.3 s"), (303.2, "5 min 3 s")])
def test_a_measured_duration(seconds: float, said: str) -> None:
    assert elapsed(seconds) == said


@each_row(("seconds", "said"), [(0, "0:00"), (11.4, "0:11"), (600, "10:00"), (3723, "1:02:03")])
def test_a_time_left(seconds: float, said: str) -> None:
    assert clock_time(seconds) == said


@each_row(
    ("number", "said"),
    [(3.8, "3.80"), (0, "0.00"), (-1.1e-06, "-1.1e-06"), (2e9, "2.0e+09"), ("NaN", "nan"), ("-Infinity", "-inf")],
)
def test_a_loss(number: float | str, said: str) -> None:
    assert loss(number) == said


@each_row(
    ("one", "said"),
    [
        (None, "unset"),
        (3, "3"),
        (0.001, "0.001"),
        (True, "true"),
        ("models/gemini-3.5-flash", "models/gemini-3.5-flash"),
        ("", '""'),
        ("two words", '"two words"'),
        ("two\nlines", r'"two\nlines"'),
        ("sha256:" + "ab" * 32, "sha256:abababab…"),
        ("x" * 200, "x" * 120 + "…"),
        ("evil\u202e", r"evil\u202e"),
    ],
)
def test_a_value(one: object, said: str) -> None:
    assert value(one) == said


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(amount, "file") for amount in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert counted(2, "model is", "models are") == "2 models are"


@each_row(
    ("steps", "final", "said"),
    [(23, 3.8, "23 steps, final loss 3.80"), (1, None, "1 step"), (None, 0.0, "final loss 0.00"), (None, None, "")],
)
def test_the_outcome_of_a_training(steps: int | None, final: float | None, said: str) -> None:
    assert steps_and_loss(steps, final) == said


def test_times_and_shares_are_cut_to_what_people_read() -> None:
    assert minute("2026-11-22T19:17:30.123456789Z") == "2026-11-22 19:17"
    assert minute("") == ""
    assert [share(one) for one in (0, 1 / 3, 0.92, 1)] == ["0 %", "33.3 %", "92 %", "100 %"]
