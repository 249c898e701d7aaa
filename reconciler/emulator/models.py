"""The calls on base models."""

from __future__ import annotations

from reconciler.emulator.errors import ApiError, Code, JsonObject
from reconciler.emulator.service import Call, Service, next_page, page

_PAGE_SIZE = 50


def list_models(_: Service, call: Call) -> JsonObject:
    """A page of base models."""
    wanted = page(call.query, _PAGE_SIZE)
    models = list(call.api.models.values())
    end = wanted.after + wanted.size
    return {"models": models[wanted.after : end], "nextPageToken": next_page(end) if end < len(models) else ""}


def get_model(_: Service, call: Call) -> JsonObject:
    """One base model."""
    name = f"models/{call.path['model']}"
    if name not in call.api.models:
        raise ApiError(Code.NOT_FOUND, f"{name} is not found for API version {call.api.version}.")
    return call.api.models[name]
