"""``reconcile prompt``: send a prompt to a model and print the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.commands import _options
from reconciler.commands._options import input_of, output_of
from reconciler.commands._output import Output
from reconciler.commands._project import CommandInput, CommandResult, Project, open_project, prove_generation
from reconciler.domain.errors import ExitStatus, Problem, ReconcileError, ServiceError, UsageError
from reconciler.domain.model import Manifest, Sampling, State
from reconciler.domain.ports import Prompt, Reply
from reconciler.environment import Environment
from reconciler.reports.documents.check import PromptReport, missing_answer
from reconciler.reports.text.check import prompt_notes

if TYPE_CHECKING:
    from reconciler.domain.lock import LockedGeneration
    from reconciler.providers.spec import ConnectedProvider

STDIN: Final = "-"
_NOT_READY: Final[Mapping[State, str]] = {
    State.INTENDED: "run reconcile wait",
    State.CREATING: "run reconcile wait",
    State.DELETING: "a run requested its deletion; run reconcile refresh to see whether it still exists",
    State.MISSING: "run reconcile apply to train it again",
}
"""Remedies for generations that cannot answer."""


class PromptRequest(Struct, frozen=True):
    """A prompt for the serving generation of a manifest in a ``stage``, or for the generation ``key``.

    The model's own values apply for unset fields of ``sampling``.
    """

    name: str
    text: str
    key: str | None = None
    stage: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    candidates: int = 1
    max_tokens: int | None = None


def prompt(
    environment: Environment, command_input: CommandInput, request: PromptRequest
) -> CommandResult[PromptReport]:
    """Return a model's answer. Changes nothing.

    Raises:
        UsageError: when the text is empty or not Unicode, or ``request.key`` is not recorded.
        ReconcileError: when there is no serving generation, or the generation is not ready or gone.
    """
    _require_text(request.text)
    project = open_project(environment, command_input, strict=False).in_stage(request.stage)
    name = request.name
    generation = project.recorded_generation(name, request.key) if request.key else project.serving_generation(name)
    require_ready(generation, name)
    manifest = project.manifest(name)
    generation, remote, sent, reply = _send(project, name, generation, request)
    message = missing_answer(reply)
    report = PromptReport(
        simulated=project.capabilities.simulated,
        target=project.target_summary,
        exit_status=ExitStatus.ERROR if message else ExitStatus.OK,
        name=name,
        key=generation.key,
        remote=remote,
        preamble=generation.preamble,
        text=request.text,
        sampling=sent.sampling,
        max_tokens=sent.max_tokens,
        candidates=reply.answers,
        blocked=reply.blocked,
        message=message,
    )
    return CommandResult(report, report.exit_status, tuple(_warnings(manifest, generation)))


def _require_text(text: str) -> None:
    if not text:
        raise UsageError("the prompt is empty", "pass TEXT, or write the prompt to standard input")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("the prompt is not Unicode text", "write it in UTF-8") from None


def require_ready(generation: LockedGeneration, name: str) -> None:
    """Raise ReconcileError for a generation that is not recorded as ready."""
    if generation.state is not State.ACTIVE:
        remedy = f"see reconcile status; name another generation of {name} with --generation"
        raise ReconcileError(
            f"{generation.key} is not ready: it was recorded as {generation.state}",
            _NOT_READY.get(generation.state, remedy),
        )


def _callable_name(project: Project, generation: LockedGeneration) -> str:
    """Return the name that prompts are sent to; raise ReconcileError for a generation without an endpoint."""
    if project.capabilities.prompts_to_endpoint and not generation.resources.endpoint_of(generation.checkpoint):
        remedy = f"deploy its model to an endpoint in {project.capabilities.label}"
        if generation.resources.weights:
            remedy = f"deploy its weights yourself, and send the prompt there: {generation.resources.weights}"
        raise ReconcileError(f"{generation.key} has no endpoint", remedy)
    return generation.address


def _sampling(project: Project, manifest: Manifest | None, requested: Sampling) -> Sampling:
    """Return the sampling to send: with the declared values, unless the service stores them with the model."""
    if manifest is None or "sampling" in project.capabilities.mutable:
        return requested
    declared = manifest.sampling
    if project.stage not in ("", project.target.first_stage):
        declared = project.recorded_model(manifest.name).sampling or Sampling()  # it was promoted with the generation
    return replace(
        requested,
        temperature=declared.temperature if requested.temperature is None else requested.temperature,
        top_p=declared.top_p if requested.top_p is None else requested.top_p,
        top_k=declared.top_k if requested.top_k is None else requested.top_k,
    )


def _send(
    project: Project, name: str, recorded: LockedGeneration, request: PromptRequest
) -> tuple[LockedGeneration, str, Prompt, Reply]:
    """Return the generation as its live model shows it, the name that the prompt was sent to, the prompt and the reply.

    The address and the preamble are not those of the lockfile, which can be edited.
    """
    remote = recorded.remote

    async def infer(service: ConnectedProvider) -> tuple[LockedGeneration, str, Prompt, Reply]:
        nonlocal remote
        generation = await prove_generation(project, service, name, recorded)
        if generation is None:
            raise gone(recorded, remote)
        remote = _callable_name(project, generation)
        sent = Prompt(
            text=generation.preamble + request.text,
            sampling=_sampling(project, project.manifest(name), request.sampling),
            candidates=request.candidates,
            max_tokens=request.max_tokens,
        )
        return generation, remote, sent, await service.infer(remote, sent)

    try:
        return project.session.query(infer)
    except ServiceError as error:
        if error.code != "NOT_FOUND":
            raise
        raise gone(recorded, remote) from error


def gone(generation: LockedGeneration, remote: str) -> ReconcileError:
    """Return the error for a generation whose model does not exist."""
    return ReconcileError(
        f"{generation.key} is gone: the service has no {remote}", "run reconcile apply to train it again"
    )


def _warnings(manifest: Manifest | None, generation: LockedGeneration) -> list[Problem]:
    if manifest is None or manifest.preamble == generation.preamble:
        return []
    message = f"differs from the preamble that {generation.key} was trained with, which precedes the prompt"
    remedy = "run reconcile apply to train with the new preamble"
    return [Problem(manifest.place, "spec.dataset.preamble", message, remedy, "warning")]


class _FiniteRange(click.FloatRange):
    """A range that rejects NaN, which is neither below nor above any number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


