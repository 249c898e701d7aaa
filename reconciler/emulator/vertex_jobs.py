"""The calls on tuning jobs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from reconciler.emulator import vertex_store
from reconciler.emulator.errors import JsonObject, Violation, invalid
from reconciler.emulator.service import Call, Service, next_page, page, refuse_unless
from reconciler.emulator.training import timestamp
from reconciler.emulator.vertex_course import PENDING, RUNNING, SUCCEEDED, Course
from reconciler.emulator.vertex_names import parent_of
from reconciler.emulator.vertex_store import Resource

_PAGE_SIZE = 100
_TERM = re.compile(r'labels\.(?P<key>[a-z][a-z0-9_-]*)\s*=\s*(?P<quote>"?)(?P<value>[a-z0-9_-]*)(?P=quote)')


def get_job(service: Service, call: Call) -> JsonObject:
    """One job."""
    now = service.clock()
    return job_view(_job(service, call, now), now)


def list_jobs(service: Service, call: Call) -> JsonObject:
    """A page of jobs, the newest first."""
    return list_page(service, call, "tuningJobs", job_view)


def list_page(service: Service, call: Call, collection: str, view: vertex_store.View) -> JsonObject:
    """A page of any collection, the newest first, perhaps of those with certain labels only."""
    now, wanted = service.clock(), page(call.query, _PAGE_SIZE)
    found = vertex_store.newest(
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


def cancel_job(service: Service, call: Call) -> JsonObject:
    """Ends a job that is not done yet; what it would have made is never made."""
    with service.store.transaction():
        now = service.clock()
        job = _job(service, call, now)
        course = Course.load(job.course or {})
        state = course.at(now)["state"]
        refuse_unless(
            state in (PENDING, RUNNING), f"The tuning job {job.name} cannot be cancelled: it is {state} already."
        )
        vertex_store.update(service.store, job, job.document, replace(course, cancelled=timestamp(now)).dump())
        vertex_store.delete_made_by(service.store, job)
    return {}


def _job(service: Service, call: Call, now: datetime) -> Resource:
    return vertex_store.get(service.store, f"{parent_of(call)}/tuningJobs/{call.path['job']}", now)


def job_view(job: Resource, now: datetime) -> JsonObject:
    """A job as it is at an instant."""
    course = Course.load(job.course or {})
    moving = course.at(now)
    hidden = set() if moving["state"] == SUCCEEDED else {"tunedModel"}
    if course.fault or "startTime" not in moving:
        hidden |= {"tuningDataStats", "experiment"}
    return {**{name: value for name, value in job.document.items() if name not in hidden}, **moving}
