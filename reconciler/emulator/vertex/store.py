"""The resources of Vertex AI in the store: jobs, models, endpoints and operations.

The results of a job are inserted with it, and exist from the time at which the job succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from reconciler.emulator.errors import JsonObject, not_found
from reconciler.emulator.store import Store, dump
from reconciler.emulator.training import microseconds

View = Callable[["Resource", datetime], JsonObject]
"""The representation of a resource at an instant."""
_COLUMNS = "seq, name, document, course, origin"


class Resource(Struct, frozen=True):
    """One resource. ``course`` is the timeline of a job, ``origin`` the number of the job that created it, if any."""

    seq: int
    name: str
    document: JsonObject
    course: JsonObject | None
    origin: int | None


def insert(
    store: Store,
    document: JsonObject,
    since: datetime,
    *,
    course: JsonObject | None = None,
    origin: int | None = None,
    examples: Sequence[JsonObject] = (),
) -> int | None:
    """Insert a resource that exists from ``since``, and return its number."""
    name = document["name"]
    return store.execute(
        "INSERT INTO resources (name, collection, since, origin, document, course, examples)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        name,
        name.rpartition("/")[0],
        microseconds(since),
        origin,
        dump(document),
        dump(course),
        dump(examples),
    ).lastrowid


def is_taken(store: Store, name: str) -> bool:
    """Return whether a current or future resource has this name."""
    return store.execute("SELECT 1 FROM resources WHERE name = ?", name).fetchone() is not None


def get(store: Store, name: str, now: datetime) -> Resource:
    """Return the resource with this name; raises ApiError if it does not exist (yet)."""
    query = f"SELECT {_COLUMNS} FROM resources WHERE name = ? AND since <= ?"  # noqa: S608 - a constant
    row = store.execute(query, name, microseconds(now)).fetchone()
    if row is None:
        raise not_found(name)
    return _resource(row)


def newest(
    store: Store, collection: str, now: datetime, *, before: int, limit: int, labels: Mapping[str, str | None]
) -> list[Resource]:
    """Return resources of a collection, newest first, below number ``before`` (0: all).

    They have these labels; one with ``None`` may have any value.
    """
    having = " AND json_extract(document, ?) = coalesce(?, json_extract(document, ?))" * len(labels)
    query = (
        f"SELECT {_COLUMNS} FROM resources WHERE collection = ? AND since <= ? AND (? = 0 OR seq < ?){having}"  # noqa: S608 - constants
        " ORDER BY seq DESC LIMIT ?"
    )
    paths = {f'$.labels."{key}"': value for key, value in labels.items()}
    wanted = [part for path, value in paths.items() for part in (path, value, path)]
    rows = store.execute(query, collection, microseconds(now), before, before, *wanted, limit).fetchall()
    return [_resource(row) for row in rows]


def update(store: Store, resource: Resource, document: JsonObject, course: JsonObject | None = None) -> None:
    """Replace the document of a resource, and its timeline if given."""
    store.execute(
        "UPDATE resources SET document = ?, course = ? WHERE seq = ?",
        dump(document),
        dump(course or resource.course),
        resource.seq,
    )


def delete(store: Store, resource: Resource) -> None:
    """Delete a resource."""
    store.execute("DELETE FROM resources WHERE seq = ?", resource.seq)


def delete_results_of(store: Store, job: Resource) -> None:
    """Delete the future results of a job."""
    store.execute("DELETE FROM resources WHERE origin = ?", job.seq)


def learned_by(store: Store, resource: Resource, checkpoint: str) -> list[JsonObject]:
    """Return the examples that a checkpoint of a model has learned; an empty ID stands for the last one.

    An earlier checkpoint has seen the first part of the examples of its training, and those of its parents.
    """
    query = "SELECT examples, document, course FROM resources WHERE seq = ?"
    examples, job, course = map(json.loads, store.execute(query, resource.origin).fetchone())
    steps = {known["checkpointId"]: int(known["step"]) for known in job["tunedModel"]["checkpoints"]}
    last = max(steps.values())
    own = course["training"]["examples"]
    seen = -(-own * steps.get(checkpoint, last) // last)
    return [*examples[:seen], *examples[own:]]


def origin_of(store: Store, resource: Resource) -> JsonObject:
    """Return the job that created a resource; raises ApiError if no job did."""
    row = store.execute("SELECT document FROM resources WHERE seq = ?", resource.origin).fetchone()
    if row is None:
        raise not_found(resource.name)
    return dict(json.loads(row[0]))


def _resource(row: tuple[Any, ...]) -> Resource:
    seq, name, document, course, origin = row
    return Resource(seq, name, json.loads(document), json.loads(course), origin)
