"""The command ``reconcile``: the group, and what becomes of errors."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler import __version__
from reconciler.commands._github import on_actions, runner
from reconciler.domain.errors import ExitStatus, InvalidInput, Problem, ReconcileError
from reconciler.reports.text.escape import terminal_safe

if TYPE_CHECKING:
    from reconciler.environment import Environment


_VERBS = (
    "init",
    "validate",
    "plan",
    "apply",
    "wait",
    "check",
    "status",
    "drift",
    "resolve",
    "prompt",
    "graph",
    "history",
    "rollback",
    "promote",
    "prune",
    "refresh",
    "adopt",
    "forget",
    "cancel",
    "render",
    "doctor",
    "schema",
    "emulator",
    "completion",
)
"""The commands in the order of ``--help``. Each is a module of this package, imported only when it is asked for."""


_EXIT_STATUSES = "\b\n" + "\n".join(
    ["Exit status:", *(f"  {status.value:<5}{status.meaning.replace('`', '')}" for status in ExitStatus)]
)
"""The end of ``--help``; click leaves a paragraph that begins with a backspace as it is."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"reconciler.commands.{cmd_name}")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is no command")
        return command


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
def cli() -> None:
    """Bring tuned models to what the manifests declare.

    People commit manifests that say which tuned models should exist; reconcile compares them with what the tuning
    service lists, creates what is missing, waits for the training and records what it did in a lockfile.
    """


def main(arguments: Sequence[str] | None = None, environment: Environment | None = None) -> int:
    """Run a command and return its exit status; every error becomes a message on standard error."""
    _prepare_streams()
    environ, cwd = (environment.environ, environment.cwd) if environment else (os.environ, None)
    with on_actions(environ, cwd):
        return _ended(arguments, environment)


def _ended(arguments: Sequence[str] | None, environment: Environment | None) -> int:
    current = runner()
    try:
        with _terminable():
            return _run(arguments, environment)
    except InvalidInput as error:
        if current:
            current.problems(error.problems)
        return _fail(ExitStatus.ERROR, *map(_shown, error.problems))
    except ReconcileError as error:
        if current:
            current.error(str(error))
        return _fail(error.exit_status, f"Error: {error}")
    except BrokenPipeError:
        # Whoever read our output is gone; the interpreter must not stumble over it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.ERROR
    except OSError as error:
        return _fail(
            ExitStatus.ERROR, f"Error: {error.strerror or error}; see to the disk and to where the output goes"
        )


def _prepare_streams() -> None:
    """A closed stream takes and gives nothing; a terminal that lacks a character gets a stand-in, never an error."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it lasts as long as we do
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - it lasts as long as we do
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as SIGINT does, wherever it is; other threads than the first have no say in that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _shown(problem: Problem) -> str:
    return f"warning: {problem}" if problem.severity == "warning" else str(problem)


def _run(arguments: Sequence[str] | None, environment: Environment | None) -> int:
    try:
        status: Any = cli.main(arguments, prog_name="reconcile", standalone_mode=False, obj=environment)
    except click.UsageError as error:
        error.show()
        return ExitStatus.USAGE
    except click.ClickException as error:
        error.show()
        return ExitStatus.ERROR
    except (click.Abort, KeyboardInterrupt):
        return _fail(ExitStatus.INTERRUPTED, "Error: interrupted; nothing was changed")
    return status if isinstance(status, int) else ExitStatus.OK


def _fail(status: ExitStatus, *lines: str) -> ExitStatus:
    for line in lines:
        click.echo(terminal_safe(line), err=True)
    return status
