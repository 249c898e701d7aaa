"""Tables in text files: comma-separated values and other delimiters, with a header."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, TextIO

from reconciler.domain.text import counted, quote
from reconciler.manifests.datasets.records import (
    Fault,
    Lines,
    ReadOptions,
    Records,
    Row,
    UnreadableError,
    require_content,
)
from reconciler.manifests.datasets.shapes import missing_field, read_shape

# The library reports its own limit of 131,072 characters in a field as a broken quote; records.Lines has the real one.
csv.field_size_limit(2**31 - 1)

_CLOSE: Final = 'close every quote, and double each " inside quotes'
_QUOTE: Final = "put fields that contain separators or line breaks in double quotes"
_DELIMITER_LINE: Final = re.compile(r"\ufeff?sep=([^\"\r])\r?\n?")
"""A first line that Excel writes and reads."""
_QUOTED_FIELD: Final = re.compile(r'"[^"]*(?:""[^"]*)*"(?!")')
_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")
_SUSPICIOUS_LINES: Final = 50
"""From so many lines on, an example has probably lost a closing quote."""
_OTHER_DELIMITERS: Final = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


_Rows = Iterator[tuple[int, list[str]] | Fault]
"""Rows with the lines on which they start."""


class _DelimiterError(Exception):
    """The first line declares another delimiter than the manifest."""


def separated_values(text: TextIO, options: ReadOptions, delimiter: str) -> Records:
    """Yield the rows of a text with a header; quotes are as in RFC 4180."""
    lines = Lines(text, _CLOSE)
    try:
        reader = _reader(lines, options, delimiter)
    except _DelimiterError as error:
        yield Fault(1, str(error), f"set {options.declared}.delimiter to it, or delete this line", option="delimiter")
        return
    try:
        header, rows = _table(reader, lines, options)
        faults = list(_header_faults(header, options, reader.dialect.delimiter, reader.line_num))
        yield from faults
        if header and not faults:
            yield from _shaped(rows, header, options) if options.shape else _columns(rows, header, options)
    except csv.Error as error:
        if "end of data" in str(error):
            number, column = _open_quote(lines)
            yield Fault(number, "this quote is not closed", _CLOSE, column)
        else:
            yield _text_after_quote(lines, reader.line_num, reader.dialect.delimiter)


def first_rows(text: TextIO, options: ReadOptions, delimiter: str) -> tuple[list[str], Iterator[dict[str, str]]]:
    """Return the names of the columns, and the rows by these names, up to one that cannot be read."""
    lines = Lines(text, _CLOSE)
    with suppress(csv.Error, _DelimiterError, UnreadableError, UnicodeError):
        header, rows = _table(_reader(lines, options, delimiter), lines, options)
        return header, _named(rows, header)
    return [], iter(())


def _named(rows: _Rows, header: list[str]) -> Iterator[dict[str, str]]:
    with suppress(csv.Error, UnreadableError, UnicodeError):
        for row in rows:
            if not isinstance(row, Fault):
                yield dict(zip(header, row[1], strict=True))


def _reader(lines: Lines, options: ReadOptions, delimiter: str) -> Any:
    source = iter(lines)
    first = next(source, "")
    declared = _DELIMITER_LINE.fullmatch(first)
    if declared and options.delimiter not in {"", declared[1]}:
        raise _DelimiterError(f"the first line declares the delimiter {quote(declared[1])}")
    given = declared[1] if declared else options.delimiter or delimiter
    reader = csv.reader(chain([first], source), delimiter=given, strict=True)
    if declared:
        next(reader)
    return reader


def _table(reader: Any, lines: Lines, options: ReadOptions) -> tuple[list[str], _Rows]:
    """Return the names of the columns, and the rows: a header is the first row that is not blank."""
    first = []
    for row in reader:
        if "".join(row).strip():
            first = row
            break
        require_content(reader.line_num, reader.line_num)
        lines.end_record(reader.line_num)
    if options.header:
        lines.end_record(reader.line_num)
        return [name.strip() for name in first], _rows(reader, reader, lines, len(first))
    names = [str(number) for number in range(1, len(first) + 1)]
    return names, _rows(chain([first] if first else [], reader), reader, lines, len(first))


def _header_faults(header: Sequence[str], options: ReadOptions, delimiter: str, line: int) -> Iterator[Fault]:
    if not header or options.shape:
        return
    used, counts = (options.input, options.output), Counter(header)
    for name in used:
        if counts[name] > 1:
            message = f"{counts[name]} columns in the header are named {quote(name)}"
            yield Fault(line, message, "rename all but one of them")
    absent = [name for name in used if name not in counts]
    other = next((mark for mark in _OTHER_DELIMITERS if mark != delimiter and mark in header[0]), "")
    if absent and len(header) == 1 and other:
        message = f"the header has one column, and {_OTHER_DELIMITERS[other]} in it"
        yield Fault(line, message, f"set {options.declared}.delimiter to {json.dumps(other)}", option="delimiter")
        return
    for name in absent:
        yield missing_field(line, f"no column {quote(name)} in the header", name, header, options)


def _columns(rows: _Rows, header: list[str], options: ReadOptions) -> Records:
    input_index, output_index = header.index(options.input), header.index(options.output)
    for row in rows:
        if isinstance(row, Fault):
            yield row
        else:
            number, cells = row
            yield Row(number, cells[input_index], cells[output_index])


def _shaped(rows: _Rows, header: list[str], options: ReadOptions) -> Records:
    for row in rows:
        if isinstance(row, Fault):
            yield row
        else:
            number, cells = row
            yield read_shape(number, dict(zip(header, cells, strict=False)), options)


def _rows(rows: Iterable[list[str]], reader: Any, lines: Lines, width: int) -> _Rows:
    """Yield the rows below the header with the lines on which they start; blank ones are skipped."""
    empty = 0
    for row in rows:
        line, last = lines.first, reader.line_num
        lines.end_record(last)
        if last - line >= _SUSPICIOUS_LINES:
            message = f"this example has {last - line + 1} lines"
            yield Fault(line, message, "if that is a mistake, close the quote in it", severity="warning")
        if not any(row):
            empty += 1
            require_content(line, empty)
            continue
        empty = 0
        if len(row) > width and not any(row[width:]):
            del row[width:]
        if len(row) == width:
            yield line, row
        else:
            message = f"expected {counted(width, 'field')} as in the header, found {len(row)}"
            has_spaces = any(cell.startswith(' "') for cell in row)
            remedy = "remove the spaces between separators and quotes" if has_spaces else _QUOTE
            yield Fault(line, message, remedy)


def _open_quote(lines: Lines) -> tuple[int, int]:
    """Return the line and the column of the quote that is open at the end of the text."""
    record = "".join(lines.record)
    opening, inside = 0, False
    for found in re.finditer('"', record):
        inside = not inside
        if inside and record[found.start() - 1 : found.start()] != '"':
            opening = found.start()
    before = record[:opening]
    return lines.first + before.count("\n"), opening - before.rfind("\n")


def _text_after_quote(lines: Lines, last: int, delimiter: str) -> Fault:
    """Return the fault of text after a closing quote on the line ``last``; it names where the field opens."""
    record = "".join(lines.record)
    end = re.compile(rf"[^{re.escape(delimiter)}\r\n]*")
    position = 0
    while position < len(record):
        if found := _QUOTED_FIELD.match(record, position):
            closed = end.match(record, found.end())
            if closed and closed[0]:
                number = lines.first + _line_breaks(record[:position])
                if record[: found.end()].endswith('\\"'):
                    remedy = 'write "" in place of \\" inside quotes'
                    return Fault(number, "a quote is escaped with a backslash", remedy)
                if number == last:
                    break
                column = position - max(record.rfind("\n", 0, position), record.rfind("\r", 0, position))
                return Fault(number, f"this quote ends on line {last:,}, with text after it", _CLOSE, column)
            position = found.end() + 1
        elif found := end.match(record, position):
            position = found.end() + 1
    return Fault(last, "text after a closing quote", _CLOSE)


def _line_breaks(text: str) -> int:
    return len(_LINE_BREAK.findall(text))
