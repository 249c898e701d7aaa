"""``reconcile promote``: make a generation the serving one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult
from reconciler.commands._rollout import move, promotion
from reconciler.commands.rollback import tell
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import Manifest
from reconciler.environment import Environment
from reconciler.planning.events import Event, Restored
from reconciler.planning.rollout import choose_promotion, is_serving

if TYPE_CHECKING:
    from reconciler.environment import Environment


def promote(env: Environment, what: CommandInput, name: str, *, to: str | None) -> CommandResult:
    """Let the generation of the key ``to`` serve, or one that was rejected, which it is no longer.

    Raises as :func:`rollback`, and when the checks of the manifest were not passed.
    """

    def decide(lock: Lock, scope: str, manifest: Manifest | None) -> tuple[LockedGeneration, tuple[Event, ...]]:
        model, chosen = lock.models[name], choose_promotion(name, lock, to, scope=scope, manifest=manifest)
        if is_serving(model, chosen.key):
            return chosen, ()
        restored = (Restored(name, chosen.key),) if chosen.key in model.rejected else ()
        return chosen, (*restored, promotion(env, name, chosen))

    return move(env, what, name, decide)


@click.command("promote")
@click.argument("name")
@_options.model_options
@click.option("--to", metavar="KEY", help="The generation that is to serve; by default one that was rejected.")
@_options.environment
def command(env: Environment, /, name: str, *, to: str | None, **values: Any) -> int:
    """Let a generation of NAME serve that was rejected by a rollback, or another one.

    It must have passed the checks of its manifest. Changes the lockfile and the published pointer, and permissions
    where spec.access declares them.
    """
    output = output_of(values)
    return tell(output, promote(env, input_of(values), name, to=to))
