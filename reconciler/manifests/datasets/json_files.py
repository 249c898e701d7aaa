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
    require_content,
    require_short,
)
from reconciler.manifests.datasets.shapes import read_object

_ONE_PER_LINE: Final = "write one JSON object on each line"
_SEPARATE: Final = "write [{…}, {…}], separated by commas"
_REMOVE_DUPLICATES: Final = "remove all but one of them"
_DOUBLE_QUOTES: Final = "write names and texts in double quotes, not in single quotes"
_BLOCK: Final = 2**17
"""The number of characters that are read at once."""
_LOOKAHEAD: Final = 16
"""More characters than decide whether a value ends: ``1e+`` or half of a surrogate pair may continue."""
_MAX_VALUE: Final = 2**26
"""The maximum length of a value in an array, in characters."""
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


class _TooLongError(ValueError):
    """A value is longer than ``_MAX_VALUE``."""


_INVALID: Final = (json.JSONDecodeError, _DuplicateMemberError, _TooLongError, RecursionError)


def json_lines(text: TextIO, options: ReadOptions) -> Records:
    """Yield the examples of a text with one object on each line; blank lines do not count."""
    plain = not options.shape
    for number, line in _numbered(text):
        try:
            value = _decode(line)
        except _INVALID as error:
            repeated = isinstance(error, _DuplicateMemberError)
            remedy = _REMOVE_DUPLICATES if repeated else _lines_remedy(line, number, options)
            yield Fault(number, f"invalid JSON: {_reason(error)}", remedy)
            continue
        if plain and type(value) is dict:  # as read_object does, without a call for each line
            given, wanted = value.get(options.input), value.get(options.output)
            if type(given) is str and type(wanted) is str:
                yield Row(number, given, wanted)
                continue
        if number == 1 and isinstance(value, list) and all(isinstance(element, dict) for element in value):
            remedy = f"set {options.declared}.format to json"
            yield Fault(1, "the file is a JSON array, not an object on each line", remedy, option="format")
            return
        yield read_object(number, value, options)


