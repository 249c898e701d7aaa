"""What tuning on Vertex AI can do, and where."""

from __future__ import annotations

import re
from types import MappingProxyType

from msgspec.structs import replace

from reconciler.domain.model import Capabilities, Target

VERTEX = Capabilities(
    label="Vertex AI",
    hyperparameters=frozenset({"epochCount", "learningRateMultiplier", "adapterSize"}),
    caller_chosen_ids=False,
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
    endpoint_pattern=r"projects/[^/]+/locations/[a-z0-9-]+/endpoints/[A-Za-z0-9_-]+",
    remedies=MappingProxyType({"access": "remove it, and grant roles/aiplatform.user on the project in IAM"}),
)
"""What tuning on Vertex AI can do. Its jobs cannot be changed; epochs and steps are chosen by the size of the data."""


def capabilities_of(target: Target) -> Capabilities:
    """Return what tuning can do in a target's project and location; names have the project's id or its number."""
    project, location = (re.escape(name or "") for name in (target.project, target.location))
    place = rf"projects/(?:{project}|[0-9]+)/locations/{location}"
    return replace(
        VERTEX,
        remote_pattern=rf"{place}/tuningJobs/[A-Za-z0-9_-]+",
        endpoint_pattern=rf"{place}/endpoints/[A-Za-z0-9_-]+",
        remote_example=f"projects/{target.project}/locations/{target.location}/tuningJobs/1234567890",
    )


def endpoint_of(target: Target) -> str:
    """Return the address of Vertex AI for a target: each location has its own."""
    return target.endpoint or f"https://{target.location}-aiplatform.googleapis.com"


# Multi-regions and predefined dual-regions (https://cloud.google.com/storage/docs/locations), by their prefix.
_AREAS = (("US", "us-"), ("NAM", "us-"), ("EU", "europe-"), ("ASIA", "asia-"))


def is_near(bucket: str, region: str) -> bool:
    """Return whether a bucket's location, such as ``EU`` or ``EUROPE-WEST4``, is a region or contains it."""
    if "-" in bucket:
        return bucket.lower() == region
    return any(bucket.startswith(area) and region.startswith(prefix) for area, prefix in _AREAS)
