"""The file formats of data sets by suffix, and how a file is read."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from msgspec import Struct

from reconciler.domain.errors import ReconcileError
from reconciler.manifests.datasets.csv import column_names, separated_values
from reconciler.manifests.datasets.json_lines import array_members, json_array, json_lines, line_members
from reconciler.manifests.datasets.records import Fault, Fields, Records, UnreadableError
from reconciler.manifests.messages import quote, suggest_name

_Read = TypeVar("_Read")

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_MAX_BYTES = 2**30
"""The largest data set that any of the services accepts."""
_MAX_ARRAY_BYTES = 2**26
"""The largest JSON array, because it is read into memory."""
_BLOCK = 2**18


class FileFormat(Struct, frozen=True):
    """How to read a text of one format; ``newline`` ends the lines (empty: any of the three line breaks)."""

    newline: str
    records: Callable[[TextIO, Fields], Records]
    names: Callable[[TextIO], Iterator[str]]
    max_bytes: int = _MAX_BYTES
    too_large: str = "use fewer examples; no service accepts more"


FORMATS: Mapping[str, FileFormat] = {
    ".csv": FileFormat("", partial(separated_values, delimiter=","), partial(column_names, delimiter=",")),
    ".tsv": FileFormat("", partial(separated_values, delimiter="\t"), partial(column_names, delimiter="\t")),
    ".jsonl": FileFormat("\n", json_lines, line_members),
    ".json": FileFormat(
        "\n",
        json_array,
        array_members,
        _MAX_ARRAY_BYTES,
        "write one object on each line of a .jsonl file, which can have 1 GiB",
    ),
}
"""The formats by the suffix of a file."""


def require_format(file: Path) -> None:
    """Raise ReconcileError if the suffix of the file is not that of a supported format."""
    if file.suffix.lower() not in FORMATS:
        message = f"unsupported format {quote(file.suffix)}" if file.suffix else "unsupported format: no file suffix"
        raise ReconcileError(message, suggest_name(file.suffix, FORMATS))


def file_records(file: Path, fields: Fields) -> Records:
    """Yield the records of a data file, which is read as they are consumed."""
    return _read(file, lambda file_format, text: file_format.records(text, fields))


def field_names(file: Path) -> tuple[str, ...] | Fault:
    """Return the columns of a data file, or the members of its first object; empty if they cannot be determined."""
    names = []
    for name in _read(file, lambda file_format, text: file_format.names(text)):
        if isinstance(name, Fault):
            return name
        names.append(name)
    return tuple(names)


def _read(file: Path, read: Callable[[FileFormat, TextIO], Iterator[_Read]]) -> Iterator[_Read | Fault]:
    file_format = FORMATS[file.suffix.lower()]
    try:
        with file.open("rb") as binary:
            if fault := _unreadable(binary, file_format):
                yield fault
            else:
                with io.TextIOWrapper(binary, encoding="utf-8-sig", newline=file_format.newline) as text:
                    yield from read(file_format, text)
    except OSError as error:
        yield Fault(1, f"cannot read the file: {error.strerror}", "check the path and its permissions")
    except UnreadableError as error:
        yield error.fault
    except UnicodeDecodeError:
        line, column = _undecodable(file)
        yield Fault(line, "not valid UTF-8", "save the file as UTF-8", column)


def _unreadable(binary: BinaryIO, file_format: FileFormat) -> Fault | None:
    if os.fstat(binary.fileno()).st_size > file_format.max_bytes:
        return Fault(1, f"the file exceeds the limit of {file_format.max_bytes:,} bytes", file_format.too_large)
    start = binary.read(len(_LFS_POINTER))
    binary.seek(0)
    if start == _LFS_POINTER:
        return Fault(1, "the file is a Git LFS pointer, not the data", "run `git lfs pull`")
    return None


def _undecodable(file: Path) -> tuple[int, int]:
    """Return the line and column, from 1, of the first byte of a file that is not UTF-8."""
    line, column = 1, 1
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with file.open("rb") as binary:
        while True:
            block = binary.read(_BLOCK)
            try:
                text, found = decoder.decode(block, final=not block), not block
            except UnicodeDecodeError as error:
                text, found = error.object[: error.start].decode(), True
            line += text.count("\n")
            column = len(text) - text.rfind("\n") if "\n" in text else column + len(text)
            if found:
                return line, column
