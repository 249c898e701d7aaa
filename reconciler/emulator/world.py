"""World files: initial models in the JSON format of the service's list of tuned models."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from reconciler.domain.errors import Place, ReconcileError
from reconciler.emulator.errors import ApiError, JsonObject
from reconciler.emulator.generativelanguage.api import V1BETA
from reconciler.emulator.generativelanguage.permissions import grant_ownership
from reconciler.emulator.proto import decode
from reconciler.emulator.service import Service

_REMEDY = 'use the format of the list method: {"tunedModels": [{"name": "tunedModels/…", …}]}'
_PREFIX = "tunedModels/"


def load_world(service: Service, path: Path) -> None:
    """Insert the models of a world file into the store, once for each content; existing models are kept.

    Raises ReconcileError if the file cannot be read or is not a list of tuned models.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ReconcileError(f"{path}: cannot be read: {error.strerror}", "name a world file that exists") from error
    digest = hashlib.sha256(raw).hexdigest()
    if service.store.is_loaded(digest):
        return
    models = _models(path, raw)
    with service.store.transaction():
        for model in models:
            _insert(service, model)
        service.store.set_loaded(digest)


def _insert(service: Service, model: JsonObject) -> None:
    task = model.get("tuningTask", {})
    examples = task.pop("trainingData", {}).get("examples", {}).get("examples", [])
    snapshots = task.pop("snapshots", [])
    seq = service.store.insert(model, api="v1beta3", examples=examples, snapshots=snapshots)
    if seq is not None:
        grant_ownership(service, seq, model["name"])


def _models(path: Path, raw: bytes) -> list[JsonObject]:
    try:
        world = decode(V1BETA.tuned_models, _json(path, raw), stored=True)
    except ApiError as error:
        raise ReconcileError(f"{path}: is not a list of tuned models: {error.message}", _REMEDY) from error
    models: list[JsonObject] = world.get("tunedModels", [])
    for index, model in enumerate(models):
        name = model.get("name", "")
        if not name.startswith(_PREFIX) or "/" in name.removeprefix(_PREFIX) or name == _PREFIX:
            place = f"{path}: tunedModels[{index}].name"
            raise ReconcileError(f'{place}: invalid name "{name}": expected tunedModels/ID', _REMEDY)
    return models


def _json(path: Path, raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        place = Place(str(path), error.lineno, error.colno)
        raise ReconcileError(f"{place}: is not valid JSON: {error.msg}", _REMEDY) from error
    except (ValueError, RecursionError) as error:
        raise ReconcileError(f"{path}: is not valid JSON: {error}", _REMEDY) from error
