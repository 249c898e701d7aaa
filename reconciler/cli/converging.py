"""apply and wait."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import click

from reconciler.app import converge
from reconciler.app.commands import Answer
from reconciler.app.converge import Approve, Sink
from reconciler.app.environment import Environment
from reconciler.app.saving import saved_plan
from reconciler.cli import options
from reconciler.cli.event_log import EventLog, event_log, events, watched
from reconciler.cli.options import input_of, output_of, request_of
from reconciler.cli.output import Output
from reconciler.cli.watching import progress
from reconciler.core.plan import Request
from reconciler.core.problems import Problem, UsageError
from reconciler.engine.reconcile import Options
from reconciler.render.documents import Document
from reconciler.render.plan_text import notices_text, plan_text
from reconciler.render.text import result_text


@click.command()
@options.run
@options.trainings
@options.timeout
@events
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option("--no-wait", is_flag=True, help="Start the trainings and return; reconcile wait takes up from there.")
@click.option(
    "--locked", is_flag=True, help="Train nothing: fail unless the lockfile names a ready generation of each."
)
@click.option(
    "--train-only",
    is_flag=True,
    help="Train, and record: patch no model, share none, delete none, and tell applications nothing.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Also delete what is superseded, failed or declared no longer, as reconcile prune does.",
)
@options.environment
def apply(
    env: Environment,
    /,
    *,
    timeout: timedelta | None,
    yes: bool,
    no_wait: bool,
    locked: bool,
    train_only: bool,
    prune: bool,
    **values: Any,
) -> int:
    """Create what is missing, wait for it, and record it in the lockfile.

    PATHS may be one FILE that plan --out has saved: then exactly that plan is carried out, without a question, or
    nothing at all where what it was made from has changed since.
    """
    output = output_of(values)
    request = request_of(values)
    if locked and (request.retry or request.replace):
        raise UsageError("--locked forbids training, which --retry and --replace ask for", "leave one of them out")
    if locked and train_only:
        raise UsageError("--locked forbids training, and --train-only all else", "leave one of them out")
    if prune and train_only:
        raise UsageError("--train-only deletes nothing, which --prune asks for", "leave one of them out")
    wanted = Options(request=request, writes=not train_only, wait=not no_wait, foreseen=yes, timeout=timeout)
    with event_log(env, output, values.pop("events"), "apply") as log:
        what = replace(input_of(values), portraits=bool(output.reports))
        saved = saved_plan(env, what.paths)
        if saved and (locked or train_only or prune or request != Request()):
            raise UsageError(
                f"{saved.file} says already what is to be done",
                "leave out --locked, --train-only, --prune, --retry and --replace",
            )
        answer = converge.apply(
            env,
            what,
            wanted,
            locked=locked,
            approve=_noted(
                log, lambda document, warnings: _approve(output, document, warnings, yes=yes or bool(saved))
            ),
            progress=lambda document: watched(_progress(env, output, document), log),
            saved=saved,
            prune=prune,
        )
        log.ended(answer.document)
    return _tell(output, answer)


@click.command()
@options.run
@options.timeout
@events
@options.environment
def wait(env: Environment, /, *, timeout: timedelta | None, **values: Any) -> int:
    """Wait for the trainings that any earlier run started. Creates and changes nothing at the service."""
    output = output_of(values)
    with event_log(env, output, values.pop("events"), "wait") as log:
        answer = converge.apply(
            env,
            replace(input_of(values), portraits=bool(output.reports)),
            Options(creates=False, writes=False, timeout=timeout),
            locked=False,
            approve=_noted(log, lambda _document, _warnings: True),
            progress=lambda document: watched(_progress(env, output, document), log),
        )
        log.ended(answer.document)
    return _tell(output, answer)


def _noted(log: EventLog, approve: Approve) -> Approve:
    """The question, before which the plan is noted."""

    def noted(document: Document, warnings: tuple[Problem, ...]) -> bool:
        log.planned(document)
        return approve(document, warnings)

    return noted


def _approve(output: Output, document: Document, warnings: tuple[Problem, ...], *, yes: bool) -> bool:
    """Show what would be done, and ask unless it was answered beforehand or nothing would be."""
    output.warn(warnings)
    if not document["changes"]:
        output.say(lambda style, width: notices_text(document, width=width, style=style))
        return True
    output.say(lambda style, width: plan_text(document, width=width, style=style))
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to approve this plan", "look at it, then run again with --yes")
    return click.confirm("Do this?", err=True)


def _progress(env: Environment, output: Output, document: Document) -> AbstractContextManager[Sink]:
    names = {action["name"] for action in document["actions"]}
    return progress(env, output, names, simulated=bool(document["simulated"]))


def _tell(output: Output, answer: Answer) -> int:
    output.result(answer.document, lambda style, width: result_text(answer.document, width=width, style=style))
    return answer.exit_status
