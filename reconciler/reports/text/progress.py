"""Print events as plain lines for logs and pipes; the display for terminals is in ``live``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self, TextIO

from msgspec import Struct

from reconciler.domain.model import PHASES, RemoteModel
from reconciler.domain.ports import Clock
from reconciler.domain.text import encodable, terminal_safe
from reconciler.planning import events
from reconciler.planning.training_time import counted_progress, last_epoch, seconds_left, training_start
from reconciler.reports.text.format import Role, Style, checks_line, counted, duration, loss, plain, steps_and_loss

_QUARTERS: Final = 4
_MANY_PROMPTS: Final = 20
"""Checks with fewer prompts end too soon to report their progress."""
_LONGEST_SILENCE: Final = timedelta(minutes=5)
"""Half of the ten minutes after which some CI systems end a job without output."""
_BARS: Final = "▁▂▃▄▅▆▇█"
Line = tuple[Role, str]
"""The role and the text of a line."""


def sparkline(losses: Sequence[float], width: int = 6) -> str:
    """Return a curve in at most ``width`` characters; a flat curve stays at the bottom.

    Longer curves are averaged in equal parts. Infinite and undefined losses are skipped.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if not finite:
        return ""
    count = min(width, len(finite))
    parts = [finite[len(finite) * part // count : len(finite) * (part + 1) // count] for part in range(count)]
    means = [math.fsum(loss / len(part) for loss in part) for part in parts]
    lowest, highest = min(means), max(means)
    return "".join(_BARS[_level(mean, lowest, highest)] for mean in means)


def _level(mean: float, lowest: float, highest: float) -> int:
    span = highest / 2 - lowest / 2  # halved to keep the difference of any two floats finite
    return round((mean / 2 - lowest / 2) / span * (len(_BARS) - 1)) if span else 0


class Curve(Struct, frozen=True):
    """The progress of a training or of checks at the time ``seen``.

    ``done`` is ``None`` if the service does not report progress, ``since`` the start or creation time. ``left_then`` is
    the remaining time at ``seen`` in seconds. ``phase`` is the service's name of what it does, empty for training.
    ``unit`` is what is counted.
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
    def activity(self) -> str:
        """The service's name of the phase, or training."""
        return self.phase or "training"

    @property
    def share(self) -> float | None:
        """The completed part, from 0 to 1; ``None`` while unknown."""
        return min(self.done / self.total, 1.0) if self.total and self.done is not None else None

    def elapsed(self, now: datetime) -> timedelta | None:
        """Return the time since the start in whole seconds, never negative."""
        return None if self.since is None else timedelta(seconds=max(0, (now - self.since) // timedelta(seconds=1)))

    def left(self, now: datetime) -> float | None:
        """Return the remaining seconds, never negative."""
        return None if self.left_then is None else max(0.0, self.left_then - (now - self.seen).total_seconds())


def curve_of(model: RemoteModel, total_steps: int | None, now: datetime) -> Curve:
    """Return the progress of a training from the live state of its model."""
    progress = counted_progress(model, total_steps)
    by_step = progress is None or progress.unit == "step"
    return Curve(
        seen=now,
        done=progress.done if progress else None,
        total=progress.total if progress else total_steps,
        epoch=last_epoch(model) if by_step else None,
        losses=tuple(snapshot.loss for snapshot in model.snapshots),
        left_then=seconds_left(model, total_steps, now),
        phase=PHASES.get(model.phase, model.phase),
        since=training_start(model),
        unit=progress.unit if progress else "step",
    )


class EventPhrases:
    """Describes events; remembers the length and the phase of each training.

    The end of a promotion without a stage, or to the first one, and of a deletion has no line: the result reports it.
    """

    def __init__(self, *, simulated: bool) -> None:
        self._simulated = simulated
        self._steps: dict[str, int] = {}
        self._phases: dict[str, str] = {}

    def describe(self, event: events.Event) -> Line | None:
        """Return the line about an event, safe to print; ``None`` if nothing changed."""
        line = self._training_line(event)
        return (line[0], terminal_safe(line[1])) if line else None

    def _training_line(self, event: events.Event) -> Line | None:
        match event:
            case events.Started(_, _, generation):
                training = "simulated training" if self._simulated else "training"
                self._remember_steps(generation.key, generation.total_steps)
                steps = f", {counted(generation.total_steps, 'step')}" if generation.total_steps else ""
                return "wait", f"{training} started: {generation.key}{steps}"
            case events.Progressed(_, key, model, total):
                self._remember_steps(key, total)
                return self._phase_line(key, model.phase)
            case events.Completed(_, key, model):
                final = model.snapshots[-1].loss if model.snapshots else None
                trained = steps_and_loss(model.total_steps or self._steps.get(key), final)
                return "good", ", ".join(filter(None, [f"completed: {key}", trained]))
            case _:
                return _failure_line(event) or _record_line(event) or _serving_line(event)

    def _phase_line(self, key: str, phase: str) -> Line | None:
        """Return the line about a new phase."""
        before, self._phases[key] = self._phases.get(key, ""), phase
        if before == phase:
            return None
        return "wait", f"service phase: {PHASES.get(phase, phase)}" if phase else f"training is running: {key}"

    def _remember_steps(self, key: str, steps: int | None) -> None:
        if steps is not None:
            self._steps[key] = steps


def _failure_line(event: events.Event) -> Line | None:
    match event:
        case events.Failed(_, _, model):
            return "error", f"failed: {model.failure.message if model.failure else 'the service reports no reason'}"
        case events.Cancelled(_, key, model):
            return "error", f"canceled: {key}{f': {model.failure.message}' if model.failure else ''}"
        case events.Refused(_, error):
            return "error", f"refused: {error}"
        case events.Dropped(_, _, remote):
            return "warning", f"canceled: {remote}, which duplicates a training that another run started"
        case events.Disappeared(_, key):
            return "warning", f"missing: {key} no longer exists at the service"
        case _:
            return None


def _record_line(event: events.Event) -> Line | None:
    match event:
        case events.Adopted(_, _, generation):
            return "promote", f"adopted: {generation.key}"
        case events.Renamed(former=former):
            return "promote", f"renamed: previously recorded as {former}"
        case events.Claimed(key=key, dataset=dataset):
            return "promote", f"claimed: {key} is recorded as trained on {dataset.path or 'the inline examples'}"
        case events.Updated(_, _, fields):
            return "update", f"updated: {', '.join(fields)}"
        case events.Deleting(_, key):
            return "delete", f"deleting: {key}"
        case _:
            return None


def _serving_line(event: events.Event) -> Line | None:
    """Return the line about an event that decides whether a generation is serving."""
    match event:
        case events.Checking(_, key, 0, total, checks):
            return "wait", f"checking {key}: {counted(checks, 'check')}, {counted(total, 'prompt')}"
        case events.Checked(_, _, report):
            return "error" if report.failed else "good", checks_line(report)
        case events.Rejected(_, key, reason):
            return "warning", f"rejected: {key}: {reason}"
        case events.Restored(_, key):
            return "promote", f"no longer rejected: {key}"
        case events.Promoted() | events.Unserved() | events.Withheld():
            return _changed_serving(event)
        case _:
            return None


def _changed_serving(event: events.Promoted | events.Unserved | events.Withheld) -> Line | None:
    if isinstance(event, events.Promoted):
        return ("promote", f"promoted to {event.stage}: {event.key}") if event.stage else None
    if isinstance(event, events.Unserved):
        return "warning", f"no longer serving: {event.key}"
    serving = f"serving in {event.stage}" if event.stage else "serving"
    return "warning", f"{'keeps' if event.key == event.before else 'no longer'} {serving}: {event.key}"


class PlainProgress:
    """Writes a line for each change, for each quarter of a training, and after each long silence.

    ``names`` are the names of the models, to align the lines.
    """

    def __init__(
        self, stream: TextIO, *, clock: Clock, names: Iterable[str] = (), simulated: bool = False, style: Style = plain
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._column = max(map(len, names), default=0)
        self._phrases = EventPhrases(simulated=simulated)
        self._style = style
        self._quarters: dict[tuple[type, str], int] = {}
        self._last_lines: dict[str, datetime] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def __call__(self, event: events.Event) -> None:
        """Write the line about an event, if it has one."""
        if isinstance(event, events.LockEvent):
            return
        described = self._phrases.describe(event) or self._progress_line(event)
        if described:
            role, text = described
            line = f"{terminal_safe(event.name):<{self._column}}  {self._style(role, text)}"
            self._stream.write(encodable(line, self._stream.encoding or "utf-8") + "\n")
            self._stream.flush()
            self._last_lines[event.name] = self._clock()

    def _progress_line(self, event: events.Event) -> Line | None:
        """Return the progress after each quarter and after each long silence."""
        match event:
            case events.Progressed():
                curve = curve_of(event.model, event.total_steps, self._clock())
                if self._is_new_quarter(event, curve.share or 0):
                    return "wait", _progress(curve)
                return self._after_silence(event, _still_running(curve))
            case events.Checking(_, _, done, total):
                answered = f"{done} of {counted(total, 'prompt')}"
                if self._is_new_quarter(event, done / total) and total >= _MANY_PROMPTS:
                    return "wait", f"{100 * done / total:.0f} %: {answered}"
                return self._after_silence(event, f"still checking: {answered}")
            case _:
                return None

    def _after_silence(self, event: events.Progressed | events.Checking, text: str) -> Line | None:
        now = self._clock()
        return None if now - self._last_lines.setdefault(event.name, now) < _LONGEST_SILENCE else ("wait", text)

    def _is_new_quarter(self, event: events.Progressed | events.Checking, share: float) -> bool:
        """Return whether another quarter is completed; the last one is not reported, as the result follows."""
        subject, quarter = (type(event), event.key), int(share * _QUARTERS)
        if not self._quarters.get(subject, 0) < quarter < _QUARTERS:
            return False
        self._quarters[subject] = quarter
        return True


def _still_running(curve: Curve) -> str:
    elapsed = curve.elapsed(curve.seen)
    time = "" if elapsed is None else f": {duration(elapsed.total_seconds())} elapsed"
    return f"still {terminal_safe(curve.activity)}{time}"


def _progress(curve: Curve) -> str:
    share = f"{100 * (curve.share or 0):.0f} %: {curve.unit} {curve.done}/{curve.total}"
    last = f", loss {loss(curve.losses[-1])}" if curve.losses else ""
    return share + last + ("" if curve.left_then is None else f", about {duration(curve.left_then)} left")
