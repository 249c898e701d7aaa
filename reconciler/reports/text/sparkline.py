"""A training under way, as numbers and short strings that a line can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from reconciler.domain.model import RemoteModel
from reconciler.planning.training_time import completed_steps, reports_progress, seconds_left, training_start

_BARS: Final = "▁▂▃▄▅▆▇█"


def sparkline(losses: Sequence[float], width: int = 6) -> str:
    """A curve in at most ``width`` characters, from its lowest value to its highest; a flat one stays low.

    Longer curves are averaged in equal parts. What is no finite number is left out.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        return ""
    count = min(width, len(finite))
    parts = [finite[len(finite) * part // count : len(finite) * (part + 1) // count] for part in range(count)]
    means = [math.fsum(one / len(part) for one in part) for part in parts]
    lowest, highest = min(means), max(means)
    return "".join(_BARS[_level(mean, lowest, highest)] for mean in means)


def _level(mean: float, lowest: float, highest: float) -> int:
    span = highest / 2 - lowest / 2  # halved, so that no two floats are too far apart
    return round((mean / 2 - lowest / 2) / span * (len(_BARS) - 1)) if span else 0


@dataclass(frozen=True, slots=True)
class Curve:
    """What is known of one training, ``seen`` at that moment; ``left_then`` are the seconds that it needed then.

    ``done`` is ``None`` where the service does not tell how far it is; ``since`` is when it began or was asked for.
    ``phase`` is the service's own word for what it does, empty for ordinary training. ``unit`` is what is counted.
    """

    seen: datetime
    done: int | None = 0
    total: int | None = None
    epoch: int | None = None
    losses: tuple[float, ...] = ()
    left_then: float | None = None
    phase: str = ""
    since: datetime | None = None
    unit: str = "step"

    @property
    def doing(self) -> str:
        """What it does, in the service's own word where it has one."""
        return self.phase or "training"

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; ``None`` while that or the total is unknown."""
        return min(self.done / self.total, 1.0) if self.total and self.done is not None else None

    def elapsed(self, now: datetime) -> timedelta | None:
        """The time since it began, in whole seconds and never below 0."""
        return None if self.since is None else timedelta(seconds=max(0, (now - self.since) // timedelta(seconds=1)))

    def left(self, now: datetime) -> float | None:
        """Seconds left, never below 0."""
        return None if self.left_then is None else max(0.0, self.left_then - (now - self.seen).total_seconds())


def curve_of(model: RemoteModel, total_steps: int | None, now: datetime) -> Curve:
    """The curve that a look at a model shows."""
    snapshots = model.snapshots
    return Curve(
        seen=now,
        done=completed_steps(model) if reports_progress(model) else None,
        total=total_steps,
        epoch=snapshots[-1].epoch if snapshots else None,
        losses=tuple(snapshot.loss for snapshot in snapshots),
        left_then=seconds_left(model, total_steps, now),
        phase=model.phase,
        since=training_start(model),
    )
