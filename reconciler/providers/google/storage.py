"""A client of Cloud Storage's JSON API: small objects with compare-and-swap, and uploads of data sets of any size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from msgspec import Struct

from reconciler.domain.errors import (
    ForbiddenError,
    PreconditionError,
    ReconcileError,
    ServiceError,
    UsageError,
)
from reconciler.domain.identity import object_digest
from reconciler.domain.lock import parse_time
from reconciler.domain.model import Dataset, Target
from reconciler.domain.text import sanitize
from reconciler.environment import Environment
from reconciler.providers.google.auth import authorize
from reconciler.providers.google.errors import CLOUD_PLATFORM, ServiceDescription
from reconciler.providers.google.http import (
    UPLOAD_DEADLINE,
    AsyncClosing,
    Client,
    ClientSettings,
    HttpRequest,
    Json,
    list_all,
)
from reconciler.providers.google.network import STORAGE
from reconciler.providers.google.upload import CHUNK, ResumableUpload, SpooledFile

# https://cloud.google.com/storage/docs/buckets#naming and https://cloud.google.com/storage/docs/objects#naming
_ADDRESS = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>[^\r\n\ud800-\udfff]+)")
_MAX_NAME_BYTES = 1024
_RESERVED = frozenset({".", ".."})

SERVICE = ServiceDescription(
    host="storage.googleapis.com",
    fields="spec.storageEndpoint",
    scopes=(CLOUD_PLATFORM,),
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "ask for roles/storage.objectUser on the bucket",
            "NOT_FOUND": "check the bucket of the target",
            "FAILED_PRECONDITION": "run the command again: another user or run has changed the object",
            "RETAINED": "use a bucket or an object without a retention policy and without a hold",
        }
    ),
    phrases=MappingProxyType({"retention policy": "RETAINED", " hold and cannot be ": "RETAINED"}),
)


class ObjectName(Struct, frozen=True):
    """The address of an object, ``gs://bucket/name``."""

    bucket: str
    name: str

    @classmethod
    def parse(cls, uri: str) -> ObjectName:
        """Parse an address; raises UsageError for an invalid one."""
        match = _ADDRESS.fullmatch(uri)
        if not match or match["name"] in _RESERVED or len(match["name"].encode()) > _MAX_NAME_BYTES:
            raise UsageError(f"invalid Cloud Storage address {sanitize(uri)!r}: expected gs://bucket/object")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.name}"

    @property
    def path(self) -> str:
        """The path of the object's metadata below the endpoint."""
        return f"{bucket_path(self.bucket)}/o/{quote(self.name, safe='')}"

    @property
    def upload_path(self) -> str:
        """The path for uploads; the object's name is in the query."""
        return f"/upload{bucket_path(self.bucket)}/o"


def bucket_path(bucket: str) -> str:
    """Return the path of a bucket's metadata below the endpoint."""
    return f"/storage/v1/b/{quote(bucket, safe='')}"


class ObjectInfo(Struct, frozen=True):
    """The metadata of an object; ``generation`` changes with every write, which was at the time ``created``.

    Checksums are in base64, and ``size`` is in bytes. ``md5`` is empty for composite objects.
    """

    generation: int
    size: int
    md5: str
    crc32c: str
    name: str = ""
    created: datetime | None = None


def read_object(body: Mapping[str, Any]) -> ObjectInfo:
    """Return the metadata of an object; raises KeyError, TypeError or ValueError for another body."""
    return ObjectInfo(
        generation=int(body["generation"]),
        size=int(body["size"]),
        md5=str(body.get("md5Hash") or ""),
        crc32c=str(body.get("crc32c") or ""),
        name=str(body.get("name") or ""),
        created=_read_time(str(body.get("timeCreated") or "")),
    )


def _read_time(text: str) -> datetime | None:
    moment = parse_time(text)
    if moment and moment.tzinfo is None:
        raise ValueError(text)
    return moment


def _read_objects(body: Mapping[str, Any]) -> tuple[tuple[ObjectInfo, ...], str]:
    return tuple(map(read_object, body.get("items") or ())), str(body.get("nextPageToken") or "")


class Bucket(Struct, frozen=True):
    """A bucket; its location is in upper case, such as ``US-CENTRAL1``, and the project number that of its owner."""

    name: str
    location: str
    project_number: str


def read_bucket(body: Mapping[str, Any]) -> Bucket:
    """Return a bucket; raises KeyError for another body."""
    return Bucket(
        name=sanitize(str(body["name"])),
        location=sanitize(str(body["location"])).upper(),
        project_number=sanitize(str(body.get("projectNumber") or "")),
    )


