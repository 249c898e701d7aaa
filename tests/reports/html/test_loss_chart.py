"""The geometry of loss curves: every point within the axes, in the right order, at readable ticks."""

from __future__ import annotations

import math
import re
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from reconciler.reports.html.loss_chart import BOTTOM, LEFT, RIGHT, TOP, Losses, chart
from support.cases import each_row

finite = st.floats(allow_nan=False, allow_infinity=False)
curves = st.lists(
    st.builds(
        Losses,
        st.text(max_size=5),
        st.lists(st.tuples(st.integers(0, 10**9), finite), max_size=8).map(tuple),
    ),
    max_size=4,
)


def of(*losses: float) -> Losses:
    return Losses("a", tuple(enumerate(losses, start=1)))


def labels(*losses: float) -> list[str]:
    drawn = chart([of(*losses)])
    assert drawn
    return [tick.label for tick in drawn.losses]


def places(path: str) -> list[tuple[float, float]]:
    numbers = [float(one) for one in re.findall(r"[\d.e+-]+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@given(curves)
def test_everything_is_drawn_within_the_axes(some: list[Losses]) -> None:
    drawn = chart(some)
    assume(drawn)
    assert drawn
    assert [line.key for line in drawn.lines] == [one.key for one in some if one.points]
    for line in drawn.lines:
        assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in places(line.path))
    for ticks, low, high in ((drawn.steps, LEFT, RIGHT), (drawn.losses, TOP, BOTTOM)):
        assert 1 <= len(ticks) <= 12
        assert all(low <= tick.at <= high for tick in ticks)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
def test_a_higher_loss_is_never_drawn_lower(losses: list[float]) -> None:
    drawn = chart([of(*losses)])
    assert drawn
    heights = [y for _, y in places(drawn.lines[0].path)]
    assert all(first >= second for first, second in pairwise(heights)) or losses != sorted(losses)


def test_generations_keep_their_rank_where_some_have_no_curve() -> None:
    drawn = chart([Losses("new", ()), of(3, 2), of(4, 3)])
    assert drawn
    assert [line.rank for line in drawn.lines] == [1, 2]


def test_what_cannot_be_drawn_is_not() -> None:
    assert chart([]) is None
    assert chart([Losses("a", ())]) is None
    assert chart([of(-1.7e308, 1.7e308)]) is None


@each_row(
    ("losses", "shown"),
    [
        ((7.21, 3.8), ["3", "4", "5", "6", "7", "8"]),
        ((0.42, 0.31), ["0.30", "0.35", "0.40", "0.45"]),
        ((-0.2, 0.2), ["-0.2", "-0.1", "0.0", "0.1", "0.2"]),
        ((2.5, 2.5), ["2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8"]),
        ((0, 0), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ((1000, 0.5), ["0.1", "1", "10", "100", "1000"]),
        ((1e30, 1), ["1", "1e6", "1e12", "1e18", "1e24", "1e30"]),
        ((1e-9, 2e-9), ["1e-09", "1.2e-09", "1.4e-09", "1.6e-09", "1.8e-09", "2e-09"]),
    ],
)
def test_ticks_stand_at_round_numbers(losses: tuple[float, ...], shown: list[str]) -> None:
    assert labels(*losses) == shown


def test_steps_are_counted_from_none_in_whole_numbers() -> None:
    drawn = chart([of(*range(23, 0, -1))])
    assert drawn
    assert [tick.label for tick in drawn.steps] == ["0", "5", "10", "15", "20"]
    single = chart([of(1)])
    assert single
    assert [tick.label for tick in single.steps] == ["0", "1"]


def test_words_say_what_the_curves_show() -> None:
    drawn = chart([Losses("new", ((1, 7.21), (23, 3.8))), Losses("old", ((4, 5.0),))])
    assert drawn
    assert drawn.description == "new: loss 7.21 at step 1, 3.80 at step 23. old: loss 5.00 at step 4."


def test_a_scale_is_logarithmic_where_losses_are_of_different_orders() -> None:
    near, far, below = chart([of(1, 99)]), chart([of(1, 101)]), chart([of(-1, 1e6)])
    assert near
    assert far
    assert below
    assert [one.logarithmic for one in (near, far, below)] == [False, True, False]
    assert math.isclose(
        dict(places(far.lines[0].path))[RIGHT], BOTTOM - (BOTTOM - TOP) * math.log10(101) / 3, abs_tol=1
    )
