"""Data sets as JSON: one object on each line, or one array of objects."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from reconciler.manifests.datasets.csv import field_remedy
from reconciler.manifests.datasets.records import ConversationRow, Fault, Fields, Lines, Record, Records, Row
from reconciler.manifests.messages import invalid, quote

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
            return Fault(number, f"missing member {quote(name)}", field_remedy(name, list(value), fields))
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
