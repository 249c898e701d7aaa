"""The API versions of Vertex AI, its base models, regions and default hyperparameters."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.emulator.errors import ApiError, Code
from reconciler.emulator.service import Api, ApiCall, Service
from reconciler.emulator.vertex.messages import LIST, TUNING_JOB
from reconciler.emulator.vertex.store import is_taken

BASE_MODELS = (
    "gemini-2.0-flash-001",
    "gemini-2.0-flash-lite-001",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.5-pro",
)

REGIONS = frozenset(
    [
        "africa-south1",
        "asia-east1",
        "asia-east2",
        "asia-northeast1",
        "asia-northeast2",
        "asia-northeast3",
        "asia-south1",
        "asia-southeast1",
        "asia-southeast2",
        "australia-southeast1",
        "australia-southeast2",
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
        "europe-west12",
        "me-central1",
        "me-central2",
        "me-west1",
        "northamerica-northeast1",
        "northamerica-northeast2",
        "southamerica-east1",
        "southamerica-west1",
        "us-central1",
        "us-east1",
        "us-east4",
        "us-east5",
        "us-south1",
        "us-west1",
        "us-west2",
        "us-west3",
        "us-west4",
    ]
)
"""The regions of Vertex AI (https://cloud.google.com/vertex-ai/docs/general/locations); here all of them tune."""

VERTEX_V1 = Api(
    version="v1",
    tuned_model=TUNING_JOB,
    defaults={"epochCount": 5, "batchSize": 4, "learningRate": 0.001},
    mutable=frozenset(),
    query=LIST,
    root="/projects/{project}/locations/{location}",
    package="google.cloud.aiplatform",
)
VERTEX_V1BETA1 = replace(VERTEX_V1, version="v1beta1")


def parent_of(call: ApiCall) -> str:
    """Return the project and location of a call; raises ApiError for an unsupported location."""
    location = call.path["location"]
    if location not in REGIONS:
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f"Unsupported region for tuning: {location}. Choose a region of Vertex AI, such as us-central1.",
        )
    return f"projects/{call.path['project']}/locations/{location}"


def new_name(service: Service, collection: str) -> str:
    """Return an unused name in a collection."""
    while True:
        name = f"{collection}/{service.number()}"
        if not is_taken(service.store, name):
            return name
