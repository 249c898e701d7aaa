"""JSON Lines, and JSON arrays: on their own or as a member of an object."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, TextIO

from reconciler.domain.text import join_names, quote
from reconciler.manifests.datasets.records import (
    MAX_CHARACTERS,
    Fault,
    ReadOptions,
    Records,
    Row,
    UnreadableError,
    require_short,
)
from reconciler.manifests.datasets.shapes import read_object

_ONE_PER_LINE: Final = "write one JSON object on each line"
_EXACT_DIGITS: Final = 300
"""Whole numbers with more digits are parsed as floats, which may be infinite; no field needs them."""


class _DuplicateMemberError(ValueError):
    """An object has two members of the same name."""


class _NoArrayError(Exception):
    """The text is valid so far, but not an array of examples: the message, and the remedy."""

    def __init__(self, message: str, remedy: str, option: str) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.option = option


_INVALID: Final = (json.JSONDecodeError, _DuplicateMemberError, RecursionError)


def json_lines(text: TextIO, options: ReadOptions) -> Records:
    """Yield the examples of a text with one object on each line; blank lines do not count."""
    plain = not options.shape
    for number, line in _numbered(text):
        try:
            value = _decode(line)
        except _INVALID as error:
            if not line.isspace():
                yield Fault(number, f"invalid JSON: {_reason(error)}", _lines_remedy(line, number, options))
            continue
        if plain and type(value) is dict:  # as read_object does, without a call for each line
            given, wanted = value.get(options.input), value.get(options.output)
            if type(given) is str and type(wanted) is str:
                yield Row(number, given, wanted)
                continue
        if isinstance(value, list) and number == 1:
            remedy = f"set {options.declared}.format to json"
            yield Fault(1, "the file is a JSON array, not an object on each line", remedy, option="format")
            return
        yield read_object(number, value, options)


def _numbered(text: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their numbers; raises UnreadableError for one that is too long."""
    for number, line in enumerate(iter(partial(text.readline, MAX_CHARACTERS + 1), ""), 1):
        if len(line) > MAX_CHARACTERS:
            require_short(number, len(line), _ONE_PER_LINE)
        yield number, line


def json_array(text: TextIO, options: ReadOptions) -> Records:
    """Yield the examples of a text that is one array of objects; the text is read into memory."""
    whole = text.read()
    if not whole or whole.isspace():
        return
    try:
        for number, (_, value) in enumerate(_elements(whole, options), 1):
            yield read_object(number, value, options)
    except _NoArrayError as error:
        yield Fault(0, str(error), error.remedy, option=error.option)
    except _INVALID as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        message = f"invalid JSON array of objects: {_reason(error)}"
        yield Fault(0, message, "write [{…}, {…}], separated by commas", column, line=line)


def array_places(text: TextIO, options: ReadOptions) -> Iterator[tuple[int, int]]:
    """Yield the line and the column of each element of an array, up to the first that cannot be read."""
    whole = text.read()
    line, start, counted = 1, 0, 0
    try:
        for offset, _ in _elements(whole, options):
            line += whole.count("\n", counted, offset)
            start, counted = max(start, whole.rfind("\n", counted, offset) + 1), offset
            yield line, offset - start + 1
    except (*_INVALID, _NoArrayError):
        return


def array_slices(text: TextIO, options: ReadOptions) -> tuple[str, list[str], str]:
    """Return the texts of the elements of a valid array that has some, and the text before and after them."""
    whole = text.read()
    starts = [offset for offset, _ in _elements(whole, options)]
    slices = [whole[start : _DECODER.raw_decode(whole, start)[1]] for start in starts]
    return whole[: starts[0]], slices, whole[starts[-1] + len(slices[-1]) :]


def first_objects(text: TextIO, options: ReadOptions) -> Iterator[dict[str, Any]]:
    """Yield the objects of a text up to the first that cannot be read."""
    with suppress(*_INVALID, _NoArrayError, UnreadableError):
        for value in _line_values(text) if options.format == "jsonl" else _array_values(text, options):
            if not isinstance(value, dict):
                return
            yield value


