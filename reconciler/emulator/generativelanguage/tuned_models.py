"""Tuned models: the rules for their fields and examples, and the methods of models and operations, except creation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from reconciler.domain.identity import canonical_number
from reconciler.domain.model import State
from reconciler.emulator.errors import (
    ApiError,
    Code,
    JsonObject,
    Rule,
    Violation,
    describe_value,
    find_violations,
    invalid,
    not_found,
    snake_case,
)
from reconciler.emulator.generativelanguage.api import VERSIONS
from reconciler.emulator.service import Api, ApiCall, Service, next_page, read_page
from reconciler.emulator.store import StoredModel
from reconciler.emulator.training import SimulatedTraining, timestamp

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
                wrong = (
                    f"must have at most {limit} characters, but is {describe_value(text)}"
                    if text
                    else "must not be empty"
                )
                yield Violation(f"{path}[{index}].{snake_case(name)}", wrong)
    size = sum(len(text.encode()) for example in examples for text in example.values())
    if size > MAX_DATASET_BYTES:
        yield Violation(path, f"must not exceed {MAX_DATASET_BYTES} bytes, but has {size}")


def sampling_defaults(document: Mapping[str, Any]) -> JsonObject:
    """Return the sampling of the base model of a model, if known."""
    name = document.get("baseModel") or document.get("tunedModelSource", {}).get("baseModel")
    known = next((api.models[name] for api in VERSIONS.values() if name in api.models), {})
    return {field: known[field] for field in ("temperature", "topP", "topK") if field in known}


_PAGE_SIZE = 50


def list_base_models(_: Service, call: ApiCall) -> JsonObject:
    """Return a page of base models."""
    wanted = read_page(call.query, _PAGE_SIZE)
    models = list(call.api.models.values())
    end = wanted.after + wanted.size
    return {"models": models[wanted.after : end], "nextPageToken": next_page(end) if end < len(models) else ""}


def get_base_model(_: Service, call: ApiCall) -> JsonObject:
    """Return one base model."""
    name = f"models/{call.path['model']}"
    if name not in call.api.models:
        raise ApiError(Code.NOT_FOUND, f"{name} is not found for API version {call.api.version}.")
    return call.api.models[name]


_OPERATORS = frozenset({"owner:me", "writers:me", "readers:me"})  # one user owns every model
_TOKEN = re.compile(r'"[^"]*"|\S+')


def list_models(service: Service, call: ApiCall) -> JsonObject:
    """Return a page of tuned models, oldest first."""
    wanted = read_page(call.query)
    words = _words(call.query.get("filter", ""))
    found = service.store.models(wanted.after, wanted.size + 1, words)
    now = service.clock()
    curves = call.wants("tunedModels", "tuningTask", "snapshots")
    shown = [view(service, model, now, curves=curves) for model in found[: wanted.size]]
    more = len(found) > wanted.size
    return {"tunedModels": shown, "nextPageToken": next_page(found[wanted.size - 1].seq) if more else ""}


def _words(text: str) -> list[str]:
    """Return the words that a filter searches in display names and descriptions."""
    tokens = _TOKEN.findall(text)
    unknown = [token for token in tokens if re.match(r"(owner|writers|readers):", token) and token not in _OPERATORS]
    if unknown:
        known = ", ".join(sorted(_OPERATORS))
        description = f'"{unknown[0]}" is not supported by this service; use words or {known}'
        raise invalid("ListTunedModelsRequest", [Violation("filter", description)])
    return [token.strip('"') for token in tokens if token not in _OPERATORS]


def get_model(service: Service, call: ApiCall) -> JsonObject:
    """Return one tuned model."""
    curves = call.wants("tuningTask", "snapshots")
    return view(service, service.store.model(call.model), service.clock(), curves=curves)


def view(service: Service, model: StoredModel, now: datetime, *, curves: bool) -> JsonObject:
    """Return a tuned model at an instant, with its loss curve if requested."""
    document = dict(model.document)
    task = dict(document.get("tuningTask", {}))
    if model.training is None:
        if curves:
            task["snapshots"] = service.store.snapshots(model.seq)
        return {**document, "tuningTask": task} if task else document
    progress = model.training.progress(now)
    if progress.start_time:
        task["startTime"] = timestamp(progress.start_time)
    if progress.end_time:
        document["updateTime"] = _latest(document["updateTime"], progress.end_time)
    if progress.end_time and progress.state is State.ACTIVE:
        task["completeTime"] = timestamp(progress.end_time)
    if curves:
        task["snapshots"] = model.training.snapshots(progress.completed_steps)
    return {**document, "state": progress.state.value, "tuningTask": task}


def _latest(written: str, ended: datetime) -> str:
    return written if datetime.fromisoformat(written) > ended else timestamp(ended)


def state_of(model: StoredModel, now: datetime) -> str:
    """Return the state of a tuned model at an instant."""
    return model.training.progress(now).state.value if model.training else str(model.document.get("state", ""))


def update_model(service: Service, call: ApiCall) -> JsonObject:
    """Set the fields of the update mask; a field that the body omits returns to its default."""
    mask = _mask(call)
    changes = {name: value for name, value in call.body.items() if name in mask}
    violations = model_violations(changes)
    if violations:
        raise invalid("UpdateTunedModelRequest.tuned_model", violations)
    with service.store.transaction():
        model = service.store.model(call.model)
        kept = {name: value for name, value in model.document.items() if name not in mask}
        defaults = {name: value for name, value in sampling_defaults(kept).items() if name in mask}
        document = {**kept, **defaults, **changes, "updateTime": timestamp(service.clock())}
        service.store.update(model.seq, document)
    return get_model(service, call)


def _mask(call: ApiCall) -> frozenset[str]:
    """Return the fields of an update mask by JSON name; raises ApiError."""
    known = call.api.tuned_model.json_names
    paths = [path.strip() for path in call.query.get("updateMask", "").split(",") if path.strip()]
    fields = {path: known.get(path.partition(".")[0], "") for path in paths}
    violations = [
        Violation("update_mask", f'"{path}" {"is immutable" if field else "is not a field of a tuned model"}')
        for path, field in fields.items()
        if path not in known or field not in call.api.mutable
    ]
    if not paths:
        violations = [Violation("update_mask", "is required")]
    if violations:
        raise invalid("UpdateTunedModelRequest", violations)
    return frozenset(fields.values())


def delete_model(service: Service, call: ApiCall) -> JsonObject:
    """Delete a tuned model, even during its training."""
    with service.store.transaction():
        service.store.delete(service.store.model(call.model).seq)
    return {}


def get_operation(service: Service, call: ApiCall) -> JsonObject:
    """Return the operation of a tuned model; under ``/v1`` in the version that the model was created with."""
    model = service.store.model(call.model)
    if model.training is None or model.operation != call.path["operation"]:
        raise not_found(f"{call.model}/operations/{call.path['operation']}")
    api = VERSIONS.get(call.api.version, VERSIONS[model.api])
    return operation_view(service, api, model, model.training)


def operation_view(service: Service, api: Api, model: StoredModel, training: SimulatedTraining) -> JsonObject:
    """Return the current operation of a model that was created here."""
    now = service.clock()
    progress = training.progress(now)
    metadata = {
        "@type": api.type_url("CreateTunedModelMetadata"),
        "tunedModel": model.name,
        "totalSteps": training.total_steps,
        "completedSteps": progress.completed_steps,
        "completedPercent": canonical_number(100 * progress.completed_steps / training.total_steps),
        "snapshots": training.snapshots(progress.completed_steps),
    }
    operation = {"name": f"{model.name}/operations/{model.operation}", "metadata": metadata}
    if progress.state is State.CREATING:
        return operation
    if progress.state is State.FAILED:
        return {**operation, "done": True, "error": {"code": Code.INVALID_ARGUMENT, "message": training.failure}}
    response = {"@type": api.type_url("TunedModel"), **view(service, model, now, curves=True)}
    return {**operation, "done": True, "response": response}
