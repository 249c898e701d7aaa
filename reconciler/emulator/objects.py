"""Buckets and objects of the embedded Cloud Storage: metadata in the store, contents in files beside it."""

# google-crc32c ships its own types, but leaves the methods of Checksum without:
# mypy: untyped-calls-exclude="google_crc32c"

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import google_crc32c
from msgspec import Struct

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.store import Store, dump
from reconciler.emulator.training import microseconds, timestamp

if TYPE_CHECKING:
    from starlette.requests import Request

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks; leftovers remain there
    fcntl = None  # type: ignore[assignment]  # tested before each use

_PREFIX = "reconcile-objects-"
"""The beginning of the name of a temporary folder."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_CONTENT = re.compile(r"[A-Za-z0-9_]{1,64}")
"""The name of a file with the content of an object. A store may come from a pull request."""
_MAX_NAME = 1024  # bytes of UTF-8, as on the real service
_SETTABLE = {"contentType": str, "contentEncoding": str, "cacheControl": str, "metadata": dict}
_CONDITIONS: Mapping[str, tuple[str, bool]] = {
    "ifGenerationMatch": ("generation", True),
    "ifGenerationNotMatch": ("generation", False),
    "ifMetagenerationMatch": ("metageneration", True),
    "ifMetagenerationNotMatch": ("metageneration", False),
}

Query = Mapping[str, str]
"""The query parameters of a call; only the preconditions are used."""


class StoredObject(Struct, frozen=True):
    """An object: its resource as in the JSON API, without links, and the file with its content."""

    document: JsonObject
    path: Path

    @property
    def size(self) -> int:
        """The length of the content in bytes."""
        return int(self.document["size"])


class ObjectStore:
    """All objects of a store. Every bucket with a valid name exists."""

    def __init__(self, store: Store, path: Path | None) -> None:
        """Store contents in a directory named after the store file, or in a temporary one."""
        self._store = store
        self._folder = Path(f"{path}-objects") if path else None
        self._cleaner: weakref.finalize[..., ObjectStore] | None = None

    def close(self) -> None:
        """Remove the contents of a store in memory; otherwise they are removed at a normal exit."""
        if self._cleaner:
            self._cleaner()

    def _contents(self) -> Path:
        if self._folder is None:
            self._folder, descriptor = _temporary_folder()
            self._cleaner = weakref.finalize(self, _remove_folder, self._folder, descriptor)
        self._folder.mkdir(exist_ok=True)
        return self._folder

    def new_content(self) -> ObjectContent:
        """Return an empty content, to write and then put or discard."""
        descriptor, name = tempfile.mkstemp(dir=self._contents())
        os.close(descriptor)
        return ObjectContent(Path(name))

    def check(self, bucket: str, name: str, query: Query) -> None:
        """Raise StorageError if a precondition for writing an object does not hold."""
        _check_conditions(self._find(bucket, name), query)

    def put(
        self,
        bucket: str,
        described: JsonObject,
        content: ObjectContent,
        checksums: Mapping[str, str],
        query: Query,
        now: datetime,
    ) -> StoredObject:
        """Turn a complete content into an object if the preconditions in the query hold; raises StorageError."""
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
        """Return the time in microseconds, or more than the last generation if that is later."""
        last = self._store.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'objects'").fetchone()[0]
        return max(microseconds(now), (last or 0) + 1)

    def get(self, bucket: str, name: str, query: Query | None = None) -> StoredObject:
        """Return the object with this name, and ``generation`` if the query has one; raises StorageError."""
        wanted = query or {}
        found = self._find(bucket, name)
        if found is None or wanted.get("generation", found.document["generation"]) != found.document["generation"]:
            raise not_found(f"No such object: {bucket}/{name}")
        _check_conditions(found, wanted)
        return found

    def delete(self, bucket: str, name: str, query: Query) -> None:
        """Remove an object; raises StorageError."""
        with self._store.transaction():
            found = self.get(bucket, name, query)
            self._store.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", bucket, name)
        _remove(found.path)

    def after(self, bucket: str, prefix: str, name: str, limit: int) -> list[StoredObject]:
        """Return the objects that start with ``prefix`` and follow ``name``, ordered by name."""
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
        path = self._contents() / file
        if not _CONTENT.fullmatch(file) or path.is_symlink():
            raise StorageError(503, "backendError", "The store names a file that is not the content of an object.")
        return StoredObject(json.loads(document), path)


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
    """Raise StorageError for an invalid bucket or object name, and for fields of a wrong type."""
    check_bucket(bucket)
    wrong = [field for field, kind in _SETTABLE.items() if not isinstance(described.get(field, kind()), kind)]
    if wrong or not all(isinstance(value, str) for value in described.get("metadata", {}).values()):
        raise invalid(f"Invalid value for {wrong[0] if wrong else 'metadata'}")
    name = described.get("name", "")
    if not isinstance(name, str) or not 0 < len(name.encode()) <= _MAX_NAME or "\n" in name or "\r" in name:
        raise invalid(f"Invalid object name: {str(name)[:100]!r}; it has 1 to {_MAX_NAME} bytes and no line ends.")


def check_bucket(bucket: str) -> None:
    """Raise StorageError for an invalid bucket name."""
    if not _BUCKET.fullmatch(bucket):
        raise invalid(f"Invalid bucket name: '{bucket[:100]}'")


def _check_conditions(found: StoredObject | None, query: Query) -> None:
    """Raise StorageError unless the preconditions hold; a missing object has generation 0."""
    for name, (field, equal) in _CONDITIONS.items():
        if name not in query:
            continue
        actual = found.document[field] if found else "0"
        if (whole_number(name, query[name]) == int(actual)) is not equal:
            raise StorageError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows does not delete a file that is being read; it remains
        path.unlink()


def object_resource(stored: StoredObject, request: Request) -> JsonObject:
    """Return the resource of an object, with links to the host of the request."""
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
    """Return the resource of a bucket, with a link to the host of the request."""
    name = document["name"]
    return {"kind": "storage#bucket", "id": name, "selfLink": f"{request.base_url}storage/v1/b/{name}", **document}


MAX_BYTES = 5 * 1024**3
"""The maximum object size; the real service accepts 5 TiB."""

_CHUNK = 1024 * 1024


class ObjectContent:
    """A file that is written from start to end, with its length and checksums. It is open only during a write."""

    def __init__(self, path: Path) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32c = google_crc32c.Checksum()
        self.path = path
        self.size = 0

    def write(self, data: bytes | bytearray) -> None:
        """Append data; raises StorageError if the object becomes too large."""
        self._grow(len(data))
        self._md5.update(data)
        self._crc32c.update(bytes(data))
        self._append(data)

    def write_in_threads(self, data: bytes) -> asyncio.Future[list[None]]:
        """Append in threads, one for each checksum and one for the disk; await the result before the next write."""
        self._grow(len(data))
        work = (self._md5.update, self._crc32c.update, self._append)
        return asyncio.gather(*(asyncio.to_thread(step, data) for step in work))

    def _append(self, data: bytes | bytearray) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def _grow(self, length: int) -> None:
        if self.size + length > MAX_BYTES:
            raise invalid(f"The object is larger than the limit of this service: {MAX_BYTES} bytes.")
        self.size += length

    def checksums(self, expected: Mapping[str, str]) -> Mapping[str, str]:
        """Return the checksums in base64; raises StorageError when the expected ones differ."""
        found = {
            "md5Hash": base64.b64encode(self._md5.digest()).decode(),
            "crc32c": base64.b64encode(self._crc32c.digest()).decode(),
        }
        for name, value in found.items():
            if expected.get(name, value) != value:
                raise invalid(f'Provided {name} "{expected[name]}" doesn\'t match calculated {name} "{value}".')
        return found

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def chunks_of(file: IO[bytes], length: int) -> Iterator[bytes]:
    """Yield the next ``length`` bytes of a file in chunks."""
    while length > 0 and (chunk := file.read(min(_CHUNK, length))):
        length -= len(chunk)
        yield chunk


QUANTUM = 256 * 1024
"""Chunks of a resumable upload are multiples of this, and so is the stored part of an interrupted chunk."""

_BATCH = 16 * QUANTUM


async def receive(stream: AsyncIterator[bytes], content: ObjectContent, *, skip: int = 0) -> bytearray:
    """Append a body to the content, without its first ``skip`` bytes and the remainder after the last whole quantum.

    Returns the remainder. An error of the stream is raised after the whole quanta are written.
    """
    waiting = bytearray()
    writing: asyncio.Future[list[None]] | None = None
    try:
        async for chunk in stream:
            waiting += chunk[skip:]
            skip = max(0, skip - len(chunk))
            if len(waiting) >= _BATCH:
                if writing:
                    await writing
                writing = content.write_in_threads(_whole_quanta(waiting))
    finally:
        if writing:
            await writing
        content.write(_whole_quanta(waiting))
    return waiting


def _whole_quanta(waiting: bytearray) -> bytes:
    """Remove and return as many whole quanta as there are."""
    length = len(waiting) - len(waiting) % QUANTUM
    taken = bytes(memoryview(waiting)[:length])
    del waiting[:length]
    return taken


_INT64 = re.compile(r"[0-9]{1,19}")


class StorageError(Exception):
    """An error that becomes an error body of Cloud Storage; ``reason`` is one of its reasons."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    def body(self) -> JsonObject:
        """The JSON body of the error response."""
        entry = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [entry]}}


def invalid(message: str) -> StorageError:
    """Return the error for an invalid request."""
    return StorageError(400, "invalid", message)


def whole_number(name: str, text: str) -> int:
    """Return the number in a parameter or header, a nonnegative int64; raises StorageError."""
    if not _INT64.fullmatch(text):
        raise invalid(f"Invalid value for {name}: '{text[:100]}'")
    return int(text)


def not_found(message: str) -> StorageError:
    """Return the error for an object that does not exist."""
    return StorageError(404, "notFound", message)


def _temporary_folder() -> tuple[Path, int | None]:
    """Create a folder and lock it; remove the folders of processes that were killed, which are no longer locked."""
    for leftover in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        descriptor = _lock_folder(leftover)
        if descriptor is not None:
            _remove_folder(leftover, descriptor)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    return folder, _lock_folder(folder)


def _lock_folder(folder: Path) -> int | None:
    """Return the descriptor that holds the lock of a folder; ``None`` if another process has it, or without locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_folder(folder: Path, descriptor: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if descriptor is not None:
        os.close(descriptor)
