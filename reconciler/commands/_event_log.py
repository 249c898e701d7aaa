"""``--events FILE``: write events as JSON lines while they happen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from reconciler.commands._output import Output
from reconciler.commands._project import CommandResult
from reconciler.domain.document import Document, builtins_of
from reconciler.domain.errors import ExitStatus, ReconcileError, UsageError
from reconciler.domain.ports import Clock
from reconciler.environment import Environment
from reconciler.files import open_log, write_errors
from reconciler.planning.events import Event, EventSink
from reconciler.redaction import redact
from reconciler.reports.documents.events import (
    CheckingLine,
    EventLine,
    EventsHeader,
    broken_off_line,
    event_line,
    events_header,
    planned_line,
    summary_line,
)
from reconciler.reports.documents.plan import PlanReport
from reconciler.state.json_decoder import JsonSource

events = click.option("--events", metavar="FILE", help="Write events to FILE as JSON lines, while they happen.")

_MAX_HEADER_BYTES = 2**12
_KIND = EventsHeader.__struct_config__.tag


class EventLog:
    """Writes one line for each event, immediately. After an error in writing it warns once and stops writing."""

    def __init__(self, stream: IO[str], file: str, clock: Clock, warn: Callable[[str], None]) -> None:
        self._stream = stream
        self._file = file
        self._clock = clock
        self._warn = warn
        self._broken = False
        self._percents: dict[str, int] = {}

    def begin(self, command: str) -> None:
        """Write the first line."""
        self._write(events_header(command, self._clock()))

    def planned(self, plan: PlanReport) -> None:
        """Write the line for a plan."""
        self._write(planned_line(plan, self._clock()))

    def __call__(self, event: Event) -> None:
        """Write the line for an event."""
        line = event_line(event, self._clock())
        if line and self._is_progress(line):
            self._write(line)

    def ended(self, result: CommandResult[Document]) -> None:
        """Write the last line."""
        self._write(summary_line(result.document, result.exit_status, self._clock()))

    def failed(self, error: BaseException) -> None:
        """Write the last line of a command that an error ends."""
        status, message = _status_and_message(error)
        self._write(broken_off_line(message, status, self._clock()))

    def _is_progress(self, line: EventLine) -> bool:
        """Return whether to write a line: for checks with many prompts, once for each percent."""
        if not isinstance(line, CheckingLine):
            return True
        percent = 100 * line.checks.answered // max(1, line.checks.prompts)
        before, self._percents[line.key] = self._percents.get(line.key), percent
        return before is None or percent != before

    def _write(self, line: EventsHeader | EventLine) -> None:
        if self._broken:
            return
        try:
            self._stream.write(redact(json.dumps(builtins_of(line))) + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._broken = True
            cause = error.strerror if isinstance(error, OSError) else "it is closed"
            self._warn(f"--events {self._file} cannot be written: {cause}; the run continues without it")


def _status_and_message(error: BaseException) -> tuple[ExitStatus, str]:
    if isinstance(error, ReconcileError):
        return error.exit_status, str(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return ExitStatus.INTERRUPTED, "interrupted"
    return ExitStatus.ERROR, f"internal error: {type(error).__name__}"


@contextmanager
def event_log(environment: Environment, output: Output, file: str | None, command: str) -> Iterator[EventLog]:
    """Return the log of a command, to which the command passes its plan and its result; without a file, discard it.

    Raises:
        UsageError: when the file cannot be written, or is not an event log.
    """
    stream = _open(file or os.devnull, environment.cwd)
    try:
        log = EventLog(stream, file or "", environment.clock, output.warning)
        log.begin(command)
        try:
            yield log
        except BaseException as error:
            log.failed(error)
            raise
    finally:
        with suppress(OSError):  # reported when the line was written
            stream.close()


@contextmanager
def logged(progress: AbstractContextManager[EventSink], log: EventLog) -> Iterator[EventSink]:
    """Return the sink of the progress, preceded by the log."""
    with progress as show:

        def write_and_show(event: Event) -> None:
            log(event)
            show(event)

        yield write_and_show


def _open(file: str, cwd: Path) -> IO[str]:
    if file == "-":
        raise UsageError(
            "--events - is not supported: standard output has the result", "name a file, or a pipe such as /dev/fd/3"
        )
    path = cwd / file
    with write_errors(f"--events {file}", UsageError):
        if path.is_file() and not path.is_symlink() and not is_event_log(path, file):
            raise UsageError(f"--events {file} would overwrite a file that is not an event log", "name another file")
        return open_log(path, "w")


def is_event_log(path: Path, shown: str) -> bool:
    """Return whether a file is empty or an earlier log; a pipe is not asked, because reading would consume it."""
    with path.open("rb") as stream:
        first = stream.readline(_MAX_HEADER_BYTES)
    try:
        header = JsonSource(first, shown, "name another file").parse() if first else {"kind": _KIND}
    except ReconcileError:
        return False
    return isinstance(header, dict) and header.get("kind") == _KIND
