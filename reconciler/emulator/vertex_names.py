"""Names of Vertex AI's resources."""

from __future__ import annotations

from reconciler.emulator.errors import ApiError, Code
from reconciler.emulator.service import Call, Service
from reconciler.emulator.vertex_catalogue import REGIONS
from reconciler.emulator.vertex_store import is_taken


def parent_of(call: Call) -> str:
    """The project and location that a call is about; raises ApiError where nothing is tuned."""
    location = call.path["location"]
    if location not in REGIONS:
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f"Unsupported region for tuning: {location}. Choose a region of Vertex AI, such as us-central1.",
        )
    return f"projects/{call.path['project']}/locations/{location}"


def new_name(service: Service, collection: str) -> str:
    """A name in a collection that nothing bears yet."""
    while True:
        name = f"{collection}/{service.number()}"
        if not is_taken(service.store, name):
            return name
