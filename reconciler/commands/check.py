"""``reconcile check``: run the checks of manifests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._event_log import event_log, events, logged
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import progress
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    prove_generation,
    prove_serving,
)
from reconciler.commands._session import EventLoop
from reconciler.domain.errors import AccessError, ExitStatus, InterruptedRun, ReconcileError, ServiceError, UsageError
from reconciler.domain.model import Manifest, State
from reconciler.domain.target_option import for_target
from reconciler.engine.check import Checker, checked_generation
from reconciler.engine.observe import run_bounded
from reconciler.environment import Environment
from reconciler.planning.events import EventSink
from reconciler.reports.documents.check import CheckedModel, CheckReport, check_report

if TYPE_CHECKING:
    from reconciler.domain.lock import LockedGeneration
    from reconciler.domain.ports import Provider

CheckProgress = Callable[[frozenset[str], bool], AbstractContextManager[EventSink]]
"""Takes the names of the models and whether their training is simulated; returns a context that shows events."""


class _Trial(Struct, frozen=True):
    """A generation to run the checks of a manifest against."""

    manifest: Manifest
    generation: LockedGeneration
    serving: bool


def check(
    environment: Environment,
    command_input: CommandInput,
    names: Sequence[str],
    *,
    key: str | None,
    progress: CheckProgress,
    stage: str | None = None,
) -> CommandResult[CheckReport]:
    """Run the checks of these models, or of every manifest that has checks, and record the results.

    Checks the serving generations, or the generation ``key``. Changes nothing at the service. With a ``stage``, its
    checks run too, and nothing is recorded.

    Raises:
        UsageError: when ``key`` is not recorded, or is not given with one name.
        ReconcileError: when a name is unknown or has no checks, or the generation is not ready.
        InterruptedRun: when a signal ended the run; the completed checks are recorded.
    """
    if key and not names:
        raise UsageError("--generation needs NAME", "add the name of its manifest")
    if key:
        _options.one_name(names, "--generation")
    project = open_project(environment, command_input)
    project.require_manifests()
    unserved: tuple[str, ...] = ()
    seen = project.in_stage(stage)
    if seen.stage:
        declared = project.target.stage(seen.stage)
        seen = replace(seen, manifests=tuple(manifest.in_stage(declared) for manifest in seen.manifests))
    if names:
        trials = [_trial(seen, name, key) for name in names]
    else:
        checked = [manifest.name for manifest in seen.manifests if manifest.checks]
        trials = [_trial(seen, name, None) for name in checked if _is_serving(seen, name)]
        unserved = tuple(name for name in checked if not _is_serving(seen, name))
    examined = _run(project, seen, trials, progress) if trials else []
    report = check_report(examined, unserved, project.target_summary, simulated=project.capabilities.simulated)
    return CommandResult(report, report.exit_status, project.workspace.problems)


def _trial(project: Project, name: str, key: str | None) -> _Trial:
    model = project.lock.models.get(name)
    generation = project.recorded_generation(name, key) if key else project.serving_generation(name)
    manifest = project.manifest(name)
    if manifest is None:
        raise ReconcileError(f"no manifest declares {name}, so it has no checks", "name a declared model")
    if not manifest.checks:
        raise ReconcileError(f"{name} has no checks", "add some under spec.checks")
    if generation.state is not State.ACTIVE:
        raise ReconcileError(
            f"{generation.key} is not ready: it was recorded as {generation.state}",
            "run reconcile apply, or name another generation with --generation",
        )
    return _Trial(manifest, generation, model is not None and model.serves(generation.key))


def _is_serving(project: Project, name: str) -> bool:
    model = project.lock.models.get(name)
    serving = model.serving_generation if model else None
    return serving is not None and serving.state is State.ACTIVE


def _run(
    project: Project, seen: Project, trials: list[_Trial], progress: CheckProgress
) -> list[tuple[CheckedModel, ExitStatus]]:
    """Run the trials; ``seen`` is the project as it is in the stage that they are about."""
    sinks: list[EventSink] = []
    recorder = project.recorder(sinks)
    project.store.check_writable()
    if not project.target.show_examples:
        recorder.must_save()  # removes examples that an earlier policy allowed

    async def work() -> list[tuple[CheckedModel, ExitStatus]]:
        async with project.session.connect() as service:
            checker = Checker(service, project.workspace, recorder.emit, project.target)
            return await run_bounded(
                lambda trial: _examine(seen, service, checker, trial), trials, project.target.limits.concurrency
            )

    names = frozenset(trial.manifest.name for trial in trials)
    with EventLoop() as loop, progress(names, project.capabilities.simulated) as sink:
        sinks.append(sink)
        try:
            return loop.run(work())
        except KeyboardInterrupt:
            raise InterruptedRun(
                "interrupted; the completed checks are recorded", "run the same command again"
            ) from None
        finally:
            recorder.flush()


async def _examine(
    project: Project, service: Provider, checker: Checker, trial: _Trial
) -> tuple[CheckedModel, ExitStatus]:
    """Check one generation; an error becomes part of the result, so that the other checks run.

    The address and the preamble are not those of the lockfile, which can be edited.
    """
    recorded, name = trial.generation, trial.manifest.name
    examined = CheckedModel(
        name=name,
        key=recorded.key,
        remote=recorded.remote,
        serving=trial.serving,
        regressed=False,
        before=recorded.checks,
    )
    gone = for_target(f"{recorded.key} is gone from the service; run reconcile apply")
    try:
        generation = await prove_generation(project, service, name, recorded)
        if generation is None:
            return replace(examined, message=gone), ExitStatus.ERROR
        examined = replace(examined, remote=generation.address)
        serving = await prove_serving(project, service, project.lock, trial.manifest, recorded.key)
        checked = checked_generation(generation, serving, project.lock)
        results = await checker.check(trial.manifest, checked, stage=project.stage)
    except ServiceError as error:
        return replace(examined, message=gone if error.code == "NOT_FOUND" else str(error)), ExitStatus.ERROR
    except AccessError as error:
        return replace(examined, message=str(error)), ExitStatus.ACCESS
    except ReconcileError as error:
        return replace(examined, message=str(error)), ExitStatus.ERROR
    return examined.with_results(results), ExitStatus.ERROR if results.failed else ExitStatus.OK


@click.command("check", epilog=_options.examples("check", "check adder --generation adder-k4wq2zme"))
@click.argument("paths", nargs=-1, metavar="[NAMES]... [PATHS]...")
@_options.target
@_options.labels
@_options.trust_options
@_options.format_option
@_options.output_options
@_options.reports
@_options.notify_env
@events
@click.option("--generation", metavar="KEY", help="Generation of NAME to check instead of the serving one.")
@_options.stage
@_options.environment
def command(environment: Environment, /, *, generation: str | None, stage: str | None, **values: Any) -> int:
    """Run the checks of NAMES, or of every manifest that has checks.

    Checks the serving generations, records the results, and reports checks that passed before and fail now. Trains
    nothing, and changes only the lockfile. With --stage, the checks of that stage run too, and nothing is recorded.
    """
    output = output_of(values)
    with event_log(environment, output, values.pop("events"), "check") as log:
        names: tuple[str, ...] = ()
        if values["paths"]:
            names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
        result = check(
            environment,
            input_of(values),
            names,
            key=generation,
            stage=stage,
            progress=lambda names, simulated: logged(progress(environment, output, names, simulated=simulated), log),
        )
        log.ended(result)
    return output.finish(result)
