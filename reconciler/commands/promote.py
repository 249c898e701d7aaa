"""``reconcile promote``: make a generation the serving one."""

from __future__ import annotations

from typing import Any

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._project import CommandInput, CommandResult
from reconciler.commands._rollout import change_serving, promotion
from reconciler.commands._targets import finish_models
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import Manifest
from reconciler.environment import Environment
from reconciler.planning.events import Event, Restored
from reconciler.planning.rollout import choose_promotion, is_serving
from reconciler.reports.documents.change import ServingReport


def promote(
    environment: Environment, command_input: CommandInput, name: str, *, to: str | None, reason: str = ""
) -> CommandResult[ServingReport]:
    """Promote the generation ``to``, by default the rejected one that matches the manifest; it is no longer rejected.

    Raises as :func:`rollback`, and when the generation fails the checks of the manifest, which run now.
    """

    def choose(lock: Lock, scope: str, manifest: Manifest | None) -> tuple[LockedGeneration, tuple[Event, ...]]:
        model, chosen = lock.models[name], choose_promotion(name, lock, to, scope=scope, manifest=manifest)
        if is_serving(model, chosen.key):
            return chosen, ()
        restored = (Restored(name, chosen.key),) if chosen.key in model.rejected else ()
        return chosen, (*restored, promotion(environment, name, chosen))

    return change_serving(environment, command_input, name, choose, "promote", reason)


@click.command("promote", epilog=_options.examples("promote adder", "promote adder --to adder-k4wq2zme"))
@_options.named_model_options
@click.option("--to", metavar="KEY", help="Generation to promote. Default: the rejected one that matches the manifest.")
@_options.reason
@_options.environment
def command(environment: Environment, /, *, to: str | None, reason: str | None, **values: Any) -> int:
    """Make a generation of NAME the serving one.

    By default, it is the one that a rollback rejected. The checks of its manifest run first and must pass. Changes the
    lockfile, the published pointer, and permissions if the manifest has spec.access.
    """
    output = output_of(values)
    names, values["paths"] = _options.leading_names(values["paths"], environment.cwd)
    if to:
        _options.one_name(names, "--to")
    given = input_of(values)
    return finish_models(
        output, given, names, lambda name: promote(environment, given, name, to=to, reason=reason or ""), "promote"
    )
