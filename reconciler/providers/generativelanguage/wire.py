"""The JSON of the Generative Language API: tuned models and prompts."""

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
    State,
    TrainingExample,
    Update,
)
from reconciler.domain.ports import Answer, Prompt, Reply
from reconciler.providers.google.errors import (
    SCOPES,
    ServiceDescription,
    read_count,
    read_integer,
    read_name,
    read_number,
    read_source,
    read_text,
    read_time,
)
from reconciler.providers.google.inference import (
    InferenceCodec,
    content_codec,
    read_enum,
    write_config,
    write_sampling,
)

SERVICE = ServiceDescription(
    host="generativelanguage.googleapis.com",
    fields="spec.endpoint",
    scopes=SCOPES,
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "log in with an account that has roles/serviceusage.serviceUsageConsumer on the"
            " target's spec.project and, for a tuned model of another account, writer or owner permission on it",
            "NOT_FOUND": "check spec.endpoint, spec.apiVersion and spec.project of the target",
            "UNIMPLEMENTED": "check spec.endpoint and spec.apiVersion of the target",
        }
    ),
)

CREATE_REMEDIES = MappingProxyType(
    dict.fromkeys(
        ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"),
        "fix what the service reports; a base model can be tuned only while it supports createTunedModel, and Google"
        " retired its last such model of this API in May 2025",
    )
)
CREATE_CHILD_REMEDIES = MappingProxyType(
    dict.fromkeys(
        ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"),
        "fix what the service reports; a tuned model can be tuned further only while it is ready and its base model can"
        " be tuned",
    )
)

# The permissions of each role are in google/ai/generativelanguage/v1beta3/permission.proto, Role: a writer can edit
# and share, and only an owner can delete.
_GONE = "run `reconcile apply`: the model no longer exists"
UPDATE_REMEDIES = MappingProxyType(
    {"PERMISSION_DENIED": "log in as its owner, or ask the owner for writer or owner permission on the tuned model"}
)
DELETE_REMEDIES = MappingProxyType(
    {"PERMISSION_DENIED": "log in as its owner, or ask the owner for owner permission on the tuned model"}
)
INFER_REMEDIES = MappingProxyType(
    {
        "NOT_FOUND": _GONE,
        "PERMISSION_DENIED": "log in as its owner, or ask the owner for reader permission on the tuned model; if it no"
        " longer exists, run `reconcile apply`",
        "FAILED_PRECONDITION": "run `reconcile wait`: only a ready model can answer",
        "INVALID_ARGUMENT": "fix the prompt or its options as the service reports",
    }
)
INFER_BASE_REMEDIES = INFER_REMEDIES | dict.fromkeys(
    ("NOT_FOUND", "FAILED_PRECONDITION", "PERMISSION_DENIED"),
    "compare with the serving generation (serving: true), or remove base from the check: the base model answers no"
    " prompts of this account",
)
READ_ACCESS_REMEDIES = UPDATE_REMEDIES | {"NOT_FOUND": _GONE}
WRITE_ACCESS_REMEDIES = UPDATE_REMEDIES | {
    "NOT_FOUND": "run `reconcile apply` again: the model no longer exists, or another user is changing its permissions"
}

# legacy base models: gemini-1.5-flash-001
NO_TUNABLE_MODELS = """\
this service has no base model that can be tuned: Google retired the last one of this API, gemini-1.5-flash-001, in \
May 2025
To train the same manifests on Vertex AI, save this target beside yours as reconcile.vertex.yaml, set base models of \
Vertex AI in the manifests (spec.vertex.baseModel: gemini-3.5-flash), and run `reconcile plan --target vertex`:
    apiVersion: tuning.reconcile/v1alpha1
    kind: Target
    metadata: {name: vertex}
    spec:
      provider: vertex
      scope: SCOPE            # as in this target
      project: PROJECT
      location: us-central1
      bucket: gs://BUCKET     # of that project, for the data sets"""
"""The error for a service without base models that can be tuned; the first line is the problem."""

Json = dict[str, Any]

COLLECTION = "tunedModels/"

# Any other state counts as training: apply waits for such a model, and neither promotes nor repeats it.
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
    """Return the ``fields`` parameter of a list request: exactly the fields that :func:`read_model` reads."""
    task = f"{_TASK_FIELDS},{_SNAPSHOT_FIELDS}" if progress else _TASK_FIELDS
    return f"nextPageToken,tunedModels({_MODEL_FIELDS},tuningTask({task}))"


def read_page(body: Mapping[str, Any]) -> tuple[tuple[RemoteModel, ...], str]:
    """Return the models of a page and the token of the next page, empty on the last; raises as :func:`read_model`."""
    return tuple(map(read_model, body.get("tunedModels") or ())), read_text(body.get("nextPageToken"))


