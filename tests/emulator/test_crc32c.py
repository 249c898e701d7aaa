from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.emulator.crc32c import crc32c


@pytest.mark.parametrize(
    ("content", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_the_known_checksums(content: bytes, checksum: int) -> None:
    assert crc32c([content]) == checksum.to_bytes(4, "big")


@given(
    st.lists(
        st.binary(max_size=30) | st.integers(1, 60_000).map(lambda size: bytes(range(251)) * (size // 251)), max_size=5
    )
)
def test_it_is_that_of_the_native_library_however_the_content_is_cut(chunks: list[bytes]) -> None:
    assert crc32c(chunks) == google_crc32c.value(b"".join(chunks)).to_bytes(4, "big")
