"""Taking in the body of an upload: in bounded memory, and written by a thread while more arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from reconciler.emulator.content import Content

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
