"""What tuning on Vertex AI can do, and where."""

from __future__ import annotations

from types import MappingProxyType

from reconciler.domain.model import Capabilities, Target

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
    base_model_example="gemini-2.5-flash",
    prompts_to_endpoint=True,
    remedies=MappingProxyType({"access": "remove it, and grant roles/aiplatform.user on the project in IAM"}),
)
"""What tuning on Vertex AI can do. Its jobs cannot be changed; epochs and steps are chosen by the size of the data."""


def endpoint_of(target: Target) -> str:
    """Return the address of Vertex AI for a target: each location has its own."""
    return target.endpoint or f"https://{target.location}-aiplatform.googleapis.com"


TUNING_REGIONS = frozenset(
    {
        *("asia-east1", "asia-east2", "asia-northeast1", "asia-northeast3", "asia-south1", "asia-southeast1"),
        *("australia-southeast1", "europe-central2", "europe-north1", "europe-southwest1", "europe-west1"),
        *("europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8", "europe-west9"),
        *("me-central1", "me-central2", "me-west1", "northamerica-northeast1", "southamerica-east1"),
        *("us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west4"),
    }
)
"""The regions that Google documents for supervised tuning; there may be newer ones, and none has every model
(https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-region-settings)."""

# Multi-regions and predefined dual-regions (https://cloud.google.com/storage/docs/locations), by their prefix.
_AREAS = (("US", "us-"), ("NAM", "us-"), ("EU", "europe-"), ("ASIA", "asia-"))


def is_near(bucket: str, region: str) -> bool:
    """Return whether a bucket's location, such as ``EU`` or ``EUROPE-WEST4``, is a region or contains it."""
    if "-" in bucket:
        return bucket.lower() == region
    return any(bucket.startswith(area) and region.startswith(prefix) for area, prefix in _AREAS)
