"""The command that asks a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import click

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Output
from reconciler.commands._project import (
    CommandInput,
    CommandResult,
    Project,
    open_project,
    recorded_generation,
    serving_generation,
)
from reconciler.domain.errors import ExitStatus, Problem, ReconcileError, ServiceError, UsageError
from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.model import Manifest, Sampling, State
from reconciler.environment import Environment
from reconciler.providers.registry import VERTEX_AI, callable_name, connect
from reconciler.reports.documents.prompt import Asked, prompt_document, prompt_notes, prompt_text

if TYPE_CHECKING:
    from reconciler.domain.lock import LockedGeneration
    from reconciler.environment import Environment


STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What somebody wants to know of a manifest's model: of the serving generation, or of the one with this ``key``.

    What ``sampling`` leaves open is the model's own.
    """

    name: str
    text: str
    key: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    candidates: int = 1
    max_tokens: int | None = None


def read_text(env: Environment) -> str:
    """The text on standard input, without the line break at its end.

    Raises:
        UsageError: when it is no text in UTF-8.
    """
    try:
        text = env.stdin.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the prompt on standard input is no UTF-8: byte {error.start} is odd", "convert it to UTF-8"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


def prompt(env: Environment, what: CommandInput, question: PromptRequest) -> CommandResult:
    """What a model answers. Nothing is changed anywhere.

    Raises:
        UsageError: when the text is empty or no Unicode, or ``question.key`` is not recorded.
        ReconcileError: when nothing serves, or what should be asked is not ready or gone.
    """
    _check(question.text)
    project = open_project(env, what, strict=False)
    name = question.name
    chosen = recorded_generation(project, name, question.key) if question.key else serving_generation(project, name)
    remote = _address(project, chosen, name)
    manifest = next((one for one in project.manifests if one.name == name), None)
    asked = Prompt(
        text=chosen.preamble + question.text,
        sampling=_sampling(project, manifest, question.sampling),
        candidates=question.candidates,
        max_tokens=question.max_tokens,
    )
    reply = _ask(env, what, project, chosen, remote, asked)
    document = prompt_document(
        Asked(name, chosen.key, remote, chosen.preamble, question.text, asked),
        reply,
        project.target,
        project.capabilities,
        root=project.root,
    )
    return CommandResult(document, ExitStatus(document["exitStatus"]), tuple(_warnings(manifest, chosen)))


def _check(text: str) -> None:
    if not text:
        raise UsageError("the prompt is empty", "give a text, or write one to standard input")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("the prompt is no Unicode text", "write it in UTF-8") from None


_UNREADY: Final[Mapping[State, str]] = {
    State.INTENDED: "reconcile wait waits for it",
    State.CREATING: "reconcile wait waits for it",
    State.MISSING: "run reconcile apply to make it anew",
}


def _address(project: Project, chosen: LockedGeneration, name: str) -> str:
    """What is to be asked for a generation's answers; raises ReconcileError where there is no such thing."""
    if chosen.state is not State.ACTIVE:
        remedy = _UNREADY.get(chosen.state, f"see reconcile status; --generation asks another one of {name}")
        raise ReconcileError(f"{chosen.key} cannot be asked: it was recorded as {chosen.state}", remedy)
    if project.target.provider == VERTEX_AI and not chosen.resources.endpoint:
        raise ReconcileError(
            f"{chosen.key} has no endpoint that could be asked: {project.lockfile} records none",
            "deploy its model to an endpoint in Vertex AI; the next reconcile apply records that",
        )
    return callable_name(chosen.remote, chosen.resources)


def _sampling(project: Project, manifest: Manifest | None, wanted: Sampling) -> Sampling:
    """Services that keep a model's sampling know it already; to others the caller has to say it each time."""
    if manifest is None or "sampling" in project.capabilities.mutable:
        return wanted
    declared = manifest.sampling
    return replace(
        wanted,
        temperature=declared.temperature if wanted.temperature is None else wanted.temperature,
        top_p=declared.top_p if wanted.top_p is None else wanted.top_p,
        top_k=declared.top_k if wanted.top_k is None else wanted.top_k,
    )


def _ask(
    env: Environment, what: CommandInput, project: Project, chosen: LockedGeneration, remote: str, asked: Prompt
) -> Reply:
    from reconciler.commands._runner import EventLoop

    async def work() -> Reply:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            return await service.infer(remote, asked)

    with EventLoop() as session:
        try:
            return session.run(work())
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise
            raise ReconcileError(
                f"{chosen.key} is gone from the service: it knows no {remote}",
                "was it deleted by hand? reconcile apply trains it again",
            ) from error


def _warnings(manifest: Manifest | None, chosen: LockedGeneration) -> list[Problem]:
    if manifest is None or manifest.preamble == chosen.preamble:
        return []
    message = f"is not the one that {chosen.key} was trained with, which is put before the prompt here"
    return [
        Problem(manifest.place, "spec.dataset.preamble", message, "reconcile apply trains with the new one", "warning")
    ]


class _Range(click.FloatRange):
    """A range that takes no NaN either, which is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


@click.command("prompt")
@click.argument("name")
@click.argument("text", required=False)
@_options.paths
@_options.target
@_options.allow_endpoint
@_options.format_option
@_options.output_options
@click.option("--generation", metavar="KEY", help="Ask this generation instead of the one that serves.")
@click.option("--temperature", type=_Range(0, 2), help="0 gives the likeliest answer, more a more varied one.")
@click.option("--top-p", type=_Range(0, 1), help="Choose among the likeliest tokens that together are so likely.")
@click.option("--top-k", type=click.IntRange(1, 2**31 - 1), help="Choose among so many of the likeliest tokens.")
@click.option(
    "--candidates", type=click.IntRange(1, 100), default=1, show_default=True, help="How many answers to ask for."
)
@click.option("--max-tokens", type=click.IntRange(1, 2**31 - 1), help="Cut an answer short after so many tokens.")
@_options.environment
def command(env: Environment, /, name: str, text: str | None, **values: Any) -> int:
    """Ask the model that serves NAME, and print its answer alone.

    Without TEXT, or with - for it, the prompt is read from standard input. The preamble that the model was trained
    with is put before it.

    Exit status 1 says that the service gave no answer.
    """
    output = output_of(values)
    sampling = Sampling(values.pop("temperature"), values.pop("top_p"), values.pop("top_k"))
    question = PromptRequest(
        name=name,
        text=_from_stdin(env, output, values["paths"]) if text in {None, STDIN} else str(text),
        key=values.pop("generation"),
        sampling=sampling,
        candidates=values.pop("candidates"),
        max_tokens=values.pop("max_tokens"),
    )
    answer = prompt(env, input_of(values), question)
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
    return read_text(env)
