"""adopt, forget and cancel."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from reconciler.app import adopting, cancelling, letting_go
from reconciler.app.commands import Answer
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.cli.output import Output
from reconciler.core.problems import UsageError
from reconciler.render.change import change_text
from reconciler.render.documents import Document

_inputs = options.together(
    options.paths, options.target, options.allow_endpoint, options.document_format, options.voice
)
_yes = click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")


@click.command()
@click.argument("name")
@click.argument("remote")
@_inputs
@click.option(
    "--file", metavar="FILE", help="Where to write the manifest; by default NAME.yaml beside the target file."
)
@options.environment
def adopt(env: Environment, /, name: str, remote: str, *, file: str | None, **values: Any) -> int:
    """Take over the model REMOTE, which was not made from a manifest: write one, called NAME, and record it.

    Trains nothing, and changes nothing at the service; the next apply lets it serve. What it was trained on is unknown:
    the first data set that the manifest declares is recorded as that, and later changes of it train.
    """
    output = output_of(values)
    return _tell(output, adopting.adopt(env, input_of(values), name, remote, file=file))


@click.command()
@click.argument("name")
@_inputs
@_yes
@click.option("--keep-marks", is_flag=True, help="Change nothing at the service, where the models say whose they are.")
@options.environment
def forget(env: Environment, /, name: str, *, yes: bool, keep_marks: bool, **values: Any) -> int:
    """Manage the models of NAME no longer, whose manifest is gone. Deletes nothing.

    They are taken out of the lockfile, and the mark out of their descriptions, where the service can do that: then they
    are foreign.
    """
    output = output_of(values)
    approve = partial(_approve, output, yes=yes)
    return _tell(output, letting_go.forget(env, input_of(values), name, keep_marks=keep_marks, approve=approve))


@click.command()
@click.argument("name")
@_inputs
@_yes
@click.option("--generation", metavar="KEY", help="Stop the training of this generation alone.")
@options.environment
def cancel(env: Environment, /, name: str, *, yes: bool, generation: str | None, **values: Any) -> int:
    """Stop what is training for NAME. It is held then, until its inputs change or somebody says apply --retry.

    The Generative Language API knows no way to stop a training but to delete the model that it makes.
    """
    output = output_of(values)
    approve = partial(_approve, output, yes=yes)
    return _tell(output, cancelling.cancel(env, input_of(values), name, key=generation, approve=approve))


def _approve(output: Output, document: Document, *, yes: bool) -> bool:
    """Show what would be done, and ask unless it was answered beforehand."""
    if yes:
        return True
    output.say(lambda style, width: change_text(document, width=width, style=style))
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to agree to this", "look at it, then run again with --yes")
    return click.confirm("Do this?", err=True)


def _tell(output: Output, answer: Answer) -> int:
    document = answer.document
    output.result(document, lambda style, width: change_text(document, width=width, style=style))
    return answer.exit_status
