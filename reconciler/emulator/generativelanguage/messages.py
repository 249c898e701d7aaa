"""The API versions: their messages, base models and default hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.proto import (
    BOOL,
    FLOAT,
    INT,
    OPTIONAL_FLOAT,
    OPTIONAL_INT,
    OPTIONAL_STRING,
    OUTPUT_STRING,
    OUTPUT_TIMESTAMP,
    STATUS,
    STRING,
    STRINGS,
    TIMESTAMP,
    Field,
    Message,
    enum,
    message,
    repeated,
    single,
)
from reconciler.emulator.service import Api

SNAPSHOT = message("TuningSnapshot", step=INT, epoch=INT, meanLoss=FLOAT, computeTime=TIMESTAMP)
EXAMPLE = message("TuningExample", textInput=OPTIONAL_STRING, output=STRING)
EXAMPLES = message("TuningExamples", examples=repeated(EXAMPLE))
DATASET = message("Dataset", examples=single(EXAMPLES))
SOURCE = message("TunedModelSource", tunedModel=STRING, baseModel=OUTPUT_STRING)
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
LIST_MODELS = message("ListModelsResponse", models=repeated(MODEL), nextPageToken=STRING)

PERMISSION = message(
    "Permission",
    name=OUTPUT_STRING,
    granteeType=enum("GRANTEE_TYPE_UNSPECIFIED", "USER", "GROUP", "EVERYONE"),
    emailAddress=OPTIONAL_STRING,
    role=enum("ROLE_UNSPECIFIED", "OWNER", "WRITER", "READER"),
)
LIST_PERMISSIONS = message("ListPermissionsResponse", permissions=repeated(PERMISSION), nextPageToken=STRING)
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
    return repeated(message("SafetySetting", category=enum(*categories), threshold=enum(*thresholds)))


GENERATE_TEXT = message(
    "GenerateTextRequest",
    model=STRING,
    prompt=single(message("TextPrompt", text=STRING)),
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
    candidates=repeated(message("TextCompletion", output=STRING)),
    filters=repeated(
        message("ContentFilter", reason=enum("BLOCKED_REASON_UNSPECIFIED", "SAFETY", "OTHER"), message=OPTIONAL_STRING)
    ),
)

_CONTENT = message("Content", role=STRING, parts=repeated(message("Part", text=OPTIONAL_STRING)))
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
        contents=repeated(_CONTENT),
        systemInstruction=single(_CONTENT),
        generationConfig=single(_GENERATION_CONFIG),
        safetySettings=_safety_settings(categories, thresholds),
        **extra,
    )


GENERATE_CONTENT = generate_content(_CATEGORIES, _THRESHOLDS)


def content(index: Field) -> Message:
    """The GenerateContentResponse of an API, which differ in whether an ``index`` of 0 is sent."""
    candidate = message(
        "Candidate",
        index=index,
        content=single(_CONTENT),
        finishReason=enum("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"),
    )
    return message(
        "GenerateContentResponse",
        candidates=repeated(candidate),
        promptFeedback=single(
            message("PromptFeedback", blockReason=enum("BLOCK_REASON_UNSPECIFIED", "SAFETY", "OTHER"))
        ),
        usageMetadata=single(
            message("UsageMetadata", promptTokenCount=INT, candidatesTokenCount=INT, totalTokenCount=INT)
        ),
        modelVersion=STRING,
    )


CONTENT = content(OPTIONAL_INT)
COUNT_TOKENS = message(
    "CountTokensRequest", model=STRING, contents=repeated(_CONTENT), generateContentRequest=single(GENERATE_CONTENT)
)
TOKENS = message("CountTokensResponse", totalTokens=INT)
MUTABLE = frozenset({"displayName", "description", "temperature", "topP", "topK"})
"""The fields of a TunedModel that a patch can change, in every API version."""


def tuned_model(hyperparameters: Message, **extra: Field) -> Message:
    """The TunedModel of an API version, which differs in its hyperparameters and perhaps in ``extra`` fields."""
    task = message(
        "TuningTask",
        startTime=OUTPUT_TIMESTAMP,
        completeTime=OUTPUT_TIMESTAMP,
        snapshots=repeated(SNAPSHOT, output_only=True),
        trainingData=single(DATASET),
        hyperparameters=single(hyperparameters),
    )
    return message(
        "TunedModel",
        name=OUTPUT_STRING,
        tunedModelSource=single(SOURCE, oneof="source_model"),
        baseModel=Field("string", optional=True, oneof="source_model"),
        displayName=STRING,
        description=STRING,
        state=enum("STATE_UNSPECIFIED", "CREATING", "ACTIVE", "FAILED", output_only=True),
        createTime=OUTPUT_TIMESTAMP,
        updateTime=OUTPUT_TIMESTAMP,
        tuningTask=single(task),
        temperature=OPTIONAL_FLOAT,
        topP=OPTIONAL_FLOAT,
        topK=OPTIONAL_INT,
        **extra,
    )


def list_of(tuned: Message) -> Message:
    """The ListTunedModelsResponse for that TunedModel."""
    return message("ListTunedModelsResponse", tunedModels=repeated(tuned), nextPageToken=STRING)


def operation(tuned: Message) -> Message:
    """The Operation that makes that TunedModel, its Any fields spelled out."""
    kind = {"@type": STRING}
    metadata = message(
        "CreateTunedModelMetadata",
        tunedModel=STRING,
        totalSteps=INT,
        completedSteps=INT,
        completedPercent=FLOAT,
        snapshots=repeated(SNAPSHOT),
    )
    return message(
        "Operation",
        name=STRING,
        metadata=single(Message(metadata.name, {**kind, **metadata.fields})),
        done=BOOL,
        error=single(STATUS),
        response=single(Message(tuned.name, {**kind, **tuned.fields})),
    )


TUNE = "createTunedModel"
_SIMULATED = "Simulated by the embedded service of reconcile: nothing is trained, and answers come from the examples."


def _models(*models: JsonObject) -> Mapping[str, JsonObject]:
    return {model["name"]: {"version": "001", "description": _SIMULATED, **model} for model in models}


_HYPERPARAMETERS = {
    "epochCount": OPTIONAL_INT,
    "batchSize": OPTIONAL_INT,
    "learningRate": Field("float", optional=True, oneof="learning_rate_option"),
}

_V1BETA3_MODEL = tuned_model(Message("Hyperparameters", _HYPERPARAMETERS))
_V1BETA_MODEL = tuned_model(
    message(
        "Hyperparameters",
        **_HYPERPARAMETERS,
        learningRateMultiplier=Field("float", optional=True, oneof="learning_rate_option"),
    ),
    readerProjectNumbers=Field("int64", repeated=True),
)

_TUNABLE_TODAY = ("gemini-3.5-flash", "gemini-3.5-flash-lite", "gemini-3.1-flash-lite")
"""The Gemini models that Vertex AI tunes, and the real API does not: manifests for Vertex AI can be tried here."""


def _of_today(*methods: str) -> tuple[JsonObject, ...]:
    """Return the models of today as an API version describes models; their token limits are those of Vertex AI."""
    return tuple(
        {
            "name": f"models/{name}",
            "displayName": f"{name} (simulated)",
            "inputTokenLimit": 1048576,
            "outputTokenLimit": 65536,
            "supportedGenerationMethods": [*methods, TUNE],
            "temperature": 1,
            "topP": 0.95,
            "topK": 64,
        }
        for name in _TUNABLE_TODAY
    )


# The real base models of this API are retired, and its old quickstarts name them:
# legacy base models: models/text-bison-001, models/gemini-1.5-flash-001, models/gemini-1.5-flash-001-tuning
V1BETA3 = Api(
    version="v1beta3",
    tuned_model=_V1BETA3_MODEL,
    tuned_models=list_of(_V1BETA3_MODEL),
    operation=operation(_V1BETA3_MODEL),
    defaults={"epochCount": 10, "batchSize": 16, "learningRate": 0.0002},
    mutable=MUTABLE,
    query=PAGE,
    models=_models(
        {
            "name": "models/chat-bison-001",
            "displayName": "PaLM 2 Chat (simulated)",
            "inputTokenLimit": 4096,
            "outputTokenLimit": 1024,
            "supportedGenerationMethods": ["generateMessage", "countMessageTokens"],
            "temperature": 0.25,
            "topP": 0.95,
            "topK": 40,
        },
        {
            "name": "models/text-bison-001",
            "displayName": "PaLM 2 Text (simulated)",
            "inputTokenLimit": 8196,
            "outputTokenLimit": 1024,
            "supportedGenerationMethods": ["generateText", "countTextTokens", TUNE],
            "temperature": 0.7,
            "topP": 0.95,
            "topK": 40,
        },
        {
            "name": "models/embedding-gecko-001",
            "displayName": "Embedding Gecko (simulated)",
            "inputTokenLimit": 1024,
            "outputTokenLimit": 1,
            "supportedGenerationMethods": ["embedText", "countTextTokens"],
        },
        *_of_today("generateText", "countTextTokens"),
    ),
)

V1BETA = Api(
    version="v1beta",
    tuned_model=_V1BETA_MODEL,
    tuned_models=list_of(_V1BETA_MODEL),
    operation=operation(_V1BETA_MODEL),
    defaults={"epochCount": 5, "batchSize": 4, "learningRate": 0.001},
    mutable=MUTABLE | {"readerProjectNumbers"},
    query=FILTERED_PAGE,
    models=_models(
        {
            "name": "models/gemini-1.5-flash-001",
            "displayName": "Gemini 1.5 Flash 001 (simulated)",
            "inputTokenLimit": 1000000,
            "outputTokenLimit": 8192,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
            "temperature": 1,
            "topP": 0.95,
            "topK": 64,
        },
        {
            "name": "models/gemini-1.5-flash-001-tuning",
            "displayName": "Gemini 1.5 Flash 001 Tuning (simulated)",
            "inputTokenLimit": 16384,
            "outputTokenLimit": 8192,
            "supportedGenerationMethods": ["generateContent", "countTokens", TUNE],
            "temperature": 1,
            "topP": 0.95,
            "topK": 64,
        },
        {
            "name": "models/text-embedding-004",
            "displayName": "Text Embedding 004 (simulated)",
            "inputTokenLimit": 2048,
            "outputTokenLimit": 1,
            "supportedGenerationMethods": ["embedContent"],
        },
        *_of_today("generateContent", "countTokens"),
    ),
)

VERSIONS = {api.version: api for api in (V1BETA3, V1BETA)}

V1 = replace(V1BETA, version="v1")
"""``v1beta`` under another path, where google-genai 3 looks for tuned models.

Google's protos have neither tuned models nor their operations in ``v1``; the quickstart reads operations there. So that
the service answers as in ``v1beta``, and an operation in the version that its model was created with, is assumed.
"""
