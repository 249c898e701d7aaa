"""The stream of events as plain lines: one a real change, for logs and pipes. The live display is in ``live``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self, TextIO

from reconciler.domain.ports import Clock
from reconciler.planning.events import (
    Adopted,
    Cancelled,
    Checked,
    Checking,
    Claimed,
    Completed,
    Deleted,
    Disappeared,
    Dropped,
    Event,
    Failed,
    Progressed,
    Refused,
    Rejected,
    Renamed,
    Restored,
    Started,
    Targeted,
    Unserved,
    Updated,
)
from reconciler.reports.text.escape import encodable, terminal_safe
from reconciler.reports.text.format import Role, Style, checks_line, counted, duration, loss, plain, steps_and_loss
from reconciler.reports.text.sparkline import Curve, curve_of

_QUARTERS: Final = 4
_MANY_PROMPTS: Final = 20
"""Checks with fewer prompts are over before somebody wants to know how far they are."""
_LONGEST_SILENCE: Final = timedelta(minutes=5)
"""Half of the ten minutes after which the first CI systems end a job that writes nothing."""


class Teller:
    """Remembers how long trainings are, and puts each event that changes something into words.

    A promotion is left to the result: it follows at once, and says the same.
    """

    def __init__(self, *, simulated: bool) -> None:
        self._simulated = simulated
        self._sizes: dict[str, int] = {}
        self._phases: dict[str, str] = {}

    def tell(self, event: Event) -> tuple[Role, str] | None:
        """The role and the words of an event, on one line and safe to print; ``None`` where nothing changed."""
        told = self._words(event)
        return (told[0], terminal_safe(told[1])) if told else None

    def _words(self, event: Event) -> tuple[Role, str] | None:
        match event:
            case Started(_, _, generation):
                steps = self._sized(generation.key, generation.total_steps)
                training = "simulated training" if self._simulated else "training"
                return "wait", f"{training} started: {generation.key}" + (
                    f", {counted(steps, 'step')}" if steps else ""
                )
            case Adopted(_, _, generation):
                return "promote", f"adopted: {generation.key}"
            case Renamed() | Claimed():
                return "promote", _carried(event)
            case Progressed(_, key, model, total):
                self._sized(key, total)
                return self._phase(key, model.phase)
            case Completed():
                return "good", self._completed(event)
            case _:
                return _plight(event)

    def _phase(self, key: str, phase: str) -> tuple[Role, str] | None:
        """The service's own word for what it does, when it changes."""
        before, self._phases[key] = self._phases.get(key, ""), phase
        if before == phase:
            return None
        return "wait", f"the service shows it as {phase}" if phase else f"the training has begun: {key}"

    def _sized(self, key: str, steps: int | None) -> int | None:
        if steps is not None:
            self._sizes[key] = steps
        return steps

    def _completed(self, event: Completed) -> str:
        model, key = event.model, event.key
        final = model.snapshots[-1].loss if model.snapshots else None
        trained = steps_and_loss(model.total_steps or self._sizes.get(key), final)
        return f"trained: {key}" + (f", {trained}" if trained else "")


def _carried(event: Renamed | Claimed) -> str:
    if isinstance(event, Renamed):
        return f"renamed: it was recorded as {event.former} so far"
    return f"claimed: {event.key} counts as trained on {event.dataset.path or 'what the manifest says'}"


def _plight(event: Event) -> tuple[Role, str] | None:
    match event:
        case Updated(_, _, fields):
            return "update", f"updated: {', '.join(fields)}"
        case Failed(_, _, model):
            return "error", f"failed: {model.failure.message if model.failure else 'the service does not tell why'}"
        case Cancelled() | Dropped() | Disappeared() | Unserved() | Deleted():
            return _loss(event)
        case Refused(_, error):
            return "error", f"refused: {error}"
        case Checking() | Checked() | Rejected() | Restored():
            return _qualification(event)
        case _:
            return None