MAX_SIMPLE_UPLOAD = 8 * 2**20
"""The largest upload in one request, in bytes; a larger one is resumable."""

_GENERATION = re.compile(r"[0-9]{1,19}")  # an int64
_ABSENT = 0  # the generation of a missing object
_NOT_AVAILABLE = frozenset({"NOT_FOUND", "UNIMPLEMENTED"})
_NO_BUCKET = "bucket does not exist"  # a missing bucket and a missing object both return 404


def connect(endpoint: str, settings: ClientSettings, chunk: int = CHUNK) -> Storage:
    """Return Cloud Storage at an endpoint, empty for Google's own; use it as an async context manager.

    An upload sends ``chunk`` bytes in a request.
    """
    return Storage(Client(endpoint or STORAGE, SERVICE, settings), chunk)


def open_storage(env: Environment, target: Target, allow_endpoints: frozenset[str]) -> Storage:
    """Return Cloud Storage for a target, to be used as an async context manager."""
    auth = authorize(env, target, allow_endpoints)
    limit = target.limits.requests_per_minute
    return connect(target.storage_endpoint, ClientSettings(env.clock, env.sleeper, env.rng.random, auth, limit))


class Storage(AsyncClosing):
    """Objects by their ``gs://`` addresses; implements :class:`reconciler.domain.ports.Objects`.

    Every method raises AccessError without valid credentials or permission, ServiceError when a request fails or the
    bucket does not exist, and UsageError for an invalid address.
    """

    def __init__(self, client: Client, chunk: int = CHUNK) -> None:
        self._client = client
        self._chunk = chunk

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.aclose()

    @property
    def requests(self) -> int:
        """The number of requests that have been sent."""
        return self._client.requests

    async def bucket(self, name: str) -> Bucket:
        """Return a bucket; this needs a permission that access to its objects does not need."""
        request = HttpRequest("GET", bucket_path(name), remedies=_remedies(name, "roles/storage.bucketViewer"))
        return await self._client.fetch(request, read_bucket)

    async def permissions(self, name: str, tested: Iterable[str]) -> frozenset[str] | None:
        """Return which of the tested permissions on a bucket the caller has; ``None`` where the service cannot test."""
        query = urlencode([("permissions", permission) for permission in tested])
        path = f"{bucket_path(name)}/iam/testPermissions?{query}"
        request = HttpRequest("GET", path, remedies=_remedies(name))
        try:
            return await self._client.fetch(request, lambda body: frozenset(map(str, body.get("permissions") or ())))
        except ServiceError as error:
            if error.code not in _NOT_AVAILABLE or _NO_BUCKET in error.message:
                raise
            return None

    async def stat(self, uri: str) -> ObjectInfo | None:
        """Return the metadata of an object, or ``None`` where it does not exist."""
        name = ObjectName.parse(uri)
        request = HttpRequest("GET", name.path, remedies=_remedies(name.bucket))
        try:
            return await self._client.fetch(request, read_object)
        except ServiceError as error:
            if error.code == "NOT_FOUND" and _NO_BUCKET not in error.message:
                return None
            raise

    async def pin(self, uri: str) -> Dataset | str:
        """Return the current version of a data set, or the reason why there is none, or no access to it."""
        try:
            stored = await self.stat(uri)
        except ReconcileError as error:
            if not _concerns_object(error):
                raise
            return str(error)
        if stored is None:
            return f"no such object: {uri}; fix the address, or upload the data set"
        generation = str(stored.generation)
        checksum = stored.crc32c or stored.md5
        digest = object_digest(uri, generation, checksum)
        return Dataset(digest, uri, 0, generation=generation, checksum=checksum, size=stored.size)

    async def read(self, uri: str) -> tuple[bytes, int] | None:
        """Return a small object (at most :data:`~reconciler.providers.google.http.MAX_BODY`) and its generation."""
        name = ObjectName.parse(uri)
        request = HttpRequest("GET", name.path, {"alt": "media"}, remedies=_remedies(name.bucket))
        try:
            response = await self._client.send(request)
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise
            await self.stat(uri)  # raises where the bucket is missing, which this response does not show
            return None
        generation = response.headers.get("x-goog-generation", "")
        if not _GENERATION.fullmatch(generation):
            raise self._client.unexpected_response(request, "content without a generation")
        return response.body, int(generation)

    async def write(self, uri: str, data: bytes, *, generation: int) -> int:
        """Replace an object of this generation (0 for a missing one), and return its new generation.

        Raises:
            PreconditionError: The object has another generation; nothing was written.
        """
        request = replace(_media_upload(ObjectName.parse(uri), data, generation), idempotent=False)

        async def attempt(*, in_doubt: bool) -> int:
            try:
                return (await self._client.fetch_once(request, read_object)).generation
            except PreconditionError:
                stored = await self.read(uri) if in_doubt else None
                if stored and stored[0] == data:  # a failed attempt has written it
                    return stored[1]
                raise

        return await self._client.retry(attempt)

    async def list_folder(self, folder: str, *, first: bool = False) -> tuple[ObjectInfo, ...]:
        """Return the objects in a folder, an address that ends with a slash; with ``first`` at most one of them.

        A missing bucket has none.
        """
        name = ObjectName.parse(folder)
        params = {"prefix": name.name, **({"maxResults": "1"} if first else {})}
        request = HttpRequest("GET", f"{bucket_path(name.bucket)}/o", params, remedies=_remedies(name.bucket))
        try:
            if first:
                return (await self._client.fetch(request, _read_objects))[0]
            return await list_all(self._client, request, _read_objects, lambda found: found.name)
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise
            return ()

    async def delete(self, uri: str, *, generation: int) -> None:
        """Delete an object of this generation; a missing object is not an error.

        Raises:
            PreconditionError: The object has another generation; nothing was deleted.
        """
        name = ObjectName.parse(uri)
        params = {"ifGenerationMatch": str(generation)}
        try:
            await self._client.request(HttpRequest("DELETE", name.path, params, remedies=_remedies(name.bucket)))
        except ServiceError as error:
            if error.code != "NOT_FOUND" or _NO_BUCKET in error.message:
                raise

    async def upload(self, uri: str, spool: SpooledFile) -> ObjectInfo:
        """Upload a file to an address derived from its content, unless it exists, and verify the stored object.

        Raises:
            ReconcileError: The stored object has other content.
        """
        name = ObjectName.parse(uri)
        stored = await self.stat(uri) or await self._upload_new(name, spool)
        if (stored.md5, stored.size) != (spool.md5, spool.size):
            raise ReconcileError(
                f"{name} has {stored.size} bytes with MD5 {stored.md5 or 'unknown'}, expected {spool.size} bytes with"
                f" MD5 {spool.md5}: it was changed, or damaged by the upload",
                f"move it away and run the command again: `gcloud storage mv {name} {name}.damaged`",
            )
        return stored

    async def _upload_new(self, name: ObjectName, spool: SpooledFile) -> ObjectInfo:
        """Upload a missing object; return the existing one where another run or a failed attempt has created it."""
        try:
            if spool.size <= MAX_SIMPLE_UPLOAD:
                return await self._client.fetch(_media_upload(name, spool.content(), _ABSENT), read_object)
            request = _session_request(name, spool)
            return await ResumableUpload(self._client, request, spool, self._chunk).send(read_object)
        except PreconditionError:
            stored = await self.stat(str(name))
            if stored is None:
                raise
            return stored


