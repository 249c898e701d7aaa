"""The methods that send a prompt to a tuned model. A word counts as a token.

A simulated model answers with the outputs of the examples whose inputs are most similar to the prompt.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

from msgspec import Struct

from reconciler.domain.model import State
from reconciler.emulator.errors import ApiError, Code, JsonObject, Rule, Violation, find_violations, invalid
from reconciler.emulator.generativelanguage.messages import V1BETA3
from reconciler.emulator.generativelanguage.tuned_models import get_base_model, state_of
from reconciler.emulator.service import ApiCall, Service, refuse_unless

BLOCKED_PROMPT = "simulate-blocked-prompt"
BLOCKED_ANSWER = "simulate-blocked-answer"
NO_ANSWER = "simulate-no-answer"
"""A prompt that contains one of these three gets the response of a service that withholds its answers."""

_COMPARED_CHARACTERS = 1000
_EXACT = 2.0  # an equal input ranks as far above the most similar one as that ranks above an unrelated one
_SHARPNESS = 10.0  # how strongly similarity raises the probability of an answer, at temperature 1
_MOST_PARTS = 10
_UNTRAINED = "(simulated answer: this model has no training examples)"

Finish = Literal["STOP", "MAX_TOKENS", "SAFETY", "OTHER"]


class SamplingParameters(Struct, frozen=True):
    """How answers are selected, and where they end: after ``max_tokens``, or before the first of the ``stops``.

    With a ``seed``, equal requests get equal answers.
    """

    temperature: float
    top_p: float
    top_k: int
    candidates: int
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    seed: int | None = None


class GeneratedAnswer(Struct, frozen=True):
    """One answer and the reason why it ended; a withheld answer has the text ``None``."""

    text: str | None
    finish: Finish


class GeneratedReply(Struct, frozen=True):
    """All answers to a prompt: the requested number, or none if the prompt was blocked."""

    candidates: tuple[GeneratedAnswer, ...]

    @property
    def blocked(self) -> bool:
        """Whether the prompt was blocked."""
        return not self.candidates

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the answers that were not withheld."""
        return tuple(candidate.text for candidate in self.candidates if candidate.text is not None)


_WITHHELD: Mapping[str, Finish] = {BLOCKED_ANSWER: "SAFETY", NO_ANSWER: "OTHER"}


def reply_to(
    prompt: str, examples: Sequence[JsonObject], sampling: SamplingParameters, random: Random
) -> GeneratedReply:
    """Return the answers of a model with these examples; among equally similar examples the first wins."""
    if BLOCKED_PROMPT in prompt:
        return GeneratedReply(())
    withheld = next((finish for marker, finish in _WITHHELD.items() if marker in prompt), None)
    if withheld:
        return GeneratedReply((GeneratedAnswer(None, withheld),) * sampling.candidates)
    return GeneratedReply(tuple(_shorten(text, sampling) for text in _select(prompt, examples, sampling, random)))


def _select(prompt: str, examples: Sequence[JsonObject], sampling: SamplingParameters, random: Random) -> list[str]:
    """Return the requested number of outputs; at temperature 0 always that of the most similar example."""
    ranked = _rank(prompt, examples, sampling.top_k) or [(_EXACT, _UNTRAINED)]
    if sampling.temperature == 0:
        return [ranked[0][1]] * sampling.candidates
    best = ranked[0][0]
    weights = [math.exp((similarity - best) * _SHARPNESS / sampling.temperature) for similarity, _ in ranked]
    enough = sampling.top_p * sum(weights)
    before = itertools.accumulate(weights, initial=0.0)
    kept = [weight for weight, sum_before in zip(weights, before, strict=False) if sum_before < enough] or weights[:1]
    chance = random if sampling.seed is None else Random(sampling.seed)  # noqa: S311 - reproducible answers, no secret
    return [output for _, output in chance.choices(ranked[: len(kept)], kept, k=sampling.candidates)]


