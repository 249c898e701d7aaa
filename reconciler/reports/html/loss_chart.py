"""Compute the lines and ticks of a chart of loss curves; the template draws them.

Numbers are in the units of a drawing ``WIDTH`` wide and ``HEIGHT`` high, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from reconciler.reports.text.format import loss

WIDTH: Final = 560
HEIGHT: Final = 238
LEFT: Final = 52
RIGHT: Final = 548
TOP: Final = 14
BOTTOM: Final = 212

_TICKS: Final = 5
_MOST_SPAN: Final = 1e300
"""Larger values or spans cannot be scaled with floats."""
_FLAT: Final = 1e-6
"""Spans that are a smaller share of their values are drawn as a flat line."""
_DECADES: Final = 100
"""The scale is logarithmic if the highest loss is more than this multiple of the lowest."""
_PLAIN_POWERS: Final = range(-3, 6)
"""Powers of ten that are written as decimal numbers."""

Point = tuple[float, float]


class Losses(Struct, frozen=True):
    """The losses of one generation as (step, loss), in the order of steps."""

    key: str
    points: tuple[Point, ...]


class Line(Struct, frozen=True):
    """One curve as the ``d`` of an SVG path, and its last point; rank 0 is the newest generation."""

    key: str
    rank: int
    path: str
    end: Point


class Tick(Struct, frozen=True):
    """A value on an axis and its position."""

    at: float
    label: str


class Chart(Struct, frozen=True):
    """Curves on common axes; ``description`` says in words what they show."""

    lines: tuple[Line, ...]
    steps: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    logarithmic: bool
    description: str


class _Scale(Struct, frozen=True):
    """Maps values from ``low`` to ``high`` (their logarithms on a logarithmic scale) to ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.logarithmic else value
        return round(self.start + (at - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def chart(curves: Sequence[Losses]) -> Chart | None:
    """Return the curves, newest first, as a chart; ``None`` if nothing can be drawn."""
    drawn = [(rank, curve) for rank, curve in enumerate(curves) if curve.points]
    losses = [value for _, curve in drawn for _, value in curve.points]
    last = max((step for _, curve in drawn for step, _ in curve.points), default=0)
    if not losses or max(losses) - min(losses) > _MOST_SPAN or max(last, *map(abs, losses)) > _MOST_SPAN:
        return None
    across, steps = _step_axis(last)
    up, ticks = _loss_axis(min(losses), max(losses))
    return Chart(
        lines=tuple(_line(rank, curve, across, up) for rank, curve in drawn),
        steps=steps,
        losses=ticks,
        logarithmic=up.logarithmic,
        description=" ".join(_describe(curve) for _, curve in drawn),
    )


def _line(rank: int, curve: Losses, across: _Scale, up: _Scale) -> Line:
    places = [(across(step), up(value)) for step, value in curve.points]
    path = "M" + " ".join(f"{across_at:g} {up_at:g}" for across_at, up_at in places)
    return Line(curve.key, rank, path, places[-1])


def _describe(curve: Losses) -> str:
    (first, begun), (last, ended) = curve.points[0], curve.points[-1]
    if first == last:
        return f"{curve.key}: loss {loss(begun)} at step {first:g}."
    return f"{curve.key}: loss {loss(begun)} at step {first:g}, {loss(ended)} at step {last:g}."


def _step_axis(last: float) -> tuple[_Scale, tuple[Tick, ...]]:
    step = max(1.0, _round_step(max(last, 1) / _TICKS))
    scale = _Scale(0, max(last, 1), LEFT, RIGHT)
    return scale, tuple(Tick(scale(at), f"{at:.0f}") for at in _multiples(0, scale.high, step))


def _loss_axis(low: float, high: float) -> tuple[_Scale, tuple[Tick, ...]]:
    if low > 0 and high / low > _DECADES:
        return _powers(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    if high - low <= max(abs(low), abs(high)) * _FLAT:
        margin = abs(high) / 10 or 1.0
        low, high = low - margin, high + margin
    step = _round_step((high - low) / _TICKS)
    scale = _Scale(math.floor(low / step) * step, math.ceil(high / step) * step, BOTTOM, TOP)
    return scale, tuple(Tick(scale(at), _label(at, step)) for at in _multiples(scale.low, scale.high, step))


def _powers(low: int, high: int) -> tuple[_Scale, tuple[Tick, ...]]:
    scale = _Scale(low, high, BOTTOM, TOP, logarithmic=True)
    places = _Scale(low, high, BOTTOM, TOP)
    every = math.ceil((high - low) / _TICKS)
    return scale, tuple(Tick(places(power), _power(power)) for power in range(low, high + 1, every))


def _power(power: int) -> str:
    return f"{10.0**power:g}" if power in _PLAIN_POWERS else f"1e{power}"


def _round_step(rough: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not smaller."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)


def _multiples(low: float, high: float, step: float) -> Iterator[float]:
    first = math.ceil(low / step - _FLAT)
    return (number * step for number in range(first, math.floor(high / step + _FLAT) + 1))


def _label(value: float, step: float) -> str:
    decimals = -math.floor(math.log10(step))
    if not -6 <= decimals <= 4:  # noqa: PLR2004 - more digits are not readable
        return f"{value:.3g}"
    return f"{value + 0.0:.{max(0, decimals)}f}"
