"""What a simulated model says: the outputs of the examples whose inputs are most like the prompt.

A word is a token here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from reconciler.emulator.errors import JsonObject

BLOCKED_PROMPT = "simulate-blocked-prompt"
BLOCKED_ANSWER = "simulate-blocked-answer"
NO_ANSWER = "simulate-no-answer"
"""Whoever puts one of these three into a prompt gets what a real service gives when it withholds its answers."""

_COMPARED_CHARACTERS = 1000
_EXACT = 2.0  # an equal input is as far above the most similar one as that is above one that has nothing in common
_SHARPNESS = 10.0  # how much likelier an answer gets with likeness, at temperature 1
_UNTRAINED = "(simulated answer: this model came without training examples)"

Finish = Literal["STOP", "MAX_TOKENS", "SAFETY", "OTHER"]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How answers are picked, and where they end: after ``max_tokens``, or before the first of the ``stops``.

    With a ``seed`` the same request is answered alike.
    """

    temperature: float
    top_p: float
    top_k: int
    candidates: int
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """One answer and why it ended; the text of one that was withheld is ``None``."""

    text: str | None
    finish: Finish


@dataclass(frozen=True, slots=True)
class GeneratedReply:
    """All answers to a prompt: as many as were wanted, or none where the prompt was blocked."""

    candidates: tuple[GeneratedAnswer, ...]

    @property
    def blocked(self) -> bool:
        """Whether the prompt was blocked."""
        return not self.candidates

    @property
    def texts(self) -> tuple[str, ...]:
        """What was said, without what was withheld."""
        return tuple(candidate.text for candidate in self.candidates if candidate.text is not None)


_WITHHELD: Mapping[str, Finish] = {BLOCKED_ANSWER: "SAFETY", NO_ANSWER: "OTHER"}


def with_inherited(own: Sequence[JsonObject], inherited: Sequence[JsonObject]) -> list[JsonObject]:
    """What a model knows that was tuned further: its own examples, and what its parent knew of other inputs."""
    known = {example.get("textInput") for example in own}
    return [*own, *(example for example in inherited if example.get("textInput") not in known)]


def reply_to(
    prompt: str, examples: Sequence[JsonObject], sampling: SamplingParameters, random: Random
) -> GeneratedReply:
    """The answers of a model that knows these examples; of equally similar ones the first comes first."""
    if BLOCKED_PROMPT in prompt:
        return GeneratedReply(())
    withheld = next((finish for marker, finish in _WITHHELD.items() if marker in prompt), None)
    if withheld:
        return GeneratedReply((GeneratedAnswer(None, withheld),) * sampling.candidates)
    return GeneratedReply(tuple(_ended(text, sampling) for text in _picked(prompt, examples, sampling, random)))


def _picked(prompt: str, examples: Sequence[JsonObject], sampling: SamplingParameters, random: Random) -> list[str]:
    """As many outputs as candidates are wanted; without temperature always that of the most similar example."""
    ranked = _ranked(prompt, examples, sampling.top_k) or [(_EXACT, _UNTRAINED)]
    if sampling.temperature == 0:
        return [ranked[0][1]] * sampling.candidates
    best = ranked[0][0]
    weights = [math.exp((likeness - best) * _SHARPNESS / sampling.temperature) for likeness, _ in ranked]
    enough = sampling.top_p * sum(weights)
    before = itertools.accumulate(weights, initial=0.0)
    kept = [weight for weight, sum_before in zip(weights, before, strict=False) if sum_before < enough] or weights[:1]
    chance = random if sampling.seed is None else Random(sampling.seed)  # noqa: S311 - reproducible answers, no secret
    return [output for _, output in chance.choices(ranked[: len(kept)], kept, k=sampling.candidates)]


def _ranked(prompt: str, examples: Sequence[JsonObject], limit: int) -> list[tuple[float, str]]:
    """Likeness and output of the examples most like the prompt, the most similar first.

    What all inputs and the prompt begin with, such as a preamble, tells nothing apart and is not compared.
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
    others = [(likeness, outputs[index]) for _, likeness, index in similar if inputs[index] != prompt]
    return [*equal, *others][:limit]


def _ended(text: str, sampling: SamplingParameters) -> GeneratedAnswer:
    stops = [text.find(stop) for stop in sampling.stops if stop and stop in text]
    text = text[: min(stops, default=None)]
    if sampling.max_tokens is None:
        return GeneratedAnswer(text, "STOP")
    ends = [word.end() for word in itertools.islice(re.finditer(r"\S+", text), sampling.max_tokens + 1)]
    if len(ends) <= sampling.max_tokens:
        return GeneratedAnswer(text, "STOP")
    return GeneratedAnswer(text[: ends[-2]], "MAX_TOKENS")
