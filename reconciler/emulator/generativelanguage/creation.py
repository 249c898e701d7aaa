"""The method that creates a tuned model: validate the request, fill in defaults, start the training."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.domain.model import State
from reconciler.emulator.errors import ApiError, Code, JsonObject, Violation, invalid
from reconciler.emulator.generativelanguage.api import TUNE
from reconciler.emulator.generativelanguage.inference import with_inherited
from reconciler.emulator.generativelanguage.permissions import grant_ownership
from reconciler.emulator.generativelanguage.tuned_models import (
    example_violations,
    hyperparameter_violations,
    model_violations,
    operation_view,
    sampling_defaults,
    state_of,
)
from reconciler.emulator.service import Api, ApiCall, Service, refuse_unless
from reconciler.emulator.training import SimulatedTraining, timestamp, total_steps

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
            **sampling_defaults(source),
            **{name: value for name, value in body.items() if name != "tuningTask"},
            **source,
            "createTime": training.created,
            "updateTime": training.created,
            "tuningTask": {"hyperparameters": hyperparameters},
        }
        _insert(service, call.api, document, training, with_inherited(examples, _inherited(service, source)))
    return operation_view(service, call.api, service.store.model(document["name"]), training)


def _check(call: ApiCall, declared: Mapping[str, Any], examples: Sequence[JsonObject]) -> None:
    violations = [*model_violations(call.body), *hyperparameter_violations(declared), *example_violations(examples)]
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
    seq = service.store.insert(document, api=api.version, operation=service.tail(), training=training, examples=known)
    if seq is None:
        raise ApiError(Code.ALREADY_EXISTS, f"Tuned model {document['name']} already exists.")
    grant_ownership(service, seq, document["name"])
