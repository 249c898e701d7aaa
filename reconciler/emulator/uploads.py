"""Uploads to Cloud Storage: in one request, or in chunks that survive broken connections.

Sessions of resumable uploads are kept in memory; the real service keeps them for a week.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from starlette.responses import Response

from reconciler.emulator.errors import HEADERS, JsonObject, json_response
from reconciler.emulator.objects import (
    ObjectContent,
    Query,
    StorageError,
    StoredObject,
    check_resource,
    invalid,
    not_found,
    object_resource,
    receive,
    whole_number,
)
from reconciler.emulator.service import Service
from reconciler.emulator.store import dump

if TYPE_CHECKING:
    from starlette.requests import Request


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


_RANGE = re.compile(r"bytes (?:(?P<first>\d{1,19})-(?P<last>\d{1,19})|\*)/(?:(?P<total>\d{1,19})|\*)")


class UploadSession(Struct):
    """An upload in progress or completed. ``total`` is the length of the object, if known."""

    bucket: str
    described: JsonObject
    query: Query
    content: ObjectContent
    total: int | None
    done: StoredObject | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class UploadSessions:
    """The upload sessions of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._sessions: dict[str, UploadSession] = {}

    async def start(self, request: Request) -> Response:
        """Open a session and return its URL."""
        bucket, service = request.path_params["bucket"], self._service
        described = {
            "contentType": request.headers.get("x-upload-content-type", "application/octet-stream"),
            **read_description(read_resource(await small_body(request)), request),
        }
        check_resource(bucket, described)
        service.objects.check(bucket, described["name"], request.query_params)
        length = request.headers.get("x-upload-content-length")
        total = whole_number("X-Upload-Content-Length", length) if length else None
        key = service.tail() + service.tail()
        self._sessions[key] = UploadSession(
            bucket, described, dict(request.query_params), service.objects.new_content(), total
        )
        url = f"{request.base_url}upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={key}"
        return Response(status_code=200, headers={**HEADERS, "location": url, "x-guploader-uploadid": key})

    async def cancel(self, request: Request) -> Response:
        """Remove a session and its content."""
        session = self._session(request)
        async with session.lock:
            self._forget(request, session)
        return Response(status_code=499, headers=HEADERS)

    async def proceed(self, request: Request) -> Response:
        """Receive a chunk, or only return the progress of the upload."""
        session = self._session(request)
        async with session.lock:
            if session.done is None:
                rest = await self._take(session, request)
                size = session.content.size + len(rest)
                if session.total is not None and size > session.total:
                    self._forget(request, session)
                    raise invalid(f"The upload has more bytes than the declared {session.total}.")
                if size == session.total:
                    await self._finish(session, rest, request)
            return upload_response(session.done, request) if session.done else _incomplete(session)

    async def _take(self, session: UploadSession, request: Request) -> bytearray:
        try:
            return await _take(session, request)
        except OSError:  # less is stored than was counted
            self._forget(request, session)
            raise

    async def _finish(self, session: UploadSession, rest: bytearray, request: Request) -> None:
        session.content.write(rest)
        described = {**session.described, **checksums(request)}
        try:
            session.done = store(self._service, session.bucket, described, session.content, session.query)
        except (StorageError, OSError):
            self._forget(request, session)
            raise

    def _session(self, request: Request) -> UploadSession:
        session = self._sessions.get(request.query_params.get("upload_id", ""))
        if session is None:
            raise not_found("No such upload: it was canceled or refused, or the service was restarted.")
        return session

    def _forget(self, request: Request, session: UploadSession) -> None:
        if session.done is None:
            session.content.discard()
        self._sessions.pop(request.query_params["upload_id"], None)


async def _take(session: UploadSession, request: Request) -> bytearray:
    """Store the whole quanta of a request and return the remainder; raises StorageError."""
    header = request.headers.get("content-range")
    match = _RANGE.fullmatch(header) if header else None
    if header and not match:
        raise invalid(f"Failed to parse Content-Range header: {header[:100]}")
    if match and match["total"]:
        session.total = int(match["total"])
    if match and match["first"] is None:
        return bytearray()
    if match:
        _check_length(request, int(match["last"]) - int(match["first"]) + 1)
    first, stored = int(match["first"]) if match else 0, session.content.size
    if first > stored:
        raise invalid(f"The chunk begins at byte {first}, but only {stored} bytes are stored.")
    rest = await receive(request.stream(), session.content, skip=stored - first)
    if match is None:
        session.total = session.content.size + len(rest)
    return rest


def _check_length(request: Request, length: int) -> None:
    declared = request.headers.get("content-length")  # absent from a chunked body
    if declared is not None and whole_number("Content-Length", declared) != length:
        raise invalid(f"Content-Range declares {length} bytes, but the body has {declared}.")


def _incomplete(session: UploadSession) -> Response:
    size = session.content.size
    return Response(status_code=308, headers={**HEADERS, **({"range": f"bytes=0-{size - 1}"} if size else {})})
