"""The file formats of data sets: comma- or tab-separated values, JSON Lines and JSON arrays, and how a file is read."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeVar

from msgspec import Struct

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import counted, invalid, list_choices, quote, suggest_name
from reconciler.manifests.datasets.records import (
    ConversationRow,
    Fault,
    Fields,
    Lines,
    Record,
    Records,
    Row,
    UnreadableError,
)

_ONE_PER_LINE = "write one JSON object on each line"
_EXACT_DIGITS = 300
"""Whole numbers with more digits are parsed as floats, which may be infinite; no field needs them."""


class _DuplicateMemberError(ValueError):
    """An object has two members of the same name."""


_INVALID = (json.JSONDecodeError, _DuplicateMemberError, RecursionError)


def json_lines(text: TextIO, fields: Fields) -> Records:
    """Yield the examples of a text with one object on each line."""
    lines = Lines(text, _ONE_PER_LINE)
    for line in lines:
        lines.start_record()
        if not line.isspace():
            try:
                yield _record(lines.number, _DECODER.decode(line.rstrip("\r\n")), fields)
            except _INVALID as error:
                yield Fault(lines.number, f"invalid JSON: {_reason(error)}", _ONE_PER_LINE)


def json_array(text: TextIO, fields: Fields) -> Records:
    """Yield the examples of a text that is one array of objects; the text is read into memory."""
    whole = text.read()
    if not whole or whole.isspace():
        return
    line, counted = 1, 0
    try:
        for offset, value in _elements(whole):
            line, counted = line + whole.count("\n", counted, offset), offset
            yield _record(line, value, fields)
    except _INVALID as error:
        line = getattr(error, "lineno", line)
        remedy = "write [{…}, {…}], or rename a file with one object on each line to .jsonl"
        yield Fault(line, f"invalid JSON array of objects: {_reason(error)}", remedy)


def line_members(text: TextIO) -> Iterator[str]:
    """Yield the names of the members of the object on the first line; none if it cannot be read."""
    return _members(_DECODER.decode(line) for line in Lines(text, _ONE_PER_LINE) if not line.isspace())


def array_members(text: TextIO) -> Iterator[str]:
    """Yield the names of the members of the first object of an array; none if it cannot be read."""
    return _members(value for _, value in _elements(text.read()))


def _members(values: Iterable[Any]) -> Iterator[str]:
    try:
        first = next(iter(values), None)
    except _INVALID:
        return
    if isinstance(first, dict):
        yield from first


def _elements(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array with their offsets, which ``json.loads`` does not return."""
    position = _skip_space(text, 0)
    if not text.startswith("[", position):
        raise json.JSONDecodeError("Expecting [", text, position)
    position = _skip_space(text, position + 1)
    while not text.startswith("]", position):
        value, end = _DECODER.raw_decode(text, position)
        yield position, value
        position = _skip_space(text, end)
        if text.startswith(",", position):
            position = _skip_space(text, position + 1)
        elif not text.startswith("]", position):
            raise json.JSONDecodeError("Expecting , or ]", text, position)
    if (rest := _skip_space(text, position + 1)) < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _skip_space(text: str, position: int) -> int:
    found = _NOT_SPACE.search(text, position)
    return found.start() if found else len(text)


def _record(number: int, value: Any, fields: Fields) -> Record:
    if not isinstance(value, dict):
        return Fault(number, invalid(value, "an object", "example"), "write {…} with input and output")
    given, wanted = value.get(fields.input), value.get(fields.output)
    if isinstance(given, str) and isinstance(wanted, str):
        return Row(number, given, wanted)
    if "contents" in value and fields.input not in value:
        return ConversationRow(number, value)
    for name in (fields.input, fields.output):
        if name not in value:
            return _missing(number, f"missing member {quote(name)}", name, list(value), fields)
    name = fields.output if isinstance(given, str) else fields.input
    return Fault(number, invalid(value[name], "a string", f"member {quote(name)}"), "put it in double quotes")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) < len(members):
        repeated = next(name for name, count in Counter(name for name, _ in members).items() if count > 1)
        raise _DuplicateMemberError(f"duplicate member {quote(repeated)}")
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


_NOT_SPACE = re.compile(r"[^ \t\n\r]")
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer)


# The library reports its own limit of 131,072 characters in a field as a broken quote; records.Lines has the real one.
csv.field_size_limit(2**31 - 1)

_CLOSE = 'close every quote, and double each " inside quotes'


def separated_values(text: TextIO, fields: Fields, delimiter: str) -> Records:
    """Yield the rows of a text with a header; quotes are as in RFC 4180."""
    lines = Lines(text, _CLOSE)
    reader = _reader(lines, delimiter)
    try:
        header = _header(reader)
        faults = list(_header_faults(header, fields, lines.number))
        yield from faults
        if header and not faults:
            yield from _rows(reader, lines, header, fields)
    except csv.Error:
        yield Fault(lines.number, "missing closing quote, or text after a closing quote", _CLOSE)


def column_names(text: TextIO, delimiter: str) -> Iterator[str]:
    """Yield the names in the header; none if it cannot be read."""
    try:
        yield from _header(_reader(Lines(text, _CLOSE), delimiter))
    except csv.Error:
        return


def _missing(number: int, message: str, name: str, known: list[str], fields: Fields) -> Fault:
    """Return the fault of a missing field: the option that names it must be one of the known fields."""
    option = "inputField" if name == fields.input else "outputField"
    remedy = f"set {fields.declared}.{option} to one of: {list_choices(name, known)}"
    return Fault(number, message, remedy, option=option)


def _reader(lines: Lines, delimiter: str) -> Any:
    return csv.reader(iter(lines), delimiter=delimiter, strict=True)


def _header(reader: Iterator[list[str]]) -> list[str]:
    """Return the first row that is not blank."""
    return next((row for row in reader if "".join(row).strip()), [])


def _header_faults(header: list[str], fields: Fields, line: int) -> Iterator[Fault]:
    for name, count in Counter(header).items():
        if count > 1:
            yield Fault(line, f"{count} columns in the header are named {quote(name)}", "rename all but one of them")
    for name in (fields.input, fields.output):
        if header and name not in header:
            yield _missing(line, f"no column {quote(name)} in the header", name, header, fields)


def _rows(reader: Iterator[list[str]], lines: Lines, header: list[str], fields: Fields) -> Records:
    input_index, output_index, width = header.index(fields.input), header.index(fields.output), len(header)
    lines.start_record()
    previous = lines.number
    for row in reader:
        line, previous = previous + 1, lines.number
        lines.start_record()
        if len(row) == width:
            yield Row(line, row[input_index], row[output_index])
        elif row:
            message = f"expected {counted(width, 'field')} as in the header, found {len(row)}"
            yield Fault(line, message, "put fields that contain separators or line breaks in double quotes")


_Read = TypeVar("_Read")

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_LFS_FIELDS = re.compile(rb"%s\n(?:ext-.*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n" % re.escape(_LFS_POINTER))
_MAX_POINTER = 1024


class LfsPointer(Struct, frozen=True):
    """The SHA-256 and the size in bytes of a file that Git LFS stores (docs/spec.md of git-lfs)."""

    oid: str
    size: int


def read_pointer(file: Path) -> LfsPointer | None:
    """Return the Git LFS pointer that a file contains in place of its data; ``None`` for other files."""
    with file.open("rb") as binary:
        found = _LFS_FIELDS.match(binary.read(_MAX_POINTER))
    return LfsPointer(found[1].decode(), int(found[2])) if found else None


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
