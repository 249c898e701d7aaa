"""The spec of Vertex AI: what tuning can do, what a target declares for it, how to connect, and the doctor checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.errors import AccessError, ForbiddenError, ServiceError
from reconciler.domain.model import Capabilities, Target
from reconciler.domain.text import counted, join_names, sanitize
from reconciler.providers.spec import Diagnosis, Discovery, DoctorCheck, DoctorContext, ProviderContext, ProviderSpec
from reconciler.providers.vertex.locations import (
    GLOBAL,
    MULTI_REGIONS,
    ExperimentPages,
    address_of,
    serving_pattern,
    url_of,
)
from reconciler.providers.vertex.manifests import (
    CONTENT_FIELDS,
    HYPERPARAMETERS,
    OPEN_MODEL,
    OUTPUT_BUCKETS,
    SETTINGS_FIELDS,
    SpecCheck,
    weights_pattern,
)

if TYPE_CHECKING:
    from reconciler.providers.google.storage import Bucket
    from reconciler.providers.vertex.provider import Vertex

VERTEX = Capabilities(
    label="Vertex AI",
    hyperparameters=HYPERPARAMETERS,
    caller_chosen_ids=False,
    block="vertex",
    content_fields=CONTENT_FIELDS,
    settings_fields=SETTINGS_FIELDS,
    base_model_pattern=rf"{OPEN_MODEL}|[A-Za-z0-9][A-Za-z0-9._-]*",
    features=frozenset(
        {"basePrompts", "cancellation", "checkpoints", "cloudStorage", "conversations", "lineage", "preference"}
    ),
    recommended_examples=100,
    max_display_name=128,
    tuned_model_pattern=r"projects/[^/@]+/locations/[a-z0-9-]+/models/[A-Za-z0-9_-]+(@[A-Za-z0-9_-]+)?",
    tuned_model_example="projects/my-project/locations/us-central1/models/1234567890@1",
    remote_pattern=r"projects/[^/]+/locations/[a-z0-9-]+/tuningJobs/[A-Za-z0-9_-]+",
    remote_example="projects/my-project/locations/us-central1/tuningJobs/1234567890",
    base_model_example="gemini-3.5-flash",
    endpoint_pattern=r"projects/[^/]+/locations/[a-z0-9-]+/endpoints/[A-Za-z0-9_-]+",
    remedies=MappingProxyType({"access": "remove it, and grant roles/aiplatform.user on the project in IAM"}),
)
"""What tuning on Vertex AI can do. Its jobs cannot be changed; epochs and steps are chosen by the size of the data."""


def capabilities_of(target: Target) -> Capabilities:
    """Return what tuning can do in a target's project and location; names have the project's id or its number."""
    project, location = (re.escape(name or "") for name in (target.project, target.location))
    place = rf"projects/(?:{project}|[0-9]+)/locations"
    return replace(
        VERTEX,
        remote_pattern=rf"{place}/{location}/tuningJobs/[A-Za-z0-9_-]+",
        endpoint_pattern=rf"{place}/(?:{serving_pattern(target)})/endpoints/[A-Za-z0-9_-]+",
        weights_pattern=weights_pattern(target),
        experiment_url=ExperimentPages(target.project or ""),
        encrypted="kmsKeyName" in target.settings,
        check_spec=SpecCheck(target),
        remote_example=f"projects/{target.project}/locations/{target.location}/tuningJobs/1234567890",
    )


def endpoint_of(target: Target) -> str:
    """Return the address of Vertex AI for a target: each location has its own."""
    return address_of(target, target.location or "")


# Multi-regions and predefined dual-regions (https://cloud.google.com/storage/docs/locations), by their prefix.
_AREAS = (("US", "us-"), ("NAM", "us-"), ("EU", "europe-"), ("ASIA", "asia-"))


def is_near(bucket: str, location: str) -> bool:
    """Return whether a bucket's location, such as ``EU`` or ``EUROPE-WEST4``, is, contains or is in a location."""
    if location == GLOBAL or bucket.lower() == location:
        return True
    if location in MULTI_REGIONS:
        return bucket.lower().startswith((MULTI_REGIONS[location], location, "nam" if location == "us" else location))
    return "-" not in bucket and any(bucket.startswith(area) and location.startswith(prefix) for area, prefix in _AREAS)


