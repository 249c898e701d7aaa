"""The command ``reconcile``: its subcommands, and how errors become messages and exit statuses."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import click

from reconciler.commands._github_actions import github_actions
from reconciler.commands._run_info import command_line
from reconciler.domain.errors import ExitStatus, InterruptedRun, ReconcileError, UsageError
from reconciler.domain.target_option import DEFAULT_TARGET, commands_for
from reconciler.domain.version import __version__
from reconciler.files import write_errors
from reconciler.redaction import RedactedStream, WrappedStream, secrets_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from reconciler.environment import Environment


_SECTIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "Projects": {
            "init": "Write a target and a first manifest here.",
            "add": "Write a manifest for NAME, which is trained on FILE.",
            "validate": "Check manifests, target and data sets.",
            "doctor": "Check what a target needs to work.",
            "data": "Inspect, convert, split and compare data files.",
            "migrate": "Move manifests to the successors of their base models.",
            "models": "List base models with locations, limits, price and retirement.",
            "schema": "Print the JSON Schema of a kind of document.",
            "explain": "Describe a field of a manifest or of a target.",
        },
        "Plan and apply": {
            "plan": "Show what apply would do, and why.",
            "apply": "Carry out a plan: train, update and promote models.",
            "wait": "Wait for trainings that earlier runs started.",
            "check": "Run the checks of NAMES, or of every manifest that has checks.",
        },
        "Inspect": {
            "list": "List models with their state.",
            "targets": "List the targets of a root with their states.",
            "status": "Show what the lockfile records of each model.",
            "ui": "Show all targets and running trainings in a browser.",
            "drift": "Report differences between manifests, lockfile and service.",
            "resolve": "Print the remote name of a serving generation.",
            "prompt": "Send a prompt to the serving generation of NAME.",
            "graph": "Draw which model is tuned from which, and the state of each.",
            "history": "Show the generations of NAMES, what changed, and who decided what.",
            "export": "Copy the files of a generation of NAME to a folder.",
            "push": "Push the files of a generation of NAME to the Hugging Face Hub.",
            "render": "Print a saved JSON document as text.",
        },
        "Generations and lockfile": {
            "rollback": "Reject the serving generation, and promote an earlier one.",
            "promote": "Make a generation of NAME the serving one.",
            "prune": "Delete superseded and failed generations, and orphans.",
            "destroy": "Delete every generation of the selected models.",
            "adopt": "Start to manage existing models.",
            "forget": "Stop managing models without deleting them.",
            "cancel": "Stop the trainings of NAME that are in progress.",
            "refresh": "Rebuild the lockfile from manifests and live state.",
        },
        "Tools": {
            "emulator": "Serve the embedded service on a port.",
            "completion": "Print a shell completion script.",
            "help": "Print the help of a command.",
            "version": "Print the version.",
        },
    }
)
"""The commands by section of ``--help``, each with the first sentence of its help; its module is imported when used."""
_NAMES: Final = tuple(name for commands in _SECTIONS.values() for name in commands)
_ALIASES: Final = MappingProxyType({"diff": "plan", "get": "list"})
_DESTRUCTIVE: Final = frozenset({"cancel", "destroy", "forget", "prune", "rollback"})
"""Commands that are not suggested for a similar name."""

_EXIT_STATUSES = "\b\n" + "\n".join(
    ["Exit status:", *(f"  {status.value:<5}{status.meaning.replace('`', '')}" for status in ExitStatus)]
)
"""The end of ``--help``; click leaves a paragraph that begins with a backspace as it is."""


_UNSUGGESTED: Final = frozenset({"--prune", "--unprotect", "--replace", "--retry", "--yes"})
"""Options that delete, train or approve: click suggests options that look similar, such as --prune for --dry-run."""
_SIMILARITY: Final = 0.75
"""The least similarity of a suggested option, as difflib measures it; click's 0.6 suggests --only for --ye."""


