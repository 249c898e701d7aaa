"""Regions of services."""

from __future__ import annotations

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
