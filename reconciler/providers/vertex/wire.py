"""The wire format of Vertex AI's tuning jobs (google.cloud.aiplatform.v1.TuningJob), both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reconciler.domain.identity import encode_string, normalize_newlines
from reconciler.domain.model import (
    Checkpoint,
    CreateRequest,
    Example,
    Failure,
    Hyperparameters,
    Number,
    RemoteModel,
    Resources,
    Source,
    State,
    TrainingExample,
)
from reconciler.providers.google.errors import VERTEX, clean
from reconciler.providers.google.proto_json import integer, number, read_failure, read_source, resource_name, text, time
from reconciler.providers.vertex.labels import read_labels, write_labels

Json = dict[str, Any]

_PLACE = r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
JOB_NAME = re.compile(_PLACE + r"/tuningJobs/[A-Za-z0-9_-]+")
ENDPOINT_NAME = re.compile(_PLACE + r"/endpoints/[A-Za-z0-9_-]+")
PRODUCT_NAME = re.compile(
    _PLACE + r"(/(endpoints|models)/[A-Za-z0-9_-]+(@[A-Za-z0-9_-]+)?)?(/operations/[A-Za-z0-9_-]+)?"
)
"""What a job makes, and the operations that delete it."""

_MODELS = "publishers/google/models/"
_STATE = "JOB_STATE_"
_UNMENTIONED = frozenset({"RUNNING", "SUCCEEDED"})

# JobState in the order of its numbers: google/cloud/aiplatform/v1/job_state.proto.
_STATE_NAMES = (
    "UNSPECIFIED",
    "QUEUED",
    "PENDING",
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "CANCELLING",
    "CANCELLED",
    "PAUSED",
    "EXPIRED",
    "UPDATING",
    "PARTIALLY_SUCCEEDED",
)
# A state that is not in this table counts as training: such a job is waited for, and neither served nor trained anew.
_STATES: Mapping[str, State] = MappingProxyType(
    {
        "SUCCEEDED": State.ACTIVE,
        "FAILED": State.FAILED,
        "EXPIRED": State.FAILED,
        "CANCELLING": State.CANCELLED,
        "CANCELLED": State.CANCELLED,
    }
)

# SupervisedHyperParameters.AdapterSize, by its number: google/cloud/aiplatform/v1/tuning_job.proto.
_ADAPTERS: Mapping[int, tuple[int, str]] = MappingProxyType(
    {1: (1, "ONE"), 2: (4, "FOUR"), 3: (8, "EIGHT"), 4: (16, "SIXTEEN"), 5: (32, "THIRTY_TWO"), 6: (2, "TWO")}
)
_ADAPTER = "ADAPTER_SIZE_"
_ADAPTER_NAMES: Mapping[Number, str] = MappingProxyType({size: _ADAPTER + name for size, name in _ADAPTERS.values()})
_ADAPTER_SIZES: Mapping[object, int] = MappingProxyType(
    {number: size for number, (size, _) in _ADAPTERS.items()}
    | {_ADAPTER + name: size for size, name in _ADAPTERS.values()}
)


def read_page(body: Mapping[str, Any]) -> tuple[tuple[RemoteModel, ...], str]:
    """One page of a list and the token of the next, empty on the last; raises as :func:`read_job` does."""
    return tuple(read_job(item) for item in body.get("tuningJobs") or ()), text(body.get("nextPageToken"))


def read_job(body: Mapping[str, Any]) -> RemoteModel:
    """A TuningJob. One that goes on from another tuned model is no child of that one's base model.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The body is no TuningJob.
    """
    name = resource_name(body["name"])
    tuned: Mapping[str, Any] = body.get("tunedModel") or {}
    word = _state_word(body.get("state"))
    state = _state(word, tuned)
    base_model = text(body.get("baseModel")).removeprefix(_MODELS)
    spec: Mapping[str, Any] = body.get("supervisedTuningSpec") or {}
    stats: Mapping[str, Any] = (body.get("tuningDataStats") or {}).get("supervisedTuningDataStats") or {}
    return RemoteModel(
        remote=name,
        state=state,
        source=read_source(base_model, (body.get("preTunedModel") or {}).get("tunedModelName")),
        mark=read_labels(body.get("labels")),
        display_name=text(body.get("tunedModelDisplayName")),
        description=text(body.get("description")),
        hyperparameters=_read_hyperparameters(spec.get("hyperParameters") or {}),
        create_time=time(body.get("createTime")),
        start_time=time(body.get("startTime")),
        complete_time=time(body.get("endTime")),
        total_steps=integer(stats.get("tuningStepCount")),
        failure=_read_failure(body.get("error") or {}) if state is State.FAILED else None,
        phase="" if word in _UNMENTIONED else word,
        resources=_read_resources(name, tuned),
    )


def _state_word(value: Any) -> str:
    """The service's own word without its prefix, empty where it says nothing."""
    if isinstance(value, int) and 0 <= value < len(_STATE_NAMES):
        value = _STATE_NAMES[value]
    word = clean(str(value).removeprefix(_STATE)) if value is not None else ""
    return "" if word == _STATE_NAMES[0] else word


