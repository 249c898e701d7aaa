"""``reconcile ui``: show all targets, models and running trainings in a browser. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._project import CommandInput, details_of, open_recorded
from reconciler.commands._run_logs import RunLog
from reconciler.commands._ui_server import Board, draw
from reconciler.commands.targets import targets
from reconciler.domain.endpoints import is_loopback
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.model import State
from reconciler.domain.text import terminal_safe
from reconciler.environment import Environment
from reconciler.reports.documents.targets import ListedTarget, TargetsReport
from reconciler.reports.html.front import NOTHING, Now, Training
from reconciler.reports.text.status import training_text

_POLL_SECONDS: Final = 1.0
"""How often the files are looked at."""
_OBSERVE: Final = timedelta(seconds=30)
"""How often the service is queried about the trainings of a target."""


class Watched(Struct, frozen=True):
    """What a server watches: the input of its commands, event logs, and whether services are queried."""

    environment: Environment
    input: CommandInput
    logs: tuple[RunLog, ...]
    offline: bool

    def report(self) -> TargetsReport:
        """Return the targets as their files are now."""
        return targets(self.environment, self.input.paths).document

    def drawn(self) -> tuple[TargetsReport, str]:
        """Return the targets with their page."""
        report = self.report()
        return report, draw(report)

    def signature(self, report: TargetsReport) -> tuple[tuple[Path, int, int], ...]:
        """Return times and sizes of target files and lockfiles, and of their folder, which gets new target files."""
        files = [self.environment.cwd / target.file for target in report.targets]
        files += [self.environment.cwd / target.lockfile for target in report.targets if "://" not in target.lockfile]
        return tuple((file, *_stat(file)) for file in (*dict.fromkeys(file.parent for file in files), *files))

    def observe(self, report: TargetsReport) -> Now:
        """Return the trainings of the targets that have any, as their services show them."""
        trainings: list[Training] = []
        notes = []
        for target in report.targets:
            if any(model.state == "training" for model in target.models):
                try:
                    trainings += self._trainings(target)
                except ReconcileError as error:
                    notes.append(f"The service of target {target.name} was not queried: {error}")
        return Now(tuple(trainings), notes=tuple(notes))

    def _trainings(self, target: ListedTarget) -> Iterable[Training]:
        from reconciler.engine.observe import observe

        project = open_recorded(self.environment, replace(self.input, target=target.name))
        observation = project.session.query(
            lambda service: observe(service, project.lock, concurrency=project.target.limits.concurrency, progress=True)
        )
        return [
            Training(target.name, model.name, known.key, training_text(known), known.curve, simulated=target.simulated)
            for model in details_of(project, project.lock, observation)
            for known in model.generations
            if known.state is State.CREATING
        ]

    def now(self, observed: Now, report: TargetsReport) -> Now:
        """Return what the services showed of trainings that have not ended, with what the logs show since."""
        running = {
            (target.name, model.name)
            for target in report.targets
            for model in target.models
            if model.state == "training"
        }
        found = {
            (training.target, training.key): training
            for training in observed.trainings
            if (training.target, training.name) in running
        }
        for log in self.logs:
            log.read()
            for training in log.trainings:
                place = (training.target, training.key)
                found[place] = max(found.get(place, training), training, key=_last_step)
        ordered = sorted(found.values(), key=lambda training: (training.target, training.name, training.key))
        runs = tuple(log.run for log in self.logs if log.run)
        return Now(tuple(ordered), runs, observed.notes)

    async def keep_current(self, board: Board, report: TargetsReport) -> None:
        """Show the targets on the board, and again whenever a file changes, until the task is canceled."""
        from reconciler.daemon_threads import run_in_daemon_thread

        clock = self.environment.clock
        page, observed, due, failure = board.frame, NOTHING, clock(), ""
        before: tuple[object, ...] = ()  # a file may have changed since the report was made
        while True:
            if board.is_stale or self.signature(report) != before:
                board.is_stale = False
                before = self.signature(report)
                try:
                    report, page = await run_in_daemon_thread(self.drawn)
                except (ReconcileError, OSError) as error:  # the next change may fix it
                    failure = f"The targets are shown as they were before: {error}"
                else:
                    failure = ""
            if not self.offline and clock() >= due:
                observed = await run_in_daemon_thread(partial(self.observe, report))
                due = clock() + _OBSERVE
            now = self.now(observed, report)
            board.show(page, replace(now, notes=(failure, *now.notes)) if failure else now)
            await self.environment.sleeper(_POLL_SECONDS)


def _last_step(training: Training) -> float:
    return training.curve[-1][0] if training.curve else -1


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


def serve_ui(watched: Watched, *, host: str, port: int) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Raises:
        ReconcileError: when the address is not available.
    """
    from contextlib import suppress

    from reconciler.commands._ui_server import ui_app
    from reconciler.emulator.app import serve

    report, page = watched.drawn()
    board = Board(page)
    with suppress(KeyboardInterrupt):  # the ordinary way to end a server
        serve(
            ui_app(board, partial(watched.keep_current, report=report)),
            host=host,
            port=port,
            started=lambda url: click.echo(f"Targets on {terminal_safe(url)}, read-only; Ctrl-C ends it"),
        )


@click.command("ui", epilog=_options.examples("ui", "ui specs --events run.jsonl", "ui --port 0 --offline"))
@_options.paths
@_options.trust_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 selects a free port.")
@click.option(
    "--events", multiple=True, metavar="FILE", help="Also show the run that writes its events to FILE. Repeatable."
)
@click.option("--offline", is_flag=True, help="Read files only, without querying the services about trainings.")
@_options.environment
def command(
    environment: Environment, /, *, host: str, port: int, events: Sequence[str], offline: bool, **values: Any
) -> None:
    """Show all targets and running trainings in a browser.

    Serves a page on this machine, which follows the lockfiles of all targets, the trainings in progress and event logs
    while they change. Changes nothing: the page has nothing to click that does.
    """
    if not is_loopback(host):
        raise UsageError(
            f"--host {host}: the page has no login, so it is served on this machine only",
            "pass a loopback address; to read it from another machine, forward the port with ssh -L",
        )
    watched = Watched(
        environment=environment,
        input=_options.input_of({**values, "target": None}),
        logs=tuple(RunLog(environment.cwd / file, file) for file in events),
        offline=offline,
    )
    serve_ui(watched, host=host, port=port)
