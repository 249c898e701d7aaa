"""Show events on a terminal: a line for each training and check in progress, and permanent lines above."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reconciler.domain.model import State
from reconciler.domain.ports import Clock
from reconciler.domain.text import encodable, terminal_safe
from reconciler.planning import events
from reconciler.reports.text.format import Role, clock_time, counted, loss
from reconciler.reports.text.progress import Curve, EventPhrases, curve_of, sparkline

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


_REDRAWS_PER_SECOND: Final = 4
_GAP: Final = 2
_SPARE_LINES: Final = 2
"""Lines of the terminal that the display leaves free: for a count of hidden lines, and for the cursor."""
_PROMPT: Final = "prompt"
_WIDEST_BAR: Final = 24
_NARROWEST_BAR: Final = 8
_STYLES: Final[Mapping[Role, str]] = {
    "good": "green",
    "error": "red",
    "warning": "yellow",
    "update": "yellow",
    "promote": "cyan",
    "wait": "blue",
}


def _percent(curve: Curve, _now: datetime) -> str:
    return "" if curve.share is None else f"{100 * curve.share:.0f} %"


def _phase(curve: Curve, _now: datetime) -> str:
    return terminal_safe(curve.activity if curve.done is None else curve.phase)


def _elapsed(curve: Curve, now: datetime) -> str:
    """Return the elapsed time of a training whose service does not report progress."""
    elapsed = curve.elapsed(now) if curve.done is None else None
    return "" if elapsed is None else str(elapsed)


def _step(curve: Curve, _now: datetime) -> str:
    if curve.done is None:
        return counted(curve.total, curve.unit) if curve.total else ""
    if not curve.total and not curve.done:
        return ""
    return f"{curve.unit} {curve.done}/{curve.total}" if curve.total else f"{curve.unit} {curve.done}"


def _epoch(curve: Curve, _now: datetime) -> str:
    return "" if curve.epoch is None else f"epoch {curve.epoch}"


def _loss(curve: Curve, _now: datetime) -> str:
    ends = dict.fromkeys(map(loss, (curve.losses[0], curve.losses[-1]))) if curve.losses else {}
    return f"loss {' → '.join(ends)}" if ends else ""


def _spark(curve: Curve, _now: datetime) -> str:
    return sparkline(curve.losses)


def _left(curve: Curve, now: datetime) -> str:
    left = curve.left(now)
    return "" if left is None else clock_time(left)


_CELLS: Final[Mapping[str, Callable[[Curve, datetime], str]]] = {
    "phase": _phase,
    "elapsed": _elapsed,
    "percent": _percent,
    "step": _step,
    "epoch": _epoch,
    "loss": _loss,
    "spark": _spark,
    "left": _left,
}
_DISPENSABLE: Final = ("epoch", "spark", "loss", "left", "step", "phase", "elapsed")
"""Columns that a narrow terminal omits, in this order."""
_RIGHT: Final = frozenset({"elapsed", "percent", "left"})
"""Columns that are aligned right."""


class _Display:
    """The lines in progress, drawn for the current width and time."""

    def __init__(self, clock: Clock, column: int) -> None:
        self._clock = clock
        self._column = column
        self.rows: Mapping[str, tuple[str, Curve]] = {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows, room = tuple(self.rows.values()), max(1, console.height - _SPARE_LINES)
        if rows:
            yield self._table(rows[:room], self._clock(), options.max_width, console.encoding)
        if len(rows) > room:
            yield Text(f"and {len(rows) - room} more in progress")

    def _table(self, rows: tuple[tuple[str, Curve], ...], now: datetime, width: int, encoding: str) -> Table:
        texts = {name: [encodable(cell(curve, now), encoding) for _, curve in rows] for name, cell in _CELLS.items()}
        names = [terminal_safe(name) for name, _ in rows]
        widths = {"name": max(self._column, *map(len, names)), **{name: max(map(len, texts[name])) for name in texts}}
        bar = _fit(widths, width)
        table = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        table.add_column(width=widths.pop("name"), no_wrap=True)
        table.add_column(width=bar, no_wrap=True)
        for name, columns in widths.items():
            table.add_column(width=columns, no_wrap=True, justify="right" if name in _RIGHT else "left")
        for row, (_, curve) in enumerate(rows):
            total = None if curve.share is None else curve.total
            drawn = ProgressBar(total=total, completed=curve.done or 0, width=bar)
            table.add_row(Text(names[row]), drawn, *(Text(texts[name][row]) for name in widths))
        return table


def _fit(widths: dict[str, int], width: int) -> int:
    """Remove columns that are empty or do not fit; return the width that remains for the bar."""
    for name in [name for name, columns in widths.items() if not columns]:
        del widths[name]
    dispensable = [name for name in _DISPENSABLE if name in widths]
    while (left := width - sum(columns + _GAP for columns in widths.values())) < _NARROWEST_BAR and dispensable:
        del widths[dispensable.pop(0)]
    return max(1, min(left, _WIDEST_BAR))


class LiveProgress:
    """Draws events on a terminal; leaving the context, even by an interrupt, shows the cursor again.

    Lines in progress then stay on the screen. ``names`` are the names of the models, to align the lines.
    """

    def __init__(self, console: Console, *, clock: Clock, names: Iterable[str] = (), simulated: bool = False) -> None:
        self._console = console
        self._clock = clock
        self._column = max(map(len, names), default=0)
        self._phrases = EventPhrases(simulated=simulated)
        self._display = _Display(clock, self._column)
        self._live = Live(self._display, console=console, refresh_per_second=_REDRAWS_PER_SECOND, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.transient = not self._display.rows
        self._live.stop()

    def __call__(self, event: events.Event) -> None:
        """Redraw the line that the event is about, and print a permanent line if it has one."""
        if isinstance(event, events.LockEvent):
            return
        self._redraw(event)
        described = self._phrases.describe(event)
        if described and not isinstance(event, events.Started | events.Checking):
            role, text = described
            name = f"{terminal_safe(event.name):<{self._column}}  "
            line = Text.assemble(name, (encodable(text, self._console.encoding), _STYLES[role]))
            self._console.print(line, soft_wrap=True)

    def _redraw(self, event: events.Event) -> None:
        match event:
            case events.Started(name, _, started) | events.Adopted(name, _, started) if started.state is State.CREATING:
                self._show(started.key, name, Curve(seen=self._clock(), total=started.total_steps))
            case events.Progressed(name, key, model, total):
                self._show(key, name, curve_of(model, total, self._clock()))
            case events.Checking(name, key, done, total):
                self._show(key, name, Curve(self._clock(), done, total, phase="checking", unit=_PROMPT))
            case (
                events.Completed(_, key)
                | events.Failed(_, key)
                | events.Cancelled(_, key)
                | events.Disappeared(_, key)
                | events.Checked(_, key)
            ):
                self._keep(lambda shown_key, _: shown_key != key)
            case events.Refused(name):
                self._keep(lambda _, row: row[0] != name or row[1].unit != _PROMPT)  # its training continues
            case _:
                return

    def _show(self, key: str, name: str, curve: Curve) -> None:
        """Replace the mapping, because another thread draws from it."""
        self._display.rows = {**self._display.rows, key: (name, curve)}

    def _keep(self, wanted: Callable[[str, tuple[str, Curve]], bool]) -> None:
        self._display.rows = {key: row for key, row in self._display.rows.items() if wanted(key, row)}
