"""What doctor looks at beyond the service: Vertex AI's region, and buckets for data sets and lockfiles."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, TypeVar

from reconciler.app.doctor_report import Said
from reconciler.app.doctor_service import Examination
from reconciler.app.services import connect_storage
from reconciler.core.model import REMOTE_SCHEME
from reconciler.core.problems import AccessError, ReconcileError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from reconciler.core.model import Target
    from reconciler.providers.objects import Bucket
    from reconciler.providers.storage import Storage

T = TypeVar("T")

_UPLOADING = ("storage.objects.create", "storage.objects.get")
_LOCKING = (*_UPLOADING, "storage.objects.delete")  # to replace an object is to delete what was there
_NUMBERED = re.compile(r"projects/(\d+)/")


def region(examination: Examination) -> Said:
    """Whether Google documents the target's location as one that tunes."""
    from reconciler.providers.regions import TUNING_REGIONS

    location = examination.workspace.target.location or ""
    if location in TUNING_REGIONS:
        return Said(f"{location} is a region in which Google documents tuning")
    near = difflib.get_close_matches(location, sorted(TUNING_REGIONS), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return Said(
        f"{location} is not among the regions in which Google documents tuning",
        f"{meant}spec.location of the target may be us-central1 or europe-west4, for example",
        "warning",
    )


def bucket(examination: Examination) -> Said:
    """Whether data sets can be uploaded to the target's bucket, and whether that is near and of the same project."""
    target = examination.workspace.target
    return _asked(examination, lambda storage: _looked(storage, _bucket_of(target.bucket), examination))


def may_lock(examination: Examination) -> None:
    """Raise AccessError when the account may not save the target's lockfile in its bucket, as far as that is told."""
    name = _bucket_of(examination.workspace.target.lock)
    _asked(examination, lambda storage: _granted(storage, name, _LOCKING))


def held_lease(examination: Examination) -> ReconcileError | None:
    """What a run would be told that finds the lease beside the target's lockfile held by another one."""
    from reconciler.providers.lease import SUFFIX, Lease

    env, address = examination.env, examination.workspace.target.lock + SUFFIX
    lease = Lease(address, clock=env.clock, sleep=env.sleeper, holder="doctor")
    try:
        _asked(examination, lease.ended)
    except (AccessError, ServiceError):
        raise
    except ReconcileError as error:
        return error
    return None


def _bucket_of(address: str) -> str:
    return address.removeprefix(REMOTE_SCHEME).partition("/")[0]


def _asked(examination: Examination, act: Callable[[Storage], Awaitable[T]]) -> T:
    async def ask() -> T:
        target, allowed = examination.workspace.target, examination.what.allow_endpoints
        async with connect_storage(examination.env, target, allowed) as storage:
            return await act(storage)

    return examination.session.run(ask())


async def _granted(storage: Storage, name: str, wanted: tuple[str, ...]) -> bool:
    """Whether the service tells that all of these are granted; raises AccessError when it tells otherwise."""
    held = await storage.permissions(name, wanted)
    missing = [] if held is None else [one for one in wanted if one not in held]
    if missing:
        raise AccessError(
            f"the account lacks {' and '.join(missing)} on gs://{name}",
            f"ask for roles/storage.objectUser on gs://{name}",
        )
    return held is not None


async def _looked(storage: Storage, name: str, examination: Examination) -> Said:
    from reconciler.providers.errors import ForbiddenError

    granted = await _granted(storage, name, _UPLOADING)
    may = "objects may be created there" if granted else "whether objects may be created there is not told"
    try:
        found = await storage.bucket(name)
    except ForbiddenError as error:
        return Said(f"gs://{name}: {may}; where it is and whose is not told", error.remedy, "warning")
    doubts = list(_doubts(found, examination))
    message = f"gs://{name} is in {found.location}; {may}"
    if doubts:
        remedy = "name a bucket of this project, near the target's location, in spec.bucket"
        return Said("\n".join([message, *doubts]), remedy, "warning")
    return Said(message)


def _doubts(found: Bucket, examination: Examination) -> Iterator[str]:
    from reconciler.providers.regions import is_near

    target: Target = examination.workspace.target
    if not is_near(found.location, target.location or ""):
        yield f"the trainings are in {target.location}: their data leaves its region"
    numbers = {number for model in examination.models for number in _NUMBERED.findall(model.remote)}
    if numbers and found.project_number and found.project_number not in numbers:
        yield f"it belongs to the project number {found.project_number}, and the jobs to {', '.join(sorted(numbers))}"
