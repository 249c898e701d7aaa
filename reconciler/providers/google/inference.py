"""Send a prompt to a tuned model. Each service has its own codec; this is what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from msgspec import Struct

from reconciler.domain.model import Sampling
from reconciler.domain.ports import Answer, Prompt, Reply
from reconciler.domain.text import sanitize, shorten
from reconciler.providers.google.errors import read_text
from reconciler.providers.google.http import Client, HttpRequest, Json

_VERSION_CHARACTERS: Final = 100


class InferenceCodec(Struct, frozen=True):
    """The JSON of prompts and replies of one service.

    ``method`` is the custom method that takes prompts, ``write`` returns the body of a request for that many answers,
    and ``read`` the reply in one response. A reply with answers and a reason had some answers withheld.
    """

    method: str
    write: Callable[[Prompt, int], Json]
    read: Callable[[Mapping[str, Any]], Reply]


async def send_prompt(
    client: Client, path: str, codec: InferenceCodec, prompt: Prompt, max_candidates: int, remedies: Mapping[str, str]
) -> Reply:
    """Return the answers to a prompt, with as many requests as its candidates need.

    Args:
        client: The client of the service.
        path: The path of the model or endpoint, without the method.
        codec: The JSON of the service.
        prompt: The prompt.
        max_candidates: The number of answers that one request may ask for.
        remedies: Remedies for errors, by google.rpc status name.

    Raises:
        AccessError: As :meth:`Client.request`.
        ServiceError: As :meth:`Client.request`.
    """
    replies: list[tuple[int, Reply]] = []
    for start in range(0, prompt.candidates, max_candidates):
        count = min(max_candidates, prompt.candidates - start)
        request = HttpRequest("POST", f"{path}:{codec.method}", body=codec.write(prompt, count), remedies=remedies)
        replies.append((count, await client.fetch(request, codec.read)))
        if not any(reply.answers for _, reply in replies):
            break  # a blocked prompt stays blocked
    return merge_replies(replies)


def merge_replies(replies: Sequence[tuple[int, Reply]]) -> Reply:
    """Merge replies, each with the number of answers that were requested, into one.

    If some answers were withheld and others not, the reply contains an empty answer with the reason for each of them:
    the caller must see that the reply is incomplete.
    """
    if any(reply.answers for _, reply in replies):
        answers = tuple(chain.from_iterable(_with_withheld(count, reply) for count, reply in replies))
        return Reply(answers, model_version=next((reply.model_version for _, reply in replies), ""))
    return Reply((), next((reply.blocked for _, reply in replies if reply.blocked), ""))


def _with_withheld(requested: int, reply: Reply) -> Iterator[Answer]:
    yield from reply.answers
    if reply.blocked:
        yield from [Answer("", reply.blocked)] * (requested - len(reply.answers))


def content_codec(finish_reasons: Sequence[str], block_reasons: Sequence[str]) -> InferenceCodec:
    """Return the codec of ``generateContent``; the reasons are the names of the proto's enums in numerical order."""
    return InferenceCodec("generateContent", _write_content, partial(_read_content, finish_reasons, block_reasons))


def _write_content(prompt: Prompt, count: int) -> Json:
    return {
        "contents": [{"role": "user", "parts": [{"text": prompt.text}]}],
        "generationConfig": write_config(prompt, count),
    }


def write_config(prompt: Prompt, count: int) -> Json:
    """Return the sampling, the number of answers and their maximum length."""
    limit = {} if prompt.max_tokens is None else {"maxOutputTokens": prompt.max_tokens}
    return {**write_sampling(prompt.sampling), "candidateCount": count, **limit}


def write_sampling(sampling: Sampling) -> Json:
    """Return the declared sampling; tuned models and prompts have the same fields for it."""
    fields = {"temperature": sampling.temperature, "topP": sampling.top_p, "topK": sampling.top_k}
    return {name: value for name, value in fields.items() if value is not None}


def _read_content(finish_reasons: Sequence[str], block_reasons: Sequence[str], body: Mapping[str, Any]) -> Reply:
    feedback: Mapping[str, Any] = body.get("promptFeedback") or {}
    answers = tuple(_read_candidate(finish_reasons, candidate) for candidate in body.get("candidates") or ())
    version = shorten(sanitize(read_text(body.get("modelVersion"))), _VERSION_CHARACTERS)
    return Reply(answers, read_enum(block_reasons, feedback.get("blockReason")), version)


def _read_candidate(finish_reasons: Sequence[str], candidate: Mapping[str, Any]) -> Answer:
    """Join the parts of a candidate, without the model's thoughts."""
    parts = (candidate.get("content") or {}).get("parts") or ()
    reason = read_enum(finish_reasons, candidate.get("finishReason"))
    content = "".join(read_text(part.get("text")) for part in parts if not part.get("thought"))
    return Answer(content, "" if reason == "STOP" else reason)


def read_enum(names: Sequence[str], value: Any) -> str:
    """Return the name of an enum's value, which may be its number; empty where it is unspecified."""
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    name = sanitize(str(value)) if isinstance(value, str | int) else ""
    return "" if name.endswith("_UNSPECIFIED") else name
