"""The content of an object while it arrives."""

# google-crc32c ships its own types, but leaves the methods of Checksum without:
# mypy: untyped-calls-exclude="google_crc32c"

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import IO

import google_crc32c

from reconciler.emulator.storage.responses import invalid

MAX_BYTES = 5 * 1024**3
"""The largest object here; the real service takes 5 TiB."""
_CHUNK = 1024 * 1024


class Content:
    """A file that is written from start to end, with its length and checksums. It is open only during a write."""

    def __init__(self, path: Path) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32c = google_crc32c.Checksum()
        self.path = path
        self.size = 0

    def write(self, data: bytes | bytearray) -> None:
        """Appends; raises StorageError when the object gets too large."""
        self._grow(len(data))
        self._md5.update(data)
        self._crc32c.update(bytes(data))
        self._append(data)

    def write_in_threads(self, data: bytes) -> asyncio.Future[list[None]]:
        """Append in threads, one for each checksum and one for the disk; await the result before the next write."""
        self._grow(len(data))
        work = (self._md5.update, self._crc32c.update, self._append)
        return asyncio.gather(*(asyncio.to_thread(step, data) for step in work))

    def _append(self, data: bytes | bytearray) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def _grow(self, length: int) -> None:
        if self.size + length > MAX_BYTES:
            raise invalid(f"The object is larger than the limit of this service: {MAX_BYTES} bytes.")
        self.size += length

    def checksums(self, expected: Mapping[str, str]) -> Mapping[str, str]:
        """Return the checksums in base64; raises StorageError when the expected ones differ."""
        found = {
            "md5Hash": base64.b64encode(self._md5.digest()).decode(),
            "crc32c": base64.b64encode(self._crc32c.digest()).decode(),
        }
        for name, value in found.items():
            if expected.get(name, value) != value:
                raise invalid(f'Provided {name} "{expected[name]}" doesn\'t match calculated {name} "{value}".')
        return found

    def discard(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)


def chunks_of(file: IO[bytes], length: int) -> Iterator[bytes]:
    """The next ``length`` bytes of a file, in chunks."""
    while length > 0 and (chunk := file.read(min(_CHUNK, length))):
        length -= len(chunk)
        yield chunk


QUANTUM = 256 * 1024
"""Chunks of a resumable upload are multiples of this; so is what is kept of one that was cut off."""
_BATCH = 16 * QUANTUM


async def receive(stream: AsyncIterator[bytes], content: Content, *, skip: int = 0) -> bytearray:
    """Appends a body to the content, apart from its first ``skip`` bytes and its last ones after a whole quantum.

    Returns those last bytes. What breaks the stream is raised when the whole quanta have been written.
    """
    waiting = bytearray()
    writing: asyncio.Future[list[None]] | None = None
    try:
        async for chunk in stream:
            waiting += chunk[skip:]
            skip = max(0, skip - len(chunk))
            if len(waiting) >= _BATCH:
                if writing:
                    await writing
                writing = content.write_in_threads(_whole_quanta(waiting))
    finally:
        if writing:
            await writing
        content.write(_whole_quanta(waiting))
    return waiting


def _whole_quanta(waiting: bytearray) -> bytes:
    """Takes as much as can be kept from the front."""
    length = len(waiting) - len(waiting) % QUANTUM
    taken = bytes(memoryview(waiting)[:length])
    del waiting[:length]
    return taken
