"""``reconcile rollback``: reject the serving generation, and restore an earlier one."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Output
from reconciler.commands._project import CommandInput, CommandResult
from reconciler.commands._rollout import move, promotion
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import Manifest
from reconciler.environment import Environment
from reconciler.planning.events import Event, Rejected
from reconciler.planning.rollout import choose_rollback
from reconciler.reports.documents.serving import serving_text

if TYPE_CHECKING:
    from reconciler.environment import Environment


_LONGEST_REASON: Final = 500


_NO_LINE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that one line of text has none of: control characters, half surrogate pairs, line ends."""


def rollback(env: Environment, what: CommandInput, name: str, *, to: str | None, reason: str) -> CommandResult:
    """Reject what serves, and let what served before serve again, or the generation of the key ``to``.

    Raises:
        ReconcileError: when there is nothing to go back to, it is not ready or gone, the manifest is suspended, or the
            published pointer was changed by somebody else; nothing moves then.
        UsageError: when it cannot be told whether there is a manifest.
    """

    def decide(lock: Lock, _scope: str, _manifest: Manifest | None) -> tuple[LockedGeneration, tuple[Event, ...]]:
        model = lock.models[name]
        chosen = choose_rollback(name, model, to)
        return chosen, (Rejected(name, model.serving or "", reason), promotion(env, name, chosen))

    return move(env, what, name, decide, reason)


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


@click.command("rollback")
@click.argument("name")
@_options.model_options
@click.option("--to", metavar="KEY", help="The generation to go back to; by default the one that served before.")
@click.option(
    "--reason",
    type=reason_of,
    required=True,
    metavar="TEXT",
    help="Why, on one line; it is recorded in the lockfile.",
)
@_options.environment
def command(env: Environment, /, name: str, *, to: str | None, reason: str, **values: Any) -> int:
    """Reject what serves NAME, and let an earlier generation serve again.

    What is rejected never serves until promote lets it; no training is repeated because of it. Changes the lockfile and
    the published pointer, and permissions where spec.access declares them.
    """
    output = output_of(values)
    return tell(output, rollback(env, input_of(values), name, to=to, reason=reason))


def tell(output: Output, answer: CommandResult) -> int:
    document = answer.document
    output.result(document, lambda style, width: serving_text(document, width=width, style=style))
    return answer.exit_status