def _qualification(event: Checking | Checked | Rejected | Restored) -> tuple[Role, str] | None:
    """What decides whether a generation may serve."""
    match event:
        case Checking(_, key, done, total, checks):
            begun = f"checking {key}: {counted(checks, 'check')}, {counted(total, 'prompt')}"
            return None if done else ("wait", begun)
        case Checked(_, _, report):
            return "error" if report.failed else "good", checks_line(report)
        case Rejected(_, key, reason):
            return "warning", f"rejected: {key}: {reason}"
        case Restored(_, key):
            return "promote", f"no longer rejected: {key}"


def _loss(event: Cancelled | Dropped | Disappeared | Unserved | Deleted) -> tuple[Role, str]:
    match event:
        case Deleted(_, key):
            return "delete", f"deleted: {key}"
        case Unserved(_, key):
            return "warning", f"taken out of service: {key}"
        case Cancelled(_, key, model):
            return "error", f"cancelled: {key}" + (f": {model.failure.message}" if model.failure else "")
        case Dropped(_, _, remote):
            return "warning", f"cancelled: {remote}, which doubled a training that another run had started"
        case Disappeared(_, key):
            return "warning", f"gone: {key} is no longer at the service"


class PlainProgress:
    """A sink of events that writes a line a change, one a quarter of each training, and one after each long silence.

    ``names`` are the models' names, so that the lines align. Without a style there is no colour.
    """

    def __init__(
        self, stream: TextIO, *, clock: Clock, names: Iterable[str] = (), simulated: bool = False, style: Style = plain
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._column = max(map(len, names), default=0)
        self._teller = Teller(simulated=simulated)
        self._style = style
        self._quarters: dict[tuple[type, str], int] = {}
        self._told: dict[str, datetime] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        """Write what changed."""
        if isinstance(event, Targeted):
            return
        told = self._teller.tell(event) or self._look(event)
        if told:
            role, words = told
            line = f"{terminal_safe(event.name):<{self._column}}  {self._style(role, words)}"
            self._stream.write(encodable(line, self._stream.encoding or "utf-8") + "\n")
            self._stream.flush()
            self._told[event.name] = self._clock()

    def _look(self, event: Event) -> tuple[Role, str] | None:
        """How far it is, after each quarter and after each long silence."""
        match event:
            case Progressed():
                curve = curve_of(event.model, event.total_steps, self._clock())
                quarter = self._quarter(event, curve.share or 0)
                return ("wait", _so_far(curve)) if quarter else self._sign_of_life(event, _still_training(curve))
            case Checking(_, _, done, total):
                asked = f"{done} of {counted(total, 'prompt')}"
                quarter = self._quarter(event, done / total) and total >= _MANY_PROMPTS
                line = f"{100 * done / total:.0f} %: {asked}"
                return ("wait", line) if quarter else self._sign_of_life(event, f"still checking: {asked}")
            case _:
                return None

    def _sign_of_life(self, event: Progressed | Checking, words: str) -> tuple[Role, str] | None:
        now = self._clock()
        return None if now - self._told.setdefault(event.name, now) < _LONGEST_SILENCE else ("wait", words)

    def _quarter(self, event: Progressed | Checking, share: float) -> bool:
        """Whether another quarter is over, the last one apart, after which comes the result."""
        what, quarter = (type(event), event.key), int(share * _QUARTERS)
        if not self._quarters.get(what, 0) < quarter < _QUARTERS:
            return False
        self._quarters[what] = quarter
        return True


def _still_training(curve: Curve) -> str:
    elapsed = curve.elapsed(curve.seen)
    so_far = "" if elapsed is None else f": {duration(elapsed.total_seconds())} so far"
    return f"still {terminal_safe(curve.doing)}{so_far}"


def _so_far(curve: Curve) -> str:
    share = f"{100 * (curve.share or 0):.0f} %: step {curve.done}/{curve.total}"
    last = f", loss {loss(curve.losses[-1])}" if curve.losses else ""
    return share + last + ("" if curve.left_then is None else f", about {duration(curve.left_then)} left")
