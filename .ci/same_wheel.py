"""Fails unless two wheels hold the same files with the same content."""

import sys
import zipfile


def content(wheel: str) -> dict[str, int]:
    """The files of a wheel with their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


first, second = map(content, sys.argv[1:])
differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
if differing:
    sys.exit(f"the wheels differ in {', '.join(differing)}")
print(f"{len(first)} files, the same in both wheels")
