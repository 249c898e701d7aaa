"""The command that asks a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from reconciler.app.commands import Answer
from reconciler.app.project import Input, Project, open_project
from reconciler.app.recorded import recorded_generation, serving_generation
from reconciler.app.services import VERTEX_AI, callable_name, connect
from reconciler.core.inference import Prompt, Reply
from reconciler.core.model import Manifest, Sampling, State
from reconciler.core.problems import ExitStatus, Problem, ReconcileError, ServiceError, UsageError
from reconciler.render.prompt import Asked, prompt_document

if TYPE_CHECKING:
    from reconciler.app.environment import Environment
    from reconciler.core.lock import LockedGeneration

STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Question:
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


def prompt(env: Environment, what: Input, question: Question) -> Answer:
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
    return Answer(document, ExitStatus(document["exitStatus"]), tuple(_warnings(manifest, chosen)))


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
    env: Environment, what: Input, project: Project, chosen: LockedGeneration, remote: str, asked: Prompt
) -> Reply:
    from reconciler.app.session import Session

    async def work() -> Reply:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            return await service.infer(remote, asked)

    with Session() as session:
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