def _rank(prompt: str, examples: Sequence[JsonObject], limit: int) -> list[tuple[float, str]]:
    """Return similarity and output of the examples most similar to the prompt, the most similar first.

    A common prefix of the prompt and all inputs, such as a preamble, is not compared.
    """
    from rapidfuzz import process
    from rapidfuzz.distance import Indel, Prefix

    inputs = [str(example.get("textInput", "")) for example in examples]
    outputs = [str(example.get("output", "")) for example in examples]
    start = min((Prefix.similarity(prompt, text) for text in inputs), default=0)
    compared = slice(start, start + _COMPARED_CHARACTERS)
    equal = [(_EXACT, output) for text, output in zip(inputs, outputs, strict=True) if text == prompt]
    similar = process.extract(
        prompt[compared], [text[compared] for text in inputs], scorer=Indel.normalized_similarity, limit=limit
    )
    similar_outputs = [(similarity, outputs[index]) for _, similarity, index in similar if inputs[index] != prompt]
    return [*equal, *similar_outputs][:limit]


def _shorten(text: str, sampling: SamplingParameters) -> GeneratedAnswer:
    stops = [text.find(stop) for stop in sampling.stops if stop and stop in text]
    text = text[: min(stops, default=None)]
    if sampling.max_tokens is None:
        return GeneratedAnswer(text, "STOP")
    ends = [word.end() for word in itertools.islice(re.finditer(r"\S+", text), sampling.max_tokens + 1)]
    if len(ends) <= sampling.max_tokens:
        return GeneratedAnswer(text, "STOP")
    return GeneratedAnswer(text[: ends[-2]], "MAX_TOKENS")


MAX_CANDIDATES = 8
MAX_STOPS = 5

_RULES: Mapping[str, Rule] = {
    "temperature": (lambda value: 0 <= value <= 2, "must be between 0 and 2"),  # noqa: PLR2004 - Gemini's range
    "topP": (lambda value: 0 <= value <= 1, "must be between 0 and 1"),
    "topK": (lambda value: value >= 1, "must be at least 1"),
    "candidateCount": (lambda value: 1 <= value <= MAX_CANDIDATES, f"must be between 1 and {MAX_CANDIDATES}"),
    "maxOutputTokens": (lambda value: value >= 1, "must be at least 1"),
    "stopSequences": (lambda value: len(value) <= MAX_STOPS, f"must have at most {MAX_STOPS} entries"),
}
_TEXT_RULES: Mapping[str, Rule] = {
    **_RULES,
    "temperature": (lambda value: 0 <= value <= 1, "must be between 0 and 1"),
}
_BLOCKED = "The prompt asks the embedded service to simulate a blocked answer."


def generate_text(service: Service, call: ApiCall) -> JsonObject:
    """Answer a prompt in the PaLM format."""
    prompt = call.body.get("prompt", {}).get("text", "")
    _check("GenerateTextRequest", find_violations(call.body, _TEXT_RULES), "prompt.text", prompt)
    reply = _reply(service, call, prompt, call.body)
    blocked = reply.blocked or any(candidate.finish == "SAFETY" for candidate in reply.candidates)
    filters = [{"reason": "SAFETY", "message": _BLOCKED}] if blocked else []
    return {"candidates": [{"output": text} for text in reply.texts], "filters": filters}


def generate_content(service: Service, call: ApiCall) -> JsonObject:
    """Answer a prompt in the Gemini format."""
    prompt, config = read_prompt(call.body)
    return write_reply(prompt, _reply(service, call, prompt, config), _model_of(call))


def count_tokens(_: Service, call: ApiCall) -> JsonObject:
    """Return the number of tokens, which are words, of a prompt to a base model."""
    get_base_model(_, call)
    return {"totalTokens": words_in(call.body, call.body.get("generateContentRequest", {}))}


def words_in(*requests: Mapping[str, Any]) -> int:
    """Return the number of words in the contents and system instructions of requests."""
    contents = [turn for request in requests for turn in request.get("contents", [])]
    contents += [request["systemInstruction"] for request in requests if "systemInstruction" in request]
    return sum(len(part.get("text", "").split()) for content in contents for part in content.get("parts", []))


def split_reply(response: JsonObject) -> list[JsonObject]:
    """Return the messages of a stream with a response: its text in at most ten parts, then the reasons and counts."""
    candidates = response.get("candidates", [])
    pieces = [_pieces(_text_of(candidate)) for candidate in candidates]
    count = max(map(len, pieces), default=0)
    if count <= 1:
        return [response]
    model = {"modelVersion": response["modelVersion"]}
    parts = [
        {"candidates": [_part(candidate, texts, at) for candidate, texts in zip(candidates, pieces, strict=True)]}
        for at in range(count)
    ]
    ended = [
        {**part, "finishReason": candidate["finishReason"]}
        for part, candidate in zip(parts[-1]["candidates"], candidates, strict=True)
    ]
    return [*({**part, **model} for part in parts[:-1]), {**response, "candidates": ended}]


