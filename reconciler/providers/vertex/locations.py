"""The regions that support tuning on Vertex AI, and the locations of buckets near them."""

from __future__ import annotations

TUNING_REGIONS = frozenset(
    [
        "asia-east1",
        "asia-east2",
        "asia-northeast1",
        "asia-northeast3",
        "asia-south1",
        "asia-southeast1",
        "australia-southeast1",
        "europe-central2",
        "europe-north1",
        "europe-southwest1",
        "europe-west1",
        "europe-west2",
        "europe-west3",
        "europe-west4",
        "europe-west6",
        "europe-west8",
        "europe-west9",
        "me-central1",
        "me-central2",
        "me-west1",
        "northamerica-northeast1",
        "southamerica-east1",
        "us-central1",
        "us-east1",
        "us-east4",
        "us-east5",
        "us-south1",
        "us-west1",
        "us-west4",
    ]
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
