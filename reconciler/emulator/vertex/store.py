"""Vertex AI's resources in the store: jobs, and the models, endpoints and operations that come of them.

What a job will make is written down with it, and is there from the instant at which the job succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.emulator.errors import JsonObject, not_found
from reconciler.emulator.store import Store, dump
from reconciler.emulator.training import microseconds

View = Callable[["Resource", datetime], JsonObject]
"""What is told of a resource at an instant."""
_COLUMNS = "seq, name, document, course, origin"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. ``course`` is how a job goes, ``origin`` the number of the job that made it, if any."""

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
    """Keeps a resource under its name, to be there from ``since`` on, and returns its number."""
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
    """Whether a resource has that name, or will have it."""
    return store.execute("SELECT 1 FROM resources WHERE name = ?", name).fetchone() is not None


def get(store: Store, name: str, now: datetime) -> Resource:
    """The resource of that name; raises ApiError when it is not there (yet)."""
    query = f"SELECT {_COLUMNS} FROM resources WHERE name = ? AND since <= ?"  # noqa: S608 - a constant
    row = store.execute(query, name, microseconds(now)).fetchone()
    if row is None:
        raise not_found(name)
    return _resource(row)


def newest(
    store: Store, collection: str, now: datetime, *, before: int, limit: int, labels: Mapping[str, str]
) -> list[Resource]:
    """Resources of a collection with those labels, the newest first, from number ``before`` down (0: from the top)."""
    having = " AND json_extract(document, ?) = ?" * len(labels)
    query = (
        f"SELECT {_COLUMNS} FROM resources WHERE collection = ? AND since <= ? AND (? = 0 OR seq < ?){having}"  # noqa: S608 - constants
        " ORDER BY seq DESC LIMIT ?"
    )
    wanted = [part for key, value in labels.items() for part in (f'$.labels."{key}"', value)]
    rows = store.execute(query, collection, microseconds(now), before, before, *wanted, limit).fetchall()
    return [_resource(row) for row in rows]


def update(store: Store, resource: Resource, document: JsonObject, course: JsonObject | None = None) -> None:
    """Replaces the document of a resource, and its course if given."""
    store.execute(
        "UPDATE resources SET document = ?, course = ? WHERE seq = ?",
        dump(document),
        dump(course or resource.course),
        resource.seq,
    )


def delete(store: Store, resource: Resource) -> None:
    """Removes a resource."""
    store.execute("DELETE FROM resources WHERE seq = ?", resource.seq)


def delete_made_by(store: Store, job: Resource) -> None:
    """Removes what a job would have made."""
    store.execute("DELETE FROM resources WHERE origin = ?", job.seq)


def examples_of(store: Store, made: Resource) -> list[JsonObject]:
    """The examples that a resource answers from: those of the job that made it, and of what that was tuned from."""
    row = store.execute("SELECT examples FROM resources WHERE seq = ?", made.origin).fetchone()
    return list(json.loads(row[0]))


def origin_of(store: Store, made: Resource) -> JsonObject:
    """The job that made a resource; raises ApiError for what no job made."""
    row = store.execute("SELECT document FROM resources WHERE seq = ?", made.origin).fetchone()
    if row is None:
        raise not_found(made.name)
    return dict(json.loads(row[0]))


def _resource(row: tuple[Any, ...]) -> Resource:
    seq, name, document, course, origin = row
    return Resource(seq, name, json.loads(document), json.loads(course), origin)
