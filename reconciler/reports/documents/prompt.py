"""What a model answered: as a document, as the answers alone, and what people are told besides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from reconciler.domain.errors import ExitStatus
from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.model import Capabilities, Sampling, Target
from reconciler.reports.documents.plan_and_result import Document, envelope, filled
from reconciler.reports.text.escape import terminal_safe

SEPARATOR: Final = "---"
_CUT_SHORT: Final = "MAX_TOKENS"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who was asked what: ``remote`` under its remote name, ``text`` after ``preamble``, as ``prompt`` says it all."""

    name: str
    key: str
    remote: str
    preamble: str
    text: str
    prompt: Prompt


def prompt_document(
    asked: Asked, reply: Reply, target: Target, capabilities: Capabilities, *, root: str = ""
) -> Document:
    """A prompt and its answers (schema: prompt); where there is no answer, ``message`` says why."""
    answered = any(one.text for one in reply.answers)
    prompt = asked.prompt
    return {
        **envelope("Prompt", target, capabilities, root),
        "exitStatus": int(ExitStatus.OK if answered else ExitStatus.ERROR),
        "name": asked.name,
        "key": asked.key,
        "remote": asked.remote,
        "preamble": asked.preamble,
        "text": asked.text,
        "sampling": _sampling(prompt.sampling),
        **filled({"maxTokens": prompt.max_tokens}),
        "candidates": [{"text": one.text, **filled({"finish": one.finish})} for one in reply.answers],
        **filled({"blocked": reply.blocked, "message": "" if answered else _why(reply)}),
    }


def _sampling(sampling: Sampling) -> Document:
    return filled({"temperature": sampling.temperature, "topP": sampling.top_p, "topK": sampling.top_k})


def _why(reply: Reply) -> str:
    if reply.blocked:
        return f"the service blocked the prompt: {reply.blocked}"
    reasons = ", ".join(sorted({one.finish for one in reply.answers if one.finish}))
    said = (
        f"the service withheld the answer: {reasons}" if reasons else "the service gave an empty answer, and no reason"
    )
    return f"{said}; allow more with --max-tokens" if _CUT_SHORT in reasons.split(", ") else said


def prompt_text(document: Document) -> str:
    """The answers of a Prompt document alone, with a line of dashes between them; empty ones are left out."""
    texts = [one["text"] for one in document["candidates"] if one["text"]]
    return f"\n{SEPARATOR}\n".join(map(_shown, texts))


def _shown(text: str) -> str:
    """Lines and columns stay what they are; everything else that could steer a terminal is written out."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(terminal_safe, line.split("\t"))) for line in lines)


def prompt_notes(document: Document) -> str:
    """What is to be known about the answers of a Prompt document, a line each; often nothing."""
    return "\n".join(map(terminal_safe, _notes(document)))


def _notes(document: Document) -> Iterator[str]:
    if document["simulated"] and "message" not in document:
        yield "The answer is simulated: it is taken from the training examples."
    candidates = document["candidates"]
    for position, one in enumerate(candidates, 1):
        finish = one.get("finish", "")
        which = f"answer {position}" if len(candidates) > 1 else "the answer"
        if one["text"] and finish == _CUT_SHORT:
            yield f"note: {which} is cut short: {finish}; allow more with --max-tokens"
        elif one["text"] and finish:
            yield f"note: {which} ended early: {finish}"
        elif not one["text"] and "message" not in document:
            yield f"note: {which} is empty: {finish or 'the service gives no reason'}"
