"""What the service requires of the fields of a tuned model and of its training examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.emulator.errors import JsonObject, Rule, Violation, _shown, find_violations
from reconciler.emulator.generativelanguage.catalog import VERSIONS
from reconciler.emulator.proto import snake_case

MAX_DISPLAY_NAME = 40


MAX_INPUT = 40_000


MAX_OUTPUT = 5_000


MAX_DATASET_BYTES = 4 * 1024 * 1024
"""Inputs and outputs in UTF-8; the guides state 4 MB without a definition."""


_SHARE: Rule = (lambda value: 0 <= value <= 1, "must be between 0 and 1")


_COUNT: Rule = (lambda value: value >= 1, "must be at least 1")


_POSITIVE: Rule = (lambda value: value > 0, "must be greater than 0")


_MODEL_RULES: Mapping[str, Rule] = {
    "displayName": (lambda value: len(value) <= MAX_DISPLAY_NAME, f"must have at most {MAX_DISPLAY_NAME} characters"),
    "temperature": _SHARE,
    "topP": _SHARE,
    "topK": _COUNT,
}


_HYPERPARAMETER_RULES: Mapping[str, Rule] = {
    "epochCount": _COUNT,
    "batchSize": _COUNT,
    "learningRate": _POSITIVE,
    "learningRateMultiplier": _POSITIVE,
}


_EXAMPLE_LIMITS = {"textInput": MAX_INPUT, "output": MAX_OUTPUT}


def model_violations(document: Mapping[str, Any]) -> list[Violation]:
    """Return the violations of the display name and sampling of a model."""
    return find_violations(document, _MODEL_RULES)


def hyperparameter_violations(hyperparameters: Mapping[str, Any]) -> list[Violation]:
    """Return the violations of declared hyperparameters."""
    return find_violations(hyperparameters, _HYPERPARAMETER_RULES, "tuning_task.hyperparameters.")


def example_violations(examples: Sequence[JsonObject]) -> Iterator[Violation]:
    """Yield the violations of a data set."""
    path = "tuning_task.training_data.examples.examples"
    if not examples:
        yield Violation(path, "must have at least one example")
    for index, example in enumerate(examples):
        for name, limit in _EXAMPLE_LIMITS.items():
            text = example.get(name, "")
            if not 0 < len(text) <= limit:
                wrong = f"must have at most {limit} characters, but is {_shown(text)}" if text else "must not be empty"
                yield Violation(f"{path}[{index}].{snake_case(name)}", wrong)
    size = sum(len(text.encode()) for example in examples for text in example.values())
    if size > MAX_DATASET_BYTES:
        yield Violation(path, f"must not exceed {MAX_DATASET_BYTES} bytes, but has {size}")


def sampling_defaults(document: Mapping[str, Any]) -> JsonObject:
    """Return the sampling of the base model of a model, if known."""
    name = document.get("baseModel") or document.get("tunedModelSource", {}).get("baseModel")
    known = next((api.models[name] for api in VERSIONS.values() if name in api.models), {})
    return {field: known[field] for field in ("temperature", "topP", "topK") if field in known}
