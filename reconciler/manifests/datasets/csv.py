"""Data sets as comma-separated or tab-separated values."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

from reconciler.manifests.datasets.records import Fault, Fields, Lines, Records, Row
from reconciler.manifests.messages import counted, list_choices, quote

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


def field_remedy(name: str, known: list[str], fields: Fields) -> str:
    """Return the remedy for a missing field: set the option that names it to one of the known fields."""
    option = "inputField" if name == fields.input else "outputField"
    return f"set {fields.declared}.{option} to one of: {list_choices(name, known)}"


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
            yield Fault(line, f"no column {quote(name)} in the header", field_remedy(name, header, fields))


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
