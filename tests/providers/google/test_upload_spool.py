from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import ReconcileError
from reconciler.providers.google.upload import SpooledFile, spool_lines
from support.provider_storage import md5_of


def test_lines_are_counted_and_digested() -> None:
    async def run() -> tuple[int, str, int, bytes]:
        async with spool_lines([b"one", b"", b"two"]) as spool:
            return spool.size, spool.md5, spool.lines, spool.content()

    assert asyncio.run(run()) == (9, md5_of(b"one\n\ntwo\n"), 3, b"one\n\ntwo\n")


async def gathered(spool: SpooledFile, start: int, length: int) -> list[bytes]:
    part = spool.part(start, length)
    once = [piece async for piece in part]
    assert [piece async for piece in part] == once
    return once


@given(st.integers(0, 3 * 2**20), st.integers(0, 2**21))
def test_any_part_can_be_read_again_and_again(start: int, length: int) -> None:
    line = bytes(range(1, 251)) * (2**14)
    whole = line + b"\n"
    length = min(length, len(whole) - start)

    async def run() -> list[bytes]:
        async with spool_lines([line]) as spool:
            return await gathered(spool, start, length)

    pieces = asyncio.run(run())
    assert b"".join(pieces) == whole[start : start + length]
    assert all(len(piece) <= 2**20 for piece in pieces)


def test_others_have_their_turn_while_much_is_written() -> None:
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def run() -> None:
        task = asyncio.create_task(other())
        async with spool_lines(b"x" * 2**18 for _ in range(64)):
            task.cancel()

    asyncio.run(run())
    assert len(turns) >= 10


def test_a_spool_is_gone_when_reading_the_data_fails() -> None:
    def lines() -> Iterator[bytes]:
        yield b"one"
        raise ReconcileError("the data set changed")

    async def run() -> None:
        async with spool_lines(lines()):
            raise AssertionError

    before = set(Path(tempfile.gettempdir()).iterdir())
    with pytest.raises(ReconcileError, match="the data set changed"):
        asyncio.run(run())
    assert {path for path in Path(tempfile.gettempdir()).iterdir() if path.name.startswith("tmp")} <= before


_PROGRAM = """
import asyncio, resource, sys
from reconciler.domain.errors import ReconcileError
from reconciler.providers.google.upload import spool_lines

async def run():
    async with spool_lines([b"x" * 2**20] * 4):
        pass

resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    asyncio.run(run())
except ReconcileError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no file size limits")
def test_a_full_disk_is_reported_with_its_remedy(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _PROGRAM], env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"cannot store a data set in {tmp_path} for its upload: File too large;"
        " free space there, or set TMPDIR to another folder\n"
    )
    assert list(tmp_path.iterdir()) == []
