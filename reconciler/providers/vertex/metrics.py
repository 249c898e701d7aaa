"""The loss curves of tuning jobs, from the objects that ``gcsMetricsUri`` names.

Google documents neither the place nor the content of such an object. Accepted are rows of JSON with a step and a loss:
as JSON Lines, as a list, or as a list in an object. From anything else no curve is read, which is never an error.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.model import RemoteModel, Snapshot, State, Target
from reconciler.domain.text import sanitize
from reconciler.providers.google.errors import read_count, read_number
from reconciler.providers.google.storage import ObjectName, Storage

MAX_BYTES: Final = 4 * 2**20
"""The largest object that is read."""
MOST_POINTS: Final = 10_000
MOST_CURVES: Final = 20
"""How many jobs have a curve: those in progress, and then the newest. Each costs two requests."""
_STEPS: Final = ("step", "globalstep", "trainstep", "trainingstep")
_LOSSES: Final = ("traintotalloss", "trainloss", "trainingloss", "meanloss", "loss")
_EPOCHS: Final = ("epoch", "completedepochcount")
_NOT_LETTERS: Final = re.compile(r"[^a-z]+")
_LOG = logging.getLogger(__name__)

Curve = tuple[Snapshot, ...]


def read_curve(content: bytes) -> Curve:
    """Return the points of a loss curve by step, at most 10,000; none for content of another shape."""
    points = filter(None, map(_point, islice(_rows(content.decode("utf-8-sig", "replace")), MOST_POINTS)))
    by_step = {point.step: point for point in points}
    return tuple(by_step[step] for step in sorted(by_step))


def _rows(text: str) -> Iterator[Any]:
    whole = _parse(text)
    if isinstance(whole, dict) and _point(whole) is None:
        lists = (value for value in whole.values() if isinstance(value, list))
        whole = next((rows for rows in lists if any(map(_point, rows[:1]))), None)
    if isinstance(whole, list):
        yield from whole
    elif whole is None:
        yield from map(_parse, text.splitlines())
    else:
        yield whole


def _parse(text: str) -> Any:
    """Return a JSON value, or ``None`` for other text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _point(row: Any) -> Snapshot | None:
    """Return the point in a row; ``None`` for another value."""
    if not isinstance(row, dict):
        return None
    fields = {_NOT_LETTERS.sub("", name.lower()): value for name, value in row.items()}
    step = next((read_count(fields[name]) for name in _STEPS if name in fields), None)
    loss = next((read_number(fields[name]) for name in _LOSSES if name in fields), None)
    epoch = next((read_number(fields[name]) for name in _EPOCHS if name in fields), None)
    if step is None or loss is None:
        return None
    return Snapshot(step, max(0, int(epoch or 0)), float(loss))


class MetricsReader:
    """Adds loss curves to jobs; objects in other buckets are not read: a job can name any.

    An object is read again only after it changed, and a bucket that refuses is not queried again. The first reason why
    a job has no curve is logged.
    """

    def __init__(self, storage: Storage, target: Target) -> None:
        self._storage = storage
        self._bucket = target.bucket.removeprefix("gs://").partition("/")[0]
        self._known: dict[str, tuple[int, Curve]] = {}
        self._final: set[str] = set()
        self._refused = False
        self._noticed = False

    async def add(self, jobs: Iterable[RemoteModel]) -> tuple[RemoteModel, ...]:
        """Return the jobs with their curves; raises no error."""
        jobs = tuple(jobs)
        measured = [job for job in jobs if job.metrics_uri and job.state in {State.CREATING, State.ACTIVE}]
        measured.sort(key=lambda job: job.create_time, reverse=True)
        measured.sort(key=lambda job: job.state is not State.CREATING)
        curves = {job.remote: await self._curve(job) for job in measured[:MOST_CURVES]}
        return tuple(replace(job, snapshots=curves.get(job.remote, ())) for job in jobs)

    async def _curve(self, job: RemoteModel) -> Curve:
        known = self._known.get(job.metrics_uri)
        if not self._is_own(job.metrics_uri):
            return self._without(job, "it is not in the bucket of the target")
        if self._refused or job.metrics_uri in self._final:
            return known[1] if known else ()
        try:
            curve = await self._read(job, known)
        except ReconcileError as error:
            self._refused = True
            return self._without(job, str(error))
        if curve and job.state is State.ACTIVE:  # until then, the last points are missing
            self._final.add(job.metrics_uri)
        return curve

    def _is_own(self, uri: str) -> bool:
        try:
            return ObjectName.parse(uri).bucket == self._bucket
        except UsageError:
            return False

    async def _read(self, job: RemoteModel, known: tuple[int, Curve] | None) -> Curve:
        found = await self._storage.stat(job.metrics_uri)
        if found is None and job.state is State.CREATING:
            return ()  # it can be written later
        if found is None or found.size > MAX_BYTES:
            problem = f"it has {found.size} bytes, more than {MAX_BYTES}" if found else "it does not exist"
            return self._without(job, problem)
        if known is None or known[0] != found.generation:
            content, generation = await self._storage.read(job.metrics_uri) or (b"", found.generation)
            known = self._known[job.metrics_uri] = generation, read_curve(content[:MAX_BYTES])
        if not known[1] and job.state is State.ACTIVE:
            return self._without(job, "it has no losses by step")
        return known[1]

    def _without(self, job: RemoteModel, problem: str) -> Curve:
        if not self._noticed:
            self._noticed = True
            uri, name = sanitize(job.metrics_uri), sanitize(job.remote)
            _LOG.info("no loss curve of %s from %s: %s", name, uri, problem)
        return ()
