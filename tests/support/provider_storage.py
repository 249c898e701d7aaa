"""Cloud Storage as it answers, for scripts; and a way to run one act against them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import google_crc32c
import httpx
from starlette.responses import HTMLResponse, JSONResponse, Response

from reconciler.providers.google.storage import ObjectInfo, Storage, connect
from reconciler.providers.google.upload import spool_lines
from support.provider_service import ENDPOINT, Time, settings_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp

T = TypeVar("T")

URI = "gs://acme-data/reconcile/a b.jsonl"
OBJECT = "/storage/v1/b/acme-data/o/reconcile%2Fa%20b.jsonl"
UPLOAD = "/upload/storage/v1/b/acme-data/o"
SESSION = f"{ENDPOINT}{UPLOAD}?uploadType=resumable&upload_id=SECRET"


def md5_of(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def crc32c_of(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def resource(data: bytes, generation: int = 7, **more: Any) -> Response:
    """An object's resource; int64 fields are strings, as in the discovery document of Cloud Storage."""
    body = {"kind": "storage#object", "generation": str(generation), "size": str(len(data)), "crc32c": "AAAAAA=="}
    return JSONResponse(body | {"md5Hash": md5_of(data)} | more)


def refusal(status: int, message: str) -> Response:
    """An error of Cloud Storage: no status name, and the older list of errors."""
    errors = [{"message": message, "domain": "global", "reason": "reason"}]
    return JSONResponse({"error": {"code": status, "message": message, "errors": errors}}, status)


def opened(location: str = SESSION) -> Response:
    return Response(headers={"location": location})


def incomplete(arrived: int) -> Response:
    """The answer to a chunk that was not the last: which bytes are there, none where there is no range."""
    return Response(status_code=308, headers={"range": f"bytes=0-{arrived - 1}"} if arrived else {})


NO_OBJECT = refusal(404, "No such object: acme-data/reconcile/a b.jsonl")
NO_BUCKET = refusal(404, "The specified bucket does not exist.")
NO_CONTENT = HTMLResponse("No such object: acme-data/reconcile/a b.jsonl", 404)
UNMET = refusal(412, "At least one of the pre-conditions you specified did not hold.")
DENIED = refusal(
    403,
    "me@example.com does not have storage.objects.get access to the Google Cloud Storage object (or it may not exist).",
)


CHUNK = 4 * 2**20
"""The bytes of one request of an upload in tests; usually it is larger."""


def storage_of(app: ASGIApp, time: Time, chunk: int = CHUNK) -> Storage:
    return storage_over(httpx.ASGITransport(app), time, chunk)


def storage_over(transport: httpx.AsyncBaseTransport, time: Time, chunk: int = CHUNK) -> Storage:
    return connect(ENDPOINT, settings_of(time, transport), chunk)


def with_storage(
    app: ASGIApp, act: Callable[[Storage], Awaitable[T]], time: Time | None = None, chunk: int = CHUNK
) -> T:
    async def run() -> T:
        async with storage_of(app, time or Time(), chunk) as storage:
            return await act(storage)

    return asyncio.run(run())


async def upload(storage: Storage, lines: Iterable[bytes], uri: str = URI) -> ObjectInfo:
    async with spool_lines(lines) as spool:
        return await storage.upload(uri, spool)


Fault = Callable[[httpx.AsyncBaseTransport, httpx.Request], Awaitable[httpx.Response]]
"""What happens to a request instead of its being carried out."""


async def unsent(_carrier: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    raise httpx.WriteError("Connection reset by peer", request=request)


async def unanswered(carrier: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    await carrier.handle_async_request(request)
    raise httpx.ReadError("Connection reset by peer", request=request)


async def cut(carrier: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """The connection breaks in the middle of the body; the service has what came before."""
    middle = int(request.headers["content-length"]) // 2
    whole = request.stream
    assert isinstance(whole, httpx.AsyncByteStream)

    async def half() -> AsyncIterator[bytes]:
        sent = 0
        async for piece in whole:
            if sent >= middle:
                raise httpx.WriteError("Connection reset by peer", request=request)
            yield piece
            sent += len(piece)

    broken = httpx.Request(request.method, request.url, headers=request.headers, content=half())
    return await carrier.handle_async_request(broken)


async def busy(_carrier: httpx.AsyncBaseTransport, _request: httpx.Request) -> httpx.Response:
    return httpx.Response(503, text="busy")


async def forgotten(carrier: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """The service knows nothing of the session any more."""
    await carrier.handle_async_request(httpx.Request("DELETE", request.url, headers={"content-length": "0"}))
    return await carrier.handle_async_request(request)


async def interrupted(carrier: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    """Somebody ends the process; the service forgets the session in the end."""
    await forgotten(carrier, request)
    raise KeyboardInterrupt


class Faulty(httpx.AsyncBaseTransport):
    """Carries requests to an application, except those chunks of an upload (counted from 0) that something befalls."""

    def __init__(self, app: ASGIApp, faults: Mapping[int, Fault]) -> None:
        self.ranges: list[str] = []
        self._carrier = httpx.ASGITransport(app)
        self._faults = faults
        self._chunks = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        span = request.headers.get("content-range", "")
        if span:
            self.ranges.append(span.removeprefix("bytes "))
        if not span or "*" in span:
            return await self._carrier.handle_async_request(request)
        fault = self._faults.get(self._chunks)
        self._chunks += 1
        return await (fault(self._carrier, request) if fault else self._carrier.handle_async_request(request))
