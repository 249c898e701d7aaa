"""``reconcile wait``: wait for the trainings that earlier runs started."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._event_log import event_log, events, logged
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import show_progress
from reconciler.commands.apply import apply
from reconciler.domain.errors import Problem
from reconciler.engine.apply import ApplyOptions
from reconciler.environment import Environment
from reconciler.reports.documents.plan import PlanReport


@click.command("wait", epilog=_options.examples("wait --timeout 30m"))
@_options.run_options
@_options.timeout
@events
@_options.environment
def command(environment: Environment, /, *, timeout: timedelta | None, **values: Any) -> int:
    """Wait for trainings that earlier runs started. Changes nothing at the service."""
    environment = environment.limited(timeout)
    output = output_of(values)
    with event_log(environment, output, values.pop("events"), "wait") as log:

        def approve(report: PlanReport, _warnings: tuple[Problem, ...]) -> bool:
            log.planned(report)
            return True

        result = apply(
            environment,
            input_of(values, model_details=bool(output.reports)),
            ApplyOptions(creates=False, writes=False),
            locked=False,
            approve=approve,
            progress=lambda report: logged(show_progress(environment, output, report), log),
        )
        log.ended(result)
    return output.finish(result)
