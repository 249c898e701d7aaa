"""doctor."""

from __future__ import annotations

from typing import Any

import click

from reconciler.app import doctor as examination
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.render.doctor import doctor_text


@click.command()
@options.paths
@options.target
@options.allow_endpoint
@options.document_format
@options.voice
@options.environment
def doctor(env: Environment, /, **values: Any) -> int:
    """Examine what the target needs: files, credentials, service, lockfile. Changes nothing anywhere.

    Each check that fails says what to do about it; checks that build on it are skipped.
    """
    output = output_of(values)
    answer = examination.doctor(env, input_of(values))
    output.result(answer.document, lambda style, width: doctor_text(answer.document, width=width, style=style))
    return answer.exit_status
