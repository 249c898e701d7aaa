"""Tuned models: the rules for their fields and examples, and the methods of models and operations."""

from __future__ import annotations

import hashlib
import json
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
from reconciler.emulator.generativelanguage.messages import TUNE, V1BETA, V1BETA3, VERSIONS
from reconciler.emulator.generativelanguage.permissions import grant_ownership
from reconciler.emulator.service import Api, ApiCall, Service, next_page, read_page, refuse_unless
from reconciler.emulator.store import StoredModel, with_inherited
from reconciler.emulator.training import SimulatedTraining, timestamp, total_steps

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


def _example_violations(examples: Sequence[JsonObject]) -> Iterator[Violation]:
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


def _sampling_defaults(document: Mapping[str, Any]) -> JsonObject:
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
    name = f"models/{call.path['base']}"
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
    shown = [_view(service, model, now, curves=curves) for model in found[: wanted.size]]
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
    return _view(service, service.store.model(call.model), service.clock(), curves=curves)


def _view(service: Service, model: StoredModel, now: datetime, *, curves: bool) -> JsonObject:
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
    violations = find_violations(changes, _MODEL_RULES)
    if violations:
        raise invalid("UpdateTunedModelRequest.tuned_model", violations)
    with service.store.transaction():
        model = service.store.model(call.model)
        kept = {name: value for name, value in model.document.items() if name not in mask}
        defaults = {name: value for name, value in _sampling_defaults(kept).items() if name in mask}
        document = {**kept, **defaults, **changes, "updateTime": timestamp(service.clock())}
        service.store.update(model.seq, document)
    return get_model(service, call)


def _mask(call: ApiCall) -> frozenset[str]:
    """Return the fields of an update mask by JSON name; raises ApiError.

    The mask is required in ``v1beta3``. In ``v1beta`` it is optional, and without it the fields of the body are set.
    """
    known = call.api.tuned_model.json_names
    paths = [path.strip() for path in call.query.get("updateMask", "").split(",") if path.strip()]
    fields = {path: known.get(path.partition(".")[0], "") for path in paths}
    violations = [
        Violation("update_mask", f'"{path}" {"is immutable" if field else "is not a field of a tuned model"}')
        for path, field in fields.items()
        if path not in known or field not in call.api.mutable
    ]
    if not paths and call.api is not V1BETA3:
        return call.api.mutable & call.body.keys()
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
    return _operation_view(service, api, model, model.training)


def _operation_view(service: Service, api: Api, model: StoredModel, training: SimulatedTraining) -> JsonObject:
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
    response = {"@type": api.type_url("TunedModel"), **_view(service, model, now, curves=True)}
    return {**operation, "done": True, "response": response}


MAX_ID = 40
ID_PATTERN = r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
MAX_STEPS = 2**31 - 1
_DEFAULT_NAME = "tuned-model"
_MODEL_NAME = re.compile(r"models/[^/]+")
_TUNED_MODEL_NAME = re.compile(r"tunedModels/[^/]+")
_TAIL = 13  # a hyphen and twelve random characters


def create_model(service: Service, call: ApiCall) -> JsonObject:
    """Start a training and return its operation."""
    body = call.body
    task = body.get("tuningTask", {})
    examples = task.get("trainingData", {}).get("examples", {}).get("examples", [])
    declared = task.get("hyperparameters", {})
    _check(call, declared, examples)
    hyperparameters = _effective(call.api, declared)
    with service.store.transaction():
        source = _source(service, call.api, body)
        training = _training(service, call.api, hyperparameters, examples, source)
        document = {
            "name": f"tunedModels/{call.query.get('tunedModelId') or _generate_id(service, body)}",
            **_sampling_defaults(source),
            **{name: value for name, value in body.items() if name != "tuningTask"},
            **source,
            "createTime": training.created,
            "updateTime": training.created,
            "tuningTask": {"hyperparameters": hyperparameters},
        }
        _insert(service, call.api, document, training, with_inherited(examples, _inherited(service, source)))
    model = service.store.model(document["name"])
    return _operation_view(service, VERSIONS[model.api], model, training)


