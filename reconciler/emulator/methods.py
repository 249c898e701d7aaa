"""The methods of the simulated Generative Language API and Vertex AI: verb, path, handler and messages."""

from __future__ import annotations

from functools import partial

from reconciler.emulator.generativelanguage import api, inference, permissions, tuned_models
from reconciler.emulator.generativelanguage.api import V1, V1BETA, V1BETA3
from reconciler.emulator.proto import EMPTY, Message
from reconciler.emulator.service import Api, Method
from reconciler.emulator.vertex import api as vertex
from reconciler.emulator.vertex import creation, jobs, models

_method = partial(Method, apis=(V1BETA3, V1BETA))


def _tuned_model(version: Api) -> Message:
    return version.tuned_model


def _operation(version: Api) -> Message:
    return version.operation


_TUNED_MODELS = "/tunedModels"
_TUNED_MODEL = f"{_TUNED_MODELS}/{{model}}"
_PERMISSIONS = f"{_TUNED_MODEL}/permissions"
_PERMISSION = f"{_PERMISSIONS}/{{permission}}"

_GENERATIVE_LANGUAGE = (
    _method("GET", "/models", tuned_models.list_base_models, api.LIST_MODELS, query=api.PAGE),
    _method("GET", "/models/{model}", tuned_models.get_base_model, api.MODEL),
    _method(
        "GET",
        _TUNED_MODELS,
        tuned_models.list_models,
        lambda version: version.tuned_models,
        query=lambda version: version.query,
    ),
    _method(
        "POST",
        _TUNED_MODELS,
        tuned_models.create_model,
        _operation,
        query=api.CREATE_QUERY,
        body=_tuned_model,
        root="tuned_model",
    ),
    _method(
        "POST", f"{_TUNED_MODEL}:transferOwnership", permissions.transfer_ownership, EMPTY, body=api.TRANSFER_OWNERSHIP
    ),
    _method(
        "POST",
        f"{_TUNED_MODEL}:generateText",
        inference.generate_text,
        api.TEXT,
        body=api.GENERATE_TEXT,
        apis=(V1BETA3,),
    ),
    _method(
        "POST",
        f"{_TUNED_MODEL}:generateContent",
        inference.generate_content,
        api.CONTENT,
        body=api.GENERATE_CONTENT,
        apis=(V1BETA,),
    ),
    _method("GET", _TUNED_MODEL, tuned_models.get_model, _tuned_model),
    _method(
        "PATCH",
        _TUNED_MODEL,
        tuned_models.update_model,
        _tuned_model,
        query=api.UPDATE_QUERY,
        body=_tuned_model,
        root="tuned_model",
    ),
    _method("DELETE", _TUNED_MODEL, tuned_models.delete_model, EMPTY),
    _method(
        "GET",
        f"{_TUNED_MODEL}/operations/{{operation}}",
        tuned_models.get_operation,
        _operation,
        apis=(V1, V1BETA3, V1BETA),
    ),
    _method("GET", _PERMISSIONS, permissions.list_permissions, api.LIST_PERMISSIONS, query=api.PAGE),
    _method(
        "POST", _PERMISSIONS, permissions.create_permission, api.PERMISSION, body=api.PERMISSION, root="permission"
    ),
    _method("GET", _PERMISSION, permissions.get_permission, api.PERMISSION),
    _method(
        "PATCH",
        _PERMISSION,
        permissions.update_permission,
        api.PERMISSION,
        query=api.UPDATE_QUERY,
        body=api.PERMISSION,
        root="permission",
    ),
    _method("DELETE", _PERMISSION, permissions.delete_permission, EMPTY),
)

_vertex = partial(Method, apis=(vertex.VERTEX_V1, vertex.VERTEX_V1BETA1))
_JOBS, _MODELS, _ENDPOINTS = "/tuningJobs", "/models", "/endpoints"
_JOB, _MODEL, _ENDPOINT = f"{_JOBS}/{{job}}", f"{_MODELS}/{{model}}", f"{_ENDPOINTS}/{{endpoint}}"

_VERTEX = (
    _vertex("GET", _JOBS, jobs.list_jobs, vertex.list_of("tuningJobs", vertex.TUNING_JOB), query=vertex.LIST),
    _vertex("POST", _JOBS, creation.create_job, vertex.TUNING_JOB, body=vertex.TUNING_JOB, root="tuning_job"),
    _vertex("POST", f"{_JOB}:cancel", jobs.cancel_job, EMPTY),
    _vertex("GET", _JOB, jobs.get_job, vertex.TUNING_JOB),
    _vertex("GET", _MODELS, models.list_models, vertex.list_of("models", vertex.MODEL), query=vertex.LIST),
    _vertex(
        "GET",
        f"{_MODEL}:listVersions",
        models.list_versions,
        vertex.list_of("modelVersions", vertex.MODEL, "models"),
        query=vertex.LIST,
    ),
    _vertex("DELETE", f"{_MODEL}:deleteVersion", models.delete_version, vertex.OPERATION),
    _vertex("GET", _MODEL, models.get_model, vertex.MODEL),
    _vertex("DELETE", _MODEL, models.delete_model, vertex.OPERATION),
    _vertex("GET", f"{_MODEL}/operations/{{operation}}", models.get_operation, vertex.OPERATION),
    _vertex("GET", _ENDPOINTS, models.list_endpoints, vertex.list_of("endpoints", vertex.ENDPOINT), query=vertex.LIST),
    _vertex("POST", f"{_ENDPOINT}:undeployModel", models.undeploy_model, vertex.OPERATION, body=vertex.UNDEPLOY_MODEL),
    _vertex(
        "POST", f"{_ENDPOINT}:generateContent", models.generate_content, vertex.CONTENT, body=vertex.GENERATE_CONTENT
    ),
    _vertex("GET", _ENDPOINT, models.get_endpoint, vertex.ENDPOINT),
    _vertex("DELETE", _ENDPOINT, models.delete_endpoint, vertex.OPERATION),
    _vertex("GET", f"{_ENDPOINT}/operations/{{operation}}", models.get_operation, vertex.OPERATION),
)

METHODS = (*_GENERATIVE_LANGUAGE, *_VERTEX)
