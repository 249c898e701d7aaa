"""The methods of the resources that tuning jobs create: models, endpoints and operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler.emulator.errors import ApiError, Code, JsonObject, Violation, invalid, not_found
from reconciler.emulator.generativelanguage.inference import read_prompt, reply_to, sampling_of, words_in, write_reply
from reconciler.emulator.service import ApiCall, Service, next_page, read_page, refuse_unless
from reconciler.emulator.training import SimulatedTraining, timestamp, total_steps
from reconciler.emulator.vertex import store
from reconciler.emulator.vertex.jobs import list_page
from reconciler.emulator.vertex.messages import MODEL, new_name, parent_of
from reconciler.emulator.vertex.store import Resource

MAX_CHECKPOINTS = 10
"""https://cloud.google.com/vertex-ai/generative-ai/docs/models/tuning-checkpoints"""
_EMPTY = "type.googleapis.com/google.protobuf.Empty"
_PERCENT = 100
_PAGE_SIZE = 100
_PUBLISHER = "publishers/google/models/"
_TUNED = {"tune-type": "sft"}
"""The label by which google-genai lists tuned models; its value is assumed."""
_COPIED = ("description", "labels", "encryptionSpec")


def checkpoints_of(service: Service, parent: str, training: SimulatedTraining, *, last_only: bool) -> list[JsonObject]:
    """Return the checkpoints of a training, each with a new endpoint in the location ``parent``.

    There is one per epoch, at most ten, evenly spread.
    """
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
    service: Service, job: Mapping[str, Any], tuned_model: Mapping[str, Any], time: str
) -> Iterator[JsonObject]:
    """Yield the model and the endpoints that a job creates, given its ``tunedModel``."""
    model = tuned_model["model"].rpartition("@")[0]
    common = {
        "displayName": job.get("tunedModelDisplayName", ""),
        "createTime": time,
        "updateTime": time,
        **{name: job[name] for name in _COPIED if name in job},
    }
    deployed = [(checkpoint, service.number()) for checkpoint in tuned_model["checkpoints"]]
    yield {
        **common,
        "labels": {**common.get("labels", {}), **_TUNED},
        "name": model,
        "versionId": "1",
        "versionAliases": ["default"],
        "versionCreateTime": time,
        "versionUpdateTime": time,
        "deployedModels": [
            {"endpoint": checkpoint["endpoint"], "deployedModelId": number} for checkpoint, number in deployed
        ],
    }
    for checkpoint, number in deployed:
        deployed_model = {
            "id": number,
            "model": model,
            "modelVersionId": "1",
            "displayName": common["displayName"],
            "createTime": time,
            "checkpointId": checkpoint["checkpointId"],
        }
        yield {**common, "name": checkpoint["endpoint"], "deployedModels": [deployed_model]}


_MUTABLE = frozenset({"displayName", "description", "labels"})
_VERSIONS = ("", "1", "default")  # every model has one version


def list_models(service: Service, call: ApiCall) -> JsonObject:
    """Return a page of models, newest first."""
    return list_page(service, call, "models", _document)


def get_model(service: Service, call: ApiCall) -> JsonObject:
    """Return one model."""
    return _model(service, call).document


def list_versions(service: Service, call: ApiCall) -> JsonObject:
    """Return the only version of a model."""
    return {"models": [_model(service, call).document]}


def update_model(service: Service, call: ApiCall) -> JsonObject:
    """Set the fields of the update mask; a field that the body omits is removed."""
    paths = [path.strip() for path in call.query.get("updateMask", "").split(",") if path.strip()]
    names = [MODEL.json_names.get(path, "") for path in paths]
    wrong = [
        Violation("update_mask", f'"{path[:100]}" cannot be changed')
        for path, name in zip(paths, names, strict=True)
        if name not in _MUTABLE
    ]
    if wrong or not paths:
        raise invalid("UpdateModelRequest", wrong or [Violation("update_mask", "is required")])
    with service.store.transaction():
        model = _model(service, call)
        kept = {name: value for name, value in model.document.items() if name not in names}
        changes = {name: call.body[name] for name in names if name in call.body}
        document = {**kept, **changes, "updateTime": timestamp(service.clock())}
        store.update(service.store, model, document)
    return document


def delete_version(service: Service, call: ApiCall) -> JsonObject:
    """Refuse: the only version is deleted with its model."""
    name = _model(service, call).name
    raise ApiError(Code.FAILED_PRECONDITION, f"{name} has no other version: delete the model instead.")


def list_endpoints(service: Service, call: ApiCall) -> JsonObject:
    """Return a page of endpoints, newest first."""
    return list_page(service, call, "endpoints", _document)


