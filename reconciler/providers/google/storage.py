"""Cloud Storage over its JSON API: small objects with compare-and-swap, and uploads of data sets of any size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from reconciler.domain.errors import ForbiddenError, PreconditionError, ReconcileError, ServiceError, UsageError
from reconciler.domain.identity import object_digest
from reconciler.domain.model import Dataset
from reconciler.domain.ports import Clock, Random, Sleeper
from reconciler.providers.google.errors import STORAGE, clean
from reconciler.providers.google.http import Call, Client, Json
from reconciler.providers.google.network import Closing
from reconciler.providers.google.upload import ResumableUpload, Spool

if TYPE_CHECKING:
    import httpx


# https://cloud.google.com/storage/docs/buckets#naming and https://cloud.google.com/storage/docs/objects#naming
_ADDRESS = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>[^\r\n\ud800-\udfff]+)")
_MAX_NAME_BYTES = 1024
_RESERVED = frozenset({".", ".."})


@dataclass(frozen=True, slots=True)
class ObjectName:
    """The address of an object, ``gs://bucket/name``."""

    bucket: str
    name: str

    @classmethod
    def parse(cls, uri: str) -> ObjectName:
        """An address as a user wrote it; raises UsageError when it is none."""
        found = _ADDRESS.fullmatch(uri)
        if not found or found["name"] in _RESERVED or len(found["name"].encode()) > _MAX_NAME_BYTES:
            raise UsageError(f"{clean(uri)!r} is no address of an object in Cloud Storage", "write gs://bucket/object")
        return cls(**found.groupdict())

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.name}"

    @property
    def path(self) -> str:
        """Where the object's metadata stands below the endpoint."""
        return f"{bucket_path(self.bucket)}/o/{quote(self.name, safe='')}"

    @property
    def upload_path(self) -> str:
        """Where it is uploaded to; its name goes into the query."""
        return f"/upload{bucket_path(self.bucket)}/o"


def bucket_path(bucket: str) -> str:
    """Where a bucket's metadata stands below the endpoint."""
    return f"/storage/v1/b/{quote(bucket, safe='')}"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as it is now. ``generation`` changes with every write; checksums are in base64, ``size`` in bytes.

    ``md5`` is empty for objects that were composed of others.
    """

    generation: int
    size: int
    md5: str
    crc32c: str


def read_object(body: Mapping[str, Any]) -> ObjectInfo:
    """The resource of an object; raises KeyError, TypeError or ValueError when it is none."""
    return ObjectInfo(
        generation=int(body["generation"]),
        size=int(body["size"]),
        md5=str(body.get("md5Hash") or ""),
        crc32c=str(body.get("crc32c") or ""),
    )


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket: its location in capitals, such as ``US-CENTRAL1``, and the number of the project that owns it."""

    name: str
    location: str
    project_number: str


def read_bucket(body: Mapping[str, Any]) -> Bucket:
    """The resource of a bucket; raises KeyError when it is none."""
    return Bucket(
        name=clean(str(body["name"])),
        location=clean(str(body["location"])).upper(),
        project_number=clean(str(body.get("projectNumber") or "")),
    )


ENDPOINT = "https://storage.googleapis.com"

WHOLE = 8 * 2**20
"""Up to so many bytes an upload is one request; what is larger is resumable."""

_GENERATION = re.compile(r"[0-9]{1,19}")  # an int64
_ABSENT = 0  # the generation of an object that is not there
_UNTOLD = frozenset({"NOT_FOUND", "UNIMPLEMENTED"})
_NO_BUCKET = "bucket does not exist"  # the service says 404 of a missing bucket and of a missing object alike


