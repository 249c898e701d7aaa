"""The methods of the Cloud Storage JSON API that write objects in one request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from typing import TYPE_CHECKING, Any

from reconciler.emulator.errors import JsonObject, json_response
from reconciler.emulator.objects import (
    ObjectContent,
    Query,
    StorageError,
    StoredObject,
    invalid,
    object_resource,
    receive,
)
from reconciler.emulator.service import Service
from reconciler.emulator.store import dump

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


_MAX_IN_MEMORY = 20 * 1024 * 1024
_HASH = re.compile(r"(crc32c|md5)=([A-Za-z0-9+/]+=*)")
_FIELDS = {"md5": "md5Hash", "crc32c": "crc32c"}


async def upload_media(service: Service, request: Request) -> Response:
    """Store the body as an object that the query names."""
    described = read_description({}, request)
    content = service.objects.new_content()
    with discard_on_error(content):
        content.write(await receive(request.stream(), content))
    return upload_response(
        store(service, request.path_params["bucket"], described, content, request.query_params), request
    )


async def upload_multipart(service: Service, request: Request) -> Response:
    """Store an object from a body with its resource and content."""
    resource, media_type, media = _parts(request, await small_body(request))
    described = {"contentType": media_type, **read_description(resource, request)}
    content = service.objects.new_content()
    with discard_on_error(content):
        content.write(media)
    return upload_response(
        store(service, request.path_params["bucket"], described, content, request.query_params), request
    )


def upload_response(stored: StoredObject, request: Request) -> Response:
    """Return the response to a complete upload."""
    return json_response(object_resource(stored, request))


async def small_body(request: Request) -> bytes:
    """Return a body in memory; raises StorageError if it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_IN_MEMORY:
            raise StorageError(
                413, "uploadTooLarge", f"The body is larger than {_MAX_IN_MEMORY} bytes; use a resumable upload."
            )
    return bytes(body)


def read_resource(body: bytes) -> JsonObject:
    """Return the JSON resource in a body, which may be empty; raises StorageError."""
    try:
        resource = json.loads(body) if body.strip() else {}
        dump(resource).encode()  # refuses lone surrogates, which the store cannot hold
    except (ValueError, RecursionError) as error:
        raise StorageError(400, "parseError", f"Parse Error: {error}") from None
    if not isinstance(resource, dict):
        raise StorageError(400, "parseError", "Parse Error: the resource must be a JSON object")
    return resource


def read_description(resource: Mapping[str, Any], request: Request) -> JsonObject:
    """Return the description of an object: its resource, the name in the query, and the checksums in headers."""
    named = {"name": request.query_params["name"]} if "name" in request.query_params else {}
    kind = request.headers.get("content-type", "")
    described = {"contentType": kind} if kind and request.query_params.get("uploadType") == "media" else {}
    return {**described, **resource, **named, **checksums(request)}


def checksums(request: Request) -> dict[str, str]:
    """Return the checksums in the headers of a request."""
    found = {_FIELDS[kind]: value for kind, value in _HASH.findall(request.headers.get("x-goog-hash", ""))}
    if "content-md5" in request.headers:
        found["md5Hash"] = request.headers["content-md5"]
    return found


def _parts(request: Request, body: bytes) -> tuple[JsonObject, str, bytes]:
    """Return resource, media type and media of a multipart body; raises StorageError."""
    head = Message()
    head["content-type"] = request.headers.get("content-type", "")
    boundary = head.get_boundary()
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode()) if boundary else []
    if len(parts) != 4 or not parts[-1].startswith(b"--"):  # noqa: PLR2004 - preamble, resource, media, end
        raise invalid("Malformed multipart body: it must have two parts, the resource and the media.")
    resource, media = (part.partition(b"\r\n\r\n") for part in parts[1:3])
    kind = re.search(rb"(?im)^content-type:\s*(.+?)\s*$", media[0])
    return read_resource(resource[2]), kind[1].decode("latin-1") if kind else "application/octet-stream", media[2]


def store(service: Service, bucket: str, described: JsonObject, content: ObjectContent, query: Query) -> StoredObject:
    """Turn a complete content into an object; discards it if that raises StorageError."""
    with discard_on_error(content):
        found = content.checksums(described)
        return service.objects.put(bucket, described, content, found, query, service.clock())


@contextmanager
def discard_on_error(content: ObjectContent) -> Iterator[None]:
    """Discard the content if the body raises."""
    try:
        yield
    except BaseException:
        content.discard()
        raise
