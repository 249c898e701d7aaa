"""Asking a model: the ways in which services take prompts and give answers, a row each, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any

from reconciler.domain.inference import Answer, Prompt, Reply
from reconciler.providers.generativelanguage.wire import write_sampling
from reconciler.providers.google.errors import clean
from reconciler.providers.google.http import Call, Client, Json
from reconciler.providers.google.proto_json import text

# The values of the protos' enums in the order of their numbers; the first is the one that says nothing.
_TEXT_BLOCKS = ("", "SAFETY", "OTHER")  # google/ai/generativelanguage/v1beta3/safety.proto: ContentFilter.BlockedReason
# google/ai/generativelanguage/v1beta/generative_service.proto: BlockReason and FinishReason.
_GEMINI_BLOCKS = ("", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY")
_GEMINI_ENDS = (
    *("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT"),
    *("SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    *("IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "NO_IMAGE", "IMAGE_RECITATION"),
)
# google/cloud/aiplatform/v1/prediction_service.proto: BlockedReason, and content.proto: FinishReason.
_VERTEX_BLOCKS = ("", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "MODEL_ARMOR", "JAILBREAK")
_VERTEX_ENDS = (
    *("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
    *("MALFORMED_FUNCTION_CALL", "MODEL_ARMOR"),
)
_ORDINARY = "STOP"
_UNSPECIFIED = "_UNSPECIFIED"


@dataclass(frozen=True, slots=True)
class InferenceCodec:
    """How a service is asked.

    ``method`` is the custom method of what answers, ``write`` makes the body of a request for that many answers, and
    ``read`` the reply of one response. Such a reply may bear answers and a reason: then some were withheld.
    """

    method: str
    write: Callable[[Prompt, int], Json]
    read: Callable[[Mapping[str, Any]], Reply]


async def ask(
    client: Client, path: str, way: InferenceCodec, prompt: Prompt, most: int, remedies: Mapping[str, str]
) -> Reply:
    """The answers to a prompt, of which one request gives ``most``.

    Args:
        client: Who is asked.
        path: The path of what answers, without the method.
        way: How it is asked.
        prompt: What is asked.
        most: How many answers one request may ask for.
        remedies: What to do about refusals, by google.rpc status name.

    Raises:
        AccessError: As :meth:`Client.request`.
        ServiceError: The same.
    """
    replies: list[tuple[int, Reply]] = []
    for count in _portions(prompt.candidates, most):
        call = Call("POST", f"{path}:{way.method}", body=way.write(prompt, count), remedies=remedies)
        reply = client.decode(call, way.read, await client.request(call))
        replies.append((count, reply))
        if not any(one.answers for _, one in replies):
            break  # what is blocked, or answered with nothing, is so however often it is asked
    return joined(replies)


def _portions(wanted: int, most: int) -> Iterator[int]:
    for start in range(0, wanted, most):
        yield min(most, wanted - start)


def joined(replies: Sequence[tuple[int, Reply]]) -> Reply:
    """One reply made of several, each with the number of answers that it was asked for.

    Where some answers were given and others withheld, those stand in their places without text, so that nobody takes a
    part for the whole.
    """
    if any(reply.answers for _, reply in replies):
        return Reply(tuple(chain.from_iterable(_with_withheld(count, reply) for count, reply in replies)))
    return Reply((), next((reply.blocked for _, reply in replies if reply.blocked), ""))


def _with_withheld(wanted: int, reply: Reply) -> Iterator[Answer]:
    yield from reply.answers
    if reply.blocked:
        yield from [Answer("", reply.blocked)] * (wanted - len(reply.answers))


def _word(names: Sequence[str], value: Any) -> str:
    """An enum's value as a word, whether it comes as such or as its number; empty where it says nothing."""
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    word = clean(str(value)) if isinstance(value, str | int) else ""
    return "" if word.endswith(_UNSPECIFIED) else word


def _write_text(prompt: Prompt, count: int) -> Json:
    return {"prompt": {"text": prompt.text}, **_write_config(prompt, count)}


def _write_content(prompt: Prompt, count: int) -> Json:
    return {
        "contents": [{"role": "user", "parts": [{"text": prompt.text}]}],
        "generationConfig": _write_config(prompt, count),
    }


def _write_config(prompt: Prompt, count: int) -> Json:
    limit = {} if prompt.max_tokens is None else {"maxOutputTokens": prompt.max_tokens}
    return {**write_sampling(prompt.sampling), "candidateCount": count, **limit}


def _read_text(body: Mapping[str, Any]) -> Reply:
    reasons = (_word(_TEXT_BLOCKS, item.get("reason")) for item in body.get("filters") or ())
    answers = tuple(Answer(text(item.get("output"))) for item in body.get("candidates") or ())
    return Reply(answers, next(filter(None, reasons), ""))


def _read_content(ends: Sequence[str], blocks: Sequence[str], body: Mapping[str, Any]) -> Reply:
    feedback: Mapping[str, Any] = body.get("promptFeedback") or {}
    answers = tuple(_read_candidate(ends, item) for item in body.get("candidates") or ())
    return Reply(answers, _word(blocks, feedback.get("blockReason")))


def _read_candidate(ends: Sequence[str], item: Mapping[str, Any]) -> Answer:
    """A candidate's parts in one, without what the model thought on its way to them."""
    parts = (item.get("content") or {}).get("parts") or ()
    end = _word(ends, item.get("finishReason"))
    said = "".join(text(part.get("text")) for part in parts if not part.get("thought"))
    return Answer(said, "" if end == _ORDINARY else end)


_GENERATE_TEXT = InferenceCodec("generateText", _write_text, _read_text)
_GENERATE_CONTENT = InferenceCodec(
    "generateContent", _write_content, partial(_read_content, _GEMINI_ENDS, _GEMINI_BLOCKS)
)
WAYS: Mapping[str, InferenceCodec] = MappingProxyType({"v1beta3": _GENERATE_TEXT, "v1beta": _GENERATE_CONTENT})
"""How the Generative Language API is asked, by its version's name in the path. PaLM tells of no answer why it ended."""

VERTEX_WAY = InferenceCodec("generateContent", _write_content, partial(_read_content, _VERTEX_ENDS, _VERTEX_BLOCKS))
"""How an endpoint of Vertex AI is asked, which numbers the reasons differently."""
