"""Loss curves as the geometry of a drawing: where lines and ticks are; how they look is the drawer's business.

Numbers are in the units of a drawing that is ``WIDTH`` wide and ``HEIGHT`` high, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from reconciler.reports.text.format import loss

WIDTH: Final = 560
HEIGHT: Final = 238
LEFT: Final = 52
RIGHT: Final = 548
TOP: Final = 14
BOTTOM: Final = 212

_TICKS: Final = 5
_MOST_SPAN: Final = 1e300
"""What lies further apart is nothing that floats can be drawn with."""
_FLAT: Final = 1e-6
"""A span that is a smaller share of its values is drawn as a flat line."""
_DECADES: Final = 100
"""From this ratio of the highest to the lowest loss on, the scale is logarithmic."""
_PLAIN_POWERS: Final = range(-3, 6)
"""Powers of ten that are written out."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of one generation as (step, loss), in the order of steps."""

    key: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve as the ``d`` of an SVG path, and the place of its last point; rank 0 is the newest generation's."""

    key: str
    rank: int
    path: str
    end: Point


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on an axis, and where it stands on it."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves laid over each other on the same axes; ``description`` says in words what they show."""

    lines: tuple[Line, ...]
    steps: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    logarithmic: bool
    description: str


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values from ``low`` to ``high`` (of their logarithms where it is logarithmic), laid from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.logarithmic else value
        return round(self.start + (at - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def chart(curves: Sequence[Losses]) -> Chart | None:
    """The curves, newest first, as a drawing; ``None`` where there is nothing that could be drawn."""
    drawn = [(rank, curve) for rank, curve in enumerate(curves) if curve.points]
    losses = [value for _, curve in drawn for _, value in curve.points]
    if not losses or max(losses) - min(losses) > _MOST_SPAN or max(map(abs, losses)) > _MOST_SPAN:
        return None
    across, steps = _step_axis(max(step for _, curve in drawn for step, _ in curve.points))
    up, ticks = _loss_axis(min(losses), max(losses))
    return Chart(
        lines=tuple(_line(rank, curve, across, up) for rank, curve in drawn),
        steps=steps,
        losses=ticks,
        logarithmic=up.logarithmic,
        description=" ".join(_told(curve) for _, curve in drawn),
    )


def _line(rank: int, curve: Losses, across: _Scale, up: _Scale) -> Line:
    places = [(across(step), up(value)) for step, value in curve.points]
    path = "M" + " ".join(f"{x:g} {y:g}" for x, y in places)
    return Line(curve.key, rank, path, places[-1])


def _told(curve: Losses) -> str:
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
    """The smallest of 1, 2 and 5 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)


def _multiples(low: float, high: float, step: float) -> Iterator[float]:
    first = math.ceil(low / step - _FLAT)
    return (number * step for number in range(first, math.floor(high / step + _FLAT) + 1))


def _label(value: float, step: float) -> str:
    decimals = -math.floor(math.log10(step))
    if not -6 <= decimals <= 4:  # noqa: PLR2004 - beyond, digits stop being readable
        return f"{value:.3g}"
    return f"{value + 0.0:.{max(0, decimals)}f}"
