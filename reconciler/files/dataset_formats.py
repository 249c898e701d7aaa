"""The formats of data sets: text to rows of input and output, each with the line it begins in."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from reconciler.files.explain import choices, counted, shown
from reconciler.files.shorten import shortened


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the columns, or members, that hold the inputs and the outputs."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Row:
    """One example as it stands in the file."""

    line: int
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line, and what to do."""

    line: int
    message: str
    remedy: str


# The library's own limit of 131,072 characters a field would be told as a broken quote; the service's limit is ours.
csv.field_size_limit(2**31 - 1)

Items = Iterator[Row | Fault]
Reader = Callable[[str, Fields], Items]


def _separated(text: str, fields: Fields, delimiter: str) -> Items:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        faults = list(_header_faults(header, fields))
        yield from faults
        if not faults:
            yield from _separated_rows(reader, header, fields)
    except csv.Error:
        message = "a quote is not closed, or something follows one that is"
        yield Fault(reader.line_num, message, 'close every quote, and double each " inside quotes')


def _header_faults(header: list[str], fields: Fields) -> Iterator[Fault]:
    for name, count in Counter(header).items():
        if count > 1:
            yield Fault(1, f'the header has {count} columns "{shortened(name)}"', "rename all but one of them")
    for name in (fields.input, fields.output):
        if header and name not in header:
            yield Fault(1, f'the header has no column "{shortened(name)}"', _choose(name, header, fields))


def _choose(name: str, there: list[str], fields: Fields) -> str:
    setting = "inputField" if name == fields.input else "outputField"
    return f"set spec.dataset.{setting} to one that is there: {choices(name, there)}"


def _separated_rows(reader: Any, header: list[str], fields: Fields) -> Items:
    columns = header.index(fields.input), header.index(fields.output)
    before = reader.line_num
    for row in reader:
        line, before = before + 1, reader.line_num
        if row and len(row) != len(header):
            message = f"has {counted(len(row), 'field')}, where the header has {len(header)}"
            yield Fault(line, message, "put fields that hold separators or line breaks in double quotes")
        elif row:
            yield Row(line, row[columns[0]], row[columns[1]])


def field_names(text: str, suffix: str) -> tuple[str, ...]:
    """The columns of a data set, or the members of its first object; empty when that cannot be told."""
    try:
        return tuple(_NAMES[suffix](text))
    except (ValueError, RecursionError, csv.Error):
        return ()


def _column_names(text: str, delimiter: str) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])


def _member_names(values: Iterator[Any]) -> list[str]:
    first = next(values, None)
    return list(first) if isinstance(first, dict) else []


def _json_lines(text: str, fields: Fields) -> Items:
    for line, raw in enumerate(text.split("\n"), start=1):
        if raw.strip():
            try:
                yield _row(line, _DECODER.decode(raw), fields)
            except (ValueError, RecursionError) as error:
                yield Fault(line, f"is no JSON: {_reason(error)}", "write one JSON object on each line")


def _json_array(text: str, fields: Fields) -> Items:
    line, seen = 1, 0
    try:
        for offset, value in _elements(text):
            line, seen = line + text.count("\n", seen, offset), offset
            yield _row(line, value, fields)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", line)
        remedy = "write [{…}, {…}]; a file with an object on each line is named .jsonl"
        yield Fault(line, f"is no JSON array of objects: {_reason(error)}", remedy)


def _elements(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array with their offsets, which ``json.loads`` would not tell."""
    position = _skip(text, 0)
    if text[position] != "[":
        raise json.JSONDecodeError("Expecting [", text, position)
    position = _skip(text, position + 1)
    while not text.startswith("]", position):
        value, end = _DECODER.raw_decode(text, position)
        yield position, value
        position = _skip(text, end)
        if text.startswith(",", position):
            position = _skip(text, position + 1)
        elif not text.startswith("]", position):
            raise json.JSONDecodeError("Expecting , or ]", text, position)
    if (rest := _skip(text, position + 1)) < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _skip(text: str, position: int) -> int:
    found = _NO_SPACE.search(text, position)
    return found.start() if found else len(text)


def _row(line: int, value: Any, fields: Fields) -> Row | Fault:
    if not isinstance(value, dict):
        return Fault(line, f"is {shown(value)}, where an object is expected", "write {…} with input and output")
    for name in (fields.input, fields.output):
        if name not in value:
            return Fault(line, f'has no member "{shortened(name)}"', _choose(name, list(value), fields))
        if not isinstance(value[name], str):
            return Fault(
                line, f'"{shortened(name)}" must be a text, is {shown(value[name])}', "put it in double quotes"
            )
    return Row(line, value[fields.input], value[fields.output])


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) < len(members):
        twice = next(name for name, count in Counter(name for name, _ in members).items() if count > 1)
        raise ValueError(f'the member "{shortened(twice)}" stands twice in one object')
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


_NO_SPACE = re.compile(r"[^ \t\n\r]")
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=float)  # int refuses very long numbers, float none
FORMATS: Mapping[str, Reader] = {
    ".csv": partial(_separated, delimiter=","),
    ".tsv": partial(_separated, delimiter="\t"),
    ".jsonl": _json_lines,
    ".json": _json_array,
}
"""How to read a file, by its suffix. A text that is empty or blank is none of their business."""
_NAMES: Mapping[str, Callable[[str], list[str]]] = {
    ".csv": partial(_column_names, delimiter=","),
    ".tsv": partial(_column_names, delimiter="\t"),
    ".jsonl": lambda text: _member_names(_DECODER.decode(line) for line in text.split("\n") if line.strip()),
    ".json": lambda text: _member_names(value for _, value in _elements(text)),
}
