"""The protos of v1beta3 and v1beta as tables: just enough to read requests and to write responses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["string", "int32", "int64", "float", "double", "bool", "timestamp", "enum", "map", "message"]


@dataclass(frozen=True)
class Field:
    """One field of a message.

    ``optional`` fields are told even at their default value. An ``output_only`` field is ignored in requests. Of the
    fields with the same ``oneof`` at most one may be set. ``enum`` lists the values by number. A ``map`` is one from
    strings to strings.
    """

    kind: Kind
    repeated: bool = False
    optional: bool = False
    output_only: bool = False
    oneof: str = ""
    enum: tuple[str, ...] = ()
    message: Message | None = None

    @property
    def keeps_default(self) -> bool:
        """Whether the field is told at its default value too."""
        return self.optional or (self.message is not None and not self.repeated)


@dataclass(frozen=True)
class Message:
    """A message: its name in the proto package, and its fields by their JSON names."""

    name: str
    fields: Mapping[str, Field]

    @cached_property
    def json_names(self) -> Mapping[str, str]:
        """The JSON name of every field, by JSON name and by snake_case proto name."""
        return {spelling: name for name in self.fields for spelling in (name, snake_case(name))}


def snake_case(json_name: str) -> str:
    """The proto name of a field, given its JSON name."""
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", json_name)


def message(name: str, /, **fields: Field) -> Message:
    """A message whose keyword arguments are its fields under their JSON names."""
    return Message(name, fields)


def one(of: Message, *, output_only: bool = False, oneof: str = "") -> Field:
    """A field that holds a message."""
    return Field("message", message=of, output_only=output_only, oneof=oneof)


def many(of: Message, *, output_only: bool = False) -> Field:
    """A field that holds any number of messages."""
    return Field("message", message=of, repeated=True, output_only=output_only)


def enum(*values: str, output_only: bool = False) -> Field:
    """A field that holds one of the values; the first is its default."""
    return Field("enum", enum=values, output_only=output_only)


STRING = Field("string")
STRINGS = Field("string", repeated=True)
OPTIONAL_STRING = Field("string", optional=True)
OUTPUT_STRING = Field("string", output_only=True)
INT = Field("int32")
INT64 = Field("int64")
OPTIONAL_INT = Field("int32", optional=True)
FLOAT = Field("float")
OPTIONAL_FLOAT = Field("float", optional=True)
DOUBLE = Field("double")
BOOL = Field("bool")
MAP = Field("map")
TIMESTAMP = Field("timestamp")
OUTPUT_TIMESTAMP = Field("timestamp", output_only=True)

EMPTY = message("Empty")
SNAPSHOT = message("TuningSnapshot", step=INT, epoch=INT, meanLoss=FLOAT, computeTime=TIMESTAMP)
EXAMPLE = message("TuningExample", textInput=OPTIONAL_STRING, output=STRING)
EXAMPLES = message("TuningExamples", examples=many(EXAMPLE))
DATASET = message("Dataset", examples=one(EXAMPLES))
SOURCE = message("TunedModelSource", tunedModel=STRING, baseModel=OUTPUT_STRING)
STATUS = message("Status", code=INT, message=STRING)
MODEL = message(
    "Model",
    name=STRING,
    baseModelId=STRING,
    version=STRING,
    displayName=STRING,
    description=STRING,
    inputTokenLimit=INT,
    outputTokenLimit=INT,
    supportedGenerationMethods=STRINGS,
    temperature=OPTIONAL_FLOAT,
    topP=OPTIONAL_FLOAT,
    topK=OPTIONAL_INT,
)
LIST_MODELS = message("ListModelsResponse", models=many(MODEL), nextPageToken=STRING)

PERMISSION = message(
    "Permission",
    name=OUTPUT_STRING,
    granteeType=enum("GRANTEE_TYPE_UNSPECIFIED", "USER", "GROUP", "EVERYONE"),
    emailAddress=OPTIONAL_STRING,
    role=enum("ROLE_UNSPECIFIED", "OWNER", "WRITER", "READER"),
)
LIST_PERMISSIONS = message("ListPermissionsResponse", permissions=many(PERMISSION), nextPageToken=STRING)
TRANSFER_OWNERSHIP = message("TransferOwnershipRequest", name=STRING, emailAddress=STRING)

PAGE = message("Page", pageSize=INT, pageToken=STRING)
FILTERED_PAGE = message("FilteredPage", pageSize=INT, pageToken=STRING, filter=STRING)
CREATE_QUERY = message("CreateQuery", tunedModelId=OPTIONAL_STRING)
UPDATE_QUERY = message("UpdateQuery", updateMask=STRING)

_CATEGORIES = (
    "HARM_CATEGORY_UNSPECIFIED",
    "HARM_CATEGORY_DEROGATORY",
    "HARM_CATEGORY_TOXICITY",
    "HARM_CATEGORY_VIOLENCE",
    "HARM_CATEGORY_SEXUAL",
    "HARM_CATEGORY_MEDICAL",
    "HARM_CATEGORY_DANGEROUS",
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)
_THRESHOLDS = (
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
)


def _safety_settings(categories: Sequence[str], thresholds: Sequence[str]) -> Field:
    return many(message("SafetySetting", category=enum(*categories), threshold=enum(*thresholds)))


GENERATE_TEXT = message(
    "GenerateTextRequest",
    model=STRING,
    prompt=one(message("TextPrompt", text=STRING)),
    temperature=OPTIONAL_FLOAT,
    candidateCount=OPTIONAL_INT,
    maxOutputTokens=OPTIONAL_INT,
    topP=OPTIONAL_FLOAT,
    topK=OPTIONAL_INT,
    safetySettings=_safety_settings(_CATEGORIES, _THRESHOLDS),
    stopSequences=STRINGS,
)
TEXT = message(
    "GenerateTextResponse",
    candidates=many(message("TextCompletion", output=STRING)),
    filters=many(
        message("ContentFilter", reason=enum("BLOCKED_REASON_UNSPECIFIED", "SAFETY", "OTHER"), message=OPTIONAL_STRING)
    ),
)

_CONTENT = message("Content", role=STRING, parts=many(message("Part", text=OPTIONAL_STRING)))
_GENERATION_CONFIG = message(
    "GenerationConfig",
    temperature=OPTIONAL_FLOAT,
    candidateCount=OPTIONAL_INT,
    maxOutputTokens=OPTIONAL_INT,
    topP=OPTIONAL_FLOAT,
    topK=OPTIONAL_INT,
    seed=OPTIONAL_INT,
    responseMimeType=STRING,
    stopSequences=STRINGS,
)


def generate_content(categories: Sequence[str], thresholds: Sequence[str], **extra: Field) -> Message:
    """The GenerateContentRequest of an API, which differs in the numbers of its safety settings and in ``extra``."""
    return message(
        "GenerateContentRequest",
        model=STRING,
        contents=many(_CONTENT),
        systemInstruction=one(_CONTENT),
        generationConfig=one(_GENERATION_CONFIG),
        safetySettings=_safety_settings(categories, thresholds),
        **extra,
    )


GENERATE_CONTENT = generate_content(_CATEGORIES, _THRESHOLDS)


def content(index: Field) -> Message:
    """The GenerateContentResponse of an API, which differs in whether an ``index`` of 0 is told."""
    candidate = message(
        "Candidate",
        index=index,
        content=one(_CONTENT),
        finishReason=enum("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"),
    )
    return message(
        "GenerateContentResponse",
        candidates=many(candidate),
        promptFeedback=one(message("PromptFeedback", blockReason=enum("BLOCK_REASON_UNSPECIFIED", "SAFETY", "OTHER"))),
        usageMetadata=one(
            message("UsageMetadata", promptTokenCount=INT, candidatesTokenCount=INT, totalTokenCount=INT)
        ),
        modelVersion=STRING,
    )


CONTENT = content(OPTIONAL_INT)


def tuned_model(hyperparameters: Message, **extra: Field) -> Message:
    """The TunedModel of an API version, which differs in its hyperparameters and perhaps in ``extra`` fields."""
    task = message(
        "TuningTask",
        startTime=OUTPUT_TIMESTAMP,
        completeTime=OUTPUT_TIMESTAMP,
        snapshots=many(SNAPSHOT, output_only=True),
        trainingData=one(DATASET),
        hyperparameters=one(hyperparameters),
    )
    return message(
        "TunedModel",
        name=OUTPUT_STRING,
        tunedModelSource=one(SOURCE, oneof="source_model"),
        baseModel=Field("string", optional=True, oneof="source_model"),
        displayName=STRING,
        description=STRING,
        state=enum("STATE_UNSPECIFIED", "CREATING", "ACTIVE", "FAILED", output_only=True),
        createTime=OUTPUT_TIMESTAMP,
        updateTime=OUTPUT_TIMESTAMP,
        tuningTask=one(task),
        temperature=OPTIONAL_FLOAT,
        topP=OPTIONAL_FLOAT,
        topK=OPTIONAL_INT,
        **extra,
    )


def list_of(tuned: Message) -> Message:
    """The ListTunedModelsResponse for that TunedModel."""
    return message("ListTunedModelsResponse", tunedModels=many(tuned), nextPageToken=STRING)


def operation(tuned: Message) -> Message:
    """The Operation that makes that TunedModel, its Any fields spelled out."""
    kind = {"@type": STRING}
    metadata = message(
        "CreateTunedModelMetadata",
        tunedModel=STRING,
        totalSteps=INT,
        completedSteps=INT,
        completedPercent=FLOAT,
        snapshots=many(SNAPSHOT),
    )
    return message(
        "Operation",
        name=STRING,
        metadata=one(Message(metadata.name, {**kind, **metadata.fields})),
        done=BOOL,
        error=one(STATUS),
        response=one(Message(tuned.name, {**kind, **tuned.fields})),
    )
