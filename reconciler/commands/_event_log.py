"""``--events FILE``: what happens, as JSON lines, while it happens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click

from reconciler.commands._output import Output
from reconciler.domain.errors import ExitStatus, ReconcileError, UsageError
from reconciler.domain.ports import Clock
from reconciler.environment import Environment
from reconciler.planning.events import Event, EventSink
from reconciler.reports.documents.events import broken_off_line, event_line, events_header, planned_line, summary_line
from reconciler.reports.documents.plan_and_result import Document
from reconciler.reports.text.escape import terminal_safe

events = click.option(
    "--events", metavar="FILE", help="Also write what happens to FILE while it happens, as JSON lines."
)


class EventLog:
    """Writes a line an event, each at once. What cannot be written any more is told once, and ends nothing."""

    def __init__(self, stream: IO[str], file: str, clock: Clock, complain: Callable[[str], None]) -> None:
        self._stream = stream
        self._file = file
        self._clock = clock
        self._complain = complain
        self._broken = False
        self._shares: dict[str, int] = {}

    def begin(self, command: str) -> None:
        """Write the first line."""
        self._write(events_header(command, self._clock()))

    def planned(self, plan: Document) -> None:
        """Write what a Plan document says."""
        self._write(planned_line(plan, self._clock()))

    def __call__(self, event: Event) -> None:
        """Write what happened."""
        line = event_line(event, self._clock())
        if line and self._is_news(line):
            self._write(line)

    def ended(self, result: Document) -> None:
        """Write the last line."""
        self._write(summary_line(result, self._clock()))

    def broke_off(self, error: BaseException) -> None:
        """Write the last line of a command that an error ends."""
        status, message = _end(error)
        self._write(broken_off_line(message, status, self._clock()))

    def _is_news(self, line: Document) -> bool:
        """Of checks with many prompts each further percent is."""
        if line["event"] != "checking":
            return True
        asked = line["checks"]
        percent: int = 100 * asked["answered"] // max(1, asked["prompts"])
        key: str = line["key"]
        before, self._shares[key] = self._shares.get(key), percent
        return before is None or percent != before

    def _write(self, line: Document) -> None:
        if self._broken:
            return
        try:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._broken = True
            why = error.strerror if isinstance(error, OSError) else "it is closed"
            self._complain(f"--events {self._file} cannot be written any more: {why}; the run goes on without it")


def _end(error: BaseException) -> tuple[ExitStatus, str]:
    if isinstance(error, ReconcileError):
        return error.exit_status, str(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return ExitStatus.INTERRUPTED, "interrupted"
    return ExitStatus.ERROR, f"broken off: {type(error).__name__}"


@contextmanager
def event_log(env: Environment, output: Output, file: str | None, command: str) -> Iterator[EventLog]:
    """The log of a command, which it gives what it plans, and at the end its document; without a file nobody reads it.

    Raises:
        UsageError: when the file cannot be written, or holds something else.
    """
    stream = _opened(file or os.devnull, env.cwd)
    try:
        log = EventLog(stream, file or "", env.clock, lambda text: _warn(output, text))
        log.begin(command)
        try:
            yield log
        except BaseException as error:
            log.broke_off(error)
            raise
    finally:
        with suppress(OSError):  # it was told of when it was written
            stream.close()


@contextmanager
def watched(progress: AbstractContextManager[EventSink], log: EventLog) -> Iterator[EventSink]:
    """The progress, of which the log is told too."""
    with progress as sink:

        def tell(event: Event) -> None:
            log(event)
            sink(event)

        yield tell


def _warn(output: Output, text: str) -> None:
    output.say(lambda style, _: f"{style('warning', 'warning:')} {terminal_safe(text)}")


def _opened(file: str, cwd: Path) -> IO[str]:
    if file == "-":
        raise UsageError("--events -: standard output carries the result", "name a file, or a pipe such as /dev/fd/3")
    path = cwd / file
    try:
        if path.is_file() and not _is_ours(path):
            raise UsageError(f"--events {file} would write over a file that is no log of events", "name another file")
        return path.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(
            f"--events {file} cannot be written: {error.strerror}", "name a file in a folder that is there and writable"
        ) from error


def _is_ours(path: Path) -> bool:
    """Whether a file is empty, or an earlier log."""
    with path.open("rb") as stream:
        first = stream.readline(_LONGEST)
    try:
        found: Any = json.loads(first or '{"kind": "Events"}')
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("kind") == "Events"


_LONGEST = 2**12
"""Bytes of a first line of ours, at most."""