def _text_of(candidate: JsonObject) -> str:
    return str(candidate["content"]["parts"][0]["text"]) if "content" in candidate else ""


def _pieces(text: str) -> list[str]:
    words = re.findall(r"\s*\S+|\s+$", text)
    size = -(-len(words) // _MOST_PARTS) or 1
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _part(candidate: JsonObject, pieces: Sequence[str], at: int) -> JsonObject:
    text = pieces[at] if at < len(pieces) else ""
    content = {"content": {"parts": [{"text": text}], "role": "model"}} if "content" in candidate else {}
    return {"index": candidate["index"], **content}


def read_prompt(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the prompt of a GenerateContentRequest (its last turn) and its generation config; raises ApiError."""
    turns = body.get("contents", [])
    prompt = "".join(part.get("text", "") for part in turns[-1].get("parts", [])) if turns else ""
    config = body.get("generationConfig", {})
    _check("GenerateContentRequest", find_violations(config, _RULES, "generation_config."), "contents", prompt)
    return prompt, config


def write_reply(prompt: str, reply: GeneratedReply, model: str) -> JsonObject:
    """Return a GenerateContentResponse; tokens are words."""
    prompt_tokens, answer_tokens = len(prompt.split()), sum(len(text.split()) for text in reply.texts)
    return {
        "candidates": [{"index": index, **_candidate(answer)} for index, answer in enumerate(reply.candidates)],
        **({"promptFeedback": {"blockReason": "SAFETY"}} if reply.blocked else {}),
        "usageMetadata": {
            "promptTokenCount": prompt_tokens,
            "candidatesTokenCount": answer_tokens,
            "totalTokenCount": prompt_tokens + answer_tokens,
        },
        "modelVersion": model,
    }


def _candidate(candidate: GeneratedAnswer) -> JsonObject:
    text = {} if candidate.text is None else {"content": {"parts": [{"text": candidate.text}], "role": "model"}}
    return {**text, "finishReason": candidate.finish}


def _check(request: str, wrong: list[Violation], field: str, prompt: str) -> None:
    if not prompt:
        wrong = [*wrong, Violation(field, "must not be empty")]
    if wrong:
        raise invalid(request, wrong)


def _model_of(call: ApiCall) -> str:
    return f"models/{call.path['base']}" if "base" in call.path else call.model


def _reply(service: Service, call: ApiCall, prompt: str, request: Mapping[str, Any]) -> GeneratedReply:
    if "base" in call.path:
        return reply_to(prompt, (), sampling_of(request, _base_model(service, call)), service.random)
    model = service.store.model(call.model)
    state = state_of(model, service.clock())
    refuse_unless(state == State.ACTIVE, f"Tuned model {call.model} is {state}; only an ACTIVE one accepts prompts.")
    sampling = sampling_of(request, model.document)
    return reply_to(prompt, service.store.examples(model.seq), sampling, service.random)


def _base_model(service: Service, call: ApiCall) -> JsonObject:
    """Return the base model of a call; raises ApiError if it does not have the method of the call."""
    model, method = get_base_model(service, call), "generateText" if call.api is V1BETA3 else "generateContent"
    if method not in model["supportedGenerationMethods"]:
        message = f"{model['name']} is not supported for {method} in API version {call.api.version}."
        raise ApiError(Code.NOT_FOUND, message)
    return model


def sampling_of(request: Mapping[str, Any], model: Mapping[str, Any]) -> SamplingParameters:
    """Return the sampling parameters of a request; omitted ones come from the model."""
    defaults = {"temperature": 0.7, "topP": 0.95, "topK": 40, "candidateCount": 1}
    wanted = {name: request.get(name, model.get(name, default)) for name, default in defaults.items()}
    return SamplingParameters(
        wanted["temperature"],
        wanted["topP"],
        wanted["topK"],
        wanted["candidateCount"],
        request.get("maxOutputTokens"),
        tuple(request.get("stopSequences", ())),
        request.get("seed"),
    )