def _line_values(text: TextIO) -> Iterator[Any]:
    return (_decode(line) for _, line in _numbered(text) if not line.isspace())


def _array_values(text: TextIO, options: ReadOptions) -> Iterator[Any]:
    return (value for _, value in _elements(text.read(), options))


def _decode(line: str) -> Any:
    """Return the value of a line; raises one of the errors in ``_INVALID``.

    The usual line is parsed without the detours of ``decode``, which also accepts space around the value.
    """
    with suppress(StopIteration):
        value, end = _SCAN(line, 0)
        if line[end:] in _LINE_ENDS:
            return value
    return _DECODER.decode(line.rstrip("\r\n"))


def _lines_remedy(line: str, number: int, options: ReadOptions) -> str:
    start = line.lstrip()
    if number == 1 and start.rstrip() in {"[", "{"}:
        return f"{_ONE_PER_LINE}, or set {options.declared}.format to json if the file is one array"
    return "write names and texts in double quotes, not in single quotes" if start.startswith("{'") else _ONE_PER_LINE


def _elements(text: str, options: ReadOptions) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array with their offsets, which ``json.loads`` does not return."""
    position = _skip_space(text, 0)
    if text.startswith("{", position):
        array, position = _find_member(text, position, options)
        yield from array
    elif text.startswith("[", position):
        position = yield from _array(text, position)
    else:
        raise json.JSONDecodeError("Expecting [", text, position)
    if (rest := _skip_space(text, position)) < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _array(text: str, position: int) -> Any:
    """Yield the elements of the array at a position with their offsets, and return its end."""
    position = _skip_space(text, position + 1)
    while not text.startswith("]", position):
        value, end = _DECODER.raw_decode(text, position)
        yield position, value
        position = _skip_space(text, end)
        if text.startswith(",", position):
            position = _skip_space(text, position + 1)
            if text.startswith("]", position):
                raise json.JSONDecodeError("Expecting value after the comma", text, position)
        elif not text.startswith("]", position):
            raise json.JSONDecodeError("Expecting , or ]", text, position)
    return position + 1


def _find_member(text: str, position: int, options: ReadOptions) -> tuple[list[tuple[int, Any]], int]:
    """Return the elements, with offsets, of the array in the member that ``options`` name, and the object's end."""
    value, end = _DECODER.raw_decode(text, position)
    if _skip_space(text, end) < len(text):
        remedy = f"set {options.declared}.format to jsonl if each line has an object"
        raise _NoArrayError("expected one JSON array, found several values", remedy, "format")
    if not isinstance(value.get(options.items), list):
        lists = [name for name, member in value.items() if isinstance(member, list)]
        if not lists:
            raise _NoArrayError("expected a JSON array, found an object without one", "write [{…}, {…}]", "path")
        remedy = f"set {options.declared}.items to one of: {join_names(lists)}"
        raise _NoArrayError("expected a JSON array, found an object", remedy, "items")
    position = _skip_space(text, position + 1)
    while True:
        name, after = _DECODER.raw_decode(text, position)
        position = _skip_space(text, _skip_space(text, after) + 1)
        if name == options.items:
            return list(_array(text, position)), end
        _, after = _DECODER.raw_decode(text, position)
        position = _skip_space(text, _skip_space(text, after) + 1)


def _skip_space(text: str, position: int) -> int:
    found = _NOT_SPACE.search(text, position)
    return found.start() if found else len(text)


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


_NOT_SPACE: Final = re.compile(r"[^ \t\n\r]")
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer)
_SCAN: Final[Callable[[str, int], tuple[Any, int]]] = vars(_DECODER)["scan_once"]
_LINE_ENDS: Final = frozenset({"", "\n", "\r\n"})
