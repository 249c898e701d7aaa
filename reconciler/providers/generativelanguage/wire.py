"""The wire format of the Generative Language API, both ways: JSON in, core values out, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from reconciler.domain.identity import split_mark, with_mark
from reconciler.domain.model import (
    CreateRequest,
    Example,
    Number,
    RemoteModel,
    Sampling,
    Snapshot,
    Source,
    State,
    TrainingExample,
    Update,
)
from reconciler.providers.google.proto_json import integer, number, read_source, resource_name, text, time

Json = dict[str, Any]

COLLECTION = "tunedModels/"

# A state that is not in this table counts as training: such a model is waited for, and neither served nor trained anew.
_STATES: Mapping[object, State] = MappingProxyType(
    {"CREATING": State.CREATING, 1: State.CREATING, "ACTIVE": State.ACTIVE, 2: State.ACTIVE}
    | {"FAILED": State.FAILED, 3: State.FAILED}
)

_MODEL_FIELDS = (
    "name,displayName,description,state,baseModel,tunedModelSource(tunedModel),temperature,topP,topK,createTime,"
    "updateTime"
)
_TASK_FIELDS = "startTime,completeTime,hyperparameters"
_SNAPSHOT_FIELDS = "snapshots(step,epoch,meanLoss)"


def list_fields(*, progress: bool) -> str:
    """The ``fields`` parameter of a list request: what :func:`read_model` reads and nothing else."""
    task = f"{_TASK_FIELDS},{_SNAPSHOT_FIELDS}" if progress else _TASK_FIELDS
    return f"nextPageToken,tunedModels({_MODEL_FIELDS},tuningTask({task}))"


def read_page(body: Mapping[str, Any]) -> tuple[tuple[RemoteModel, ...], str]:
    """One page of a list and the token of the next, empty on the last; raises as :func:`read_model` does."""
    return tuple(read_model(item) for item in body.get("tunedModels") or ()), text(body.get("nextPageToken"))


def read_model(body: Mapping[str, Any]) -> RemoteModel:
    """A TunedModel. One tuned from another tuned model is no child of that one's base model, although both are told.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The body is no TunedModel.
    """
    name = resource_name(body["name"])
    task: Mapping[str, Any] = body.get("tuningTask") or {}
    description, mark = split_mark(text(body.get("description")))
    return RemoteModel(
        remote=name,
        state=_STATES.get(body.get("state"), State.CREATING),
        source=read_source(body.get("baseModel"), (body.get("tunedModelSource") or {}).get("tunedModel")),
        chosen_id=name.removeprefix(COLLECTION),
        mark=mark,
        display_name=text(body.get("displayName")),
        description=description,
        sampling=_read_sampling(body),
        hyperparameters=_read_hyperparameters(task.get("hyperparameters") or {}),
        create_time=time(body.get("createTime")),
        start_time=time(task.get("startTime")),
        complete_time=time(task.get("completeTime")),
        update_time=time(body.get("updateTime")),
        snapshots=read_snapshots(task),
    )


def _read_hyperparameters(holder: Mapping[str, Any]) -> dict[str, Number]:
    numbers = ((text(name), number(value)) for name, value in holder.items())
    return {name: number for name, number in numbers if number is not None}


def _read_sampling(body: Mapping[str, Any]) -> Sampling:
    temperature, top_p = (number(body.get(name)) for name in ("temperature", "topP"))
    return Sampling(
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
        top_k=integer(body.get("topK")),
    )


def read_snapshots(holder: Mapping[str, Any]) -> tuple[Snapshot, ...]:
    """The loss curve in a TuningTask or in an operation's metadata; a loss that diverged is NaN or infinite."""
    return tuple(
        Snapshot(
            step=integer(item.get("step")) or 0,
            epoch=integer(item.get("epoch")) or 0,
            loss=float(item["meanLoss"]),
        )
        for item in holder.get("snapshots") or ()
        if item.get("meanLoss") is not None
    )


def write_generation(generation: CreateRequest, examples: Iterable[TrainingExample]) -> Json:
    """The TunedModel of a create request: what is declared, and the mark below the description."""
    rows = [{"textInput": example.input, "output": example.output} for example in map(_example, examples)]
    task: Json = {"trainingData": {"examples": {"examples": rows}}}
    if generation.hyperparameters:
        task["hyperparameters"] = dict(generation.hyperparameters)
    return {
        "displayName": generation.display_name,
        "description": with_mark(generation.description, generation.mark),
        **_write_source(generation.source),
        **write_sampling(generation.sampling),
        "tuningTask": task,
    }


def _write_source(source: Source) -> Json:
    if source.base_model:
        return {"baseModel": source.base_model}
    return {"tunedModelSource": {"tunedModel": source.remote}}


def _example(example: TrainingExample) -> Example:
    if isinstance(example, Example):
        return example
    raise AssertionError("validation refuses conversations where a service takes inputs and outputs")


def write_update(update: Update) -> Json:
    """The fields of a patch; their names are its update mask."""
    described = update.description
    if described is not None and update.mark:
        described = with_mark(described, update.mark)
    fields = {"displayName": update.display_name, "description": described}
    return {name: value for name, value in fields.items() if value is not None} | write_sampling(update.sampling)


def write_sampling(sampling: Sampling) -> Json:
    """What is declared of the sampling; a tuned model and a request to it spell it alike."""
    fields = {"temperature": sampling.temperature, "topP": sampling.top_p, "topK": sampling.top_k}
    return {name: value for name, value in fields.items() if value is not None}
