"""The methods that send a prompt to a tuned model."""

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
    return write_reply(prompt, _reply(service, call, prompt, config), call.model)


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


def _reply(service: Service, call: ApiCall, prompt: str, request: Mapping[str, Any]) -> GeneratedReply:
    model = service.store.model(call.model)
    state = state_of(model, service.clock())
    refuse_unless(state == State.ACTIVE, f"Tuned model {call.model} is {state}; only an ACTIVE one accepts prompts.")
    sampling = sampling_of(request, model.document)
    return reply_to(prompt, service.store.examples(model.seq), sampling, service.random)


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