def get_endpoint(service: Service, call: ApiCall) -> JsonObject:
    """Return one endpoint."""
    return _endpoint(service, call).document


def get_operation(service: Service, call: ApiCall) -> JsonObject:
    """Return one operation."""
    parent = "/".join(f"{kind}s/{call.path[kind]}" for kind in ("model", "endpoint") if kind in call.path)
    name = f"{parent_of(call)}/{parent}/operations/{call.path['operation']}"
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
    """Delete a model that is not deployed."""
    with service.store.transaction():
        return _delete(service, call, _model(service, call), "Undeploy it from all endpoints first.")


def delete_endpoint(service: Service, call: ApiCall) -> JsonObject:
    """Delete an endpoint without deployed models."""
    with service.store.transaction():
        return _delete(service, call, _endpoint(service, call), "Undeploy all models from it first.")


def _delete(service: Service, call: ApiCall, resource: Resource, remedy: str) -> JsonObject:
    free = not resource.document.get("deployedModels")
    refuse_unless(free, f"{resource.name} cannot be deleted: it is part of a deployment. {remedy}")
    store.delete(service.store, resource)
    return _operation(service, call, resource.name, "DeleteOperationMetadata", {"@type": _EMPTY})


def create_endpoint(service: Service, call: ApiCall) -> JsonObject:
    """Create an endpoint without models."""
    if not call.body.get("displayName"):
        raise invalid("CreateEndpointRequest", [Violation("endpoint.display_name", "is required")])
    now = timestamp(service.clock())
    with service.store.transaction():
        name = new_name(service, f"{parent_of(call)}/endpoints")
        endpoint = {**call.body, "name": name, "createTime": now, "updateTime": now}
        store.insert(service.store, endpoint, service.clock())
        response = {"@type": call.api.type_url("Endpoint"), "name": name}
        return _operation(service, call, name, "CreateEndpointOperationMetadata", response)


def deploy_model(service: Service, call: ApiCall) -> JsonObject:
    """Deploy a tuned model to an endpoint; it needs no machine of its own."""
    wanted = call.body.get("deployedModel", {})
    with service.store.transaction():
        endpoint, now = _endpoint(service, call), service.clock()
        plain, _, version = wanted.get("model", "").partition("@")
        model = _tuned_model(service, plain, version, now)
        deployed_model = {
            **wanted,
            "id": wanted.get("id") or service.number(),
            "model": plain,
            "modelVersionId": "1",
            "createTime": timestamp(now),
        }
        reference = {"endpoint": endpoint.name, "deployedModelId": deployed_model["id"]}
        split = {deployed_model["id"] if key == "0" else key: part for key, part in _traffic(call).items()}
        for resource, added, more in (
            (endpoint, deployed_model, {"trafficSplit": split} if split else {}),
            (model, reference, {}),
        ):
            deployed = [*resource.document.get("deployedModels", []), added]
            document = {**resource.document, **more, "deployedModels": deployed, "updateTime": timestamp(now)}
            store.update(service.store, resource, document)
        response = {"@type": call.api.type_url("DeployModelResponse"), "deployedModel": deployed_model}
        return _operation(service, call, endpoint.name, "DeployModelOperationMetadata", response)


def _tuned_model(service: Service, name: str, version: str, now: datetime) -> Resource:
    if "/models/" not in name or version not in _VERSIONS:
        described = f'must be the name of a model, but is "{name[:100]}"'
        raise invalid("DeployModelRequest", [Violation("deployed_model.model", described)])
    return store.get(service.store, name, now)


def _traffic(call: ApiCall) -> Mapping[str, int]:
    """Return the traffic split of a request, in which 0 is the model to deploy."""
    split: Mapping[str, int] = call.body.get("trafficSplit", {})
    if split and sum(split.values()) != _PERCENT:
        raise invalid("DeployModelRequest", [Violation("traffic_split", "must add up to 100")])
    return split


def undeploy_model(service: Service, call: ApiCall) -> JsonObject:
    """Undeploy a model from an endpoint."""
    wanted = call.body.get("deployedModelId", "")
    with service.store.transaction():
        endpoint = _endpoint(service, call)
        deployed = endpoint.document.get("deployedModels", [])
        deployed_model = next((model for model in deployed if model["id"] == wanted), None)
        if deployed_model is None:
            described = f'no model with the id "{wanted[:100]}" is deployed to {endpoint.name}'
            raise invalid("UndeployModelRequest", [Violation("deployed_model_id", described)])
        _undeploy(service, endpoint, deployed_model)
        response = call.api.type_url("UndeployModelResponse")
        return _operation(service, call, endpoint.name, "UndeployModelOperationMetadata", {"@type": response})