_OTHER_MODELS = "use base models that can be tuned in one location, or a target for each location"
_MOST_VALUES = 5
_PROJECT_NUMBER = re.compile(r"projects/(\d+)/")


def _connect(context: ProviderContext) -> Vertex:
    from reconciler.providers.google.auth import authorize
    from reconciler.providers.google.http import ClientSettings
    from reconciler.providers.vertex.provider import connect

    env, target = context.env, context.target
    auth = authorize(env, target, context.allow_endpoints, SPEC.token_hosts)
    limit = target.limits.requests_per_minute
    settings = ClientSettings(env.clock, env.sleeper, env.rng.random, auth, limit)
    return connect(endpoint_of(target), target, settings, capabilities_of(target))


def _discover(environ: Mapping[str, str], fields: Mapping[str, str]) -> Discovery | None:
    from reconciler.providers.google.login import discover

    return discover(environ, fields)


def _catalog() -> ModelCatalog:
    from reconciler.providers.catalog import built_in

    return built_in(__file__)


def _listed(doctor: DoctorContext) -> str:
    jobs = len(doctor.models)  # jobs of other scopes are not requested
    return f"{jobs} tuning job{'' if jobs == 1 else 's'} of the scope {doctor.target.scope} listed"


async def _check_region(doctor: DoctorContext) -> Diagnosis:
    """Check that the base models of the manifests can be tuned in the target's location, according to the catalog."""
    catalog, location, today = doctor.catalog, doctor.target.location or "", doctor.env.clock().date()
    named = {name: catalog.models[name] for name in sorted(doctor.base_models) if name in catalog.models}
    elsewhere = [name for name, model in named.items() if model.locations and location not in model.locations]
    if elsewhere:
        places = set.intersection(*(set(named[name].locations) for name in elsewhere))
        remedy = f"set spec.location of the target to one of {join_names(sorted(places))}" if places else _OTHER_MODELS
        return Diagnosis(
            f"{join_names(elsewhere)} cannot be tuned in {location}, according to {catalog.named}", remedy, "warning"
        )
    tunable = [name for name in catalog.tunable(today) if location in catalog.models[name].locations]
    if tunable:
        return Diagnosis(f"{counted(len(tunable), 'base model')} of {catalog.named} can be tuned in {location}")
    places = {place for name in catalog.tunable(today) for place in catalog.models[name].locations}
    remedy = f"set spec.location of the target to one of {join_names(sorted(places))}"
    return Diagnosis(f"no base model of {catalog.named} can be tuned in {location}", remedy, "warning")


async def _check_location_policy(doctor: DoctorContext) -> Diagnosis:
    """Check that the organization policy of the project allows the target's location, if the account may read it."""
    from reconciler.providers.google.errors import describe_project
    from reconciler.providers.vertex.location_policy import is_allowed, read_policy, values_of
    from reconciler.providers.vertex.wire import SERVICE

    location, project = doctor.target.location or "", doctor.target.project
    try:
        policy = await read_policy(doctor.context)
    except (AccessError, ServiceError) as error:
        if doctor.target.endpoint and isinstance(error, ServiceError) and error.code == "NOT_FOUND":
            return Diagnosis("this endpoint has no organization policies", status="skipped")
        message = f"the organization policy about locations could not be read: {error.message}"
        return Diagnosis(message, error.remedy, "skipped")
    allowed = is_allowed(policy, location)
    if allowed:
        return Diagnosis(f"the organization policy allows resources in {location}")
    listed = join_names([sanitize(value) for value in values_of(policy)], _MOST_VALUES) or "no location"
    places = sorted(_tuning_locations(doctor))
    others = [place for place in places if is_allowed(policy, place)]
    remedy = SERVICE.find_remedy("", "LOCATION_POLICY_VIOLATED", facts=describe_project(project or ""))
    if others:
        remedy = f"set spec.location of the target to {join_names(others)}, which the policy allows"
    if allowed is None:
        return Diagnosis(f"the organization policy may not allow resources in {location}: {listed}", remedy, "warning")
    return Diagnosis(f"the organization policy does not allow resources in {location}: {listed}", remedy, "warning")


