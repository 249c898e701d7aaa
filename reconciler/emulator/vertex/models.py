"""The calls on what tuning jobs make: models, endpoints, and the operations that remove them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler.emulator.answers import reply_to
from reconciler.emulator.errors import ApiError, Code, JsonObject, Violation, invalid, not_found
from reconciler.emulator.generativelanguage.inference import read_prompt, sampling_of, write_reply
from reconciler.emulator.service import ApiCall, Service, refuse_unless
from reconciler.emulator.training import SimulatedTraining, timestamp, total_steps
from reconciler.emulator.vertex import store
from reconciler.emulator.vertex.catalog import new_name, parent_of
from reconciler.emulator.vertex.jobs import list_page
from reconciler.emulator.vertex.store import Resource

MAX_CHECKPOINTS = 10
"""https://cloud.google.com/vertex-ai/generative-ai/docs/models/tuning-checkpoints"""
_COPIED = ("description", "labels", "encryptionSpec")


def checkpoints_of(service: Service, parent: str, training: SimulatedTraining, *, last_only: bool) -> list[JsonObject]:
    """The checkpoints of a training, each with a new endpoint: one an epoch, and at most ten evenly spread ones."""
    shown = 1 if last_only else min(training.epochs, MAX_CHECKPOINTS)
    epochs = [training.epochs * number // shown for number in range(1, shown + 1)]
    return [
        {
            "checkpointId": str(number),
            "epoch": str(epoch),
            "step": str(total_steps(training.examples, epoch, training.batch_size)),
            "endpoint": new_name(service, f"{parent}/endpoints"),
        }
        for number, epoch in enumerate(epochs, 1)
    ]


def resources_of_job(
    service: Service, job: Mapping[str, Any], made: Mapping[str, Any], time: str
) -> Iterator[JsonObject]:
    """The model and the endpoints that a job makes at a time, given what it tells of them (its ``tunedModel``)."""
    model = made["model"].rpartition("@")[0]
    common = {
        "displayName": job.get("tunedModelDisplayName", ""),
        "createTime": time,
        "updateTime": time,
        **{name: job[name] for name in _COPIED if name in job},
    }
    deployed = [(each, service.number()) for each in made["checkpoints"]]
    yield {
        **common,
        "name": model,
        "versionId": "1",
        "versionAliases": ["default"],
        "versionCreateTime": time,
        "versionUpdateTime": time,
        "deployedModels": [{"endpoint": each["endpoint"], "deployedModelId": number} for each, number in deployed],
    }
    for each, number in deployed:
        here = {
            "id": number,
            "model": model,
            "modelVersionId": "1",
            "displayName": common["displayName"],
            "createTime": time,
            "checkpointId": each["checkpointId"],
        }
        yield {**common, "name": each["endpoint"], "deployedModels": [here]}


_VERSIONS = ("", "1", "default")  # a model has one version here


def list_models(service: Service, call: ApiCall) -> JsonObject:
    """A page of models, the newest first."""
    return list_page(service, call, "models", _document)


def get_model(service: Service, call: ApiCall) -> JsonObject:
    """One model."""
    return _model(service, call).document


def list_versions(service: Service, call: ApiCall) -> JsonObject:
    """The versions of a model: the one that there is."""
    return {"models": [_model(service, call).document]}


def delete_version(service: Service, call: ApiCall) -> JsonObject:
    """Refuses: the only version of a model goes with the model."""
    name = _model(service, call).name
    raise ApiError(Code.FAILED_PRECONDITION, f"{name} has no other version: delete the model instead.")


def list_endpoints(service: Service, call: ApiCall) -> JsonObject:
    """A page of endpoints, the newest first."""
    return list_page(service, call, "endpoints", _document)


def get_endpoint(service: Service, call: ApiCall) -> JsonObject:
    """One endpoint."""
    return _endpoint(service, call).document


def get_operation(service: Service, call: ApiCall) -> JsonObject:
    """One operation."""
    made = "/".join(f"{kind}s/{call.path[kind]}" for kind in ("model", "endpoint") if kind in call.path)
    name = f"{parent_of(call)}/{made}/operations/{call.path['operation']}"
    return store.get(service.store, name, service.clock()).document


def _document(resource: Resource, _: datetime) -> JsonObject:
    return resource.document


def _model(service: Service, call: ApiCall) -> Resource:
    plain, _, version = call.path["model"].partition("@")
    if version not in _VERSIONS:
        raise not_found(f"{parent_of(call)}/models/{call.path['model']}")
    return store.get(service.store, f"{parent_of(call)}/models/{plain}", service.clock())


def _endpoint(service: Service, call: ApiCall) -> Resource:
    return store.get(service.store, f"{parent_of(call)}/endpoints/{call.path['endpoint']}", service.clock())


def delete_model(service: Service, call: ApiCall) -> JsonObject:
    """Removes a model that is deployed nowhere."""
    with service.store.transaction():
        return _delete(service, call, _model(service, call), "Undeploy it from all endpoints first.")


def delete_endpoint(service: Service, call: ApiCall) -> JsonObject:
    """Removes an endpoint that nothing is deployed to."""
    with service.store.transaction():
        return _delete(service, call, _endpoint(service, call), "Undeploy all models from it first.")


def _delete(service: Service, call: ApiCall, resource: Resource, remedy: str) -> JsonObject:
    free = not resource.document.get("deployedModels")
    refuse_unless(free, f"{resource.name} cannot be deleted: it is part of a deployment. {remedy}")
    store.delete(service.store, resource)
    return _operation(
        service, call, resource.name, "DeleteOperationMetadata", "type.googleapis.com/google.protobuf.Empty"
    )


def undeploy_model(service: Service, call: ApiCall) -> JsonObject:
    """Takes a model off an endpoint."""
    wanted = call.body.get("deployedModelId", "")
    with service.store.transaction():
        endpoint = _endpoint(service, call)
        deployed = endpoint.document.get("deployedModels", [])
        here = next((each for each in deployed if each["id"] == wanted), None)
        if here is None:
            described = f'no model with the id "{wanted[:100]}" is deployed to {endpoint.name}'
            raise invalid("UndeployModelRequest", [Violation("deployed_model_id", described)])
        _take_off(service, endpoint, here)
        response = call.api.type_url("UndeployModelResponse")
        return _operation(service, call, endpoint.name, "UndeployModelOperationMetadata", response)


def _take_off(service: Service, endpoint: Resource, here: JsonObject) -> None:
    now = service.clock()
    model = store.get(service.store, here["model"], now)
    rest = [each for each in model.document["deployedModels"] if each["deployedModelId"] != here["id"]]
    for resource, left in ((endpoint, []), (model, rest)):
        document = {**resource.document, "deployedModels": left, "updateTime": timestamp(now)}
        store.update(service.store, resource, document)


def _operation(service: Service, call: ApiCall, about: str, metadata: str, response: str) -> JsonObject:
    """An operation that is done; its metadata are a message of the API, its response the URL of an empty one."""
    now = service.clock()
    time = timestamp(now)
    operation = {
        "name": new_name(service, f"{about}/operations"),
        "metadata": {
            "@type": call.api.type_url(metadata),
            "genericMetadata": {"createTime": time, "updateTime": time},
        },
        "done": True,
        "response": {"@type": response},
    }
    store.insert(service.store, operation, now)
    return operation


def generate_content(service: Service, call: ApiCall) -> JsonObject:
    """Answers as the model does that is deployed to an endpoint."""
    prompt, config = read_prompt(call.body)
    endpoint = _endpoint(service, call)
    deployed = endpoint.document.get("deployedModels")
    refuse_unless(bool(deployed), f"No model is deployed to {endpoint.name}, so nothing can answer.")
    examples = store.examples_of(service.store, endpoint)
    reply = reply_to(prompt, examples, sampling_of(config, {}), service.random)
    return write_reply(prompt, reply, endpoint.document["deployedModels"][0]["model"])
