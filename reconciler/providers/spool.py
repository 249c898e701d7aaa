"""A data set in a temporary file: written once in bounded memory, then sent from there as often as it takes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from reconciler.core.problems import ReconcileError

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
