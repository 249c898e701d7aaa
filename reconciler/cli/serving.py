"""rollback and promote."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

import click

from reconciler.app import serving
from reconciler.app.commands import Answer
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.cli.output import Output
from reconciler.render.serving import serving_text

_LONGEST_REASON: Final = 500
_NO_LINE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that one line of text has none of: control characters, half surrogate pairs, line ends."""


def reason_of(text: str) -> str:
    """A reason, without white space at its ends; what is none is a usage error."""
    reason = text.strip()
    if not reason:
        raise click.BadParameter("it is blank; say why, for whoever reads the lockfile.")
    if len(reason) > _LONGEST_REASON:
        raise click.BadParameter(f"it has {len(reason)} characters; use at most {_LONGEST_REASON}.")
    if any(unicodedata.category(character) in _NO_LINE for character in reason):
        raise click.BadParameter("it is more than one line of text; leave line breaks and control characters out.")
    return reason


_inputs = options.together(
    options.paths, options.target, options.allow_endpoint, options.document_format, options.voice
)


@click.command()
@click.argument("name")
@_inputs
@click.option("--to", metavar="KEY", help="The generation to go back to; by default the one that served before.")
@click.option(
    "--reason",
    type=reason_of,
    required=True,
    metavar="TEXT",
    help="Why, on one line; it is recorded in the lockfile.",
)
@options.environment
def rollback(env: Environment, /, name: str, *, to: str | None, reason: str, **values: Any) -> int:
    """Reject what serves NAME, and let an earlier generation serve again.

    What is rejected never serves until promote lets it; no training is repeated because of it. Changes the lockfile and
    the published pointer, and permissions where spec.access declares them.
    """
    output = output_of(values)
    return _tell(output, serving.rollback(env, input_of(values), name, to=to, reason=reason))


@click.command()
@click.argument("name")
@_inputs
@click.option("--to", metavar="KEY", help="The generation that is to serve; by default one that was rejected.")
@options.environment
def promote(env: Environment, /, name: str, *, to: str | None, **values: Any) -> int:
    """Let a generation of NAME serve that was rejected by a rollback, or another one.

    It must have passed the checks of its manifest. Changes the lockfile and the published pointer, and permissions
    where spec.access declares them.
    """
    output = output_of(values)
    return _tell(output, serving.promote(env, input_of(values), name, to=to))


def _tell(output: Output, answer: Answer) -> int:
    document = answer.document
    output.result(document, lambda style, width: serving_text(document, width=width, style=style))
    return answer.exit_status