def _tuning_locations(doctor: DoctorContext) -> set[str]:
    """Return the locations in which all base models of the manifests can be tuned, according to the catalog."""
    catalog, today = doctor.catalog, doctor.env.clock().date()
    names = [name for name in doctor.base_models if name in catalog.models] or catalog.tunable(today)
    found = [set(catalog.models[name].locations) for name in names if catalog.models[name].locations]
    return set.intersection(*found) if found else set()


async def _check_bucket(doctor: DoctorContext) -> Diagnosis:
    """Check that data sets can be uploaded to the target's bucket, and that it is near and of the same project."""
    from reconciler.providers.google.doctor import UPLOAD, bucket_of, require_permissions
    from reconciler.providers.google.storage import open_storage

    name, context = bucket_of(doctor.target.bucket), doctor.context
    async with open_storage(context.env, context.target, context.allow_endpoints) as storage:
        granted = await require_permissions(storage, name, UPLOAD)
        may = (
            "objects may be created there"
            if granted
            else "the service does not show whether objects may be created there"
        )
        try:
            bucket = await storage.bucket(name)
        except ForbiddenError as error:
            return Diagnosis(f"gs://{name}: {may}; its location and project are unknown", error.remedy, "warning")
    doubts = list(_doubts(bucket, doctor))
    message = f"gs://{name} is in {bucket.location}; {may}"
    if doubts:
        remedy = "name a bucket of this project, near the target's location, in spec.bucket"
        return Diagnosis("\n".join([message, *doubts]), remedy, "warning")
    return Diagnosis(message)


def _doubts(bucket: Bucket, doctor: DoctorContext) -> Iterator[str]:
    location = doctor.target.location
    if not is_near(bucket.location, location or ""):
        yield f"the trainings are in {location}: their data leaves its region"
    numbers = {number for model in doctor.models for number in _PROJECT_NUMBER.findall(model.remote)}
    if numbers and bucket.project_number and bucket.project_number not in numbers:
        yield f"it belongs to the project number {bucket.project_number}, and the jobs to {', '.join(sorted(numbers))}"


def _doctor_checks() -> tuple[DoctorCheck, ...]:
    from reconciler.providers.google.doctor import connection_checks
    from reconciler.providers.vertex.wire import SERVICE

    return (
        *connection_checks(SERVICE, endpoint_of, _listed),
        DoctorCheck("region", _check_region),
        DoctorCheck("locationPolicy", _check_location_policy, ("credentials", "service")),
        DoctorCheck("bucket", _check_bucket, ("credentials",)),
    )


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
            OUTPUT_BUCKETS: {
                "title": "Output buckets",
                "description": (
                    "Buckets that the weights of open models and the results of evaluations may be written to, besides "
                    "that of `bucket`."
                ),
                "type": "array",
                "minItems": 1,
                "maxItems": 20,
                "uniqueItems": True,
                "items": {
                    "type": "string",
                    "pattern": "^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$",
                    "patternErrorMessage": "write gs://BUCKET",
                },
                "examples": [["gs://acme-models"]],
            },
        },
        "examples": [{"serviceAccount": "tuner@my-project-id.iam.gserviceaccount.com"}],
    }
)
"""The JSON Schema of ``spec.vertex``."""

SPEC = ProviderSpec(
    name="vertex",
    capabilities=capabilities_of,
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
    catalog=_catalog,
    endpoint=endpoint_of,
    url=url_of,
    token_hosts=("*.googleapis.com",),
    discover=_discover,
    doctor_checks=_doctor_checks,
)
