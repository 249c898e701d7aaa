"""The spec of Vertex AI: what a target declares for it, and how to connect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reconciler.providers.spec import DoctorCheck, FieldFinding, ProviderContext, ProviderSpec
from reconciler.providers.vertex.capabilities import VERTEX, endpoint_of

if TYPE_CHECKING:
    from reconciler.providers.vertex.provider import Vertex


def _connect(context: ProviderContext) -> Vertex:
    from reconciler.providers.google.auth import authorize
    from reconciler.providers.google.http import ClientSettings
    from reconciler.providers.vertex.provider import connect

    env, target = context.env, context.target
    auth = authorize(env, target, context.allow_endpoints, SPEC.token_hosts)
    limit = target.limits.requests_per_minute
    return connect(target, ClientSettings(env.clock, env.sleeper, env.rng.random, auth, limit))


def _check_target(spec: Mapping[str, Any], _directory: Path) -> Iterator[FieldFinding]:
    if spec.get("location") == "global":
        yield (
            ("spec", "location"),
            'invalid value "global": expected a region with tuning',
            "set a region, such as europe-west4",
        )


def _doctor_checks() -> tuple[DoctorCheck, ...]:
    from reconciler.providers.vertex.doctor import CHECKS

    return CHECKS


_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "title": "Vertex AI",
        "description": "Settings of Vertex AI.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "serviceAccount": {
                "title": "Service account",
                "description": (
                    "The email address of the service account that trainings run as. Default: the Vertex AI "
                    "service agent."
                ),
                "type": "string",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*$",
                "patternErrorMessage": "write an email address, as in tuner@my-project-id.iam.gserviceaccount.com",
                "maxLength": 254,
                "examples": ["tuner@my-project-id.iam.gserviceaccount.com"],
            },
            "kmsKeyName": {
                "title": "KMS key",
                "description": (
                    "The full name of the Cloud KMS key that encrypts the trained models; it must be in the "
                    "same location. Default: a Google-managed key."
                ),
                "type": "string",
                "pattern": (
                    "^projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}"
                    "/cryptoKeys/[A-Za-z0-9_-]{1,63}$"
                ),
                "patternErrorMessage": "write projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY",
                "examples": ["projects/my-project-id/locations/europe-west4/keyRings/tuning/cryptoKeys/models"],
            },
        },
        "examples": [{"serviceAccount": "tuner@my-project-id.iam.gserviceaccount.com"}],
    }
)
"""The JSON Schema of ``spec.vertex``."""

SPEC = ProviderSpec(
    name="vertex",
    capabilities=lambda _target: VERTEX,
    connect=_connect,
    settings=_SETTINGS,
    required_fields=MappingProxyType(
        {
            "project": "add the ID of the Google Cloud project for the models",
            "location": "add the region for tuning, such as europe-west4",
            "bucket": "add the bucket for the upload of data sets, such as gs://acme-tuning-data",
        }
    ),
    unused_fields=MappingProxyType({"apiVersion": "it selects a version of the Generative Language API"}),
    check_target=_check_target,
    endpoint=endpoint_of,
    url=lambda target, remote: f"{endpoint_of(target)}/v1/{remote}",
    token_hosts=("*.googleapis.com",),
    doctor_checks=_doctor_checks,
)
