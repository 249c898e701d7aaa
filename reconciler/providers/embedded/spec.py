"""The spec of the embedded service: what a target declares for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os.path import realpath
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import REMOTE_SCHEME
from reconciler.paths import find_file, repository_of
from reconciler.providers.embedded.service import DOCTOR_CHECKS, capabilities_of, connect
from reconciler.providers.spec import FieldFinding, ProviderSpec

_NOT_IN_STORAGE = "Cloud Storage is not used"


def _check_target(spec: Mapping[str, Any], directory: Path) -> Iterator[FieldFinding]:
    publish = spec.get("publish")
    if isinstance(publish, str) and publish.startswith(REMOTE_SCHEME):
        yield ("spec", "publish"), "Cloud Storage is not supported by provider embedded", "set the path of a file"
    settings = spec.get("embedded")
    world = settings.get("world") if isinstance(settings, dict) else None
    if not isinstance(world, str):
        return
    try:
        file = find_file(world, directory, repository_of(directory))
    except ReconcileError as error:
        yield ("spec", "embedded", "world"), error.message, error.remedy
        return
    if isinstance(publish, str) and "\0" not in publish and realpath(directory / publish) == realpath(file):
        message = f"{publish}: same file as spec.embedded.world"
        yield ("spec", "publish"), message, "use another name, such as serving.json"


_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "title": "Embedded service",
        "description": "Settings of the embedded service; other providers ignore them.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "stepSeconds": {
                "title": "Seconds a step",
                "description": "The duration of one simulated training step in seconds. Optional.",
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 86400,
                "examples": [0.05],
            },
            "world": {
                "title": "World",
                "description": (
                    "A file with the models that exist initially, in the format of the service's list; "
                    "relative to this file and inside the repository."
                ),
                "type": "string",
                "minLength": 1,
                "examples": ["world.json"],
            },
        },
        "examples": [{"stepSeconds": 0.05}],
    }
)
"""The JSON Schema of ``spec.embedded``."""

SPEC = ProviderSpec(
    name="embedded",
    capabilities=capabilities_of,
    connect=connect,
    settings=_SETTINGS,
    unused_fields=MappingProxyType(
        {
            "endpoint": "the service runs in the process of the command",
            "bucket": "data sets are sent in requests",
            "lock": "the lockfile is always a local file",
            "storageEndpoint": _NOT_IN_STORAGE,
            "vertex": "it contains settings of Vertex AI",
        }
    ),
    check_target=_check_target,
    doctor_checks=lambda: DOCTOR_CHECKS,
)
