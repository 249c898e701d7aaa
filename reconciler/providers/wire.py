"""The wire format of the Generative Language API, both ways: JSON in, core values out, and back.

Reading is liberal: proto3 JSON leaves defaults out, integers may come as strings or whole floats, enums as numbers.
A time, number or text that is none counts as not told: it would spoil what is recorded, and decides nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
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
    TrainingExample,
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

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_MAX_INTEGER = 2**53 - 1  # RFC 8259, section 6

_MODEL_FIELDS = "name,displayName,description,state,baseModel,temperature,topP,topK,createTime"
_TASK_FIELDS = "startTime,completeTime,hyperparameters"
_SNAPSHOT_FIELDS = "snapshots(step,epoch,meanLoss)"


def list_fields(*, progress: bool) -> str:
    """The ``fields`` parameter of a list request: what :func:`read_model` reads and nothing else."""
    task = f"{_TASK_FIELDS},{_SNAPSHOT_FIELDS}" if progress else _TASK_FIELDS
    return f"nextPageToken,tunedModels({_MODEL_FIELDS},tuningTask({task}))"


def read_page(body: Mapping[str, Any]) -> tuple[tuple[RemoteModel, ...], str]:
    """One page of a list and the token of the next, empty on the last; raises as :func:`read_model` does."""
    return tuple(read_model(item) for item in body.get("tunedModels") or ()), _text(body.get("nextPageToken"))


def read_model(body: Mapping[str, Any]) -> RemoteModel:
    """A TunedModel. One tuned from another tuned model has no source here: it is no child of a base model.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The body is no TunedModel.
    """
    name = resource_name(body["name"])
    task: Mapping[str, Any] = body.get("tuningTask") or {}
    description, mark = split_mark(_text(body.get("description")))
    return RemoteModel(
        remote=name,
        state=_STATES.get(body.get("state"), State.CREATING),
        source=Source(base_model) if (base_model := _text(body.get("baseModel"))) else None,
        chosen_id=name.removeprefix(COLLECTION),
        mark=mark,
        display_name=_text(body.get("displayName")),
        description=description,
        sampling=_read_sampling(body),
        hyperparameters=_read_hyperparameters(task.get("hyperparameters") or {}),
        create_time=_time(body.get("createTime")),
        start_time=_time(task.get("startTime")),
        complete_time=_time(task.get("completeTime")),
        snapshots=read_snapshots(task),
    )


def _read_hyperparameters(holder: Mapping[str, Any]) -> dict[str, Number]:
    numbers = ((_text(name), _number(value)) for name, value in holder.items())
    return {name: number for name, number in numbers if number is not None}


def _read_sampling(body: Mapping[str, Any]) -> Sampling:
    temperature, top_p = (_number(body.get(name)) for name in ("temperature", "topP"))
    return Sampling(
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
        top_k=optional_int(body.get("topK")),
    )


def read_snapshots(holder: Mapping[str, Any]) -> tuple[Snapshot, ...]:
    """The loss curve in a TuningTask or in an operation's metadata; a loss that diverged is NaN or infinite."""
    return tuple(
        Snapshot(
            step=optional_int(item.get("step")) or 0,
            epoch=optional_int(item.get("epoch")) or 0,
            loss=float(item["meanLoss"]),
        )
        for item in holder.get("snapshots") or ()
        if item.get("meanLoss") is not None
    )


def read_failure(error: Mapping[str, Any]) -> Failure:
    """The google.rpc.Status of an operation that failed."""
    return Failure(
        code=optional_int(error.get("code")) or 0, message=clean(_text(error.get("message"))) or "no reason given"
    )


def optional_int(value: Any) -> int | None:
    """An integer, a string or a whole float, within what a float holds exactly; ``None`` for everything else."""
    number = _number(value)
    return number if isinstance(number, int) else None


def resource_name(value: Any) -> str:
    """The name of a model; raises ValueError when it is none."""
    if name := _text(value):
        return name
    raise ValueError("no name")


def optional_name(value: Any) -> str | None:
    """The name of an operation, if there is one."""
    return _text(value) or None


def _number(value: Any) -> Number | None:
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _MAX_INTEGER else number


def _text(value: Any) -> str:
    """Text as a file can hold it: JSON can spell lone surrogates."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _time(value: Any) -> str:
    """A time as the service wrote it; one that is no RFC 3339 time with a zone is unknown."""
    text = _text(value)
    if not _RFC3339.fullmatch(text):
        return ""
    try:
        datetime.fromisoformat(text)
    except ValueError:  # the 30th of February
        return ""
    return text


def write_generation(generation: Generation, examples: Iterable[TrainingExample]) -> Json:
    """The TunedModel of a create request: what is declared, and the mark below the description."""
    rows = [{"textInput": example.input, "output": example.output} for example in map(_example, examples)]
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


def _example(example: TrainingExample) -> Example:
    if isinstance(example, Example):
        return example
    raise AssertionError("validation refuses conversations where a service takes inputs and outputs")


def write_update(update: Update) -> Json:
    """The fields of a patch; their names are its update mask."""
    described = None if update.description is None else with_mark(update.description, update.mark)
    fields = {"displayName": update.display_name, "description": described}
    return {name: value for name, value in fields.items() if value is not None} | _write_sampling(update.sampling)


def _write_sampling(sampling: Sampling) -> Json:
    fields = {"temperature": sampling.temperature, "topP": sampling.top_p, "topK": sampling.top_k}
    return {name: value for name, value in fields.items() if value is not None}