def _concerns_object(error: ReconcileError) -> bool:
    """Return whether an error is about one object, and not about the service or the credentials."""
    match error:
        case ServiceError():
            return error.code == "NOT_FOUND"
        case ForbiddenError():
            return error.resource
        case _:
            return isinstance(error, UsageError)


def _media_upload(name: ObjectName, data: bytes, generation: int) -> HttpRequest:
    return HttpRequest(
        "POST",
        name.upload_path,
        {"uploadType": "media", "name": name.name, "ifGenerationMatch": str(generation)},
        content=data,
        headers={"content-type": "application/octet-stream"},
        remedies=_remedies(name.bucket),
        deadline=UPLOAD_DEADLINE,
    )


def _session_request(name: ObjectName, spool: SpooledFile) -> HttpRequest:
    metadata: Json = {"name": name.name, "contentType": "application/octet-stream", "md5Hash": spool.md5}
    return HttpRequest(
        "POST",
        name.upload_path,
        {"uploadType": "resumable", "name": name.name, "ifGenerationMatch": str(_ABSENT)},
        metadata,
        headers={"x-upload-content-length": str(spool.size)},
        remedies=_remedies(name.bucket),
    )


def _remedies(bucket: str, role: str = "roles/storage.objectUser") -> Mapping[str, str]:
    return {
        "PERMISSION_DENIED": f"ask for {role} on gs://{bucket} for your account, or use another bucket if it belongs to"
        " another project: bucket names are global",
        "NOT_FOUND": f"fix the name of the bucket, or create it: `gcloud storage buckets create gs://{bucket}"
        " --location=LOCATION{in_project}`",
    }