def _numbered(text: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not blank with their numbers.

    Raises UnreadableError for one that is too long, and for too many blank ones.
    """
    empty = 0
    for number, line in enumerate(iter(partial(text.readline, MAX_CHARACTERS + 1), ""), 1):
        if len(line) > MAX_CHARACTERS:
            require_short(number, len(line), _ONE_PER_LINE)
        if line.isspace():
            empty += 1
            require_content(number, empty)
            continue
        empty = 0
        yield number, line


def json_array(text: TextIO, options: ReadOptions) -> Records:
    """Yield the examples of a text that is one array of objects, or an object with one."""
    source = _JsonText(text)
    reading = 0
    try:
        for number, _ in enumerate(_elements(source, options), 1):
            reading = number
            try:
                value = source.value()
            except _DuplicateMemberError as error:
                yield Fault(number, f"invalid JSON: {error}", _REMOVE_DUPLICATES)
            else:
                yield read_object(number, value, options)
            reading = 0
    except _NoArrayError as error:
        yield Fault(0, str(error), error.remedy, option=error.option)
    except _INVALID as error:
        line, column = source.place(error)
        where = f"example {reading:,}, column {column:,}" if reading else f"column {column:,}"
        message = f"invalid JSON array of objects: {_message(error)} ({where})"
        remedy = _REMOVE_DUPLICATES if isinstance(error, _DuplicateMemberError) else _SEPARATE
        if isinstance(error, json.JSONDecodeError) and error.doc.startswith("'", error.pos):
            remedy = _DOUBLE_QUOTES
        yield Fault(0, message, remedy, column, line=line)


def array_places(text: TextIO, options: ReadOptions) -> Iterator[tuple[int, int]]:
    """Yield the line and the column of each element of an array, up to the first that cannot be read."""
    source = _JsonText(text)
    with suppress(*_INVALID, _NoArrayError):
        for _ in _elements(source, options):
            yield source.place()
            with suppress(_DuplicateMemberError):
                source.value()


def first_array(text: TextIO) -> str:
    """Return the name of the first member of an object that has an array of objects, or else an empty one."""
    source = _JsonText(text)
    empty = ""
    with suppress(*_INVALID, UnreadableError, UnicodeError):
        for name in source.members() if source.peek() == "{" else ():
            if source.peek() != "[":
                source.value()
                continue
            is_empty = True
            for _ in source.elements():
                is_empty = False
                if isinstance(source.value(), dict):
                    return name
            empty = empty or (name if is_empty else "")
    return empty


def array_spans(text: TextIO, options: ReadOptions) -> Iterator[tuple[int, int]]:
    """Yield where each element of a valid array starts and ends, in characters from the start of the text."""
    source = _JsonText(text)
    for _ in _elements(source, options):
        start = source.offset
        source.value()
        yield start, source.offset


def first_objects(text: TextIO, options: ReadOptions) -> Iterator[dict[str, Any]]:
    """Yield the objects of a text up to the first that cannot be read."""
    with suppress(*_INVALID, _NoArrayError, UnreadableError):
        for value in _line_values(text) if options.format == "jsonl" else _array_values(text, options):
            if not isinstance(value, dict):
                return
            yield value


def _line_values(text: TextIO) -> Iterator[Any]:
    return (_decode(line) for _, line in _numbered(text))


def _array_values(text: TextIO, options: ReadOptions) -> Iterator[Any]:
    source = _JsonText(text)
    return (source.value() for _ in _elements(source, options))


def _decode(line: str) -> Any:
    """Return the value of a line; raises one of the errors in ``_INVALID``.

    The usual line is parsed without the detours of ``decode``, which also accepts space around the value.
    """
    try:
        value, end = _SCAN(line, 0)
    except StopIteration:
        pass
    else:
        if line[end:] in _LINE_ENDS:
            return value
    return _DECODER.decode(line.rstrip("\r\n"))


def _lines_remedy(line: str, number: int, options: ReadOptions) -> str:
    start = line.lstrip()
    if number == 1 and start.rstrip() in {"[", "{"}:
        return f"{_ONE_PER_LINE}, or set {options.declared}.format to json if the file is one array"
    return _DOUBLE_QUOTES if start.startswith("{'") else _ONE_PER_LINE


class _JsonText:
    """JSON values of a text that is read as they are; what was read before the current value is dropped."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._window = ""
        self._position = self._dropped = 0
        self._ended = False
        self._line, self._line_start, self._counted = 1, 0, 0
        self._repeated: str | None = None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_int=_integer)

    @property
    def offset(self) -> int:
        """The position in the text, in characters."""
        return self._dropped + self._position

    def peek(self) -> str:
        """Move to the next character that is not whitespace, and return it; empty at the end of the text."""
        while True:
            if found := _NOT_SPACE.search(self._window, self._position):
                self._position = found.start()
                return found[0]
            self._position = len(self._window)
            if self._ended:
                return ""
            self._read_on()

    def skip(self, expected: str, message: str) -> None:
        """Move behind an expected character."""
        if self.peek() != expected:
            raise self.error(message)
        self._position += 1

    def value(self) -> Any:
        """Return the value at the position, and move behind it.

        Raises:
            _DuplicateMemberError: an object in it has two members of one name; the position is behind the value.
            JSONDecodeError: it is invalid.
        """
        while True:
            self._repeated = None
            try:
                value, end = self._decoder.raw_decode(self._window, self._position)
            except json.JSONDecodeError as error:
                if self._ended or not self._is_cut(error):
                    raise
            else:
                if self._ended or end < len(self._window) - _LOOKAHEAD:
                    self._position = end
                    if self._repeated is not None:
                        raise _DuplicateMemberError(f"duplicate member {quote(self._repeated)}")
                    return value
            self._read_on()

    def elements(self) -> Iterator[None]:
        """Move to each element of the array at the position, and behind the array; the consumer reads the values."""
        self._position += 1
        if self.peek() == "]":
            self._position += 1
            return
        while True:
            yield
            following = self.peek()
            if following not in {",", "]"}:
                raise self.error("Expecting , or ]")
            self._position += 1
            if following == "]":
                return
            if self.peek() == "]":
                raise self.error("Expecting value after the comma")

    def members(self) -> Iterator[str]:
        """Yield the names of the members of the object at the position, and move behind it.

        The consumer reads the values.
        """
        self._position += 1
        names: set[str] = set()
        if self.peek() == "}":
            self._position += 1
            return
        while True:
            if self.peek() != '"':
                raise self.error("Expecting property name enclosed in double quotes")
            name = self.value()
            if name in names:
                raise _DuplicateMemberError(f"duplicate member {quote(name)}")
            names.add(name)
            self.skip(":", "Expecting ':' delimiter")
            self.peek()
            yield name
            if self.peek() == "}":
                self._position += 1
                return
            self.skip(",", "Expecting ',' delimiter")

    def error(self, message: str) -> json.JSONDecodeError:
        """Return the error of what is at the position."""
        return json.JSONDecodeError(message, self._window, self._position)

    def place(self, error: Exception | None = None) -> tuple[int, int]:
        """Return the line and the column of an error that was just raised, or of the position."""
        position = getattr(error, "pos", self._position)
        self._line += self._window.count("\n", self._counted, position)
        if (line_break := self._window.rfind("\n", self._counted, position)) >= 0:
            self._line_start = line_break + 1
        self._counted = position
        return self._line, position - self._line_start + 1

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Return whether a value is invalid because its rest has not been read."""
        return error.pos >= len(self._window) - _LOOKAHEAD or error.msg.startswith("Unterminated string")

    def _read_on(self) -> None:
        """Read at least as much as there is of the value, so that it is parsed in linear time."""
        kept = len(self._window) - self._position
        if kept > _MAX_VALUE:
            raise _TooLongError(f"the value exceeds the limit of {_MAX_VALUE:,} characters")
        self.place()
        self._line_start -= self._position
        self._dropped += self._position
        block = self._text.read(max(_BLOCK, kept))
        self._ended = not block
        self._window = self._window[self._position :] + block
        self._position = self._counted = 0

    def _object(self, members: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(members)
        if len(value) < len(members):
            self._repeated = _repeated(members)
        return value


def _elements(source: _JsonText, options: ReadOptions) -> Iterator[None]:
    """Move to each element of the array of examples; the consumer reads the values."""
    opening = source.peek()
    if opening == "{":
        yield from _member(source, options)
    elif opening == "[":
        yield from source.elements()
    elif opening:
        raise source.error("Expecting [")
    if source.peek():
        raise source.error("Extra data")


def _member(source: _JsonText, options: ReadOptions) -> Iterator[None]:
    """Move to each element of the array in the member that ``options`` name; the others must be valid."""
    lists = []
    found = False
    for name in source.members():
        if source.peek() != "[":
            source.value()
        elif name == options.items:
            found = True
            yield from source.elements()
        else:
            lists.append(name)
            for _ in source.elements():
                source.value()
    if source.peek():
        remedy = f"write [{{…}}, {{…}}], or set {options.declared}.format to jsonl if each line has an object"
        raise _NoArrayError("expected one JSON array, found several values", remedy, "format")
    if found:
        return
    if not lists:
        raise _NoArrayError("expected a JSON array, found an object without one", "write [{…}, {…}]", "path")
    remedy = f"set {options.declared}.items to one of: {join_names(lists)}"
    raise _NoArrayError("expected a JSON array, found an object", remedy, "items")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) < len(members):
        raise _DuplicateMemberError(f"duplicate member {quote(_repeated(members))}")
    return value


def _repeated(members: list[tuple[str, Any]]) -> str:
    return next(name for name, count in Counter(name for name, _ in members).items() if count > 1)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


def _reason(error: Exception) -> str:
    return f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else _message(error)


def _message(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


_NOT_SPACE: Final = re.compile(r"[^ \t\n\r]")
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer)
_SCAN: Final[Callable[[str, int], tuple[Any, int]]] = vars(_DECODER)["scan_once"]
_LINE_ENDS: Final = frozenset({"", "\n", "\r\n"})
