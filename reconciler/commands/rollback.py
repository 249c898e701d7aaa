"""``reconcile rollback``: reject the serving generation, and promote an earlier one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Output, confirm
from reconciler.commands._project import CommandInput, CommandResult, open_project
from reconciler.commands._rollout import change_serving, promotion
from reconciler.commands._targets import finish_models
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Manifest
from reconciler.environment import Environment
from reconciler.planning.events import Event, Rejected
from reconciler.planning.rollout import choose_rollback, choose_rollback_in, rollback_doubt
from reconciler.planning.stages import recorded_stage
from reconciler.reports.documents.change import ServingReport


def rollback(
    environment: Environment,
    command_input: CommandInput,
    name: str,
    *,
    to: str | None,
    reason: str,
    approve: Callable[[str], bool] = lambda _warning: True,
    stage: str = "",
) -> CommandResult[ServingReport]:
    """Reject the serving generation, and promote the one that was serving before, or the generation ``to``.

    In a ``stage`` after the first one, the generation is rejected there and in later stages, and others are unchanged.
    ``approve`` takes a warning and returns whether to promote ``to`` although its checks failed.

    Raises:
        ReconcileError: when there is no such generation, it is not ready, the manifest is suspended, or the published
            pointer was changed out-of-band; nothing is changed then.
        UsageError: when the paths may not include the manifest.
    """

    def approve_failed(model: LockedModel) -> None:
        warning = rollback_doubt(model, to)
        if warning and not approve(warning):
            raise ReconcileError(f"the rollback of {name} was not approved", "pass another generation with --to")

    def choose(lock: Lock, _scope: str, _manifest: Manifest | None) -> tuple[LockedGeneration, tuple[Event, ...]]:
        model = lock.models[name]
        if stage:
            return _in_stage(environment, name, model, stage, choose_rollback_in(name, model, stage, to), reason)
        chosen = choose_rollback(name, model, to)
        return chosen, (Rejected(name, model.serving_key or "", reason), promotion(environment, name, chosen))

    return change_serving(environment, command_input, name, choose, "rollback", reason, approve_failed, stage)


def _in_stage(
    environment: Environment, name: str, model: LockedModel, stage: str, chosen: LockedGeneration, reason: str
) -> tuple[LockedGeneration, tuple[Event, ...]]:
    record = model.stage(stage)
    promoted = replace(promotion(environment, name, chosen), stage=stage, sampling=record.sampling)
    return chosen, (Rejected(name, record.serving or "", reason, stage), promoted)


@click.command("rollback", epilog=_options.examples('rollback adder --reason "answers in French"'))
@_options.named_model_options
@click.option("--to", metavar="KEY", help="Generation to promote. Default: the one that was serving before.")
@click.option(
    "--reason",
    type=_options.reason_of,
    required=True,
    metavar="TEXT",
    help="Reason, on one line. The lockfile records it.",
)
@_options.stage
@_options.yes
@_options.environment
def command(
    environment: Environment, /, *, to: str | None, reason: str, stage: str | None, yes: bool, **values: Any
) -> int:
    """Reject the serving generation, and promote an earlier one.

    A rejected generation is not promoted again until you run promote, and is not trained again. Changes the lockfile,
    the published pointer, and permissions if the manifest has spec.access. The checks of the manifest run afterwards;
    a warning reports failures. A generation whose recorded checks failed is promoted only after your approval.

    With --stage, only that stage changes. The rejection also bars the stages after it.
    """
    output = output_of(values)
    names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
    if to:
        _options.one_name(names, "--to")
    given, approve = input_of(values), partial(_approve, output, yes=yes)
    recorded = _recorded_stage(environment, given, stage) if stage else ""
    return finish_models(
        output,
        given,
        names,
        lambda name: rollback(environment, given, name, to=to, reason=reason, approve=approve, stage=recorded),
        "rollback",
    )


def _recorded_stage(environment: Environment, command_input: CommandInput, stage: str) -> str:
    project = open_project(environment, command_input, strict=False).in_stage(stage)
    return recorded_stage(project.lock.target or project.target, stage)


def _approve(output: Output, warning: str, *, yes: bool) -> bool:
    output.warning(warning)
    return confirm("Roll back to it?", yes=yes)
