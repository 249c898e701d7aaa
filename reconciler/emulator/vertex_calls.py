"""Every call of Vertex AI that is offered, under a project and a location."""

from __future__ import annotations

from functools import partial

from reconciler.emulator import messages, vertex_creation, vertex_jobs, vertex_models
from reconciler.emulator.calls import Entry, always
from reconciler.emulator.vertex_catalogue import VERTEX_V1, VERTEX_V1BETA1
from reconciler.emulator.vertex_messages import (
    CONTENT,
    ENDPOINT,
    GENERATE_CONTENT,
    LIST,
    MODEL,
    OPERATION,
    TUNING_JOB,
    UNDEPLOY_MODEL,
    list_of,
)

_vertex = partial(Entry, apis=(VERTEX_V1, VERTEX_V1BETA1))
_JOBS, _MODELS, _ENDPOINTS = "/tuningJobs", "/models", "/endpoints"
_JOB, _MODEL, _ENDPOINT = f"{_JOBS}/{{job}}", f"{_MODELS}/{{model}}", f"{_ENDPOINTS}/{{endpoint}}"
_VERSIONS = always(list_of("modelVersions", MODEL, "models"))
_JOB_SHAPE, _OPERATION_SHAPE, _PAGE = always(TUNING_JOB), always(OPERATION), always(LIST)

VERTEX_CALLS = (
    _vertex("GET", _JOBS, vertex_jobs.list_jobs, always(list_of("tuningJobs", TUNING_JOB)), query=_PAGE),
    _vertex("POST", _JOBS, vertex_creation.create_job, _JOB_SHAPE, body=_JOB_SHAPE, root="tuning_job"),
    _vertex("POST", f"{_JOB}:cancel", vertex_jobs.cancel_job, always(messages.EMPTY)),
    _vertex("GET", _JOB, vertex_jobs.get_job, _JOB_SHAPE),
    _vertex("GET", _MODELS, vertex_models.list_models, always(list_of("models", MODEL)), query=_PAGE),
    _vertex("GET", f"{_MODEL}:listVersions", vertex_models.list_versions, _VERSIONS, query=_PAGE),
    _vertex("DELETE", f"{_MODEL}:deleteVersion", vertex_models.delete_version, _OPERATION_SHAPE),
    _vertex("GET", _MODEL, vertex_models.get_model, always(MODEL)),
    _vertex("DELETE", _MODEL, vertex_models.delete_model, _OPERATION_SHAPE),
    _vertex("GET", f"{_MODEL}/operations/{{operation}}", vertex_models.get_operation, _OPERATION_SHAPE),
    _vertex("GET", _ENDPOINTS, vertex_models.list_endpoints, always(list_of("endpoints", ENDPOINT)), query=_PAGE),
    _vertex(
        "POST",
        f"{_ENDPOINT}:undeployModel",
        vertex_models.undeploy_model,
        _OPERATION_SHAPE,
        body=always(UNDEPLOY_MODEL),
    ),
    _vertex(
        "POST",
        f"{_ENDPOINT}:generateContent",
        vertex_models.generate_content,
        always(CONTENT),
        body=always(GENERATE_CONTENT),
    ),
    _vertex("GET", _ENDPOINT, vertex_models.get_endpoint, always(ENDPOINT)),
    _vertex("DELETE", _ENDPOINT, vertex_models.delete_endpoint, _OPERATION_SHAPE),
    _vertex("GET", f"{_ENDPOINT}/operations/{{operation}}", vertex_models.get_operation, _OPERATION_SHAPE),
)