_COMPLETION: Final = "_RECONCILE_COMPLETE"
"""The variable that the completion script of a shell sets."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _NAMES:
            return None
        command = importlib.import_module(f"reconciler.commands.{name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"reconciler.commands.{name} has no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments; an unknown one fails with the command of this tool that replaces it."""
        if args[0] not in _NAMES and args[0] not in _ALIASES:
            from reconciler.commands._other_tools import remedy_for

            unknown, remedy = remedy_for(args, _NAMES, _DESTRUCTIVE)
            ctx.fail(f'unknown command "{unknown}"; {remedy}')
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the completions of a command, those of its other names included."""
        from click.shell_completion import CompletionItem

        others = (CompletionItem(alias) for alias in _ALIASES if alias.startswith(incomplete))
        return [*super().shell_complete(ctx, incomplete), *others]

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write one list of commands for each section; no command is imported for it."""
        for section, commands in _SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(list(commands.items()))


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "RECONCILE",
        "max_content_width": 100,
    },
    epilog=_EXIT_STATUSES,
)
@click.version_option(__version__, prog_name="reconcile")
@click.option("-C", metavar="DIR", multiple=True, expose_value=False, help="Run as if started in DIR. First option.")
def cli() -> None:
    """Manage tuned models with manifests.

    Manifests declare which tuned models exist. reconcile compares them with the tuning service, trains and updates what
    differs, waits for the trainings, and records the result in a lockfile.
    """


def main(arguments: Sequence[str] | None = None, environment: Environment | None = None) -> int:
    """Run a command and return its exit status; print errors to standard error."""
    _prepare_streams()
    given = sys.argv[1:] if arguments is None else arguments
    folders, rest = _split_folders(given)
    environ = environment.environ if environment else os.environ
    if _COMPLETION in os.environ:  # click writes bytes, which have no secret: names of commands, options and files
        return _run(rest, environment)
    with secrets_of(environ), _redacted_streams():
        try:
            with (
                _working_directory(folders, environment) as moved,
                command_line(given, moved),
                github_actions(environ, moved.cwd if moved else None),
                commands_for(DEFAULT_TARGET),
            ):
                return _exit_status(rest, moved)
        except UsageError as error:  # of -C; those of commands have a status already
            return _fail(error, rest, environment)


