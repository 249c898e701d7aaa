"""Resumable uploads: sessions that receive an object in chunks and survive broken connections.

Sessions are kept in memory; the real service keeps them for a week.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from msgspec import Struct, field
from starlette.responses import Response

from reconciler.emulator.errors import HEADERS, JsonObject
from reconciler.emulator.objects import (
    ObjectContent,
    Query,
    StorageError,
    StoredObject,
    check_resource,
    invalid,
    not_found,
    receive,
    whole_number,
)
from reconciler.emulator.service import Service
from reconciler.emulator.storage.uploads import (
    checksums,
    read_description,
    read_resource,
    small_body,
    store,
    upload_response,
)

if TYPE_CHECKING:
    from starlette.requests import Request


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
