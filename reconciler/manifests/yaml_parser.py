"""YAML with the place of everything in it, and with messages of our own for everything that can be wrong with it.

Documents are built from the parser's events with a stack of our own: the composers of PyYAML recurse, in C until the
process dies, and know no duplicate keys. Merge keys (``<<``) are refused: they are no part of YAML 1.2, and aliases of
whole values do without them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import yaml

from reconciler.domain.errors import Place, Problem
from reconciler.domain.text import shorten

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_NUMBER_STARTS = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def plain(text: str) -> Scalar:
    """The value of an unquoted scalar: null, a boolean, a number or the text itself.

    Raises ValueError for an integer beyond the range of floats, which no field of ours needs.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    return _number(text)


def _number(text: str) -> Scalar:
    if _INTEGER.fullmatch(text):
        return _integer(text, 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _OTHER_BASE.fullmatch(text):
        return _integer(text, 0)
    return text


def _integer(text: str, base: int) -> int:
    value = int(text, base)
    if abs(value) > sys.float_info.max:
        raise ValueError("the integer is too large")
    return value


MAX_DEPTH = 64
"""Collections inside one another, through aliases too; a manifest needs eight."""
MAX_EXPANDED = 20_000
"""Values that the aliases of one document may stand for in all."""

FieldPath = Sequence[str | int]

_Parser: Any = yaml.CLoader if yaml.__with_libyaml__ else yaml.Loader
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STRING_TAGS = frozenset({None, "!", "tag:yaml.org,2002:str"})
_DROPPED = object()
"""Stands in for a key that was refused: its value is read and forgotten."""


class Mark(Protocol):
    """Where the parser saw something, counted from 0."""

    line: int
    column: int


@dataclass(slots=True)
class Spot:
    """Where a value stands, where its key stands if it has one, and the spots of what is in it."""

    mark: Mark
    key: Mark | None = None
    children: dict[Any, Spot] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its value, in which every mapping has string keys, and where all of it stands."""

    file: str
    value: Any
    spot: Spot

    def place(self, path: FieldPath, *, key: bool = False) -> Place:
        """Where the value at ``path`` stands, or its key; what is not there stands where its nearest parent does."""
        spot = self.spot
        for step in path:
            if step not in spot.children:
                return _place(self.file, spot.key or spot.mark)
            spot = spot.children[step]
        return _place(self.file, spot.key if key and spot.key else spot.mark)

    def child(self, path: FieldPath) -> Document:
        """The value at ``path`` as a document of its own."""
        value, spot = self.value, self.spot
        for step in path:
            value, spot = value[step], spot.children[step]
        return Document(self.file, value, spot)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The documents of a file that could be read, and what is wrong with it."""

    file: str
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


def dotted(path: FieldPath) -> str:
    """The path as people write it: ``spec.checks[0].name``; long names are cut."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" for step in path)
    return text.removeprefix(".")


def parse(data: bytes, file: str) -> Parsed:
    """Read every document of a YAML file; ``file`` is its name in places. Empty documents are left out."""
    text = _decode(data, file)
    if isinstance(text, Problem):
        return Parsed(file, (), (text,))
    reader = _Reader(file)
    try:
        for event in _events(text):
            reader.take(event)
    except _StopReadingError as stop:
        reader.problems.append(stop.problem)
    except yaml.MarkedYAMLError as error:
        reader.problems.append(translate(error, file, text))
    return Parsed(file, tuple(reader.documents), tuple(reader.problems))


def _decode(data: bytes, file: str) -> str | Problem:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = position(data[: error.start].decode("utf-8-sig", "replace"))
        return Problem(Place(file, line, column), "", "is not UTF-8 text", "save the file as UTF-8")
    found = _UNPRINTABLE.search(text)
    if found:
        line, column = position(text[: found.start()])
        message = f"holds the unprintable character U+{ord(found[0]):04X}"
        return Problem(Place(file, line, column), "", message, "delete it, or write it as an escape in double quotes")
    return text


def position(before: str) -> tuple[int, int]:
    """Line and column, from 1, of what follows this text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _place(file: str, mark: Mark) -> Place:
    return Place(file, mark.line + 1, mark.column + 1)


def _events(text: str) -> Iterator[yaml.Event]:
    parser = _Parser(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    finally:
        parser.dispose()


class _StopReadingError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(slots=True)
class _Node:
    """A value; ``size`` counts the values in it, itself too, and ``depth`` the collections, with aliases expanded."""

    value: Any
    spot: Spot
    size: int = 1
    depth: int = 0


@dataclass(slots=True)
class _Frame:
    """A collection that is being read."""

    node: _Node
    anchor: str | None
    key: Any = None
    key_mark: Mark | None = None


@dataclass(slots=True)
class _Reader:
    file: str
    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, _Node] = field(default_factory=dict)
    expanded: int = 0

    def take(self, event: Any) -> None:
        handler = _HANDLERS.get(type(event))
        if handler:
            handler(self, event)

    def document(self, _event: Any) -> None:
        self.anchors.clear()
        self.expanded = 0

    def scalar(self, event: Any) -> None:
        value: Any = event.value
        if event.implicit[0] and event.tag != "!":
            value = self._plain(event)
        elif event.tag not in _STRING_TAGS:
            value = self._plain(event)
            self._refuse_tag(event)
        elif not value.isascii():
            self._check_text(event)
        if event.anchor:
            self.anchors[event.anchor] = _Node(value, Spot(event.start_mark))
        self._add(_Node(value, Spot(event.start_mark)), event)

    def mapping(self, event: Any) -> None:
        self._open({}, event)

    def sequence(self, event: Any) -> None:
        self._open([], event)

    def end(self, event: Any) -> None:
        frame = self.stack.pop()
        if frame.anchor:
            self.anchors[frame.anchor] = frame.node
        self._add(frame.node, event)

    def alias(self, event: Any) -> None:
        name = event.anchor
        if name not in self.anchors:
            inside = any(frame.anchor == name for frame in self.stack)
            short = shorten(name)
            message = f"the alias *{short} is inside its own anchor" if inside else f"the anchor &{short} is unknown"
            raise self._stop(event, message, f"write the value out, or put &{short} before an earlier value")
        node = self.anchors[name]
        self._require_flat(node.depth, event)
        self.expanded += node.size
        if self.expanded > MAX_EXPANDED:
            raise self._stop(
                event,
                f"the aliases of this document stand for more than {MAX_EXPANDED:,} values",
                "write the values out, or use fewer aliases",
            )
        self._add(replace(node, spot=Spot(event.start_mark, children=node.spot.children)), event)

    def _open(self, value: Any, event: Any) -> None:
        if not event.implicit and event.tag != "!":
            self._refuse_tag(event)
        self._require_flat(1, event)
        self.stack.append(_Frame(_Node(value, Spot(event.start_mark), depth=1), event.anchor))

    def _require_flat(self, depth: int, event: Any) -> None:
        if len(self.stack) + depth > MAX_DEPTH:
            raise self._stop(event, f"is nested more than {MAX_DEPTH} levels deep", "write flatter YAML")

    def _add(self, node: _Node, event: Any) -> None:
        value, spot = node.value, node.spot
        if not self.stack:
            if value is not None:
                self.documents.append(Document(self.file, value, spot))
            return
        frame = self.stack[-1]
        outer = frame.node
        outer.size += node.size
        outer.depth = max(outer.depth, node.depth + 1)
        if isinstance(outer.value, list):
            outer.spot.children[len(outer.value)] = spot
            outer.value.append(value)
        elif frame.key is None:
            frame.key = self._key(value, outer, spot.mark, event)
            frame.key_mark = spot.mark
        else:
            if frame.key is not _DROPPED:
                outer.value[frame.key] = value
                spot.key = frame.key_mark
                outer.spot.children[frame.key] = spot
            frame.key = None

    def _key(self, value: Any, mapping: _Node, mark: Mark, event: Any) -> Any:
        if not isinstance(value, str):
            self._report(mark, f"{_key_named(value)} is no text", "put it in quotes")
        elif value == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
            self._report(mark, "merge keys are no part of YAML 1.2", "write the fields out, or use an alias as a value")
        elif value in mapping.value:
            first = mapping.spot.children[value].key
            line = first.line + 1 if first else mark.line
            self._report(
                mark, f"the key {shorten(value)} stands here twice, first in line {line}", "keep one of them", value
            )
        else:
            return value
        return _DROPPED

    def _plain(self, event: Any) -> Any:
        try:
            return plain(event.value)
        except ValueError:
            self._report(event.start_mark, "the number has too many digits", "write a number of a sensible size")
            return event.value

    def _check_text(self, event: Any) -> None:
        try:
            event.value.encode()
        except UnicodeEncodeError:
            message, remedy = "the text holds half of a surrogate pair", "write the whole character in place of \\ud…"
            raise self._stop(event, message, remedy) from None

    def _refuse_tag(self, event: Any) -> None:
        tag = shorten(event.tag.replace("tag:yaml.org,2002:", "!!"))
        self._report(event.start_mark, f"the tag {tag} is not supported", "delete it; quotes make a text of a value")

    def _stop(self, event: Any, message: str, remedy: str) -> _StopReadingError:
        self._report(event.start_mark, message, remedy)
        return _StopReadingError(self.problems.pop())

    def _report(self, mark: Mark, message: str, remedy: str, *last: str) -> None:
        path = [*self._path(), *last]
        self.problems.append(Problem(_place(self.file, mark), dotted(path), message, remedy))

    def _path(self) -> Iterator[str | int]:
        for frame in self.stack:
            value = frame.node.value
            step = len(value) if isinstance(value, list) else frame.key
            if isinstance(step, str | int):
                yield step


def _key_named(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a collection as a key"
    return "an empty key" if value is None else f"the key {shorten(str(value)).lower()}"


_HANDLERS: dict[type, Callable[[_Reader, Any], None]] = {
    yaml.DocumentStartEvent: _Reader.document,
    yaml.ScalarEvent: _Reader.scalar,
    yaml.MappingStartEvent: _Reader.mapping,
    yaml.SequenceStartEvent: _Reader.sequence,
    yaml.MappingEndEvent: _Reader.end,
    yaml.SequenceEndEvent: _Reader.end,
    yaml.AliasEvent: _Reader.alias,
}


_QUOTE = "close it with the same quote that opens it"


_MISFIT = "does not fit what stands before it"


_ALIGN = "mend the indentation, or put the text in quotes"


_EXPLAINED: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not allowed", "a colon is not allowed here", _ALIGN),
    ("could not find expected ':'", "a key without a colon", "write it as `key: value`, with a space after the colon"),
    ("expected ',' or '}'", "the { before this is not closed", "add the missing comma or }"),
    ("expected ',' or ']'", "the [ before this is not closed", "add the missing comma or ]"),
    ("expected key", _MISFIT, _ALIGN),
    ("expected <block end>", _MISFIT, _ALIGN),
    ("sequence entries are not allowed", "a list item is not allowed here", "put it on a line of its own"),
    ("expected '-' indicator", _MISFIT, _ALIGN),
    ("unexpected end of stream", "the quoted text is not closed", _QUOTE),
    ("unexpected document separator", "the quoted text is not closed", _QUOTE),
    ("unexpected document indicator", "the quoted text is not closed", _QUOTE),
    ("exceeded maximum nesting depth", "is nested too deep", "write flatter YAML"),
    ("escape", "the backslash in the double quotes starts no known escape", "write \\\\ for a backslash, or use '…'"),
    ("expected <document start>", "something follows the end of the document", "begin a new document with ---"),
    ("expected '<document start>'", "something follows the end of the document", "begin a new document with ---"),
    ("cannot start any token", "this character cannot begin a text", "put the text in quotes"),
    ("expected node content", "a value is missing here", "write one, or close the bracket before it"),
    ("expected the node content", "a value is missing here", "write one, or close the bracket before it"),
)


def translate(error: yaml.MarkedYAMLError, file: str, text: str) -> Problem:
    """What is wrong, where, and what to do, for an error of the YAML scanner or parser in this text."""
    mark = error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
    if _character(text, place) == "\t":
        return Problem(place, "", "a tab indents this line", "indent with spaces")
    said = error.problem or error.context or "cannot be read"
    for part, message, remedy in _EXPLAINED:
        if part in said:
            return Problem(place, "", message, remedy)
    return Problem(place, "", f"is no valid YAML: {said}", "mend the file")


def _character(text: str, place: Place) -> str:
    lines = text.split("\n", place.line)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    return line[place.column - 1 : place.column]