def read_model(body: Mapping[str, Any]) -> RemoteModel:
    """Return a TunedModel. The source of one that was tuned from a tuned model is that model, not its base model.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The body is not a TunedModel.
    """
    name = read_name(body["name"])
    task: Mapping[str, Any] = body.get("tuningTask") or {}
    description, mark = split_mark(read_text(body.get("description")))
    return RemoteModel(
        remote=name,
        state=_STATES.get(body.get("state"), State.CREATING),
        source=read_source(body.get("baseModel"), (body.get("tunedModelSource") or {}).get("tunedModel")),
        chosen_id=name.removeprefix(COLLECTION),
        mark=mark,
        display_name=read_text(body.get("displayName")),
        description=description,
        sampling=_read_sampling(body),
        hyperparameters=_read_hyperparameters(task.get("hyperparameters") or {}),
        create_time=read_time(body.get("createTime")),
        start_time=read_time(task.get("startTime")),
        complete_time=read_time(task.get("completeTime")),
        update_time=read_time(body.get("updateTime")),
        snapshots=read_snapshots(task),
    )


def _read_hyperparameters(hyperparameters: Mapping[str, Any]) -> dict[str, Number]:
    numbers = ((read_text(name), read_number(value)) for name, value in hyperparameters.items())
    return {name: value for name, value in numbers if value is not None}


def _read_sampling(body: Mapping[str, Any]) -> Sampling:
    temperature, top_p = (read_number(body.get(name)) for name in ("temperature", "topP"))
    return Sampling(
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
        top_k=read_integer(body.get("topK")),
    )


def read_snapshots(task: Mapping[str, Any]) -> tuple[Snapshot, ...]:
    """Return the loss curve of a TuningTask or of an operation's metadata; a diverged loss is NaN or infinite."""
    return tuple(
        Snapshot(
            step=read_count(snapshot.get("step")) or 0,
            epoch=read_count(snapshot.get("epoch")) or 0,
            loss=loss,
        )
        for snapshot in task.get("snapshots") or ()
        if (loss := _read_loss(snapshot.get("meanLoss"))) is not None
    )


def _read_loss(value: Any) -> float | None:
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return None


def write_generation(generation: CreateRequest, examples: Iterable[TrainingExample]) -> Json:
    """Return the TunedModel of a create request; the mark is at the end of its description."""
    rows = [{"textInput": example.input, "output": example.output} for example in map(_example, examples)]
    task: Json = {"trainingData": {"examples": {"examples": rows}}}
    if generation.hyperparameters:
        task["hyperparameters"] = dict(generation.hyperparameters)
    base_model = generation.source.base_model
    source = {"baseModel": base_model} if base_model else {"tunedModelSource": {"tunedModel": generation.source.remote}}
    return {
        "displayName": generation.display_name,
        "description": with_mark(generation.description, generation.mark),
        **source,
        **write_sampling(generation.sampling),
        "tuningTask": task,
    }


def _example(example: TrainingExample) -> Example:
    if isinstance(example, Example):
        return example
    raise AssertionError("validation rejects conversations for this API")


def write_update(update: Update) -> Json:
    """Return the fields of a patch; their names are its update mask."""
    description = update.description
    if description is not None and update.mark:
        description = with_mark(description, update.mark)
    fields = {"displayName": update.display_name, "description": description}
    return {name: value for name, value in fields.items() if value is not None} | write_sampling(update.sampling)


# The names of the protos' enums in numerical order: google/ai/generativelanguage/v1beta3/safety.proto,
# ContentFilter.BlockedReason; v1beta/generative_service.proto, BlockReason and FinishReason.
_PALM_BLOCK_REASONS = ("", "SAFETY", "OTHER")
_GEMINI_BLOCK_REASONS = ("", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY")
_GEMINI_FINISH_REASONS = (
    *("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT"),
    *("SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    *("IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "NO_IMAGE", "IMAGE_RECITATION"),
)


def _write_text(prompt: Prompt, count: int) -> Json:
    return {"prompt": {"text": prompt.text}, **write_config(prompt, count)}


def _read_text(body: Mapping[str, Any]) -> Reply:
    reasons = (read_enum(_PALM_BLOCK_REASONS, block.get("reason")) for block in body.get("filters") or ())
    answers = tuple(Answer(read_text(candidate.get("output"))) for candidate in body.get("candidates") or ())
    return Reply(answers, next(filter(None, reasons), ""))


CODECS: Mapping[str, InferenceCodec] = MappingProxyType(
    {
        "v1beta3": InferenceCodec("generateText", _write_text, _read_text),
        "v1beta": content_codec(_GEMINI_FINISH_REASONS, _GEMINI_BLOCK_REASONS),
    }
)
"""Prompts by API version. PaLM does not return the reason why an answer ended."""
