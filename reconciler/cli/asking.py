"""prompt."""

from __future__ import annotations

import math
from typing import Any

import click

from reconciler.app import asking
from reconciler.app.asking import STDIN, Question
from reconciler.app.environment import Environment
from reconciler.cli import options
from reconciler.cli.options import input_of, output_of
from reconciler.cli.output import Output
from reconciler.core.model import Sampling
from reconciler.core.problems import ReconcileError, UsageError
from reconciler.render.prompt import prompt_notes, prompt_text


class _Range(click.FloatRange):
    """A range that takes no NaN either, which is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


@click.command()
@click.argument("name")
@click.argument("text", required=False)
@options.paths
@options.target
@options.allow_endpoint
@options.document_format
@options.voice
@click.option("--generation", metavar="KEY", help="Ask this generation instead of the one that serves.")
@click.option("--temperature", type=_Range(0, 2), help="0 gives the likeliest answer, more a more varied one.")
@click.option("--top-p", type=_Range(0, 1), help="Choose among the likeliest tokens that together are so likely.")
@click.option("--top-k", type=click.IntRange(1, 2**31 - 1), help="Choose among so many of the likeliest tokens.")
@click.option(
    "--candidates", type=click.IntRange(1, 100), default=1, show_default=True, help="How many answers to ask for."
)
@click.option("--max-tokens", type=click.IntRange(1, 2**31 - 1), help="Cut an answer short after so many tokens.")
@options.environment
def prompt(env: Environment, /, name: str, text: str | None, **values: Any) -> int:
    """Ask the model that serves NAME, and print its answer alone.

    Without TEXT, or with - for it, the prompt is read from standard input. The preamble that the model was trained
    with is put before it.

    Exit status 1 says that the service gave no answer.
    """
    output = output_of(values)
    sampling = Sampling(values.pop("temperature"), values.pop("top_p"), values.pop("top_k"))
    question = Question(
        name=name,
        text=_from_stdin(env, output, values["paths"]) if text in {None, STDIN} else str(text),
        key=values.pop("generation"),
        sampling=sampling,
        candidates=values.pop("candidates"),
        max_tokens=values.pop("max_tokens"),
    )
    answer = asking.prompt(env, input_of(values), question)
    document = answer.document
    output.warn(answer.warnings)
    output.say(lambda _style, _width: prompt_notes(document))
    output.result(document, lambda _style, _width: prompt_text(document))
    if "message" in document:
        raise ReconcileError(document["message"])
    return answer.exit_status


def _from_stdin(env: Environment, output: Output, paths: tuple[str, ...]) -> str:
    if STDIN in paths:
        raise UsageError("standard input cannot be both the prompt and a manifest", "give the prompt as TEXT")
    if env.stdin.isatty():
        output.say(
            lambda style, _: style("muted", "Type the prompt, and end it with Ctrl-D (on Windows Ctrl-Z, Enter).")
        )
    return asking.read_text(env)
