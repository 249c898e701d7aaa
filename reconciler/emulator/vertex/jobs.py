"""The calls on tuning jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from reconciler.domain.model import State
from reconciler.emulator.errors import Code, JsonObject, Violation, invalid
from reconciler.emulator.service import ApiCall, Service, next_page, read_page, refuse_unless
from reconciler.emulator.training import SimulatedTraining, timestamp
from reconciler.emulator.vertex import store
from reconciler.emulator.vertex.catalog import parent_of
from reconciler.emulator.vertex.store import Resource

PENDING, RUNNING = "JOB_STATE_PENDING", "JOB_STATE_RUNNING"
SUCCEEDED, FAILED, CANCELLED = "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job ends without a training: a google.rpc code and a message."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class JobTimeline:
    """All that a job's state depends on; ``cancelled`` is the time at which that was asked for, or empty.

    With a ``fault`` the job fails when its training, which has no steps then, is over.
    """

    training: SimulatedTraining
    fault: JobError | None = None
    cancelled: str = ""

    @property
    def succeeds(self) -> bool:
        """Whether the job will succeed, unless it is cancelled."""
        return self.fault is None and self.training.failing_step is None

    def dump(self) -> JsonObject:
        """The course as JSON, for ``load``."""
        return asdict(self)

    @staticmethod
    def load(stored: Mapping[str, Any]) -> JobTimeline:
        """The course that was dumped."""
        fault = stored["fault"]
        return JobTimeline(
            SimulatedTraining(**stored["training"]),
            JobError(Code(fault["code"]), fault["message"]) if fault else None,
            stored["cancelled"],
        )

    def at(self, now: datetime) -> JsonObject:
        """The fields of the job that depend on the time."""
        asked = datetime.fromisoformat(self.cancelled) if self.cancelled else None
        progress = self.training.progress(min(now, asked) if asked else now)
        state, end = RUNNING if progress.start_time else PENDING, progress.end_time
        if end:
            failed = self.fault or progress.state is State.FAILED
            state = FAILED if failed else SUCCEEDED
        elif asked and asked <= now:
            state, end = CANCELLED, asked
        times = {"startTime": progress.start_time, "endTime": end}
        told = {name: timestamp(time) for name, time in times.items() if time}
        latest = told.get("endTime", told.get("startTime", self.training.created))
        return {"state": state, **told, "updateTime": latest, **self._error(state)}

    def _error(self, state: str) -> JsonObject:
        if state == CANCELLED:
            return {"error": {"code": Code.CANCELLED, "message": "The tuning job was cancelled."}}
        if state != FAILED:
            return {}
        fault = self.fault or JobError(Code.INVALID_ARGUMENT, self.training.failure)
        return {"error": {"code": fault.code, "message": fault.message}}


_PAGE_SIZE = 100
_TERM = re.compile(r'labels\.(?P<key>[a-z][a-z0-9_-]*)\s*=\s*(?P<quote>"?)(?P<value>[a-z0-9_-]*)(?P=quote)')


def get_job(service: Service, call: ApiCall) -> JsonObject:
    """One job."""
    now = service.clock()
    return job_view(_job(service, call, now), now)


def list_jobs(service: Service, call: ApiCall) -> JsonObject:
    """A page of jobs, the newest first."""
    return list_page(service, call, "tuningJobs", job_view)


def list_page(service: Service, call: ApiCall, collection: str, view: store.View) -> JsonObject:
    """A page of any collection, the newest first, perhaps of those with certain labels only."""
    now, wanted = service.clock(), read_page(call.query, _PAGE_SIZE)
    found = store.newest(
        service.store,
        f"{parent_of(call)}/{collection}",
        now,
        before=wanted.after,
        limit=wanted.size + 1,
        labels=_labels(call.query.get("filter", "")),
    )
    more = len(found) > wanted.size
    return {
        collection: [view(resource, now) for resource in found[: wanted.size]],
        "nextPageToken": next_page(found[wanted.size - 1].seq) if more else "",
    }


def _labels(text: str) -> dict[str, str]:
    """The labels that a filter asks for: ``labels.key=value``, joined with AND; raises ApiError for anything else."""
    labels: dict[str, str] = {}
    for term in re.split(r"\s+AND\s+", text.strip()) if text.strip() else ():
        match = _TERM.fullmatch(term)
        if match is None or labels.get(match["key"], match["value"]) != match["value"]:
            described = f'"{term[:100]}" is not supported by this service; use labels.key=value, joined with AND'
            raise invalid("ListRequest", [Violation("filter", described)])
        labels[match["key"]] = match["value"]
    return labels


def cancel_job(service: Service, call: ApiCall) -> JsonObject:
    """Ends a job that is not done yet; what it would have made is never made."""
    with service.store.transaction():
        now = service.clock()
        job = _job(service, call, now)
        course = JobTimeline.load(job.course or {})
        state = course.at(now)["state"]
        refuse_unless(
            state in (PENDING, RUNNING), f"The tuning job {job.name} cannot be cancelled: it is {state} already."
        )
        store.update(service.store, job, job.document, replace(course, cancelled=timestamp(now)).dump())
        store.delete_made_by(service.store, job)
    return {}


def _job(service: Service, call: ApiCall, now: datetime) -> Resource:
    return store.get(service.store, f"{parent_of(call)}/tuningJobs/{call.path['job']}", now)


def job_view(job: Resource, now: datetime) -> JsonObject:
    """A job as it is at an instant."""
    course = JobTimeline.load(job.course or {})
    moving = course.at(now)
    hidden = set() if moving["state"] == SUCCEEDED else {"tunedModel"}
    if course.fault or "startTime" not in moving:
        hidden |= {"tuningDataStats", "experiment"}
    return {**{name: value for name, value in job.document.items() if name not in hidden}, **moving}
