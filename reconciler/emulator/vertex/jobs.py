"""The methods of tuning jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from reconciler.domain.model import State
from reconciler.emulator.errors import Code, JsonObject, Violation, invalid
from reconciler.emulator.objects import StorageError
from reconciler.emulator.service import ApiCall, Service, next_page, read_page, refuse_unless
from reconciler.emulator.training import SimulatedTraining, timestamp
from reconciler.emulator.vertex import store
from reconciler.emulator.vertex.messages import parent_of
from reconciler.emulator.vertex.store import Resource

PENDING, RUNNING = "JOB_STATE_PENDING", "JOB_STATE_RUNNING"
SUCCEEDED, FAILED, CANCELLED = "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"

WEIGHTS = "postprocess/node-0/checkpoints/final/adapter_model.safetensors"
"""The file of a simulated open model below its ``outputUri``; the path in the real service is assumed."""
_WRITTEN = "weightsWritten"
"""The member of a stored job that has written its weights, which can be deleted afterwards."""
LOSS = "/train_total_loss"
"""The name of the training loss among the metrics of a job."""


class JobError(Struct, frozen=True):
    """The error of a job that ends without a training: a google.rpc code and a message."""

    code: Code
    message: str


class JobTimeline(Struct, frozen=True):
    """The inputs of a job's state; ``canceled`` is the time of the cancel request, or empty.

    A job with a ``fault`` fails at the end of its training, which has no steps.
    """

    training: SimulatedTraining
    fault: JobError | None = None
    canceled: str = ""

    @property
    def succeeds(self) -> bool:
        """Whether the job will succeed unless it is canceled."""
        return self.fault is None and self.training.failing_step is None

    def dump(self) -> JsonObject:
        """Return the timeline as JSON, for ``load``."""
        dumped: JsonObject = to_builtins(self)
        return dumped

    @staticmethod
    def load(stored: Mapping[str, Any]) -> JobTimeline:
        """Return the timeline from its JSON."""
        return convert(stored, JobTimeline)

    def at(self, now: datetime) -> JsonObject:
        """Return the time-dependent fields of the job."""
        canceled_at = datetime.fromisoformat(self.canceled) if self.canceled else None
        progress = self.training.progress(min(now, canceled_at) if canceled_at else now)
        state, end = RUNNING if progress.start_time else PENDING, progress.end_time
        if end:
            failed = self.fault or progress.state is State.FAILED
            state = FAILED if failed else SUCCEEDED
        elif canceled_at and canceled_at <= now:
            state, end = CANCELLED, canceled_at
        times = {"startTime": progress.start_time, "endTime": end}
        reported = {name: timestamp(time) for name, time in times.items() if time}
        latest = reported.get("endTime", reported.get("startTime", self.training.created))
        detail = {"tuningJobState": f"TUNING_JOB_STATE_{self.training.phase(now)}"} if state == RUNNING else {}
        epochs = self.training.epochs_of(progress.completed_steps)
        metadata = {"tuningJobMetadata": {"completedEpochCount": str(epochs)}} if epochs else {}
        return {"state": state, **detail, **metadata, **reported, "updateTime": latest, **self._error(state)}

    def completed_steps(self, now: datetime) -> int:
        """Return the steps that are completed, or were when the job was canceled."""
        last = min(now, datetime.fromisoformat(self.canceled)) if self.canceled else now
        return self.training.progress(last).completed_steps

    def _error(self, state: str) -> JsonObject:
        if state == CANCELLED:
            return {"error": {"code": Code.CANCELLED, "message": "The tuning job was canceled."}}
        if state != FAILED:
            return {}
        fault = self.fault or JobError(Code.INVALID_ARGUMENT, self.training.failure)
        return {"error": {"code": fault.code, "message": fault.message}}


_PAGE_SIZE = 100
_TERM = re.compile(r'labels\.(?P<key>[a-z][a-z0-9_-]*)\s*(:\s*\*|=\s*(?P<quote>"?)(?P<value>[a-z0-9_-]*)(?P=quote))')


def get_job(service: Service, call: ApiCall) -> JsonObject:
    """Return one job, after writing its metrics."""
    now = service.clock()
    return _shown(service, _job(service, call, now), now)


def list_jobs(service: Service, call: ApiCall) -> JsonObject:
    """Return a page of jobs, newest first, after writing their metrics."""
    return list_page(service, call, "tuningJobs", partial(_shown, service))


def _shown(service: Service, job: Resource, now: datetime) -> JsonObject:
    """Return a job at an instant, after writing its metrics: nothing runs in the background."""
    shown = job_view(job, now)
    if "gcsMetricsUri" in shown:
        _write_metrics(service, shown["gcsMetricsUri"], JobTimeline.load(job.course or {}), now)
    if shown["state"] == SUCCEEDED and "outputUri" in shown and _WRITTEN not in job.document:
        _write_object(service, f"{shown['outputUri'].rstrip('/')}/{WEIGHTS}", b"simulated", {}, now)
        store.update(service.store, job, {**job.document, _WRITTEN: True})
    return shown


def _write_metrics(service: Service, uri: str, course: JobTimeline, now: datetime) -> None:
    """Write the loss curve up to now as JSON Lines, unless the object has it already.

    Google does not document the content of the object; the name of the loss is that of the tuning metrics in
    https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/tuning/supervised-tuning .
    """
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    steps = {"steps": str(course.completed_steps(now))}
    with suppress(StorageError):
        if service.objects.get(bucket, name).document.get("metadata") == steps:
            return
    lines = (
        json.dumps({"step": snapshot["step"], "epoch": snapshot["epoch"], LOSS: snapshot["meanLoss"]})
        for snapshot in course.training.snapshots(course.completed_steps(now))
    )
    _write_object(service, uri, "".join(f"{line}\n" for line in lines).encode(), steps, now)


def _write_object(service: Service, uri: str, data: bytes, metadata: JsonObject, now: datetime) -> None:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    content = service.objects.new_content()
    content.write(data)
    described = {"name": name, "contentType": "application/octet-stream", "metadata": metadata}
    service.objects.put(bucket, described, content, content.checksums({}), {}, now)


def list_page(service: Service, call: ApiCall, collection: str, view: store.View) -> JsonObject:
    """Return a page of a collection, newest first, optionally filtered by labels."""
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


def _labels(text: str) -> dict[str, str | None]:
    """Return the labels of a filter; a label that may have any value has ``None``.

    A filter has ``labels.key=value`` and ``labels.key:*``, joined with AND; raises ApiError otherwise.
    """
    labels: dict[str, str | None] = {}
    for term in re.split(r"\s+AND\s+", text.strip()) if text.strip() else ():
        match = _TERM.fullmatch(term)
        if match is None or labels.get(match["key"], match["value"]) != match["value"]:
            known = "labels.key=value or labels.key:*, joined with AND"
            described = f'"{term[:100]}" is not supported by this service; use {known}'
            raise invalid("ListRequest", [Violation("filter", described)])
        labels[match["key"]] = match["value"]
    return labels


def cancel_job(service: Service, call: ApiCall) -> JsonObject:
    """Cancel a job in progress; its results are never created."""
    with service.store.transaction():
        now = service.clock()
        job = _job(service, call, now)
        course = JobTimeline.load(job.course or {})
        state = course.at(now)["state"]
        refuse_unless(
            state in (PENDING, RUNNING), f"The tuning job {job.name} cannot be canceled: it is already {state}."
        )
        store.update(service.store, job, job.document, replace(course, canceled=timestamp(now)).dump())
        store.delete_results_of(service.store, job)
    return {}


def _job(service: Service, call: ApiCall, now: datetime) -> Resource:
    return store.get(service.store, f"{parent_of(call)}/tuningJobs/{call.path['job']}", now)


def job_view(job: Resource, now: datetime) -> JsonObject:
    """Return a job at an instant."""
    course = JobTimeline.load(job.course or {})
    current = course.at(now)
    hidden = set() if current["state"] == SUCCEEDED else {"tunedModel", "evaluateDatasetRuns"}
    if course.fault or "startTime" not in current:
        hidden |= {"tuningDataStats", "experiment"}
    if not course.completed_steps(now):
        hidden.add("gcsMetricsUri")
    return {**{name: value for name, value in job.document.items() if name not in hidden}, **current}