def _state(word: str, tuned: Mapping[str, Any]) -> State:
    if word == "PARTIALLY_SUCCEEDED":
        return State.ACTIVE if tuned else State.FAILED
    return _STATES.get(word, State.CREATING)


def _read_hyperparameters(holder: Mapping[str, Any]) -> Hyperparameters:
    found = {
        "epochCount": integer(holder.get("epochCount")),
        "learningRateMultiplier": number(holder.get("learningRateMultiplier")),
        "adapterSize": _ADAPTER_SIZES.get(holder.get("adapterSize")),
    }
    return {name: value for name, value in found.items() if value is not None}


def _read_failure(error: Mapping[str, Any]) -> Failure | None:
    """Why a job failed, with the remedy where the cause is a known one."""
    if not error:
        return None
    failure = read_failure(error)
    remedy = VERTEX.remedy("", VERTEX.reason(failure.message))
    return Failure(failure.code, f"{failure.message}; {remedy}") if remedy else failure


def _read_resources(job: str, tuned: Mapping[str, Any]) -> Resources:
    place = JOB_NAME.fullmatch(job)
    return Resources(
        job=job,
        model=text(tuned.get("model")),
        endpoint=text(tuned.get("endpoint")),
        location=place["location"] if place else "",
        checkpoints=tuple(_read_checkpoint(item) for item in tuned.get("checkpoints") or ()),
    )


def _read_checkpoint(item: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        id=text(item.get("checkpointId")),
        epoch=integer(item.get("epoch")) or 0,
        step=integer(item.get("step")) or 0,
        endpoint=text(item.get("endpoint")),
    )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job takes its data from and what it runs as; what is empty is left to the service."""

    training: str
    validation: str = ""
    service_account: str = ""
    kms_key: str = ""


def write_job(generation: CreateRequest, placement: Placement) -> Json:
    """The TuningJob of a create request: what is declared, and the mark as labels."""
    spec = _present(
        {
            "trainingDatasetUri": placement.training,
            "validationDatasetUri": placement.validation,
            "hyperParameters": _write_hyperparameters(generation.hyperparameters),
        }
    )
    if generation.last_checkpoint_only is not None:
        spec["exportLastCheckpointOnly"] = generation.last_checkpoint_only
    return _present(
        {
            **_write_source(generation.source),
            "supervisedTuningSpec": spec,
            "tunedModelDisplayName": generation.display_name,
            "description": generation.description,
            "labels": write_labels(generation.mark),
            "serviceAccount": placement.service_account,
            "encryptionSpec": _present({"kmsKeyName": placement.kms_key}),
        }
    )


def _write_source(source: Source) -> Json:
    if source.base_model:
        return {"baseModel": source.base_model}
    return {"preTunedModel": {"tunedModelName": source.remote}}


def _write_hyperparameters(declared: Hyperparameters) -> Json:
    return {name: _WRITERS[name](value) for name, value in declared.items()}


_WRITERS: Mapping[str, Callable[[Number], Any]] = {
    "epochCount": lambda value: str(int(value)),
    "learningRateMultiplier": float,
    "adapterSize": _ADAPTER_NAMES.__getitem__,
}


def _present(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value}


def write_example(example: TrainingExample) -> bytes:
    """An example as a line of a data set, without its line feed.

    Objects are named after the digest of their examples and compared byte by byte, so this form never changes; line
    ends are made one here because the digest knows but one.
    """
    if not isinstance(example, Example):
        return example.line.encode()
    turns = ",".join(
        f'{{"role":"{role}","parts":[{{"text":{encode_string(normalize_newlines(said))}}}]}}'
        for role, said in (("user", example.input), ("model", example.output))
    )
    return f'{{"contents":[{turns}]}}'.encode()
