"""Answers of a simulated model: the outputs of the examples whose inputs are most similar to the prompt.

A word counts as a token.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from msgspec import Struct

from reconciler.emulator.errors import JsonObject

BLOCKED_PROMPT = "simulate-blocked-prompt"
BLOCKED_ANSWER = "simulate-blocked-answer"
NO_ANSWER = "simulate-no-answer"
"""A prompt that contains one of these three gets the response of a service that withholds its answers."""

_COMPARED_CHARACTERS = 1000
_EXACT = 2.0  # an equal input ranks as far above the most similar one as that ranks above an unrelated one
_SHARPNESS = 10.0  # how strongly similarity raises the probability of an answer, at temperature 1
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


def with_inherited(own: Sequence[JsonObject], inherited: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the examples of a child: its own, and those of its parent for other inputs."""
    known = {example.get("textInput") for example in own}
    return [*own, *(example for example in inherited if example.get("textInput") not in known)]


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
