"""Data sets as comma- or tab-separated values."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

from reconciler.domain.text import shorten
from reconciler.manifests.datasets.records import Fault, Fields, Items, Lines, Row
from reconciler.manifests.schema_validation import choices, counted

# The library's own limit of 131,072 characters a field would be told as a broken quote; the service's limit is ours.
csv.field_size_limit(2**31 - 1)

_CLOSE = 'close every quote, and double each " inside quotes'


def separated(text: TextIO, fields: Fields, delimiter: str) -> Items:
    """The rows of a text with a header; quotes as in RFC 4180."""
    lines = Lines(text, _CLOSE)
    reader = _reader(lines, delimiter)
    try:
        header = _header(reader)
        faults = list(_header_faults(header, fields, lines.number))
        yield from faults
        if header and not faults:
            yield from _rows(reader, lines, header, fields)
    except csv.Error:
        yield Fault(lines.number, "a quote is not closed, or something follows one that is", _CLOSE)


def column_names(text: TextIO, delimiter: str) -> Iterator[str]:
    """The names in the header; none where there is no telling."""
    try:
        yield from _header(_reader(Lines(text, _CLOSE), delimiter))
    except csv.Error:
        return


def choose(name: str, there: list[str], fields: Fields) -> str:
    """The remedy for a field that is not there: those that are."""
    setting = "inputField" if name == fields.input else "outputField"
    return f"set {fields.declared}.{setting} to one that is there: {choices(name, there)}"


def _reader(lines: Lines, delimiter: str) -> Any:
    return csv.reader(iter(lines), delimiter=delimiter, strict=True)


def _header(reader: Iterator[list[str]]) -> list[str]:
    """The first row that is not blank."""
    return next((row for row in reader if "".join(row).strip()), [])


def _header_faults(header: list[str], fields: Fields, line: int) -> Iterator[Fault]:
    for name, count in Counter(header).items():
        if count > 1:
            yield Fault(line, f'the header has {count} columns "{shorten(name)}"', "rename all but one of them")
    for name in (fields.input, fields.output):
        if header and name not in header:
            yield Fault(line, f'the header has no column "{shorten(name)}"', choose(name, header, fields))


def _rows(reader: Iterator[list[str]], lines: Lines, header: list[str], fields: Fields) -> Items:
    given, wanted, width = header.index(fields.input), header.index(fields.output), len(header)
    lines.begin()
    before = lines.number
    for row in reader:
        line, before = before + 1, lines.number
        lines.begin()
        if len(row) == width:
            yield Row(line, row[given], row[wanted])
        elif row:
            message = f"has {counted(len(row), 'field')}, where the header has {width}"
            yield Fault(line, message, "put fields that hold separators or line breaks in double quotes")