def _split_folders(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values of ``-C`` at the beginning of the arguments, and the others."""
    folders, rest = [], list(arguments)
    while rest and rest[0].startswith("-C") and rest != ["-C"]:
        first, *rest = rest
        folders.append(first[2:] or rest.pop(0))
    return folders, rest


@contextmanager
def _working_directory(folders: Sequence[str], environment: Environment | None) -> Iterator[Environment | None]:
    """Change to the folder, and return the environment there; each folder is relative to the one before it."""
    if not folders:
        yield environment
        return
    from dataclasses import replace  # slow to import

    before = Path.cwd()
    folder = (environment.cwd if environment else before).joinpath(*folders).resolve()
    try:
        os.chdir(folder)
    except OSError as error:
        problem = f"-C {os.path.join(*folders)}: {(error.strerror or str(error)).lower()}"  # noqa: PTH118 - as written
        raise UsageError(problem, "pass an existing directory") from error
    try:
        yield replace(environment, cwd=folder) if environment else None
    finally:
        os.chdir(before)


class _FailingStream(WrappedStream):
    """A stream whose pipe may be closed, and whose disk may be full: ``failed`` is called, and the rest is dropped."""

    def __init__(self, stream: TextIO, failed: Callable[[OSError], None]) -> None:
        super().__init__(stream)
        self._failed = failed

    def write(self, text: str) -> int:
        """Write a text; an empty one, with which click tries a stream, is not written."""
        if text != "":
            with self._checked():
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._checked():
            self.stream.flush()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The interpreter writes what is left in the buffer at its exit, and would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            self._failed(error)


def _result_not_written(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise ReconcileError("standard output was closed early", "read all of it, or write it to a file") from error
    with write_errors("standard output"):
        raise error


@contextmanager
def _redacted_streams() -> Iterator[None]:
    """Remove secrets from everything that is printed, tracebacks included; nothing depends on standard error."""
    streams = sys.stdout, sys.stderr
    failing = _FailingStream(sys.stdout, _result_not_written), _FailingStream(sys.stderr, lambda _error: None)
    sys.stdout, sys.stderr = (cast("TextIO", RedactedStream(cast("TextIO", stream))) for stream in failing)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def _exit_status(arguments: Sequence[str], environment: Environment | None) -> int:
    try:
        with _signals_handled(signal.default_int_handler, signal.SIGTERM):  # as SIGINT
            return _run(arguments, environment)
    except ReconcileError as error:
        return _fail(error, arguments, environment)
    except KeyboardInterrupt as error:
        return _fail(_interruption(error), arguments, environment)
    except OSError as error:
        return _fail(
            ReconcileError(error.strerror or str(error), "check the disk and the output file"), arguments, environment
        )
    except Exception as error:  # noqa: BLE001 - a bug; the interpreter would print its traceback with secrets
        import traceback

        traceback.print_exception(error, file=sys.stderr)
        cause = f"internal error: {type(error).__name__}"
        return _fail(ReconcileError(cause, "report it with the traceback on standard error"), arguments, environment)


def _prepare_streams() -> None:
    """Replace closed streams by the null device, and characters that a terminal lacks by a substitute.

    Files and pipes get UTF-8 in every locale: a result without its characters would be wrong.
    """
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - open until the process ends
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


@contextmanager
def _signals_handled(
    handler: signal.Handlers | Callable[[int, FrameType | None], None], *numbers: int
) -> Iterator[None]:
    """Set the handler of signals for a while; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, previous in before:
            signal.signal(number, previous)


def _run(arguments: Sequence[str], environment: Environment | None) -> int:
    try:
        status: Any = cli.main(list(arguments), prog_name="reconcile", standalone_mode=False, obj=environment)
    except click.UsageError as error:
        if isinstance(error, click.NoSuchOption):
            from difflib import get_close_matches

            similar = get_close_matches(error.option_name, error.possibilities or (), cutoff=_SIMILARITY)
            similar = [] if _UNSUGGESTED.intersection(similar) else similar
            error = _unknown_option(arguments, error, similar)
        error.show()
        return _fail(
            UsageError(error.format_message().rstrip("."), "run the command with --help"),
            arguments,
            environment,
            shown=True,
        )
    except click.ClickException as error:
        error.show()
        return _fail(ReconcileError(error.format_message().rstrip(".")), arguments, environment, shown=True)
    except (click.Abort, KeyboardInterrupt) as error:
        return _fail(_interruption(error), arguments, environment)
    return status if isinstance(status, int) else ExitStatus.OK


def _unknown_option(arguments: Sequence[str], error: click.NoSuchOption, similar: Sequence[str]) -> click.UsageError:
    from reconciler.commands._other_tools import option_remedy

    option, remedy = option_remedy(arguments, error.option_name)
    if remedy:
        return click.UsageError(f"no such option {option}; {remedy}", ctx=error.ctx)
    return click.NoSuchOption(error.option_name, possibilities=similar, ctx=error.ctx)


def _interruption(error: click.Abort | KeyboardInterrupt) -> InterruptedRun:
    """Return how a command was interrupted; another signal may have come while it raised this."""
    if isinstance(error, click.Abort) and error.__cause__ is None:  # of a prompt
        return InterruptedRun("interrupted; nothing was changed", "")
    before: BaseException | None = error
    while before:
        if isinstance(before, InterruptedRun):
            return before
        before = before.__cause__ or before.__context__
    return InterruptedRun("interrupted", "run the same command again")


def _fail(
    error: ReconcileError, arguments: Sequence[str], environment: Environment | None, *, shown: bool = False
) -> ExitStatus:
    """Report an error in every form that the arguments request, unless ``shown`` as text; return its status."""
    with _signals_handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM):
        _report(error, arguments, environment, shown=shown)
    return error.exit_status


def _report(error: ReconcileError, arguments: Sequence[str], environment: Environment | None, *, shown: bool) -> None:
    from reconciler.commands._options import requested_output
    from reconciler.commands._output import Output
    from reconciler.reports.documents.doctor import error_report
    from reconciler.reports.writer import render_text

    name, *rest = [*arguments, ""]
    context = click.Context(cli, info_name="reconcile", obj=environment, **cli.context_settings)
    command = cli.get_command(context, name)
    name = command.name or name if command else name
    while isinstance(command, click.Group) and (below := command.commands.get(rest[0])):
        name, command, rest = f"{name} {rest[0]}", below, rest[1:]
    output, target = requested_output(command, rest[:-1], context) if command else (Output(), "")
    document = error_report(error, name if command else "reconcile", target)
    if not shown:
        click.echo(render_text(document), err=True)
    output.add_to_runner(document)
    if not error.after_result:
        output.failure(document)
