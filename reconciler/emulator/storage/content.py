"""The content of an object while it arrives."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import IO

from reconciler.emulator.crc32c import crc32c
from reconciler.emulator.storage.responses import invalid

MAX_BYTES = 5 * 1024**3
"""The largest object here; the real service takes 5 TiB."""
CRC32C_BYTES = 1024 * 1024
"""Up to this size a CRC-32C is always told; that of a larger object takes long, and is made to check a given one."""
_CHUNK = 1024 * 1024


class Content:
    """A file that is written from start to end, with its length and MD5. It is open only while it is written to."""

    def __init__(self, path: Path) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.path = path
        self.size = 0

    def write(self, data: bytes | bytearray) -> None:
        """Appends; raises StorageError when the object gets too large."""
        self._grow(len(data))
        self._md5.update(data)
        self._append(data)

    def write_in_threads(self, data: bytes) -> asyncio.Future[list[None]]:
        """Appends meanwhile: the checksum and the disk each take a thread. To be awaited before the next write."""
        self._grow(len(data))
        work = (self._md5.update, self._append)
        return asyncio.gather(*(asyncio.to_thread(each, data) for each in work))

    def _append(self, data: bytes | bytearray) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def _grow(self, length: int) -> None:
        if self.size + length > MAX_BYTES:
            raise invalid(f"The object is larger than the limit of this service: {MAX_BYTES} bytes.")
        self.size += length

    def checksums(self, told: Mapping[str, str]) -> Mapping[str, str]:
        """The checksums; raises StorageError when those that were told are others."""
        found = {"md5Hash": base64.b64encode(self._md5.digest()).decode()}
        if "crc32c" in told or self.size <= CRC32C_BYTES:
            with self.path.open("rb") as file:
                found["crc32c"] = base64.b64encode(crc32c(chunks_of(file, self.size))).decode()
        for name, value in found.items():
            if told.get(name, value) != value:
                raise invalid(f'Provided {name} "{told[name]}" doesn\'t match calculated {name} "{value}".')
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
