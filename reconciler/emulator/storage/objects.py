"""Buckets and objects: what is known about them is in the store, their contents are files in a folder beside it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.storage.content import Content
from reconciler.emulator.storage.responses import condition_not_met, invalid, not_found, whole_number
from reconciler.emulator.store import Store, dump
from reconciler.emulator.training import microseconds, timestamp

if TYPE_CHECKING:
    from starlette.requests import Request

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_MAX_NAME = 1024  # bytes of UTF-8, as on the real service
_SETTABLE = {"contentType": str, "contentEncoding": str, "cacheControl": str, "metadata": dict}
_CONDITIONS: Mapping[str, tuple[str, bool]] = {
    "ifGenerationMatch": ("generation", True),
    "ifGenerationNotMatch": ("generation", False),
    "ifMetagenerationMatch": ("metageneration", True),
    "ifMetagenerationNotMatch": ("metageneration", False),
}

Query = Mapping[str, str]
"""The query parameters of a call, of which the preconditions are looked at."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object: its resource as the JSON API tells it, links apart, and the file that holds its content."""

    document: JsonObject
    path: Path

    @property
    def size(self) -> int:
        """The length of the content in bytes."""
        return int(self.document["size"])


class Objects:
    """All objects of a store. Every bucket of a legal name is there."""

    def __init__(self, store: Store, path: Path | None) -> None:
        """Keeps contents in a folder named after the store file; without one, in a temporary folder."""
        self._store = store
        self._folder = Path(f"{path}-objects") if path else None
        self._cleaner: weakref.finalize[..., Objects] | None = None

    def close(self) -> None:
        """Removes the contents of a world in memory; without this they go when the process ends of itself."""
        if self._cleaner:
            self._cleaner()

    def _contents(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="reconcile-emulator-"))
            self._cleaner = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._folder.mkdir(exist_ok=True)
        return self._folder

    def new_content(self) -> Content:
        """An empty content, to be written and then put or discarded."""
        descriptor, name = tempfile.mkstemp(dir=self._contents())
        os.close(descriptor)
        return Content(Path(name))

    def check(self, bucket: str, name: str, query: Query) -> None:
        """Raises StorageError when a precondition for writing an object does not hold."""
        _check_conditions(self._find(bucket, name), query)

    def put(
        self,
        bucket: str,
        described: JsonObject,
        content: Content,
        checksums: Mapping[str, str],
        query: Query,
        now: datetime,
    ) -> StoredObject:
        """Makes a finished content an object, if the preconditions in the query hold; raises StorageError."""
        check_resource(bucket, described)
        name = described["name"]
        with self._store.transaction():
            old = self._find(bucket, name)
            _check_conditions(old, query)
            document = _document(bucket, described, content.size, checksums, self._generation(now), timestamp(now))
            self._store.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", bucket, name)
            row = (int(document["generation"]), bucket, name, dump(document), content.path.name)
            self._store.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?)", *row)
        if old:
            _remove(old.path)
        return StoredObject(document, content.path)

    def _generation(self, now: datetime) -> int:
        """The time in microseconds, but later than any that was given before."""
        last = self._store.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'objects'").fetchone()[0]
        return max(microseconds(now), (last or 0) + 1)

    def get(self, bucket: str, name: str, query: Query | None = None) -> StoredObject:
        """The object of that name (and ``generation``, if the query tells one); raises StorageError."""
        wanted = query or {}
        found = self._find(bucket, name)
        if found is None or wanted.get("generation", found.document["generation"]) != found.document["generation"]:
            raise not_found(f"No such object: {bucket}/{name}")
        _check_conditions(found, wanted)
        return found

    def delete(self, bucket: str, name: str, query: Query) -> None:
        """Removes an object; raises StorageError."""
        with self._store.transaction():
            found = self.get(bucket, name, query)
            self._store.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", bucket, name)
        _remove(found.path)

    def after(self, bucket: str, prefix: str, name: str, limit: int) -> list[StoredObject]:
        """Objects that begin with ``prefix`` and come after ``name``, in the order of their names."""
        query = (
            "SELECT document, file FROM objects WHERE bucket = ? AND name > ? AND substr(name, 1, ?) = ?"
            " ORDER BY name LIMIT ?"
        )
        rows = self._store.execute(query, bucket, name, len(prefix), prefix, limit).fetchall()
        return [self._stored(row) for row in rows]

    def _find(self, bucket: str, name: str) -> StoredObject | None:
        query = "SELECT document, file FROM objects WHERE bucket = ? AND name = ?"
        row = self._store.execute(query, bucket, name).fetchone()
        return self._stored(row) if row else None

    def _stored(self, row: tuple[Any, ...]) -> StoredObject:
        document, file = row
        return StoredObject(json.loads(document), self._contents() / file)


def _document(
    bucket: str, described: JsonObject, size: int, checksums: Mapping[str, str], generation: int, time: str
) -> JsonObject:
    return {
        "contentType": "application/octet-stream",
        **{field: described[field] for field in _SETTABLE if field in described},
        "name": described["name"],
        "bucket": bucket,
        "generation": str(generation),
        "metageneration": "1",
        "size": str(size),
        "storageClass": "STANDARD",
        "timeCreated": time,
        "updated": time,
        **checksums,
    }


def check_resource(bucket: str, described: Mapping[str, Any]) -> None:
    """Raises StorageError for what no bucket or object can be called, and for fields of a wrong type."""
    check_bucket(bucket)
    wrong = [field for field, kind in _SETTABLE.items() if not isinstance(described.get(field, kind()), kind)]
    if wrong or not all(isinstance(value, str) for value in described.get("metadata", {}).values()):
        raise invalid(f"Invalid value for {wrong[0] if wrong else 'metadata'}")
    name = described.get("name", "")
    if not isinstance(name, str) or not 0 < len(name.encode()) <= _MAX_NAME or "\n" in name or "\r" in name:
        raise invalid(f"Invalid object name: {str(name)[:100]!r}; it has 1 to {_MAX_NAME} bytes and no line ends.")


def check_bucket(bucket: str) -> None:
    """Raises StorageError for what no bucket can be called."""
    if not _BUCKET.fullmatch(bucket):
        raise invalid(f"Invalid bucket name: '{bucket[:100]}'")


def _check_conditions(found: StoredObject | None, query: Query) -> None:
    """What is not there has the generation 0."""
    for name, (field, equal) in _CONDITIONS.items():
        if name not in query:
            continue
        actual = found.document[field] if found else "0"
        if (whole_number(name, query[name]) == int(actual)) is not equal:
            raise condition_not_met()


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows keeps a file that is being read; it is left behind then
        path.unlink()


def object_resource(stored: StoredObject, request: Request) -> JsonObject:
    """An object, with links to the host that was asked."""
    document = stored.document
    path = f"b/{document['bucket']}/o/{quote(document['name'], safe='')}"
    query = f"generation={document['generation']}&alt=media"
    tag = f"{document['generation']}/{document['metageneration']}"
    return {
        "kind": "storage#object",
        "id": f"{document['bucket']}/{document['name']}/{document['generation']}",
        "selfLink": f"{request.base_url}storage/v1/{path}",
        "mediaLink": f"{request.base_url}download/storage/v1/{path}?{query}",
        "etag": base64.b64encode(tag.encode()).decode(),
        **document,
    }


def bucket_resource(document: JsonObject, request: Request) -> JsonObject:
    """A bucket, with a link to the host that was asked."""
    name = document["name"]
    return {"kind": "storage#bucket", "id": name, "selfLink": f"{request.base_url}storage/v1/b/{name}", **document}
