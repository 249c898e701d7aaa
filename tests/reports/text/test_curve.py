"""Curves as numbers and as short strings."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.model import RemoteModel
from reconciler.planning.training_time import training_start
from reconciler.reports.text.progress import curve_of, sparkline
from support.cases import each_row
from support.render_values import START, training_model


@each_row(
    ("losses", "drawn"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([3.0, 3.0], "▁▁"),
        ([8, 7, 6, 5, 4, 3, 2, 1], "█▇▆▅▄▃▂▁"),
        ([1, math.nan, 2, math.inf], "▁█"),
        ([1e308, -1e308], "█▁"),
    ],
)
def test_a_sparkline(losses: list[float], drawn: str) -> None:
    assert sparkline(losses, width=8) == drawn


def test_a_long_curve_is_averaged() -> None:
    assert sparkline([9, 7, 5, 3, 2, 0], width=3) == "█▄▁"


@given(st.lists(st.floats()), st.integers(1, 20))
def test_a_sparkline_never_outgrows_its_width(losses: list[float], width: int) -> None:
    finite = [loss for loss in losses if math.isfinite(loss)]
    assert len(sparkline(losses, width)) == min(width, len(finite))


def test_the_time_left_runs_down_between_two_looks() -> None:
    at_ten = START + timedelta(seconds=10)
    curve = curve_of(training_model(10, 7.21, 6.9), 20, at_ten)
    assert (curve.done, curve.total, curve.share, curve.epoch) == (10, 20, 0.5, 1)
    assert curve.losses == (7.21, 6.9)
    assert curve.left(at_ten) == 10.0
    assert curve.left(at_ten + timedelta(seconds=4)) == 6.0
    assert curve.left(at_ten + timedelta(seconds=40)) == 0.0


def test_nothing_is_claimed_before_the_first_step_or_without_a_total() -> None:
    before = curve_of(training_model(0), 23, START)
    assert (before.share, before.epoch, before.left(START)) == (0.0, None, None)
    endless = curve_of(replace(training_model(5, 7.0), total_steps=None), None, START)
    assert (endless.share, endless.left(START)) == (None, None)


def test_where_no_progress_is_told_only_the_time_goes_on() -> None:
    silent = replace(training_model(0), completed_steps=None)
    curve = curve_of(silent, 50, START)
    assert (curve.done, curve.share, curve.left(START), curve.activity) == (None, None, None, "training")
    assert curve.elapsed(START + timedelta(seconds=12.9)) == timedelta(seconds=12)
    assert curve.elapsed(START - timedelta(seconds=2)) == timedelta(0)
    unbegun = curve_of(replace(silent, start_time="", create_time="", phase="QUEUED"), 50, START)
    assert (unbegun.elapsed(START), unbegun.activity) == (None, "QUEUED")


def test_epochs_are_counted_where_no_steps_are() -> None:
    counting = replace(
        training_model(0),
        completed_steps=None,
        completed_epochs=1,
        hyperparameters={"epochCount": 3},
        phase="WAITING_FOR_CAPACITY",
    )
    curve = curve_of(counting, 50, START + timedelta(minutes=1))
    assert (curve.done, curve.total, curve.unit, curve.epoch) == (1, 3, "epoch", None)
    assert (curve.activity, curve.left_then) == ("waiting for capacity", pytest.approx(2 * _age(counting)))
    stepping = curve_of(replace(training_model(5, 7.0), completed_epochs=2), 50, START)
    assert (stepping.unit, stepping.epoch) == ("step", 2)


def _age(model: RemoteModel) -> float:
    started = training_start(model)
    assert started
    return (START + timedelta(minutes=1) - started).total_seconds()


def test_more_steps_than_foreseen_are_still_no_more_than_all() -> None:
    assert curve_of(training_model(30, 7.0), 23, START).share == 1.0
