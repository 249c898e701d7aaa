"""The methods of the simulated Generative Language API: verb, path, handler and messages."""

from __future__ import annotations

from functools import partial

from reconciler.emulator.generativelanguage import api, inference, permissions, tuned_models
from reconciler.emulator.generativelanguage.api import V1, V1BETA, V1BETA3
from reconciler.emulator.generativelanguage.creation import create_model
from reconciler.emulator.proto import EMPTY, Message
from reconciler.emulator.service import Api, Method, always

_method = partial(Method, apis=(V1BETA3, V1BETA))
_NOTHING = always(EMPTY)


def _tuned_model(version: Api) -> Message:
    return version.tuned_model


def _operation(version: Api) -> Message:
    return version.operation


_MODELS = "/tunedModels"
_MODEL = "/tunedModels/{model}"
_PERMISSIONS = f"{_MODEL}/permissions"
_PERMISSION = f"{_PERMISSIONS}/{{permission}}"
_PERMISSION_SHAPE = always(api.PERMISSION)
_PAGE = always(api.PAGE)
_MASK = always(api.UPDATE_QUERY)

CALLS = (
    _method("GET", "/models", tuned_models.list_base_models, always(api.LIST_MODELS), query=_PAGE),
    _method("GET", "/models/{model}", tuned_models.get_base_model, always(api.MODEL)),
    _method(
        "GET",
        _MODELS,
        tuned_models.list_models,
        lambda version: version.tuned_models,
        query=lambda version: version.query,
    ),
    _method(
        "POST",
        _MODELS,
        create_model,
        _operation,
        query=always(api.CREATE_QUERY),
        body=_tuned_model,
        root="tuned_model",
    ),
    _method(
        "POST",
        f"{_MODEL}:transferOwnership",
        permissions.transfer_ownership,
        _NOTHING,
        body=always(api.TRANSFER_OWNERSHIP),
    ),
    _method(
        "POST",
        f"{_MODEL}:generateText",
        inference.generate_text,
        always(api.TEXT),
        body=always(api.GENERATE_TEXT),
        apis=(V1BETA3,),
    ),
    _method(
        "POST",
        f"{_MODEL}:generateContent",
        inference.generate_content,
        always(api.CONTENT),
        body=always(api.GENERATE_CONTENT),
        apis=(V1BETA,),
    ),
    _method("GET", _MODEL, tuned_models.get_model, _tuned_model),
    _method(
        "PATCH", _MODEL, tuned_models.update_model, _tuned_model, query=_MASK, body=_tuned_model, root="tuned_model"
    ),
    _method("DELETE", _MODEL, tuned_models.delete_model, _NOTHING),
    _method(
        "GET",
        f"{_MODEL}/operations/{{operation}}",
        tuned_models.get_operation,
        _operation,
        apis=(V1, V1BETA3, V1BETA),
    ),
    _method("GET", _PERMISSIONS, permissions.list_permissions, always(api.LIST_PERMISSIONS), query=_PAGE),
    _method(
        "POST",
        _PERMISSIONS,
        permissions.create_permission,
        _PERMISSION_SHAPE,
        body=_PERMISSION_SHAPE,
        root="permission",
    ),
    _method("GET", _PERMISSION, permissions.get_permission, _PERMISSION_SHAPE),
    _method(
        "PATCH",
        _PERMISSION,
        permissions.update_permission,
        _PERMISSION_SHAPE,
        query=_MASK,
        body=_PERMISSION_SHAPE,
        root="permission",
    ),
    _method("DELETE", _PERMISSION, permissions.delete_permission, _NOTHING),
)