def _undeploy(service: Service, endpoint: Resource, deployed_model: JsonObject) -> None:
    now = service.clock()
    model = store.get(service.store, deployed_model["model"], now)
    rest = [
        deployment
        for deployment in model.document["deployedModels"]
        if deployment["deployedModelId"] != deployed_model["id"]
    ]
    kept = [deployed for deployed in endpoint.document["deployedModels"] if deployed["id"] != deployed_model["id"]]
    for resource, left in ((endpoint, kept), (model, rest)):
        document = {**resource.document, "deployedModels": left, "updateTime": timestamp(now)}
        store.update(service.store, resource, document)


def _operation(service: Service, call: ApiCall, about: str, metadata: str, response: JsonObject) -> JsonObject:
    """Insert and return a completed operation with this metadata message and response."""
    now = service.clock()
    time = timestamp(now)
    operation = {
        "name": new_name(service, f"{about}/operations"),
        "metadata": {
            "@type": call.api.type_url(metadata),
            "genericMetadata": {"createTime": time, "updateTime": time},
        },
        "done": True,
        "response": response,
    }
    store.insert(service.store, operation, now)
    return operation


def list_base_models(service: Service, call: ApiCall) -> JsonObject:
    """Return a page of the base models that can be tuned."""
    wanted, names = read_page(call.query, _PAGE_SIZE), tunable_models(service)
    end = wanted.after + wanted.size
    found = [_base_model(name) for name in names[wanted.after : end]]
    return {"publisherModels": found, "nextPageToken": next_page(end) if end < len(names) else ""}


def get_base_model(service: Service, call: ApiCall) -> JsonObject:
    """Return a base model."""
    if call.path["model"] not in tunable_models(service):
        raise not_found(f"{_PUBLISHER}{call.path['model']}")
    return _base_model(call.path["model"])


def generate_base_content(service: Service, call: ApiCall) -> JsonObject:
    """Answer with a base model, which has learned nothing."""
    prompt, config = read_prompt(call.body)
    _require_base_model(service, call)
    reply = reply_to(prompt, (), sampling_of(config, {}), service.random)
    return write_reply(prompt, reply, call.path["model"])


def count_base_tokens(service: Service, call: ApiCall) -> JsonObject:
    """Return the number of tokens, which are words, of a prompt to a base model."""
    _require_base_model(service, call)
    return {"totalTokens": words_in(call.body)}


def _require_base_model(service: Service, call: ApiCall) -> None:
    """Raise ApiError unless a base model answers in the location of a call: as tuned ones, and in ``global``."""
    parent, location, name = parent_of(call), call.path["location"], call.path["model"]
    model = service.base_models.models.get(name)
    known = model is not None or not service.base_models.models
    here = model is None or not model.serving_locations or location in ("global", *model.serving_locations)
    if not known or not here:
        raise ApiError(
            Code.NOT_FOUND,
            f"Publisher Model `{parent}/{_PUBLISHER}{name}` was not found or your project does not have access to it."
            " Please ensure you are using a valid model version.",
        )


def tunable_models(service: Service, location: str | None = None) -> list[str]:
    """Return the base models of Google that can be tuned today; the names of open models have a publisher."""
    tunable = service.base_models.tunable(service.clock().date(), location)
    return [name for name in tunable if "/" not in name]


def _base_model(name: str) -> JsonObject:
    return {"name": f"{_PUBLISHER}{name}", "versionId": "default"}


def count_tokens(service: Service, call: ApiCall) -> JsonObject:
    """Return the number of tokens, which are words, of a prompt to an endpoint."""
    _endpoint(service, call)
    return {"totalTokens": words_in(call.body)}


def generate_content(service: Service, call: ApiCall) -> JsonObject:
    """Answer with the checkpoint that is deployed to an endpoint; earlier checkpoints have learned fewer examples."""
    prompt, config = read_prompt(call.body)
    endpoint = _endpoint(service, call)
    deployed = endpoint.document.get("deployedModels", [])
    refuse_unless(bool(deployed), f"No model is deployed to {endpoint.name}, so it cannot answer.")
    name, checkpoint = deployed[0]["model"], deployed[0].get("checkpointId", "")
    examples = store.learned_by(service.store, store.get(service.store, name, service.clock()), checkpoint)
    reply = reply_to(prompt, examples, sampling_of(config, {}), service.random)
    return write_reply(prompt, reply, name)
