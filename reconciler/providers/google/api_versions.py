"""What each service can do: the versions of the Generative Language API, a row each, and Vertex AI."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from reconciler.domain.model import Capabilities, Target

# The limits are those that Google documents for tuning Gemini 1.5 Flash; "4 MB" is read as the smaller, decimal one.
# Defaults are the first of the documented values: they differ by base model, and serve estimates only.
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
)
VERSIONS: Mapping[str, Capabilities] = MappingProxyType(
    {
        "v1beta3": _PALM,
        "v1beta": dataclasses.replace(
            _PALM,
            label="Generative Language API v1beta",
            hyperparameters=_PALM.hyperparameters | {"learningRateMultiplier"},
            features=_PALM.features | {"projectAccess"},
            defaults=MappingProxyType({"epochCount": 5, "batchSize": 4}),
        ),
    }
)
"""What each API version can do, by its name in the path."""

VERTEX = Capabilities(
    label="Vertex AI",
    hyperparameters=frozenset({"epochCount", "learningRateMultiplier", "adapterSize"}),
    caller_chosen_ids=False,
    mutable=frozenset(),
    block="vertex",
    features=frozenset({"cancellation", "cloudStorage", "conversations", "lineage"}),
    max_dataset_bytes=2**30,
    recommended_examples=100,
    max_display_name=128,
    tuned_model_pattern=r"projects/[^/@]+/locations/[a-z0-9-]+/models/[A-Za-z0-9_-]+(@[A-Za-z0-9_-]+)?",
    tuned_model_example="projects/my-project/locations/us-central1/models/1234567890@1",
    remote_pattern=r"projects/[^/]+/locations/[a-z0-9-]+/tuningJobs/[A-Za-z0-9_-]+",
    remote_example="projects/my-project/locations/us-central1/tuningJobs/1234567890",
)
"""What tuning on Vertex AI can do. Its jobs cannot be changed; epochs and steps are chosen by the size of the data."""


def vertex_endpoint(target: Target) -> str:
    """The address of Vertex AI for a target: each location has one of its own."""
    return target.endpoint or f"https://{target.location}-aiplatform.googleapis.com"
