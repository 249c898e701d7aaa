"""The wire format of the Generative Language API, both ways: JSON in, core values out, and back.

Reading is liberal: proto3 JSON leaves defaults out, integers may come as strings or whole floats, enums as numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from reconciler.core.identity import split_mark, with_mark
from reconciler.core.model import (
    Example,
    Failure,
    Generation,
    Number,
    RemoteModel,
    Sampling,
    Snapshot,
    Source,
    State,
    Update,
)
from reconciler.providers.errors import clean

Json = dict[str, Any]

COLLECTION = "tunedModels/"

# A state that is not in this table counts as training: such a model is waited for, and neither served nor trained anew.
_STATES: Mapping[object, State] = MappingProxyType(
    {"CREATING": State.CREATING, 1: State.CREATING, "ACTIVE": State.ACTIVE, 2: State.ACTIVE}
    | {"FAILED": State.FAILED, 3: State.FAILED}
)

_MODEL_FIELDS = "name,displayName,description,state,baseModel,temperature,topP,topK,createTime"
_TASK_FIELDS = "startTime,completeTime,hyperparameters"
_SNAPSHOT_FIELDS = "snapshots(step,epoch,meanLoss)"


def list_fields(*, progress: bool) -> str:
    """The ``fields`` parameter of a list request: what :func:`read_model` reads and nothing else."""
    task = f"{_TASK_FIELDS},{_SNAPSHOT_FIELDS}" if progress else _TASK_FIELDS
    return f"nextPageToken,tunedModels({_MODEL_FIELDS},tuningTask({task}))"


def read_page(body: Mapping[str, Any]) -> tuple[tuple[RemoteModel, ...], str]:
    """One page of a list and the token of the next, empty on the last; raises as :func:`read_model` does."""
    return tuple(read_model(item) for item in body.get("tunedModels") or ()), str(body.get("nextPageToken") or "")


def read_model(body: Mapping[str, Any]) -> RemoteModel:
    """A TunedModel. One tuned from another tuned model has no source here: it is no child of a base model.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The body is no TunedModel.
    """
    name = str(body["name"])
    task: Mapping[str, Any] = body.get("tuningTask") or {}
    description, mark = split_mark(str(body.get("description") or ""))
    return RemoteModel(
        remote=name,
        state=_STATES.get(body.get("state"), State.CREATING),
        source=Source(str(body["baseModel"])) if body.get("baseModel") else None,
        chosen_id=name.removeprefix(COLLECTION),
        mark=mark,
        display_name=str(body.get("displayName") or ""),
        description=description,
        sampling=_read_sampling(body),
        hyperparameters=_read_hyperparameters(task.get("hyperparameters") or {}),
        create_time=str(body.get("createTime") or ""),
        start_time=str(task.get("startTime") or ""),
        complete_time=str(task.get("completeTime") or ""),
        snapshots=read_snapshots(task),
    )


def _read_hyperparameters(holder: Mapping[str, Any]) -> dict[str, Number]:
    return {name: _number(value) for name, value in holder.items() if value is not None}


def _read_sampling(body: Mapping[str, Any]) -> Sampling:
    temperature, top_p, top_k = (body.get(name) for name in ("temperature", "topP", "topK"))
    return Sampling(
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
        top_k=None if top_k is None else int(top_k),
    )


def read_snapshots(holder: Mapping[str, Any]) -> tuple[Snapshot, ...]:
    """The loss curve in a TuningTask or in an operation's metadata."""
    return tuple(
        Snapshot(step=int(item.get("step") or 0), epoch=int(item.get("epoch") or 0), loss=float(item["meanLoss"]))
        for item in holder.get("snapshots") or ()
        if item.get("meanLoss") is not None
    )


def read_failure(error: Mapping[str, Any]) -> Failure:
    """The google.rpc.Status of an operation that failed."""
    return Failure(code=int(error.get("code") or 0), message=clean(str(error.get("message") or "no reason given")))


def optional_int(value: Any) -> int | None:
    """An integer that may be absent, a string or a whole float."""
    return None if value is None else int(value)


def _number(value: Any) -> Number:
    number = float(value)
    return int(number) if number.is_integer() else number


def write_generation(generation: Generation, examples: Iterable[Example]) -> Json:
    """The TunedModel of a create request: what is declared, and the mark below the description."""
    rows = [{"textInput": example.input, "output": example.output} for example in examples]
    task: Json = {"trainingData": {"examples": {"examples": rows}}}
    if generation.hyperparameters:
        task["hyperparameters"] = dict(generation.hyperparameters)
    return {
        "displayName": generation.display_name,
        "description": with_mark(generation.description, generation.mark),
        "baseModel": generation.source.base_model,
        **_write_sampling(generation.sampling),
        "tuningTask": task,
    }


def write_update(update: Update) -> Json:
    """The fields of a patch; their names are its update mask."""
    described = None if update.description is None else with_mark(update.description, update.mark)
    fields = {"displayName": update.display_name, "description": described}
    return {name: value for name, value in fields.items() if value is not None} | _write_sampling(update.sampling)


def _write_sampling(sampling: Sampling) -> Json:
    fields = {"temperature": sampling.temperature, "topP": sampling.top_p, "topK": sampling.top_k}
    return {name: value for name, value in fields.items() if value is not None}