def connect(
    endpoint: str,
    *,
    auth: httpx.Auth | None,
    clock: Clock,
    sleep: Sleeper,
    random: Random,
    requests_per_minute: int | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Storage:
    """Cloud Storage over a client of its own; use it as an async context manager.

    Args:
        endpoint: The service's address, empty for Google's own.
        auth: What authorises requests; ``None`` sends them bare, as to an embedded service.
        clock: The current time.
        sleep: What waits between attempts.
        random: Jitter.
        requests_per_minute: The rate limit; ``None`` is none.
        transport: What carries the requests instead of the network, such as ``httpx.ASGITransport(app)``.
    """
    client = Client(
        endpoint or ENDPOINT,
        service=STORAGE,
        auth=auth,
        clock=clock,
        sleep=sleep,
        random=random,
        requests_per_minute=requests_per_minute,
        transport=transport,
    )
    return Storage(client)


class Storage(Closing):
    """Objects by their ``gs://`` addresses; implements :class:`reconciler.domain.ports.Objects`.

    Every method raises AccessError when nobody is logged in or somebody who may not, and ServiceError when the service
    refuses, cannot be reached, or has no such bucket; and UsageError for an address that is none.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def aclose(self) -> None:
        """Give back the client's connections."""
        await self._client.aclose()

    @property
    def requests(self) -> int:
        """How many requests have been sent so far."""
        return self._client.requests

    async def bucket(self, name: str) -> Bucket:
        """A bucket; reading one takes a permission that the work with its objects does not need."""
        call = Call("GET", bucket_path(name), remedies=_remedies(name, "roles/storage.bucketViewer"))
        return self._client.decode(call, read_bucket, await self._client.request(call))

    async def permissions(self, name: str, wanted: Iterable[str]) -> frozenset[str] | None:
        """Which of these permissions on a bucket we have; ``None`` where the service does not tell."""
        query = urlencode([("permissions", permission) for permission in wanted])
        call = Call("GET", f"{bucket_path(name)}/iam/testPermissions?{query}", remedies=_remedies(name))
        try:
            body = await self._client.request(call)
        except ServiceError as error:
            if error.code not in _UNTOLD or _NO_BUCKET in error.message:
                raise
            return None
        return self._client.decode(call, lambda held: frozenset(map(str, held.get("permissions") or ())), body)

    async def stat(self, uri: str) -> ObjectInfo | None:
        """An object as it is now, without its content, or ``None`` when there is none."""
        place = ObjectName.parse(uri)
        call = Call("GET", place.path, remedies=_remedies(place.bucket))
        try:
            body = await self._client.request(call)
        except ServiceError as error:
            if error.code == "NOT_FOUND" and _NO_BUCKET not in error.message:
                return None
            raise
        return self._client.decode(call, read_object, body)

    async def pin(self, uri: str) -> Dataset:
        """A data set as it is now; its ``error`` says why there is none, or none for us."""
        try:
            found = await self.stat(uri)
        except ReconcileError as error:
            if not _blames_the_object(error):
                raise
            return Dataset(uri, "", 0, error=str(error))
        if found is None:
            return Dataset(uri, "", 0, error=f"there is no object {uri}; correct the address, or upload it")
        generation = str(found.generation)
        checksum = found.crc32c or found.md5
        digest = object_digest(uri, generation, checksum)
        return Dataset(uri, digest, 0, generation=generation, checksum=checksum, size=found.size)

    async def read(self, uri: str) -> tuple[bytes, int] | None:
        """Return a small object (at most :data:`~reconciler.providers.google.http.MAX_BODY`) and its generation."""
        place = ObjectName.parse(uri)
        call = Call("GET", place.path, {"alt": "media"}, remedies=_remedies(place.bucket))
        try:
            answer = await self._client.answer(call)
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise
            await self.stat(uri)  # tells whether the bucket is missing; this answer is no JSON and does not
            return None
        generation = answer.headers.get("x-goog-generation", "")
        if not _GENERATION.fullmatch(generation):
            raise self._client.unintelligible(call, "content without its generation")
        return answer.body, int(generation)

    async def write(self, uri: str, data: bytes, *, generation: int) -> int:
        """Replace an object that has this generation (0: that is not there) and return its new generation.

        Raises:
            PreconditionError: It has another generation; nothing was written.
        """
        place = ObjectName.parse(uri)
        call = _media_upload(place, data, generation)

        async def attempt(*, in_doubt: bool) -> int:
            try:
                answer = await self._client.once(call)
            except PreconditionError:
                ours = await self._written_before(uri, data) if in_doubt else None
                if ours is None:
                    raise
                return ours
            return self._client.decode(call, read_object, self._client.document(call, answer)).generation

        return await self._client.repeat(attempt)

    async def _written_before(self, uri: str, data: bytes) -> int | None:
        """The generation of an object that holds ``data``: an attempt that seemed to fail wrote it."""
        found = await self.read(uri)
        return found[1] if found and found[0] == data else None

    async def delete(self, uri: str, *, generation: int) -> None:
        """Delete an object that has this generation; deleting what is gone is no error.

        Raises:
            PreconditionError: It has another generation; nothing was deleted.
        """
        place = ObjectName.parse(uri)
        params = {"ifGenerationMatch": str(generation)}
        try:
            await self._client.request(Call("DELETE", place.path, params, remedies=_remedies(place.bucket)))
        except ServiceError as error:
            if error.code != "NOT_FOUND" or _NO_BUCKET in error.message:
                raise

    async def upload(self, uri: str, spool: Spool) -> ObjectInfo:
        """Put a spool at an address that names its content, unless it is there already, and check that it is there.

        Raises:
            ReconcileError: What is there holds something else.
        """
        place = ObjectName.parse(uri)
        found = await self.stat(uri)
        if found is None:
            found = await self._send(place, spool)
        if (found.md5, found.size) != (spool.md5, spool.size):
            raise ReconcileError(
                f"{place} holds {found.size} bytes with MD5 {found.md5 or 'unknown'}, not the {spool.size} bytes with"
                f" MD5 {spool.md5} that its name stands for: somebody changed it, or it was damaged on the way",
                f"delete it and run again: `gcloud storage rm {place}`",
            )
        return found

    async def _send(self, place: ObjectName, spool: Spool) -> ObjectInfo:
        """Upload what is not there; when somebody else (or an attempt that seemed to fail) was first, look at that."""
        try:
            if spool.size <= WHOLE:
                call = _media_upload(place, spool.content(), _ABSENT)
                body = await self._client.request(call)
            else:
                call = _session_opening(place, spool)
                body = await ResumableUpload(self._client, call, spool).send()
            return self._client.decode(call, read_object, body)
        except PreconditionError:
            found = await self.stat(str(place))
            if found is None:
                raise
            return found


def _blames_the_object(error: ReconcileError) -> bool:
    match error:
        case ServiceError():
            return error.code == "NOT_FOUND"
        case ForbiddenError():
            return error.resource
        case _:
            return isinstance(error, UsageError)


def _media_upload(place: ObjectName, data: bytes, generation: int) -> Call:
    return Call(
        "POST",
        place.upload_path,
        {"uploadType": "media", "name": place.name, "ifGenerationMatch": str(generation)},
        content=data,
        headers={"content-type": "application/octet-stream"},
        remedies=_remedies(place.bucket),
    )


def _session_opening(place: ObjectName, spool: Spool) -> Call:
    metadata: Json = {"name": place.name, "contentType": "application/octet-stream", "md5Hash": spool.md5}
    return Call(
        "POST",
        place.upload_path,
        {"uploadType": "resumable", "name": place.name, "ifGenerationMatch": str(_ABSENT)},
        metadata,
        headers={"x-upload-content-length": str(spool.size)},
        remedies=_remedies(place.bucket),
    )


def _remedies(bucket: str, role: str = "roles/storage.objectUser") -> Mapping[str, str]:
    return {
        "PERMISSION_DENIED": f"ask for {role} on gs://{bucket} for the account that you are logged in with; if the"
        " bucket is not yours, name another one: bucket names are shared by the whole world",
        "NOT_FOUND": f"correct the bucket's name, or create it: `gcloud storage buckets create gs://{bucket}"
        " --location=LOCATION --project=PROJECT`",
    }