def _check(call: ApiCall, declared: Mapping[str, Any], examples: Sequence[JsonObject]) -> None:
    violations = [
        *find_violations(call.body, _MODEL_RULES),
        *find_violations(declared, _HYPERPARAMETER_RULES, "tuning_task.hyperparameters."),
        *_example_violations(examples),
    ]
    if not violations:
        effective = _effective(call.api, declared)
        steps = total_steps(len(examples), effective["epochCount"], effective["batchSize"])
        if steps > MAX_STEPS:
            described = f"makes {steps} steps, more than {MAX_STEPS}"
            violations = [Violation("tuning_task.hyperparameters.epoch_count", described)]
    prefixed = [Violation(f"tuned_model.{violation.field}", violation.description) for violation in violations]
    chosen = call.query.get("tunedModelId")
    if chosen is not None and not re.fullmatch(ID_PATTERN, chosen):
        rule = f'must match {ID_PATTERN} (at most {MAX_ID} characters), but is "{chosen[:100]}"'
        prefixed.insert(0, Violation("tuned_model_id", rule))
    if prefixed:
        raise invalid("CreateTunedModelRequest", prefixed)


def _source(service: Service, api: Api, body: Mapping[str, Any]) -> JsonObject:
    """Return the baseModel or the complete tunedModelSource of a new model; raises ApiError if it cannot be tuned."""
    if "tunedModelSource" in body:
        return _tuned_source(service, body["tunedModelSource"].get("tunedModel", ""))
    name = body.get("baseModel", "")
    if not _MODEL_NAME.fullmatch(name):
        described = f'must be the name of a base model in the form models/ID, but is "{name}"'
        raise invalid("CreateTunedModelRequest", [Violation("tuned_model.base_model", described)])
    model = api.models.get(name)
    if model is None or TUNE not in model["supportedGenerationMethods"]:
        raise ApiError(
            Code.INVALID_ARGUMENT if model else Code.NOT_FOUND,
            f"{name} is not found for API version {api.version}, or is not supported for {TUNE}. "
            "Call ListModels to see the list of available models and their supported methods.",
        )
    return {"baseModel": name}


def _tuned_source(service: Service, name: str) -> JsonObject:
    if not _TUNED_MODEL_NAME.fullmatch(name):
        described = f'must be the name of a tuned model in the form tunedModels/ID, but is "{name}"'
        raise invalid("CreateTunedModelRequest", [Violation("tuned_model.tuned_model_source.tuned_model", described)])
    parent = service.store.model(name)
    state = state_of(parent, service.clock())
    refuse_unless(state == State.ACTIVE, f"Tuned model {name} is {state}; only an ACTIVE one can be tuned further.")
    base = parent.document.get("baseModel") or parent.document.get("tunedModelSource", {}).get("baseModel", "")
    return {"tunedModelSource": {"tunedModel": name, "baseModel": base}}


def _inherited(service: Service, source: JsonObject) -> list[JsonObject]:
    """Return the examples of the parent, if there is one."""
    if "tunedModelSource" not in source:
        return []
    return service.store.examples(service.store.model(source["tunedModelSource"]["tunedModel"]).seq)


def _effective(api: Api, declared: Mapping[str, Any]) -> JsonObject:
    """Return the declared hyperparameters with defaults for the others; a multiplier replaces the rate."""
    defaults = {name: value for name, value in api.defaults.items() if name != "learningRate"}
    if "learningRateMultiplier" not in declared:
        defaults["learningRate"] = api.defaults["learningRate"]
    return {**defaults, **declared}


def _training(
    service: Service, api: Api, hyperparameters: JsonObject, examples: Sequence[JsonObject], source: JsonObject
) -> SimulatedTraining:
    content = json.dumps([source, hyperparameters, examples], sort_keys=True)
    scaled = hyperparameters.get("learningRateMultiplier", 1) * api.defaults["learningRate"]
    return SimulatedTraining(
        created=timestamp(service.clock()),
        examples=len(examples),
        batch_size=hyperparameters["batchSize"],
        epochs=hyperparameters["epochCount"],
        learning_rate=hyperparameters.get("learningRate", scaled),
        seed=hashlib.sha256(content.encode()).hexdigest(),
        step_seconds=service.settings.step_seconds,
        overhead_seconds=service.settings.overhead_seconds,
    )


def _generate_id(service: Service, body: Mapping[str, Any]) -> str:
    """Return an ID from the display name and a random suffix."""
    words = re.sub(r"[^a-z0-9-]", "", body.get("displayName", "").lower().replace(" ", "-"))
    stem = words.lstrip("-0123456789")[: MAX_ID - _TAIL].rstrip("-")
    return f"{stem or _DEFAULT_NAME}-{service.tail()}"


def _insert(
    service: Service, api: Api, document: JsonObject, training: SimulatedTraining, known: Sequence[JsonObject]
) -> None:
    stored = api.version if api.version in VERSIONS else V1BETA.version  # /v1 has no messages of its own
    seq = service.store.insert(document, api=stored, operation=service.tail(), training=training, examples=known)
    if seq is None:
        raise ApiError(Code.ALREADY_EXISTS, f"Tuned model {document['name']} already exists.")
    grant_ownership(service, seq, document["name"])
