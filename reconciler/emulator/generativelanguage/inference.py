"""The calls that ask a tuned model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.domain.model import State
from reconciler.emulator.answers import GeneratedAnswer, GeneratedReply, SamplingParameters, reply_to
from reconciler.emulator.errors import JsonObject, Rule, Violation, find_violations, invalid
from reconciler.emulator.generativelanguage.tuned_models import state_of
from reconciler.emulator.service import ApiCall, Service, refuse_unless

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
    """The PaLM way to ask."""
    prompt = call.body.get("prompt", {}).get("text", "")
    _check("GenerateTextRequest", find_violations(call.body, _TEXT_RULES), "prompt.text", prompt)
    reply = _reply(service, call, prompt, call.body)
    blocked = reply.blocked or any(candidate.finish == "SAFETY" for candidate in reply.candidates)
    filters = [{"reason": "SAFETY", "message": _BLOCKED}] if blocked else []
    return {"candidates": [{"output": text} for text in reply.texts], "filters": filters}


def generate_content(service: Service, call: ApiCall) -> JsonObject:
    """The Gemini way to ask."""
    prompt, config = read_prompt(call.body)
    return write_reply(prompt, _reply(service, call, prompt, config), call.model)


def read_prompt(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The prompt in a GenerateContentRequest (its last turn) and how to sample; raises ApiError."""
    turns = body.get("contents", [])
    prompt = "".join(part.get("text", "") for part in turns[-1].get("parts", [])) if turns else ""
    config = body.get("generationConfig", {})
    _check("GenerateContentRequest", find_violations(config, _RULES, "generation_config."), "contents", prompt)
    return prompt, config


def write_reply(prompt: str, reply: GeneratedReply, model: str) -> JsonObject:
    """A GenerateContentResponse; tokens are words."""
    asked, told = len(prompt.split()), sum(len(text.split()) for text in reply.texts)
    return {
        "candidates": [{"index": index, **_candidate(each)} for index, each in enumerate(reply.candidates)],
        **({"promptFeedback": {"blockReason": "SAFETY"}} if reply.blocked else {}),
        "usageMetadata": {
            "promptTokenCount": asked,
            "candidatesTokenCount": told,
            "totalTokenCount": asked + told,
        },
        "modelVersion": model,
    }


def _candidate(candidate: GeneratedAnswer) -> JsonObject:
    said = {} if candidate.text is None else {"content": {"parts": [{"text": candidate.text}], "role": "model"}}
    return {**said, "finishReason": candidate.finish}


def _check(request: str, wrong: list[Violation], field: str, prompt: str) -> None:
    if not prompt:
        wrong = [*wrong, Violation(field, "must not be empty")]
    if wrong:
        raise invalid(request, wrong)


def _reply(service: Service, call: ApiCall, prompt: str, wishes: Mapping[str, Any]) -> GeneratedReply:
    model = service.store.model(call.model)
    state = state_of(model, service.clock())
    refuse_unless(state == State.ACTIVE, f"Tuned model {call.model} is {state}; only an ACTIVE one can answer.")
    sampling = sampling_of(wishes, model.document)
    return reply_to(prompt, service.store.examples(model.seq), sampling, service.random)


def sampling_of(wishes: Mapping[str, Any], model: Mapping[str, Any]) -> SamplingParameters:
    """How a request wants its answers picked; what it leaves open is the model's to say."""
    defaults = {"temperature": 0.7, "topP": 0.95, "topK": 40, "candidateCount": 1}
    wanted = {name: wishes.get(name, model.get(name, default)) for name, default in defaults.items()}
    return SamplingParameters(
        wanted["temperature"],
        wanted["topP"],
        wanted["topK"],
        wanted["candidateCount"],
        wishes.get("maxOutputTokens"),
        tuple(wishes.get("stopSequences", ())),
        wishes.get("seed"),
    )
