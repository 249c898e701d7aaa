"""The methods of the simulated Vertex AI, below a project and a location."""

from __future__ import annotations

from functools import partial

from reconciler.emulator.proto import EMPTY
from reconciler.emulator.service import Method, always
from reconciler.emulator.vertex import creation, jobs, models
from reconciler.emulator.vertex.api import (
    CONTENT,
    ENDPOINT,
    GENERATE_CONTENT,
    LIST,
    MODEL,
    OPERATION,
    TUNING_JOB,
    UNDEPLOY_MODEL,
    VERTEX_V1,
    VERTEX_V1BETA1,
    list_of,
)

_vertex = partial(Method, apis=(VERTEX_V1, VERTEX_V1BETA1))
_JOBS, _MODELS, _ENDPOINTS = "/tuningJobs", "/models", "/endpoints"
_JOB, _MODEL, _ENDPOINT = f"{_JOBS}/{{job}}", f"{_MODELS}/{{model}}", f"{_ENDPOINTS}/{{endpoint}}"
_VERSIONS = always(list_of("modelVersions", MODEL, "models"))
_JOB_SHAPE, _OPERATION_SHAPE, _PAGE = always(TUNING_JOB), always(OPERATION), always(LIST)

VERTEX_CALLS = (
    _vertex("GET", _JOBS, jobs.list_jobs, always(list_of("tuningJobs", TUNING_JOB)), query=_PAGE),
    _vertex("POST", _JOBS, creation.create_job, _JOB_SHAPE, body=_JOB_SHAPE, root="tuning_job"),
    _vertex("POST", f"{_JOB}:cancel", jobs.cancel_job, always(EMPTY)),
    _vertex("GET", _JOB, jobs.get_job, _JOB_SHAPE),
    _vertex("GET", _MODELS, models.list_models, always(list_of("models", MODEL)), query=_PAGE),
    _vertex("GET", f"{_MODEL}:listVersions", models.list_versions, _VERSIONS, query=_PAGE),
    _vertex("DELETE", f"{_MODEL}:deleteVersion", models.delete_version, _OPERATION_SHAPE),
    _vertex("GET", _MODEL, models.get_model, always(MODEL)),
    _vertex("DELETE", _MODEL, models.delete_model, _OPERATION_SHAPE),
    _vertex("GET", f"{_MODEL}/operations/{{operation}}", models.get_operation, _OPERATION_SHAPE),
    _vertex("GET", _ENDPOINTS, models.list_endpoints, always(list_of("endpoints", ENDPOINT)), query=_PAGE),
    _vertex(
        "POST",
        f"{_ENDPOINT}:undeployModel",
        models.undeploy_model,
        _OPERATION_SHAPE,
        body=always(UNDEPLOY_MODEL),
    ),
    _vertex(
        "POST",
        f"{_ENDPOINT}:generateContent",
        models.generate_content,
        always(CONTENT),
        body=always(GENERATE_CONTENT),
    ),
    _vertex("GET", _ENDPOINT, models.get_endpoint, always(ENDPOINT)),
    _vertex("DELETE", _ENDPOINT, models.delete_endpoint, _OPERATION_SHAPE),
    _vertex("GET", f"{_ENDPOINT}/operations/{{operation}}", models.get_operation, _OPERATION_SHAPE),
)
