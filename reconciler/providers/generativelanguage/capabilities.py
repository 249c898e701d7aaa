"""What each version of the Generative Language API can do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from reconciler.domain.model import Capabilities, Target

ENDPOINT = "https://generativelanguage.googleapis.com"

_TUNED_MODEL = r"tunedModels/[a-z0-9-]{1,40}"
_EXAMPLE = "tunedModels/number-generator-3kq7w2ma"

# The limits are those that Google documents for tuning Gemini 1.5 Flash; "4 MB" is read as the smaller, decimal one.
# Defaults are the first of the documented values: they differ by base model, and are used for estimates only.
_PALM = Capabilities(
    label="Generative Language API v1beta3",
    hyperparameters=frozenset({"epochCount", "batchSize", "learningRate"}),
    defaults=MappingProxyType({"epochCount": 10, "batchSize": 16}),
    max_input_characters=40_000,
    max_output_characters=5_000,
    features=frozenset({"access", "lineage"}),
    max_dataset_bytes=4_000_000,
    recommended_examples=20,
    max_display_name=40,
    tuned_model_pattern=_TUNED_MODEL,
    tuned_model_example=_EXAMPLE,
    remote_pattern=_TUNED_MODEL,
    remote_example=_EXAMPLE,
    base_model_prefix="models/",
    base_model_example="models/gemini-1.5-flash-001-tuning",
)
VERSIONS: Mapping[str, Capabilities] = MappingProxyType(
    {
        "v1beta3": _PALM,
        "v1beta": replace(
            _PALM,
            label="Generative Language API v1beta",
            hyperparameters=_PALM.hyperparameters | {"learningRateMultiplier"},
            features=_PALM.features | {"projectAccess"},
            defaults=MappingProxyType({"epochCount": 5, "batchSize": 4}),
        ),
    }
)
"""What each API version can do, by its name in the path."""


def endpoint_of(target: Target) -> str:
    """Return the address of the service of a target."""
    return target.endpoint or ENDPOINT
