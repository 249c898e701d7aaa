"""The simulated training: a pure function of its inputs and the time.

Nothing runs in the background, so a training continues while no process is running, and two requests at one instant
return the same. Durations are whole microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from reconciler.domain.model import State

if TYPE_CHECKING:
    from reconciler.emulator.errors import JsonObject

MAX_SNAPSHOTS = 100
"""A longer training reports only every second, third, … step; the real limit is not documented."""

_DIVERGES = 1.0  # from this learning rate the loss diverges
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_START, _LEAD = 0.1, 0.9  # shares of the overhead that pass before the start and before the first step
_BEFORE = ((0.3, "WAITING_FOR_QUOTA"), (0.6, "PROCESSING_DATASET"), (_LEAD, "WAITING_FOR_CAPACITY"))
"""The phases of a training before its first step, each with the share of the overhead at its end."""

# The decay of the mean loss was fitted to the curves of the quickstart (16 to 188 steps, rates of 0.001 and 0.02).
_DECAY, _DECAY_RATE, _DECAY_POWER, _WARM_UP = 0.06, 0.001, 0.7, 1.5
_NOISE, _FLOOR = 0.08, 1e-6  # the measured noise is 0.2, which hides the progress of short trainings
_OVERFLOW = 85.0  # e to this power, times any first loss, nearly fills a 32-bit float


class SimulatedTraining(Struct, frozen=True):
    """The inputs of a training, which determine its progress.

    ``learning_rate`` is the effective one; ``seed`` is derived from the content, so equal content has equal losses.
    """

    created: str
    examples: int
    batch_size: int
    epochs: int
    learning_rate: float
    seed: str
    step_seconds: float
    overhead_seconds: float

    @property
    def total_steps(self) -> int:
        """The number of steps; the last may be smaller."""
        return total_steps(self.examples, self.epochs, self.batch_size)

    @property
    def failing_step(self) -> int | None:
        """The step at which the loss is no longer a number, or ``None`` for a training that converges."""
        if self.learning_rate < _DIVERGES:
            return None
        return max(1, min(math.ceil(self.total_steps / 2), int(_OVERFLOW / self._decay)))

    @property
    def _decay(self) -> float:
        return _DECAY * float((self.learning_rate / _DECAY_RATE) ** _DECAY_POWER)

    @property
    def _step(self) -> int:
        return round(self.step_seconds * _SECOND)

    @property
    def _lead(self) -> int:
        return round(self.overhead_seconds * _SECOND * _LEAD)

    def _time(self, microseconds: int) -> datetime:
        return datetime.fromisoformat(self.created) + timedelta(microseconds=microseconds)

    def progress(self, now: datetime) -> Progress:
        """Return the progress at an instant."""
        elapsed = (now - self._time(0)) // timedelta(microseconds=1)
        failing, end = self.failing_step, self._end
        start = round(self.overhead_seconds * _SECOND * _START)
        last = self.total_steps if failing is None else failing - 1
        outcome = State.ACTIVE if failing is None else State.FAILED
        return Progress(
            state=outcome if elapsed >= end else State.CREATING,
            completed_steps=_finished(elapsed - self._lead, self._step, last),
            start_time=self._time(start) if elapsed >= start else None,
            end_time=self.end_time if elapsed >= end else None,
        )

    def phase(self, now: datetime) -> str:
        """Return what a started training that has not ended does at an instant."""
        elapsed = (now - self._time(0)) // timedelta(microseconds=1)
        for share, name in _BEFORE:
            if elapsed < round(self.overhead_seconds * _SECOND * share):
                return name
        return "TUNING" if elapsed < self._lead + self.total_steps * self._step else "POST_PROCESSING"

    def epochs_of(self, steps: int) -> int:
        """Return how many epochs the first steps complete."""
        return min(steps * self.batch_size // self.examples, self.epochs) if self.examples else 0

    @property
    def end_time(self) -> datetime:
        """The time at which the training completes or fails."""
        return self._time(self._end)

    @property
    def _end(self) -> int:
        if self.failing_step is None:
            return round(self.overhead_seconds * _SECOND) + self.total_steps * self._step
        return self._lead + self.failing_step * self._step

    def snapshots(self, completed_steps: int) -> list[JsonObject]:
        """Return the loss curve up to a step, as TuningSnapshots."""
        first_step, pace = self._time(self._lead), timedelta(microseconds=self._step)
        return [
            {
                "step": step,
                "epoch": step * self.batch_size // self.examples,
                "meanLoss": loss,
                "computeTime": timestamp(first_step + step * pace),
            }
            for step, loss in self._losses(completed_steps)
        ]

    def _losses(self, completed_steps: int) -> Iterator[tuple[int, float]]:
        """Yield the reported steps and their mean losses, with six digits that a 32-bit float can represent."""
        from random import Random  # slow, and only needed for loss curves

        noise = Random(self.seed)  # noqa: S311 - a reproducible curve, no secret
        first = noise.uniform(6, 8.5)
        total, decay, diverges = self.total_steps, self._decay, self.failing_step is not None
        stride = math.ceil(total / MAX_SNAPSHOTS)
        shown = [*range(stride, completed_steps + 1, stride)]
        if completed_steps == total and total % stride:
            shown.append(total)
        for step in shown:
            moved = decay * step
            exponent = moved if diverges else -(moved**2) / (moved + _WARM_UP)
            loss = first * math.exp(exponent + noise.gauss(0, _NOISE)) + noise.gauss(0, _FLOOR)
            yield step, float(f"{loss:.6g}")

    @property
    def failure(self) -> str:
        """The error message of the operation of a failed training."""
        return (
            f"Tuning failed: the mean loss is not a number at step {self.failing_step} of {self.total_steps}. "
            f"The effective learning rate {self.learning_rate:g} is too high; lower it, or its multiplier, and tune "
            "again. (simulated training)"
        )


class Progress(Struct, frozen=True):
    """The progress of a training at an instant; future times are ``None``."""

    state: State
    completed_steps: int
    start_time: datetime | None
    end_time: datetime | None


def _finished(trained: int, step: int, last: int) -> int:
    if trained < 0:
        return 0
    return last if trained >= last * step else trained // step


def total_steps(examples: int, epochs: int, batch_size: int) -> int:
    """Return the number of training steps, as the real service counts them."""
    return -(-examples * epochs // batch_size)


def timestamp(instant: datetime) -> str:
    """Return an aware UTC time in the JSON form of a Timestamp: 0, 3 or 6 fraction digits and Z."""
    naive = instant.replace(tzinfo=None)
    if naive.microsecond % 1000:
        return f"{naive.isoformat(timespec='microseconds')}Z"
    return f"{naive.isoformat(timespec='milliseconds' if naive.microsecond else 'seconds')}Z"


def microseconds(instant: datetime) -> int:
    """Return the microseconds from 1970 to an aware time."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


OVERHEAD_STEPS = 2 / 1.65
"""The overhead in steps: trainings of the quickstart took 1.65 seconds for each step, and 2 seconds besides."""
DEFAULT_STEP_SECONDS = 0.2
"""Fast enough that a first trial takes seconds, and slow enough that its progress is seen."""


class TrainingPace(Struct, frozen=True):
    """The pace of a simulated training, fixed when the model is created.

    ``step_seconds`` is the duration of one training step, ``overhead_seconds`` that of start and end together.
    """

    step_seconds: float = DEFAULT_STEP_SECONDS
    overhead_seconds: float = DEFAULT_STEP_SECONDS * OVERHEAD_STEPS


DEFAULT_PACE = TrainingPace()
