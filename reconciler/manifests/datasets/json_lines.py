"""Data sets as JSON: an object on each line, or one array of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from reconciler.domain.text import shorten
from reconciler.manifests.datasets.csv import choose
from reconciler.manifests.datasets.records import ConversationRow, Fault, Fields, Item, Items, Lines, Row
from reconciler.manifests.schema_validation import shown

_ONE_EACH = "write one JSON object on each line"
_EXACT_DIGITS = 300
"""Whole numbers of more digits may be beyond the range of floats, which no field of ours needs."""


class _TwiceError(ValueError):
    """A member stands twice in one object."""


_BROKEN = (json.JSONDecodeError, _TwiceError, RecursionError)


def json_lines(text: TextIO, fields: Fields) -> Items:
    """The examples of a text with one object on each line."""
    lines = Lines(text, _ONE_EACH)
    for line in lines:
        lines.begin()
        if not line.isspace():
            try:
                yield _item(lines.number, _DECODER.decode(line.rstrip("\r\n")), fields)
            except _BROKEN as error:
                yield Fault(lines.number, f"is no JSON: {_reason(error)}", _ONE_EACH)


def json_array(text: TextIO, fields: Fields) -> Items:
    """The examples of a text that is one array of objects; it is read whole."""
    whole = text.read()
    if not whole or whole.isspace():
        return
    line, seen = 1, 0
    try:
        for offset, value in _elements(whole):
            line, seen = line + whole.count("\n", seen, offset), offset
            yield _item(line, value, fields)
    except _BROKEN as error:
        line = getattr(error, "lineno", line)
        remedy = "write [{…}, {…}]; a file with an object on each line is named .jsonl"
        yield Fault(line, f"is no JSON array of objects: {_reason(error)}", remedy)


def line_members(text: TextIO) -> Iterator[str]:
    """The members of the object on the first line; none where there is no telling."""
    return _members(_DECODER.decode(line) for line in Lines(text, _ONE_EACH) if not line.isspace())


def array_members(text: TextIO) -> Iterator[str]:
    """The members of the first object of an array; none where there is no telling."""
    return _members(value for _, value in _elements(text.read()))


def _members(values: Iterable[Any]) -> Iterator[str]:
    try:
        first = next(iter(values), None)
    except _BROKEN:
        return
    if isinstance(first, dict):
        yield from first


def _elements(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array with their offsets, which ``json.loads`` would not tell."""
    position = _skip(text, 0)
    if not text.startswith("[", position):
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


def _item(number: int, value: Any, fields: Fields) -> Item:
    if not isinstance(value, dict):
        return Fault(number, f"is {shown(value)}, where an object is expected", "write {…} with input and output")
    given, wanted = value.get(fields.input), value.get(fields.output)
    if isinstance(given, str) and isinstance(wanted, str):
        return Row(number, given, wanted)
    if "contents" in value and fields.input not in value:
        return ConversationRow(number, value)
    return _fault(number, value, fields)


def _fault(number: int, value: dict[str, Any], fields: Fields) -> Fault:
    for name in (fields.input, fields.output):
        if name not in value:
            return Fault(number, f'has no member "{shorten(name)}"', choose(name, list(value), fields))
    name = fields.output if isinstance(value[fields.input], str) else fields.input
    message = f'"{shorten(name)}" must be a text, is {shown(value[name])}'
    return Fault(number, message, "put it in double quotes")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) < len(members):
        twice = next(name for name, count in Counter(name for name, _ in members).items() if count > 1)
        raise _TwiceError(f'the member "{shorten(twice)}" stands twice in one object')
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


_NO_SPACE = re.compile(r"[^ \t\n\r]")
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer)
