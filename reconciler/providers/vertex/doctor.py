"""The doctor checks of Vertex AI."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.domain.errors import ForbiddenError
from reconciler.domain.text import suggest
from reconciler.providers.google.doctor import UPLOAD, bucket_of, connection_checks, require_permissions
from reconciler.providers.google.storage import Bucket, open_storage
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext
from reconciler.providers.vertex.capabilities import TUNING_REGIONS, endpoint_of, is_near
from reconciler.providers.vertex.wire import SERVICE

_PROJECT_NUMBER = re.compile(r"projects/(\d+)/")


def _listed(doctor: DoctorContext) -> str:
    jobs = len(doctor.models)  # jobs of other scopes are not requested
    return f"{jobs} tuning job{'' if jobs == 1 else 's'} of the scope {doctor.target.scope} listed"


async def check_region(doctor: DoctorContext) -> Diagnosis:
    """Check that Google documents tuning in the target's location."""
    location = doctor.target.location or ""
    if location in TUNING_REGIONS:
        return Diagnosis(f"{location} is a region in which Google documents tuning")
    near = suggest(location, sorted(TUNING_REGIONS))
    meant = f"{near} " if near else ""
    return Diagnosis(
        f"{location} is not among the regions in which Google documents tuning",
        f"{meant}spec.location of the target may be us-central1 or europe-west4, for example",
        "warning",
    )


async def check_bucket(doctor: DoctorContext) -> Diagnosis:
    """Check that data sets can be uploaded to the target's bucket, and that it is near and of the same project."""
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


CHECKS = (
    *connection_checks(SERVICE, endpoint_of, _listed),
    DoctorCheck("region", check_region),
    DoctorCheck("bucket", check_bucket, ("credentials",)),
)
