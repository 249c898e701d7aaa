"""Answers of a simulated model: the outputs of the training examples whose inputs are most like the prompt."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from random import Random
from typing import Any

from reconciler.core.model import State
from reconciler.emulator.errors import JsonObject, Violation, invalid
from reconciler.emulator.limits import violations
from reconciler.emulator.service import Call, Service, refuse_unless
from reconciler.emulator.tuned_models import state_of

MAX_CANDIDATES = 8
_COMPARED_EXAMPLES = 500
_COMPARED_CHARACTERS = 200
_SHARPNESS = 10.0  # how much likelier an answer gets with similarity, at temperature 1
_UNTRAINED = "(simulated answer: this model came without training examples)"

_RULES = {
    "temperature": (lambda value: 0 <= value <= 2, "must be between 0 and 2"),  # noqa: PLR2004 - Gemini's range
    "topP": (lambda value: 0 <= value <= 1, "must be between 0 and 1"),
    "topK": (lambda value: value >= 1, "must be at least 1"),
    "candidateCount": (lambda value: 1 <= value <= MAX_CANDIDATES, f"must be between 1 and {MAX_CANDIDATES}"),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are picked; of the model where the request leaves it open."""

    temperature: float
    top_p: float
    top_k: int
    candidates: int


def generate_text(service: Service, call: Call) -> JsonObject:
    """The PaLM way to ask."""
    prompt = call.body.get("prompt", {}).get("text", "")
    _check("GenerateTextRequest", violations(call.body, _RULES), "prompt.text", prompt)
    return {"candidates": [{"output": each} for each in _answers(service, call, prompt, call.body)]}


def generate_content(service: Service, call: Call) -> JsonObject:
    """The Gemini way to ask."""
    prompt, config = question(call.body)
    return content(prompt, _answers(service, call, prompt, config), call.model)


def question(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The prompt in a GenerateContentRequest (its last turn) and how to sample; raises ApiError."""
    turns = body.get("contents", [])
    prompt = "".join(part.get("text", "") for part in turns[-1].get("parts", [])) if turns else ""
    config = body.get("generationConfig", {})
    _check("GenerateContentRequest", violations(config, _RULES, "generation_config."), "contents", prompt)
    return prompt, config


def content(prompt: str, answers: Sequence[str], model: str) -> JsonObject:
    """A GenerateContentResponse; tokens are words."""
    asked, told = len(prompt.split()), sum(len(each.split()) for each in answers)
    return {
        "candidates": [
            {"index": index, "content": {"parts": [{"text": each}], "role": "model"}, "finishReason": "STOP"}
            for index, each in enumerate(answers)
        ],
        "usageMetadata": {
            "promptTokenCount": asked,
            "candidatesTokenCount": told,
            "totalTokenCount": asked + told,
        },
        "modelVersion": model,
    }


def _check(request: str, wrong: list[Violation], field: str, prompt: str) -> None:
    if not prompt:
        wrong = [*wrong, Violation(field, "must not be empty")]
    if wrong:
        raise invalid(request, wrong)


def _answers(service: Service, call: Call, prompt: str, wishes: Mapping[str, Any]) -> list[str]:
    model = service.store.model(call.model)
    state = state_of(model, service.clock())
    refuse_unless(state == State.ACTIVE, f"Tuned model {call.model} is {state}; only an ACTIVE one can answer.")
    sampling = sampling_of(wishes, model.document)
    return answer(service.store.examples(model.seq), prompt, sampling, service.random)


def sampling_of(wishes: Mapping[str, Any], model: Mapping[str, Any]) -> Sampling:
    """How a request wants its answers picked; what it leaves open is the model's to say."""
    defaults = {"temperature": 0.7, "topP": 0.95, "topK": 40, "candidateCount": 1}
    wanted = {name: wishes.get(name, model.get(name, default)) for name, default in defaults.items()}
    return Sampling(wanted["temperature"], wanted["topP"], wanted["topK"], wanted["candidateCount"])


def answer(examples: Sequence[JsonObject], prompt: str, sampling: Sampling, random: Random) -> list[str]:
    """As many answers as candidates are wanted; without temperature always those of the most similar example."""
    if not examples:
        return [_UNTRAINED] * sampling.candidates
    ranked = _ranked(examples, prompt)[: max(1, sampling.top_k)]
    if sampling.temperature == 0:
        return [ranked[0][1]] * sampling.candidates
    best = ranked[0][0]
    weights = [math.exp((likeness - best) * _SHARPNESS / sampling.temperature) for likeness, _ in ranked]
    total = sum(weights)
    sums = [0.0, *itertools.accumulate(weights)]
    kept = [weight for weight, before in zip(weights, sums, strict=False) if before <= sampling.top_p * total]
    picked = random.choices(ranked[: len(kept)], kept, k=sampling.candidates)
    return [output for _, output in picked]


def _ranked(examples: Sequence[JsonObject], prompt: str) -> list[tuple[float, str]]:
    """Likeness and output of examples, the most similar first; an equal input is found however many there are."""
    equal = [example for example in examples if example.get("textInput") == prompt]
    others = [example for example in examples[:_COMPARED_EXAMPLES] if example.get("textInput") != prompt]
    matcher = SequenceMatcher(b=prompt[:_COMPARED_CHARACTERS], autojunk=False)
    scored = []
    for example in [*equal, *others]:
        matcher.set_seq1(example.get("textInput", "")[:_COMPARED_CHARACTERS])
        scored.append((matcher.ratio(), str(example.get("output", ""))))
    return sorted(scored, key=lambda pair: -pair[0])
