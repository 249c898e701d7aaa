"""Resumable uploads to Cloud Storage: a large file in chunks, resumed where the service reports that it ended.

The protocol: https://cloud.google.com/storage/docs/performing-resumable-uploads. The address of an upload session
authorizes requests, so it appears in no message, and it must have the endpoint's origin.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

import httpx
from msgspec import Struct

from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.text import sanitize
from reconciler.providers.google.http import UPLOAD_DEADLINE, Client, HttpRequest, HttpResponse, Json
from reconciler.providers.google.retry import TransientError

_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A temporary file of lines, with its size in bytes, its MD5 in base64, and the number of its lines."""

    file: BinaryIO = field(repr=False)
    size: int
    md5: str
    lines: int

    def content(self) -> bytes:
        """Return the whole content of a small file."""
        self.file.seek(0)
        return self.file.read()

    def part(self, start: int, length: int) -> AsyncIterable[bytes]:
        """Return a part in blocks; each iteration starts at its beginning."""
        return _FilePart(self.file, start, length)


class _FilePart(Struct, frozen=True):
    file: BinaryIO
    start: int
    length: int

    async def __aiter__(self) -> AsyncIterator[bytes]:
        end = self.start + self.length
        for position in range(self.start, end, _BLOCK):
            self.file.seek(position)
            yield self.file.read(min(_BLOCK, end - position))


@asynccontextmanager
async def spool_lines(lines: Iterable[bytes]) -> AsyncIterator[SpooledFile]:
    """Write lines, given without line feeds, to a temporary file that is deleted at the end.

    Raises:
        ReconcileError: The temporary folder is full, or not writable.
    """
    file = _open_temporary_file()
    try:
        yield await _fill(file, lines)
    finally:
        with suppress(OSError):  # closing writes the rest again, which fails in a full folder
            file.close()


def _open_temporary_file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise _spool_error(error) from error


async def _fill(file: BinaryIO, lines: Iterable[bytes]) -> SpooledFile:
    md5 = hashlib.md5(usedforsecurity=False)
    size = count = 0
    for block, line_count in _join_lines(lines):
        md5.update(block)
        _write(file, block)
        size += len(block)
        count += line_count
        await asyncio.sleep(0)  # lets other tasks run
    return SpooledFile(file, size, base64.b64encode(md5.digest()).decode(), count)


def _join_lines(lines: Iterable[bytes]) -> Iterator[tuple[bytearray, int]]:
    """Yield blocks of whole lines, each with the number of its lines."""
    block, count = bytearray(), 0
    for line in lines:
        block += line
        block += b"\n"
        count += 1
        if len(block) >= _BLOCK:
            yield block, count
            block, count = bytearray(), 0
    yield block, count


def _write(file: BinaryIO, data: bytearray) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise _spool_error(error) from error


def _spool_error(error: OSError) -> ReconcileError:
    return ReconcileError(
        f"cannot store a data set in {tempfile.gettempdir()} for its upload: {error.strerror}",
        "free space there, or set TMPDIR to another folder",
    )


CHUNK = 16 * 2**20
"""The usual bytes of one request; the protocol requires a multiple of 256 KiB."""

_INCOMPLETE = 308
_SESSION_ENDED = frozenset({404, 410})
_RANGE = re.compile(r"bytes=0-(\d{1,18})")
_TRANSIENT_CODES = ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED")
_RUN_AGAIN = "run the command again; the upload restarts"
_PROGRESS_STEPS = 10
_MEGABYTE = 1_000_000
T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class ResumableUpload:
    """One upload, in as many sessions as it needs.

    Args:
        client: The client of Cloud Storage.
        session_request: The request that starts a session.
        spool: The file.
        chunk: The bytes of one request.
    """

    def __init__(self, client: Client, session_request: HttpRequest, spool: SpooledFile, chunk: int = CHUNK) -> None:
        self._client = client
        self._chunk = chunk
        self._session_request = session_request
        self._spool = spool
        self._session = ""
        self._offset: int | None = None

    async def send(self, read: Callable[[Json], T]) -> T:
        """Upload the file and return what ``read`` makes of the object's metadata; each chunk has its own retries."""

        async def advance(*, in_doubt: bool) -> T | None:  # noqa: ARG001 - the service reports what arrived
            response = await self._advance()
            if response is None:
                return None
            metadata = self._client.document(self._session_request, response)
            return self._client.decode(self._session_request, read, metadata)

        result = None
        while result is None:
            result = await self._client.retry(advance)
        return result

    async def _advance(self) -> HttpResponse | None:
        """Upload one more chunk; return the response to the last one."""
        if not self._session:
            self._session, self._offset = await self._start_session(), 0
        start = self._offset
        if start is None:
            response = await self._put(f"bytes */{self._spool.size}", 0, b"")
            if response.status != _INCOMPLETE:
                return response
            start = self._received_bytes(response)
        self._offset = None  # unknown until the service reports it
        if start == self._spool.size:
            raise self._failure("has the whole file and does not complete the upload")
        length = min(self._chunk, self._spool.size - start)
        span = f"bytes {start}-{start + length - 1}/{self._spool.size}"
        response = await self._put(span, length, self._spool.part(start, length))
        if response.status != _INCOMPLETE:
            return response
        self._offset = self._received_bytes(response)
        if self._offset <= start:
            raise self._failure("accepted no bytes")
        self._log_progress(start, self._offset)
        return None

    def _log_progress(self, before: int, after: int) -> None:
        size = self._spool.size
        if before * _PROGRESS_STEPS // size < after * _PROGRESS_STEPS // size:
            _LOG.info("uploading a data set: %d of %d MB", after // _MEGABYTE, -(-size // _MEGABYTE))

    async def _start_session(self) -> str:
        response = await self._client.send_once(self._session_request)
        location = response.headers.get("location", "")
        try:
            url = httpx.URL(location)
        except httpx.InvalidURL:
            url = httpx.URL()
        if (url.scheme, url.host, url.port) != self._client.origin:
            problem = f"an upload session at {sanitize(url.host) or 'no address'}, which is not the endpoint's host"
            raise self._client.unexpected_response(self._session_request, problem)
        return location

    async def _put(self, span: str, length: int, content: bytes | AsyncIterable[bytes]) -> HttpResponse:
        response = await self._client.send_once(
            HttpRequest(
                "PUT",
                self._session,
                content=content,
                headers={"content-range": span, "content-length": str(length)},
                accepted=_SESSION_ENDED | {_INCOMPLETE},
                remedies={**self._session_request.remedies, **dict.fromkeys(_TRANSIENT_CODES, _RUN_AGAIN)},
                shown=f"PUT {self._session_request.path}",
                deadline=UPLOAD_DEADLINE,
            )
        )
        if response.status in _SESSION_ENDED:
            self._session = ""
            raise self._failure(f"ended the upload session ({response.status})")
        return response

    def _failure(self, problem: str) -> TransientError:
        message = f"PUT {self._session_request.path}: the service {problem}"
        return TransientError(ServiceError(message, _RUN_AGAIN, code="ABORTED"))

    def _received_bytes(self, response: HttpResponse) -> int:
        """Return how many bytes the service has received; 0 where it names no range."""
        span = response.headers.get("range")
        if span is None:
            return 0
        match = _RANGE.fullmatch(span)
        count = int(match[1]) + 1 if match else None
        if count is None or count > self._spool.size:
            raise self._client.unexpected_response(self._session_request, "a range outside this upload")
        return count
