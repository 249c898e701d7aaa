"""The API versions: their messages, base models and default hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.generativelanguage import messages
from reconciler.emulator.proto import OPTIONAL_INT, Field, Message, message
from reconciler.emulator.service import Api

TUNE = "createTunedModel"
_SIMULATED = "Simulated by the embedded service of reconcile: nothing is trained, and answers come from the examples."


def _models(*models: JsonObject) -> Mapping[str, JsonObject]:
    return {model["name"]: {"version": "001", "description": _SIMULATED, **model} for model in models}


_HYPERPARAMETERS = {
    "epochCount": OPTIONAL_INT,
    "batchSize": OPTIONAL_INT,
    "learningRate": Field("float", optional=True, oneof="learning_rate_option"),
}

_V1BETA3_MODEL = messages.tuned_model(Message("Hyperparameters", _HYPERPARAMETERS))
_V1BETA_MODEL = messages.tuned_model(
    message(
        "Hyperparameters",
        **_HYPERPARAMETERS,
        learningRateMultiplier=Field("float", optional=True, oneof="learning_rate_option"),
    ),
    readerProjectNumbers=Field("int64", repeated=True),
)

V1BETA3 = Api(
    version="v1beta3",
    tuned_model=_V1BETA3_MODEL,
    tuned_models=messages.list_of(_V1BETA3_MODEL),
    operation=messages.operation(_V1BETA3_MODEL),
    defaults={"epochCount": 10, "batchSize": 16, "learningRate": 0.0002},
    mutable=messages.MUTABLE,
    query=messages.PAGE,
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
    ),
)

V1BETA = Api(
    version="v1beta",
    tuned_model=_V1BETA_MODEL,
    tuned_models=messages.list_of(_V1BETA_MODEL),
    operation=messages.operation(_V1BETA_MODEL),
    defaults={"epochCount": 5, "batchSize": 4, "learningRate": 0.001},
    mutable=messages.MUTABLE | {"readerProjectNumbers"},
    query=messages.FILTERED_PAGE,
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
    ),
)

VERSIONS = {api.version: api for api in (V1BETA3, V1BETA)}

V1 = replace(V1BETA, version="v1")
"""Has operations only, each in the version that its model was created with."""