@click.command(
    "prompt", epilog=_options.examples('prompt adder "1 + 2"', "prompt adder --temperature 0 - < question.txt")
)
@click.argument("name")
@click.argument("text", required=False)
@_options.model_options
@click.option("--generation", metavar="KEY", help="Generation to use instead of the serving one.")
@_options.stage
@click.option("--temperature", type=_FiniteRange(0, 2), help="0 gives the most likely answer, higher values vary more.")
@click.option("--top-p", type=_FiniteRange(0, 1), help="Sample from the likeliest tokens with this total probability.")
@click.option("--top-k", type=click.IntRange(1, 2**31 - 1), help="Sample from this number of likeliest tokens.")
@click.option(
    "--candidates", type=click.IntRange(1, 100), default=1, show_default=True, help="Number of answers to request."
)
@click.option("--max-tokens", type=click.IntRange(1, 2**31 - 1), help="Longest answer, in tokens.")
@_options.environment
def command(environment: Environment, /, name: str, text: str | None, **values: Any) -> int:
    """Send a prompt to the serving generation of NAME.

    Prints only the answer. Without TEXT, or if TEXT is -, the prompt is read from standard input. The preamble that the
    model was trained with precedes the prompt.

    Exit status 1 means that the service gave no answer.
    """
    output = output_of(values)
    sampling = Sampling(values.pop("temperature"), values.pop("top_p"), values.pop("top_k"))
    request = PromptRequest(
        name=name,
        text=_from_stdin(environment, output, values["paths"]) if text in {None, STDIN} else str(text),
        key=values.pop("generation"),
        stage=values.pop("stage"),
        sampling=sampling,
        candidates=values.pop("candidates"),
        max_tokens=values.pop("max_tokens"),
    )
    result = prompt(environment, input_of(values), request)
    document = result.document
    output.warn(result.warnings)
    output.say(lambda _style, _width: prompt_notes(document))
    output.result(document)
    if document.message:
        error = ReconcileError(document.message)
        error.after_result = True
        raise error
    return result.exit_status


def _from_stdin(environment: Environment, output: Output, paths: tuple[str, ...]) -> str:
    """Read the prompt from standard input, without the line break at its end."""
    if STDIN in paths:
        raise UsageError("standard input cannot be both the prompt and a manifest", "pass the prompt as TEXT")
    if environment.stdin.isatty():
        output.say(
            lambda style, _: style("muted", "Type the prompt, and end it with Ctrl-D (on Windows Ctrl-Z, Enter).")
        )
    try:
        text = environment.stdin.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the prompt on standard input is not UTF-8: invalid byte at position {error.start}", "convert it to UTF-8"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")
