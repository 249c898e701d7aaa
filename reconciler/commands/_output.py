"""Print the result to standard output and everything else to standard error; ask for approval; show progress."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeVar

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._github_actions import current_runner
from reconciler.domain.document import Document, Report, json_text
from reconciler.domain.errors import ExitStatus, Problem, ReconcileError, UsageError
from reconciler.domain.text import encodable, terminal_safe
from reconciler.environment import Environment
from reconciler.files import check_writable, write_errors, write_file
from reconciler.redaction import redact
from reconciler.reports.documents.envelope import without_notices
from reconciler.reports.text.format import Layout, Style, ansi, plain, run_text
from reconciler.reports.writer import encode_report, render_text, report_renderer

if TYPE_CHECKING:
    from reconciler.commands._monitoring import Monitoring
    from reconciler.commands._project import CommandResult
    from reconciler.commands._run_info import Run
    from reconciler.planning.events import EventSink
    from reconciler.reports.documents.doctor import ErrorReport
    from reconciler.reports.documents.plan import PlanReport

DocumentT = TypeVar("DocumentT", bound=Document)
Color = Literal["auto", "always", "never"]
Draw = Callable[[Style, int | None], str]
"""Returns text for a style and a width in columns, ``None`` for any width."""
Progress = Callable[["PlanReport"], "AbstractContextManager[EventSink]"]
"""Returns a context in which the events of a run are shown, for the report of a plan."""


class Output(Struct, frozen=True):
    """The format, the color and the verbosity of a command, and what it writes and sends at its end.

    ``run`` is what reports show of the command; without it they show what the document has, as ``render`` does.
    """

    form: Literal["text", "json", "yaml"] = "text"
    color: Color = "auto"
    quiet: bool = False
    verbose: int = 0
    reports: tuple[str, ...] = ()
    monitoring: Monitoring | None = None
    run: Run | None = None

    def style(self, stream: TextIO) -> Style:
        """Return the style for a stream: with color, or plain."""
        return ansi if self.wants_color(stream) else plain

    def wants_color(self, stream: TextIO) -> bool:
        """Return whether to use color on a stream; empty NO_COLOR and FORCE_COLOR do not count (no-color.org)."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()

    def result(self, document: Document, text: Draw | None = None, shown: Collection[str] = ()) -> None:
        """Print a document as text, which ``text`` may draw, or as JSON, and write the reports.

        The text omits the notices ``shown``, which were printed before.
        """
        document = self._with_run(document)
        try:
            with ExitStack() as outputs:  # each is written although another one fails; the last callback comes first
                outputs.callback(self.add_to_runner, document)
                for report in reversed(self.reports):
                    outputs.callback(_write_report, report, document)
                outputs.callback(self._print_result, document, text, shown)
        except ReconcileError as error:
            error.after_result = True
            raise

    def failure(self, document: ErrorReport) -> None:
        """Print the document of a command that has no result as JSON, and write it in place of earlier reports."""
        document = self._with_run(document)
        outputs = [partial(_write_report, report, document) for report in self.reports]
        if self.form != "text":
            outputs.insert(0, partial(self._print_result, document, None, ()))
        for write in outputs:
            try:
                write()
            except ReconcileError as error:
                self.warning(str(error))
        if self.monitoring:
            try:
                for problem in self.monitoring.ended(document, document.exit_status, (), document.target_name):
                    self.warning(problem)
            except ReconcileError as error:
                self.warning(str(error))

    def _print_result(self, document: Document, text: Draw | None, shown: Collection[str]) -> None:
        if self.form == "json":
            ascii_only = not sys.stdout.encoding.lower().startswith("utf")
            click.echo(json_text(document, ascii_only=ascii_only))
            return
        if self.form == "yaml":
            import yaml  # few commands print it

            click.echo(yaml.safe_dump(json.loads(json_text(document)), sort_keys=False), nl=False)
            return
        unseen = without_notices(document, shown)
        draw = text or (lambda style, width: render_text(unseen, width=width, verbose=self.verbose > 0, style=style))
        style, width = self.style(sys.stdout), width_of(sys.stdout)
        text_of_run = run_text(document, Layout(width, style)) if self.verbose > 1 or not self.run else ""
        _print("\n".join(filter(None, (text_of_run, draw(style, width)))), sys.stdout)

    def _with_run(self, document: DocumentT) -> DocumentT:
        """Return the document with its run; text that does not show it needs no look at git's settings."""
        shows_run = self.form != "text" or self.verbose > 1 or self.reports or current_runner()
        if self.run is None or not shows_run or not isinstance(document, Report):
            return document
        return replace(document, run=self.run.info)

    def add_to_runner(self, document: Document) -> None:
        """Add a document to the annotations and the step summary of GitHub Actions."""
        runner = current_runner()
        problem = runner.add_document(self._with_run(document)) if runner else ""
        if problem:
            self.warning(problem)

    def finish(self, result: CommandResult[Document], text: Draw | None = None) -> ExitStatus:
        """Print the warnings and the document of a command, and return its exit status."""
        self.warn(result.warnings)
        status = result.exit_status
        try:
            self.result(result.document, text, result.shown)
        except ReconcileError as error:
            status = error.exit_status
            raise
        finally:
            self._monitor(result, status)
        return status

    def _monitor(self, result: CommandResult[Document], status: ExitStatus) -> None:
        if self.monitoring is None:
            return
        try:
            for problem in self.monitoring.ended(result.document, status, result.projects):
                self.warning(problem)
        except ReconcileError as error:
            error.after_result = True
            raise

    def say(self, text: Draw) -> None:
        """Print a message on standard error, unless quiet."""
        if not self.quiet:
            _print(text(self.style(sys.stderr), width_of(sys.stderr)), sys.stderr)

    def warning(self, text: str) -> None:
        """Print a warning."""
        self.say(lambda style, _: f"{style('warning', 'warning:')} {terminal_safe(text)}")

    def warn(self, problems: Iterable[Problem]) -> None:
        """Print warnings about the input."""
        problems = tuple(problems)
        runner = current_runner()
        if runner:
            runner.add_problems(problems)
        for problem in problems:
            if problem.severity == "note":
                self.say(partial(_note, terminal_safe(str(problem))))
            else:
                self.warning(str(problem))


