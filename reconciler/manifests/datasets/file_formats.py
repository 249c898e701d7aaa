"""The formats of data files, and the way from a file to its rows."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import shorten
from reconciler.manifests.datasets.csv import column_names, separated
from reconciler.manifests.datasets.json_lines import array_members, json_array, json_lines, line_members
from reconciler.manifests.datasets.records import Fault, Fields, Items, UnreadableError
from reconciler.manifests.schema_validation import suggest

_Read = TypeVar("_Read")

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_MOST_BYTES = 2**30
"""The largest data set that any of the services takes."""
_MOST_ARRAY_BYTES = 2**26
"""The largest JSON array: it is read whole."""
_BLOCK = 2**18


@dataclass(frozen=True, slots=True)
class Format:
    """How to read a text of one format, in which ``newline`` ends the lines (empty: any of the three kinds)."""

    newline: str
    rows: Callable[[TextIO, Fields], Items]
    names: Callable[[TextIO], Iterator[str]]
    most_bytes: int = _MOST_BYTES
    smaller: str = "no service takes as much; use fewer examples"


FORMATS: Mapping[str, Format] = {
    ".csv": Format("", partial(separated, delimiter=","), partial(column_names, delimiter=",")),
    ".tsv": Format("", partial(separated, delimiter="\t"), partial(column_names, delimiter="\t")),
    ".jsonl": Format("\n", json_lines, line_members),
    ".json": Format(
        "\n",
        json_array,
        array_members,
        _MOST_ARRAY_BYTES,
        "write it as .jsonl, with an object on each line, which may have 1 GiB",
    ),
}
"""The formats by the suffix of a file."""


def require_format(file: Path) -> None:
    """Raise ReconcileError, with what is wrong and what to do, for a file whose suffix is no format of data sets."""
    if file.suffix.lower() not in FORMATS:
        suffix = f"the suffix {shorten(file.suffix)}" if file.suffix else "a file without a suffix"
        raise ReconcileError(f"{suffix} is no format of data sets", suggest(file.suffix, FORMATS))


def file_items(file: Path, fields: Fields) -> Items:
    """The rows of a data file, read as they are asked for."""
    return _read(file, lambda kind, text: kind.rows(text, fields))


def field_names(file: Path) -> tuple[str, ...] | Fault:
    """The columns of a data file, or the members of its first object; empty when that cannot be told."""
    names = []
    for name in _read(file, lambda kind, text: kind.names(text)):
        if isinstance(name, Fault):
            return name
        names.append(name)
    return tuple(names)


def _read(file: Path, read: Callable[[Format, TextIO], Iterator[_Read]]) -> Iterator[_Read | Fault]:
    kind = FORMATS[file.suffix.lower()]
    try:
        with file.open("rb") as binary:
            if fault := _unfit(binary, kind):
                yield fault
            else:
                with io.TextIOWrapper(binary, encoding="utf-8-sig", newline=kind.newline) as text:
                    yield from read(kind, text)
    except OSError as error:
        yield Fault(1, f"cannot be read: {error.strerror}", "see to the file")
    except UnreadableError as error:
        yield error.fault
    except UnicodeDecodeError:
        line, column = _undecodable(file)
        yield Fault(line, "is not UTF-8 text", "save the file as UTF-8", column)


def _unfit(binary: BinaryIO, kind: Format) -> Fault | None:
    if os.fstat(binary.fileno()).st_size > kind.most_bytes:
        return Fault(1, f"has more than {kind.most_bytes:,} bytes", kind.smaller)
    start = binary.read(len(_LFS_POINTER))
    binary.seek(0)
    if start == _LFS_POINTER:
        return Fault(1, "is a Git LFS pointer in place of the data", "run `git lfs pull`")
    return None


def _undecodable(file: Path) -> tuple[int, int]:
    """The line and column, from 1, of the first byte of a file that is not UTF-8."""
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
