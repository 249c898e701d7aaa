"""Where output goes: the result to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import click

from reconciler.commands._github import runner
from reconciler.domain.errors import Problem, ReconcileError, UsageError
from reconciler.environment import Environment
from reconciler.planning.events import Event, EventSink
from reconciler.reports.text.escape import encodable, terminal_safe
from reconciler.reports.text.format import Style, ansi, plain
from reconciler.reports.writer import encoded, face_of

Color = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Output:
    """How a command speaks: its format, color, and how much it says on standard error."""

    form: Literal["text", "json"] = "text"
    color: Color = "auto"
    quiet: bool = False
    verbose: int = 0
    reports: tuple[str, ...] = ()

    def style(self, stream: TextIO) -> Style:
        """Color for that stream, or none."""
        return ansi if self.wants_color(stream) else plain

    def wants_color(self, stream: TextIO) -> bool:
        """Whether to color a stream; NO_COLOR and FORCE_COLOR count when they are not empty (no-color.org)."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()

    def result(self, document: Mapping[str, Any], text: Callable[[Style, int | None], str]) -> None:
        """Print the result, as text or as the JSON document, and write the reports."""
        if self.form == "json":
            click.echo(json.dumps(document, indent=2, ensure_ascii=not _is_unicode(sys.stdout)))
        else:
            _print(text(self.style(sys.stdout), width_of(sys.stdout)), sys.stdout)
        for report in self.reports:
            _write_report(report, document)
        current = runner()
        trouble = current.tell(dict(document)) if current else ""
        if trouble:
            self.say(lambda style, _: f"{style('warning', 'warning:')} {terminal_safe(trouble)}")

    def say(self, text: Callable[[Style, int | None], str]) -> None:
        """Print something for people, on standard error."""
        if not self.quiet:
            _print(text(self.style(sys.stderr), width_of(sys.stderr)), sys.stderr)

    def warn(self, problems: Iterable[Problem]) -> None:
        """Print warnings about the input."""
        problems = tuple(problems)
        current = runner()
        if current:
            current.problems(problems)
        lines = [terminal_safe(str(problem)) for problem in problems]
        if lines:
            self.say(lambda style, _: "\n".join(f"{style('warning', 'warning:')} {line}" for line in lines))


def confirm(question: str, *, yes: bool) -> bool:
    """Ask for approval on standard error and return the answer; ``yes`` approves without a prompt.

    Raises:
        UsageError: when standard input is not a terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("stdin is not a terminal", "pass --yes to approve")
    return click.confirm(question, err=True)


def _print(text: str, stream: TextIO) -> None:
    if text:
        click.echo(encodable(text, stream.encoding), file=stream, color=True)


def _is_unicode(stream: TextIO) -> bool:
    return stream.encoding.lower().startswith("utf")


def width_of(stream: TextIO) -> int | None:
    """The columns of a terminal; ``None`` where the stream is none, so that lines in pipes and files stay whole."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def check_reports(reports: Iterable[str], beside: Mapping[str, str | None] | None = None) -> tuple[str, ...]:
    """The reports' files, before any work is done for them; raises UsageError when one could not be written.

    ``beside`` are other options that write a file, and the files: none of them is a report's.
    """
    files = {Path(file).resolve(): f"{option} {file}" for option, file in (beside or {}).items() if file}
    checked = []
    for report in reports:
        face_of(report)
        path = Path(report)
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UsageError(
                f"--report {report} cannot be written", "name a file in a folder that is there and writable"
            )
        if path.suffix.lower() == ".json" and path.is_file() and not _holds_report(path):
            raise UsageError(f"--report {report} would write over a file that is no report", "name another file")
        place = path.resolve()
        if place in files:
            raise UsageError(f"{files[place]} and --report {report} are one file", "name two files, or leave one out")
        files[place] = f"--report {report}"
        checked.append(report)
    return tuple(checked)


def _holds_report(path: Path) -> bool:
    """Whether a file holds a report in JSON, whole or not, or nothing; lockfiles, data and saved plans are none."""
    from reconciler.reports.text.documents import KINDS

    try:
        with path.open("rb") as stream:
            head = stream.read(2**10).lstrip()
    except OSError:
        return False
    kind = re.search(rb'"kind"\s*:\s*"(\w+)"', head) if head.startswith(b"{") else None
    return not head or (kind is not None and kind[1].decode() in KINDS)


def _write_report(report: str, document: Mapping[str, Any]) -> None:
    content = encoded(face_of(report)(dict(document)))
    try:
        Path(report).write_bytes(content)
    except OSError as error:
        raise ReconcileError(f"--report {report} cannot be written: {error.strerror}", "name another file") from error


def progress(
    env: Environment, output: Output, names: Iterable[str], *, simulated: bool
) -> AbstractContextManager[EventSink]:
    """A sink of events about the models of these names, to be entered while the command works."""
    if output.quiet:
        return nullcontext(_ignore)
    if sys.stderr.isatty():
        from rich.console import Console

        from reconciler.reports.text.live import LiveProgress

        console = Console(stderr=True, no_color=not output.wants_color(sys.stderr), highlight=False)
        return LiveProgress(console, clock=env.clock, names=names, simulated=simulated)
    from reconciler.reports.text.progress import PlainProgress

    style = output.style(sys.stderr)
    return PlainProgress(sys.stderr, clock=env.clock, names=names, simulated=simulated, style=style)


def _ignore(_event: Event) -> None:
    """Quiet means that nobody watches."""
