"""Resumable uploads: a large file in chunks, taken up again where the service says that it is.

The protocol: https://cloud.google.com/storage/docs/performing-resumable-uploads. The address of an upload session bears
authority, so it shows nowhere, and it is only followed to the endpoint's own origin.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

import httpx

from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.providers.google.errors import TransientError, clean
from reconciler.providers.google.http import Answer, Call, Client, Json

_PIECE = 2**20


@dataclass(frozen=True, slots=True)
class Spool:
    """A file of lines, its size in bytes, its MD5 in base64 (as Cloud Storage tells it) and the number of lines."""

    file: BinaryIO = field(repr=False)
    size: int
    md5: str
    lines: int

    def content(self) -> bytes:
        """All of it; for small ones."""
        self.file.seek(0)
        return self.file.read()

    def part(self, start: int, length: int) -> AsyncIterable[bytes]:
        """Some of it, in pieces, from the start again each time that it is iterated over."""
        return _Part(self.file, start, length)


@dataclass(frozen=True, slots=True)
class _Part:
    file: BinaryIO
    start: int
    length: int

    async def __aiter__(self) -> AsyncIterator[bytes]:
        end = self.start + self.length
        for position in range(self.start, end, _PIECE):
            self.file.seek(position)
            yield self.file.read(min(_PIECE, end - position))


@asynccontextmanager
async def spooled(lines: Iterable[bytes]) -> AsyncIterator[Spool]:
    """A spool of these lines, which come without line feeds; its file is gone afterwards.

    Raises:
        ReconcileError: The temporary folder cannot hold it.
    """
    file = _temporary_file()
    try:
        yield await _fill(file, lines)
    finally:
        with suppress(OSError):  # closing tries again to write what found no room
            file.close()


def _temporary_file() -> BinaryIO:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise _no_room(error) from error


async def _fill(file: BinaryIO, lines: Iterable[bytes]) -> Spool:
    md5 = hashlib.md5(usedforsecurity=False)
    size = count = 0
    for piece, ended in _pieces(lines):
        md5.update(piece)
        _write(file, piece)
        size += len(piece)
        count += ended
        await asyncio.sleep(0)  # lets the rest of the program have a turn; no time passes
    return Spool(file, size, base64.b64encode(md5.digest()).decode(), count)


def _pieces(lines: Iterable[bytes]) -> Iterator[tuple[bytearray, int]]:
    """The lines put together to pieces of some size, each with the number of lines in it."""
    piece, count = bytearray(), 0
    for line in lines:
        piece += line
        piece += b"\n"
        count += 1
        if len(piece) >= _PIECE:
            yield piece, count
            piece, count = bytearray(), 0
    yield piece, count


def _write(file: BinaryIO, data: bytearray) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> ReconcileError:
    return ReconcileError(
        f"a data set cannot be kept in {tempfile.gettempdir()} for its upload: {error.strerror}",
        "make room there, or name another folder in TMPDIR",
    )


CHUNK = 16 * 2**20
"""Bytes a request; the protocol wants multiples of 256 KiB."""

_INCOMPLETE = 308
_GONE = frozenset({404, 410})
_RANGE = re.compile(r"bytes=0-(\d{1,18})")
_PASSING = ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED")
_ANEW = "run again; the upload starts anew"
_SIGNS = 10
_MEGABYTE = 1_000_000
_LOG = logging.getLogger(__name__)


class ResumableUpload:
    """One upload, over as many sessions as it takes.

    Args:
        client: What the requests are sent with.
        opening: The request that opens a session.
        spool: What is uploaded.
    """

    def __init__(self, client: Client, opening: Call, spool: Spool) -> None:
        self._client = client
        self._opening = opening
        self._spool = spool
        self._session = ""
        self._offset: int | None = None

    async def send(self) -> Json:
        """Upload everything and return the object's resource. Every chunk that arrives renews the patience."""
        done = None
        while done is None:
            done = await self._client.repeat(self._advance)
        return done

    async def _advance(self, *, in_doubt: bool) -> Json | None:  # noqa: ARG002 - the service tells what arrived
        """Bring one more chunk there; the resource when it was the last."""
        if not self._session:
            self._session, self._offset = await self._open(), 0
        start = self._offset
        if start is None:
            answer = await self._put(f"bytes */{self._spool.size}", 0, b"")
            if answer.status != _INCOMPLETE:
                return self._client.document(self._opening, answer)
            start = self._arrived(answer)
        self._offset = None  # until the service has told
        if start == self._spool.size:
            raise self._stuck("has everything and does not finish")
        length = min(CHUNK, self._spool.size - start)
        span = f"bytes {start}-{start + length - 1}/{self._spool.size}"
        answer = await self._put(span, length, self._spool.part(start, length))
        if answer.status != _INCOMPLETE:
            return self._client.document(self._opening, answer)
        self._offset = self._arrived(answer)
        if self._offset <= start:
            raise self._stuck("took in nothing")
        self._tell(start, self._offset)
        return None

    def _tell(self, before: int, after: int) -> None:
        """A sign of life, ten times in an upload."""
        size = self._spool.size
        if before * _SIGNS // size < after * _SIGNS // size:
            _LOG.info("uploading a data set: %d of %d MB", after // _MEGABYTE, -(-size // _MEGABYTE))

    async def _open(self) -> str:
        answer = await self._client.once(self._opening)
        location = answer.headers.get("location", "")
        try:
            url = httpx.URL(location)
        except httpx.InvalidURL:
            url = httpx.URL()
        if (url.scheme, url.host, url.port) != self._client.origin:
            where = f"an upload session at {clean(url.host) or 'no address'}, which is never followed"
            raise self._client.unintelligible(self._opening, where)
        return location

    async def _put(self, span: str, length: int, content: bytes | AsyncIterable[bytes]) -> Answer:
        answer = await self._client.once(
            Call(
                "PUT",
                self._session,
                content=content,
                headers={"content-range": span, "content-length": str(length)},
                accepted=_GONE | {_INCOMPLETE},
                remedies={**self._opening.remedies, **dict.fromkeys(_PASSING, _ANEW)},
                shown=f"PUT {self._opening.path}",
            )
        )
        if answer.status in _GONE:
            self._session = ""
            raise self._stuck(f"forgot the upload session ({answer.status})")
        return answer

    def _stuck(self, what: str) -> TransientError:
        error = ServiceError(f"PUT {self._opening.path}: the service {what}", _ANEW, code="ABORTED")
        return TransientError(error, delay=None, ambiguous=True)

    def _arrived(self, answer: Answer) -> int:
        """How many bytes the service has; none where it names no range."""
        told = answer.headers.get("range")
        if told is None:
            return 0
        found = _RANGE.fullmatch(told)
        count = int(found[1]) + 1 if found else None
        if count is None or count > self._spool.size:
            raise self._client.unintelligible(self._opening, "a range that is none of this upload's")
        return count
