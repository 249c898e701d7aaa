"""``reconcile wait``: wait for the trainings that earlier runs started."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._event_log import event_log, events, watched
from reconciler.commands._options import input_of, output_of
from reconciler.commands.apply import apply, noted, show_progress, tell
from reconciler.engine.apply import Options
from reconciler.environment import Environment


@click.command("wait")
@_options.run_options
@_options.timeout
@events
@_options.environment
def command(env: Environment, /, *, timeout: timedelta | None, **values: Any) -> int:
    """Wait for the trainings that any earlier run started. Creates and changes nothing at the service."""
    output = output_of(values)
    with event_log(env, output, values.pop("events"), "wait") as log:
        answer = apply(
            env,
            replace(input_of(values), model_details=bool(output.reports)),
            Options(creates=False, writes=False, timeout=timeout),
            locked=False,
            approve=noted(log, lambda _document, _warnings: True),
            progress=lambda document: watched(show_progress(env, output, document), log),
        )
        log.ended(answer.document)
    return tell(output, answer)
