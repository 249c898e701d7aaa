"""What Cloud Storage keeps, as values: objects and buckets, their addresses and what the service tells of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from reconciler.core.problems import UsageError
from reconciler.providers.errors import clean

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
