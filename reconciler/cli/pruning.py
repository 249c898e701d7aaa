"""prune."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import click

from reconciler.app import pruning
from reconciler.app.commands import Answer
from reconciler.app.converge import Sink
from reconciler.app.environment import Environment
from reconciler.app.pruning import Wishes
from reconciler.cli import options
from reconciler.cli.event_log import event_log, events, watched
from reconciler.cli.options import age, input_of, output_of
from reconciler.cli.output import Output
from reconciler.cli.watching import progress
from reconciler.core.problems import Problem, UsageError
from reconciler.render.documents import Document
from reconciler.render.plan_text import notices_text, plan_text
from reconciler.render.pruning import pruned_text


@click.command()
@options.run
@events
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted; nothing changes, the lockfile neither.")
@click.option(
    "--older-than",
    type=age,
    metavar="AGE",
    help="Only what was created longer ago, like 14d or 36h; of what stands in no lockfile of the root, too.",
)
@click.option(
    "--unprotect",
    multiple=True,
    metavar="NAME",
    help="Lift the protection that a manifest left in the lockfile; repeatable.",
)
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@options.environment
def prune(
    env: Environment,
    /,
    *,
    dry_run: bool,
    older_than: timedelta | None,
    unprotect: tuple[str, ...],
    yes: bool,
    **values: Any,
) -> int:
    """Delete superseded generations beyond spec.lifecycle.retain, failed ones, and models that no manifest declares.

    Only what is ours and recorded in the lockfile; never what any lockfile of the root serves, publishes or protects,
    what something descends from that stays, or more than the target's limits.maxDeletePercent.
    """
    output = output_of(values)
    with event_log(env, output, values.pop("events"), "prune") as log:

        def approve(document: Document, warnings: tuple[Problem, ...]) -> bool:
            log.planned(document)
            return _approve(output, document, warnings, yes=yes)

        answer = pruning.prune(
            env,
            input_of(values),
            Wishes(older_than, frozenset(unprotect)),
            dry_run=dry_run,
            approve=approve,
            progress=lambda document: watched(_progress(env, output, document), log),
        )
        if dry_run:
            log.planned(answer.document)
        log.ended(answer.document | {"exitStatus": int(answer.exit_status)})
    _tell(output, answer, dry_run=dry_run)
    return answer.exit_status


def _approve(output: Output, document: Document, warnings: tuple[Problem, ...], *, yes: bool) -> bool:
    """Show what would be deleted, and ask unless it was answered beforehand or nothing would be."""
    output.warn(warnings)
    if not document["changes"]:
        output.say(lambda style, width: notices_text(document, width=width, style=style))
        return True
    output.say(lambda style, width: plan_text(document, width=width, verbose=bool(output.verbose), style=style))
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to approve these deletions", "look at them, then run again with --yes")
    return click.confirm("Delete this? It cannot be undone.", err=True)


def _progress(env: Environment, output: Output, document: Document) -> AbstractContextManager[Sink]:
    names = {action["name"] for action in document["actions"]}
    return progress(env, output, names, simulated=bool(document["simulated"]))


def _tell(output: Output, answer: Answer, *, dry_run: bool) -> None:
    document = answer.document
    if not dry_run:
        output.result(document, lambda style, width: pruned_text(document, width=width, style=style))
        return
    output.warn(answer.warnings)
    verbose = bool(output.verbose)
    output.result(document, lambda style, width: plan_text(document, width=width, verbose=verbose, style=style))
