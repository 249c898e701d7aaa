"""The command that runs checks at any time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._event_log import event_log, events, watched
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import progress
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    recorded_generation,
    serving_generation,
)
from reconciler.commands._runner import EventLoop
from reconciler.domain.errors import (
    AccessError,
    ExitStatus,
    InterruptedRun,
    ReconcileError,
    ServiceError,
    UsageError,
)
from reconciler.domain.model import Manifest, State
from reconciler.engine.check import Checker, Subject
from reconciler.engine.observe import bounded
from reconciler.engine.recorder import Recorder
from reconciler.environment import Environment
from reconciler.planning.events import EventSink
from reconciler.providers.registry import callable_name, connect
from reconciler.reports.documents.check import Examined, check_document, check_text

if TYPE_CHECKING:
    from reconciler.domain.lock import LockedGeneration
    from reconciler.domain.ports import Provider
    from reconciler.environment import Environment


Progress = Callable[[frozenset[str], bool], AbstractContextManager[EventSink]]
"""Takes the names of the models that are checked, and whether their training is simulated; entered meanwhile."""


@dataclass(frozen=True, slots=True)
class _Trial:
    manifest: Manifest
    generation: LockedGeneration
    serves: bool


def check(
    env: Environment, what: CommandInput, name: str | None, *, key: str | None, progress: Progress
) -> CommandResult:
    """Run the checks of a manifest, or of all that declare some, and record how the generations did.

    The serving generations are checked, or the one of ``key``. Nothing is changed at the service.

    Raises:
        UsageError: when ``key`` is not recorded, or comes without a name.
        ReconcileError: when ``name`` is not known, declares no checks, or what should be checked is not ready.
        InterruptedRun: when a signal ended the run; what was checked so far is recorded.
    """
    if key and not name:
        raise UsageError("--generation asks for the NAME of its manifest", "name it")
    project = open_project(env, what)
    trials = [_trial(project, name, key)] if name else list(_all_trials(project))
    examined = _run(env, what, project, trials, progress) if trials else []
    document = check_document(
        examined, _unserved(project) if not name else (), project.target, project.capabilities, root=project.root
    )
    return CommandResult(document, ExitStatus(document["exitStatus"]), project.workspace.problems)


def _trial(project: Project, name: str, key: str | None) -> _Trial:
    serving = project.lock.models[name].serving if name in project.lock.models else None
    generation = recorded_generation(project, name, key) if key else serving_generation(project, name)
    manifest = next((one for one in project.manifests if one.name == name), None)
    if manifest is None:
        raise ReconcileError(f"no manifest declares {name}, so there are no checks of it", "name one that is declared")
    if not manifest.checks:
        raise ReconcileError(f"{name} declares no checks", "add some under spec.checks")
    if generation.state is not State.ACTIVE:
        raise ReconcileError(
            f"{generation.key} cannot be checked: it was recorded as {generation.state}",
            "run reconcile apply, or choose another one with --generation",
        )
    return _Trial(manifest, generation, generation.key == serving)


def _all_trials(project: Project) -> list[_Trial]:
    return [_trial(project, one.name, None) for one in project.manifests if one.checks and _serves(project, one.name)]


def _serves(project: Project, name: str) -> bool:
    locked = project.lock.models.get(name)
    serving = locked.generation(locked.serving) if locked else None
    return serving is not None and serving.state is State.ACTIVE


def _unserved(project: Project) -> tuple[str, ...]:
    return tuple(one.name for one in project.manifests if one.checks and not _serves(project, one.name))


def _run(
    env: Environment, what: CommandInput, project: Project, trials: list[_Trial], progress: Progress
) -> list[Examined]:
    watchers: list[EventSink] = []
    recorder = Recorder(project.lock, project.store, env.clock, watchers)
    project.store.check_writable()
    if not project.target.show_examples:
        recorder.rewrite()  # what an earlier policy let in goes

    async def work() -> list[Examined]:
        concurrency = project.target.limits.concurrency
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            checker = Checker(service, project.workspace, recorder.emit, project.target)
            return await bounded(lambda trial: _examined(service, checker, trial), trials, concurrency)

    names = frozenset(trial.manifest.name for trial in trials)
    with EventLoop() as session, progress(names, project.capabilities.simulated) as sink:
        watchers.append(sink)
        try:
            return session.run(work())
        except KeyboardInterrupt:
            raise InterruptedRun(
                "interrupted; the checks that were finished are recorded", "run the same command again"
            ) from None
        finally:
            recorder.flush()


async def _examined(_service: Provider, checker: Checker, trial: _Trial) -> Examined:
    """How one generation does; what cannot be checked does not keep the others from it."""
    one = trial.generation
    remote = callable_name(one.remote, one.resources)
    told = Examined(trial.manifest.name, one.key, remote, serves=trial.serves, before=one.checks)
    try:
        report = await checker.check(trial.manifest, Subject(one.key, remote, one.preamble))
    except ServiceError as error:
        gone = error.code == "NOT_FOUND"
        return told.refused(
            ReconcileError(f"{one.key} is gone from the service", "run reconcile apply") if gone else error
        )
    except AccessError as error:
        return told.refused(error)
    return told.with_report(report)


@click.command("check")
@click.argument("name", required=False)
@_options.paths
@_options.target
@_options.labels
@_options.allow_endpoint
@_options.format_option
@_options.output_options
@_options.reports
@events
@click.option("--generation", metavar="KEY", help="Check this generation of NAME instead of the one that serves.")
@_options.environment
def command(env: Environment, /, name: str | None, *, generation: str | None, **values: Any) -> int:
    """Run the checks of NAME, or of every manifest that has some, and record how the models did.

    The generations that serve are checked. What used to pass and does not any more is told. Trains nothing, and changes
    the lockfile alone.
    """
    output = output_of(values)
    with event_log(env, output, values.pop("events"), "check") as log:
        answer = check(
            env,
            input_of(values),
            name,
            key=generation,
            progress=lambda names, simulated: watched(progress(env, output, names, simulated=simulated), log),
        )
        log.ended(answer.document)
    output.warn(answer.warnings)
    output.result(answer.document, lambda style, width: check_text(answer.document, width=width, style=style))
    return answer.exit_status