def _note(text: str, style: Style, _width: int | None) -> str:
    return f"{style('muted', 'note:')} {text}"


def _write_report(report: str, document: Document) -> None:
    content = encode_report(redact(report_renderer(report)(document)))
    with write_errors(f"--report {report}"):
        write_file(Path(report), content)


def confirm(question: str, *, yes: bool, answer: str = "") -> bool:
    """Ask for approval on standard error and return it; ``yes`` approves without a prompt.

    With ``answer``, the name of the target, only typing it approves.

    Raises:
        UsageError: when standard input is not a terminal.
    """
    if answer and not yes:
        if not sys.stdin.isatty():
            raise UsageError("stdin is not a terminal", "pass --confirm with the name of the target to approve")
        question = f"{question} Type the name of the target, {terminal_safe(answer)}, to approve"
        return bool(click.prompt(question, default="", show_default=False, err=True) == answer)
    require_approver(yes=yes)
    return yes or click.confirm(question, err=True)


def require_approver(*, yes: bool) -> None:
    """Raise UsageError if the user can neither approve now nor has done so; for commands that work before they ask."""
    if not yes and not sys.stdin.isatty():
        raise UsageError("stdin is not a terminal", "pass --yes to approve")


def choose(question: str, choices: Sequence[str], default: str | None = None) -> str | None:
    """Ask on standard error for one of the choices; ``None`` when standard input is not a terminal."""
    if not sys.stdin.isatty():
        return None
    answer: str = click.prompt(question, type=click.Choice(choices), default=default, err=True)
    return answer


def ask(question: str, default: str | None = None) -> str | None:
    """Ask on standard error for a text; ``None`` when standard input is not a terminal."""
    if not sys.stdin.isatty():
        return None
    answer: str = click.prompt(question, default=default, err=True)
    return answer


def _print(text: str, stream: TextIO) -> None:
    if text:
        click.echo(encodable(text, stream.encoding), file=stream, color=True)


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal; ``None`` for pipes and files, whose lines stay whole."""
    if not stream.isatty():
        return None
    import shutil  # only needed for terminals

    return shutil.get_terminal_size().columns


def check_reports(reports: Iterable[str], beside: Mapping[str, str | None] | None = None) -> tuple[str, ...]:
    """Return the report files after checking that each can be written.

    ``beside`` maps other options that write a file to their files; a report must not have the same file.

    Raises:
        UsageError: when a report cannot be written.
    """
    options = {Path(file).resolve(): f"{option} {file}" for option, file in (beside or {}).items() if file}
    checked = []
    for report in reports:
        report_renderer(report)
        path = Path(report)
        with write_errors(f"--report {report}", UsageError):
            check_writable(path)
        if path.suffix.lower() == ".json" and path.is_file() and not _holds_report(path):
            raise UsageError(f"--report {report} would overwrite a file that is not a report", "name another file")
        place = path.resolve()
        if place in options:
            raise UsageError(f"{options[place]} and --report {report} are the same file", "name two files")
        options[place] = f"--report {report}"
        checked.append(report)
    return tuple(checked)


def _holds_report(path: Path) -> bool:
    """Return whether a file is empty or begins like a JSON report; lockfiles, data and saved plans do not."""
    from reconciler.reports.writer import KINDS

    try:
        with path.open("rb") as stream:
            head = stream.read(2**10).lstrip()
    except OSError:
        return False
    kind = re.search(rb'"kind"\s*:\s*"(\w+)"', head) if head.startswith(b"{") else None
    return not head or (kind is not None and kind[1].decode() in KINDS)


def show_progress(environment: Environment, output: Output, report: PlanReport) -> AbstractContextManager[EventSink]:
    """Return a context in which events about the models of a plan are shown."""
    names = {action.name for action in report.actions}
    return progress(environment, output, names, simulated=report.simulated)


def progress(
    environment: Environment, output: Output, names: Iterable[str], *, simulated: bool
) -> AbstractContextManager[EventSink]:
    """Return a context in which events about the models of these names are shown."""
    if output.quiet:
        return nullcontext(lambda _event: None)
    if sys.stderr.isatty():
        from rich.console import Console

        from reconciler.reports.text.live import LiveProgress

        console = Console(stderr=True, no_color=not output.wants_color(sys.stderr), highlight=False)
        return LiveProgress(console, clock=environment.clock, names=names, simulated=simulated)
    from reconciler.reports.text.progress import PlainProgress

    style = output.style(sys.stderr)
    return PlainProgress(sys.stderr, clock=environment.clock, names=names, simulated=simulated, style=style)
