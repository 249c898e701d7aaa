"""Read the event logs of runs while they grow: the command, its trainings with their losses, and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import State
from reconciler.reports.documents.events import (
    AnyLine,
    CanceledLine,
    CompletedLine,
    EventLine,
    EventsHeader,
    FailedLine,
    ModelLine,
    PlannedLine,
    ProgressLine,
    StartedLine,
    SummaryLine,
)
from reconciler.reports.html.front import Training, WatchedRun
from reconciler.reports.text.format import Role, counted, loss

_MOST_BYTES: Final = 2**24
"""The bytes that are read at once, and of the longest line; the rest of a longer log is read the next time."""
_MOST_POINTS: Final = 400
"""The points of a curve; of more, every second one is dropped."""
_HEAD: Final = 100
"""The bytes at the beginning of a log that identify it: they have its time."""
_LINES: Final = msgspec.json.Decoder(AnyLine)
_HEADERS: Final = msgspec.json.Decoder(EventsHeader)


class RunState(Struct, frozen=True):
    """What an event log has shown of a run until now.

    ``trainings`` are in progress, by key. The next state has the same mapping: copies of a long one take long.
    """

    header: EventsHeader | None = None
    target: str = ""
    simulated: bool = False
    trainings: dict[str, Training] = {}
    last: str = "began"
    role: Role = "wait"

    def after(self, line: EventLine) -> RunState:
        """Return the state after one more line."""
        match line:
            case PlannedLine():
                text = f"planned {counted(len(line.actions), 'model')}"
                return replace(self, target=line.target.name, simulated=line.simulated, last=text)
            case SummaryLine():
                good = line.exit_status in {ExitStatus.OK, ExitStatus.STILL_TRAINING}
                text = f"ended with exit status {line.exit_status:d}{f': {line.message}' if line.message else ''}"
                return replace(self, trainings={}, last=text, role="good" if good else "error")
            case ModelLine():
                self._follow(line)
                return replace(self, last=_text(line), role=_role(line))
            case _:
                return self

    def _follow(self, line: ModelLine) -> None:
        match line:
            case CompletedLine():
                self.trainings.pop(line.key, None)
            case StartedLine(state=State.CREATING) | ProgressLine():
                new = Training(self.target, line.name, line.key, "", simulated=self.simulated)
                known = self.trainings.get(line.key, new)
                self.trainings[line.key] = _advanced(known, line) if isinstance(line, ProgressLine) else known


def _advanced(training: Training, line: ProgressLine) -> Training:
    share = "" if line.percent is None else f" ({line.percent:.0f} %)"
    at = f"epoch {line.epoch}{share}" if line.epoch is not None else ""
    if line.completed_steps is not None:
        at = f"step {line.completed_steps}{f'/{line.total_steps}' if line.total_steps else ''}{share}"
    known = isinstance(line.loss, int | float)
    text = ", ".join(filter(None, [at or line.phase, f"loss {loss(line.loss)}" if line.loss is not None else ""]))
    curve, step = training.curve, line.completed_steps
    if step and known and (not curve or step > curve[-1][0]):
        curve = (*curve, (step, float(line.loss or 0)))
    return replace(training, text=text, curve=curve if len(curve) <= _MOST_POINTS else curve[::2])


def _text(line: ModelLine) -> str:
    if isinstance(line, ProgressLine):
        return f"{line.name}: training"
    return f"{line.name}: {line.__struct_config__.tag}"


def _role(line: ModelLine) -> Role:
    return "error" if isinstance(line, FailedLine | CanceledLine) or line.__struct_config__.tag == "refused" else "wait"


class RunLog:
    """The event log of a run; another run that writes the same file begins again."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self._shown = shown
        self._head = self._rest = b""
        self._offset = 0
        self._state = RunState()

    @property
    def trainings(self) -> tuple[Training, ...]:
        """The trainings in progress."""
        return tuple(self._state.trainings.values())

    @property
    def run(self) -> WatchedRun | None:
        """The run; ``None`` if there is no log yet."""
        state, header = self._state, self._state.header
        if header is None:
            return None
        return WatchedRun(header.command, state.target, header.time, state.last, state.role, self._shown)

    def read(self) -> None:
        """Read what was written since the last time; a line without its end is read when it is complete."""
        try:
            if not self._path.is_file():  # a pipe has one reader
                return
            with self._path.open("rb") as stream:
                head = stream.read(_HEAD)
                if not head.startswith(self._head) or self._path.stat().st_size < self._offset:
                    self._rest, self._offset, self._state = b"", 0, RunState()
                self._head = head
                stream.seek(self._offset)
                text = stream.read(_MOST_BYTES)
        except OSError:
            return
        self._offset += len(text)
        *lines, rest = (self._rest + text).split(b"\n")
        self._rest = rest if len(rest) < _MOST_BYTES else b""  # its end cannot be decoded, and is skipped
        for line in lines:
            self._state = self._after(line)

    def _after(self, line: bytes) -> RunState:
        try:
            if self._state.header is None:
                return RunState(_HEADERS.decode(line))
            return self._state.after(_LINES.decode(line))
        except msgspec.MsgspecError:
            return self._state  # of another program, or of a newer version
