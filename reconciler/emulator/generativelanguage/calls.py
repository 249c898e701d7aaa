"""Every call of the service: method, path, messages and what carries it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.generativelanguage import inference, messages, permissions, tuned_models
from reconciler.emulator.generativelanguage import tuned_models as models
from reconciler.emulator.generativelanguage.catalog import V1, V1BETA, V1BETA3, Api
from reconciler.emulator.generativelanguage.creation import create_model
from reconciler.emulator.generativelanguage.messages import Message
from reconciler.emulator.service import Call, Service

Shape = Callable[[Api], Message]
"""The message that a call takes or gives in an API version."""


def always(message: Message) -> Shape:
    """The same message in every version."""
    return lambda _: message


_NOTHING = always(messages.EMPTY)


@dataclass(frozen=True, slots=True)
class Entry:
    """One call. ``root`` is where the body stands inside the request message."""

    method: str
    path: str
    handler: Callable[[Service, Call], JsonObject]
    response: Shape
    query: Shape = _NOTHING
    body: Shape = _NOTHING
    root: str = ""
    apis: tuple[Api, ...] = (V1BETA3, V1BETA)


def _tuned_model(api: Api) -> Message:
    return api.tuned_model


def _operation(api: Api) -> Message:
    return api.operation


_MODELS = "/tunedModels"
_MODEL = "/tunedModels/{model}"
_PERMISSIONS = f"{_MODEL}/permissions"
_PERMISSION = f"{_PERMISSIONS}/{{permission}}"
_PERMISSION_SHAPE = always(messages.PERMISSION)
_PAGE = always(messages.PAGE)
_MASK = always(messages.UPDATE_QUERY)

CALLS = (
    Entry("GET", "/models", models.list_base_models, always(messages.LIST_MODELS), query=_PAGE),
    Entry("GET", "/models/{model}", models.get_base_model, always(messages.MODEL)),
    Entry("GET", _MODELS, tuned_models.list_models, lambda api: api.tuned_models, query=lambda api: api.query),
    Entry(
        "POST",
        _MODELS,
        create_model,
        _operation,
        query=always(messages.CREATE_QUERY),
        body=_tuned_model,
        root="tuned_model",
    ),
    Entry(
        "POST",
        f"{_MODEL}:transferOwnership",
        permissions.transfer_ownership,
        _NOTHING,
        body=always(messages.TRANSFER_OWNERSHIP),
    ),
    Entry(
        "POST",
        f"{_MODEL}:generateText",
        inference.generate_text,
        always(messages.TEXT),
        body=always(messages.GENERATE_TEXT),
        apis=(V1BETA3,),
    ),
    Entry(
        "POST",
        f"{_MODEL}:generateContent",
        inference.generate_content,
        always(messages.CONTENT),
        body=always(messages.GENERATE_CONTENT),
        apis=(V1BETA,),
    ),
    Entry("GET", _MODEL, tuned_models.get_model, _tuned_model),
    Entry("PATCH", _MODEL, tuned_models.update_model, _tuned_model, query=_MASK, body=_tuned_model, root="tuned_model"),
    Entry("DELETE", _MODEL, tuned_models.delete_model, _NOTHING),
    Entry(
        "GET",
        f"{_MODEL}/operations/{{operation}}",
        tuned_models.get_operation,
        _operation,
        apis=(V1, V1BETA3, V1BETA),
    ),
    Entry("GET", _PERMISSIONS, permissions.list_permissions, always(messages.LIST_PERMISSIONS), query=_PAGE),
    Entry(
        "POST",
        _PERMISSIONS,
        permissions.create_permission,
        _PERMISSION_SHAPE,
        body=_PERMISSION_SHAPE,
        root="permission",
    ),
    Entry("GET", _PERMISSION, permissions.get_permission, _PERMISSION_SHAPE),
    Entry(
        "PATCH",
        _PERMISSION,
        permissions.update_permission,
        _PERMISSION_SHAPE,
        query=_MASK,
        body=_PERMISSION_SHAPE,
        root="permission",
    ),
    Entry("DELETE", _PERMISSION, permissions.delete_permission, _NOTHING),
)
