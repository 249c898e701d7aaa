"""The content of an object while it arrives."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from reconciler.emulator.storage_errors import invalid

MAX_BYTES = 5 * 1024**3
"""The largest object here; the real service takes 5 TiB."""


class Content:
    """A file that is written from start to end, with its length and MD5."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.path = path
        self.size = 0

    def write(self, data: bytes) -> None:
        """Appends; raises StorageError when the object gets too large."""
        self.size += len(data)
        if self.size > MAX_BYTES:
            raise invalid(f"The object is larger than the limit of this service: {MAX_BYTES} bytes.")
        self._md5.update(data)
        self._file.write(data)

    def finish(self, told: Mapping[str, str]) -> Mapping[str, str]:
        """Closes the file and gives its checksums; raises StorageError when those that were told are others."""
        self._file.close()
        found = {"md5Hash": base64.b64encode(self._md5.digest()).decode()}
        for name, value in found.items():
            if told.get(name, value) != value:
                raise invalid(f'Provided {name} "{told[name]}" doesn\'t match calculated {name} "{value}".')
        return found

    def discard(self) -> None:
        """Closes the file and removes it."""
        self._file.close()
        self.path.unlink(missing_ok=True)
