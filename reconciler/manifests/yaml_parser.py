"""Parse YAML 1.2 into documents that know the line and column of each value, and report all errors with remedies.

Documents are built from the parser's events without recursion, because PyYAML's composers recurse (the C one until the
process crashes) and accept duplicate keys. Merge keys (``<<``) are rejected: YAML 1.2 has none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import yaml
from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import Place, Problem
from reconciler.domain.text import join_names, shorten

Scalar = str | int | float | bool | None
FieldPath = Sequence[str | int]

MAX_DEPTH = 64
"""The nesting limit for collections, with aliases expanded; a manifest needs 8."""
MAX_EXPANDED = 20_000
"""The number of values that all aliases of one document may expand to."""

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
_Parser: Any = yaml.CLoader if yaml.__with_libyaml__ else yaml.Loader
_CONFLICT = re.compile(r"^(<{7}|\|{7}|={7}|>{7})(?: .*)?\r?$", re.MULTILINE)
"""A line that git leaves in a file with a conflict."""
_OUTER = frozenset({"<" * 7, ">" * 7})
"""The markers that no text has; a line of equals signs may underline a title."""
_MARKERS = 4
"""How many markers a conflict has, and an error lists."""
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STRING_TAGS = frozenset({None, "!", "tag:yaml.org,2002:str"})
_REJECTED = object()
"""The placeholder for a rejected key, whose value is parsed and discarded."""

_UNCLOSED = ("missing closing quote", "close the string with the quote that opens it")
_INDENTATION = ("unexpected indentation or structure", "fix the indentation, or put the text in quotes")
_AFTER_END = ("unexpected content after the end of the document", "start a new document with ---")
_NO_VALUE = ("missing value", "add a value, or close the bracket before it")
_ERRORS: tuple[tuple[str, tuple[str, str]], ...] = (
    ("mapping values are not allowed", ("unexpected colon", _INDENTATION[1])),
    ("could not find expected ':'", ("missing colon after a key", "write `key: value`, with a space after the colon")),
    ("expected ',' or '}'", ("missing closing brace", "add the missing comma or }")),
    ("expected ',' or ']'", ("missing closing bracket", "add the missing comma or ]")),
    ("expected key", _INDENTATION),
    ("expected <block end>", _INDENTATION),
    ("sequence entries are not allowed", ("unexpected list item", "put the item on its own line")),
    ("expected '-' indicator", _INDENTATION),
    ("unexpected end of stream", _UNCLOSED),
    ("unexpected document separator", _UNCLOSED),
    ("unexpected document indicator", _UNCLOSED),
    ("exceeded maximum nesting depth", ("nested too deeply", "reduce the nesting")),
    ("escape", ("unknown escape sequence", "write \\\\ for a backslash, or use single quotes")),
    ("expected <document start>", _AFTER_END),
    ("expected '<document start>'", _AFTER_END),
    ("cannot start any token", ("unexpected character", "put the text in quotes")),
    ("expected node content", _NO_VALUE),
    ("expected the node content", _NO_VALUE),
)
"""Parts of the messages of PyYAML and libyaml, each with our message and remedy."""


def parse_scalar(text: str) -> Scalar:
    """Return the value of an unquoted scalar: null, a boolean, a number or the text itself.

    Raises ValueError for an integer beyond the range of floats.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text, 10)
    if _FLOAT.fullmatch(text):
        return float(text)
    return _integer(text, 0) if _OTHER_BASE.fullmatch(text) else text


def _integer(text: str, base: int) -> int:
    value = int(text, base)
    if abs(value) > sys.float_info.max:
        raise ValueError("the integer is out of range")
    return value


class SourceMark(Protocol):
    """A position in the parsed text, counted from 0."""

    line: int
    column: int
    index: int


class Positions(Struct):
    """The position of a value, of its key if it has one, and of the values in it.

    ``file`` is the file that they are in, if it is not that of the value around them.
    """

    mark: SourceMark
    key: SourceMark | None = None
    children: dict[Any, Positions] = {}
    file: str = ""


class YamlDocument(Struct, frozen=True):
    """One document of a file: its value, in which all keys of mappings are strings, and the positions in it."""

    file: str
    value: Any
    positions: Positions

    def place(self, path: FieldPath, *, key: bool = False) -> Place:
        """Return the place of the value at ``path``, or of its key; that of the nearest parent if there is no value."""
        positions, file = self.positions, self.positions.file or self.file
        for step in path:
            if step not in positions.children:
                return _place(file, positions.key or positions.mark)
            positions = positions.children[step]
            file = positions.file or file
        return _place(file, positions.key if key and positions.key else positions.mark)

    def child(self, path: FieldPath) -> YamlDocument:
        """Return the value at ``path`` as a document."""
        value, positions, file = self.value, self.positions, self.positions.file or self.file
        for step in path:
            value, positions = value[step], positions.children[step]
            file = positions.file or file
        return YamlDocument(file, value, positions)


class Parsed(Struct, frozen=True):
    """The readable documents of a file, its errors, and its text, which is ``None`` if the file cannot be read."""

    file: str
    documents: tuple[YamlDocument, ...]
    problems: tuple[Problem, ...]
    text: str | None = None


def dotted(path: FieldPath) -> str:
    """Return the path in the form ``spec.checks[0].name``; long names are shortened."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" for step in path)
    return text.removeprefix(".")


def parse(data: bytes, file: str) -> Parsed:
    """Parse every document of a YAML file that is called ``file`` in messages; empty documents are skipped."""
    text = _decode(data, file)
    if not isinstance(text, str):
        return Parsed(file, (), text, data.decode("utf-8-sig", "replace"))
    reader = _Reader(file)
    try:
        for event in _events(text):
            reader.handle(event)
    except _StopParsingError as stop:
        reader.problems.append(stop.problem)
    except yaml.MarkedYAMLError as error:  # the outer markers of a conflict may have been removed alone
        reader.problems += tuple(_conflicts(text, file)) or (_explain_syntax(error, file, text),)
    return Parsed(file, tuple(reader.documents), tuple(reader.problems), text)


def _decode(data: bytes, file: str) -> str | tuple[Problem, ...]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = position(data[: error.start].decode("utf-8-sig", "replace"))
        return (Problem(Place(file, line, column), "", "not valid UTF-8", "save the file as UTF-8"),)
    found = _UNPRINTABLE.search(text)
    if found:
        line, column = position(text[: found.start()])
        message = f"unprintable character U+{ord(found[0]):04X}"
        return (
            Problem(Place(file, line, column), "", message, "remove it, or write it as an escape in double quotes"),
        )
    markers = {found[1] for found in _CONFLICT.finditer(text)}
    return tuple(_conflicts(text, file)) if markers & _OUTER else text


def _conflicts(text: str, file: str) -> Iterator[Problem]:
    """Yield a problem for each conflict that git left in a text, with the lines of its markers."""
    conflicts: list[list[tuple[int, str]]] = [[]]
    line, at = 1, 0
    for found in _CONFLICT.finditer(text):
        line, at = line + text.count("\n", at, found.start()), found.start()
        conflicts[-1].append((line, found[1]))
        if found[1] == ">" * 7:
            conflicts.append([])
    for conflict in filter(None, conflicts):
        shown = join_names([f"{marker} in line {number}" for number, marker in conflict], _MARKERS)
        remedy = "edit the lines between the markers, and remove the markers"
        yield Problem(Place(file, conflict[0][0]), "", f"contains git conflict markers: {shown}", remedy)


def position(before: str) -> tuple[int, int]:
    """Return the line and column, from 1, of the character after this text."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _place(file: str, mark: SourceMark) -> Place:
    return Place(file, mark.line + 1, mark.column + 1)


def _events(text: str) -> Iterator[yaml.Event]:
    parser = _Parser(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    finally:
        parser.dispose()


def scan(text: str) -> Iterator[yaml.Token]:
    """Yield the tokens of a text that :func:`parse` accepts, with the positions that its documents have."""
    parser = _Parser(text)
    try:
        while parser.check_token():
            yield parser.get_token()
    finally:
        parser.dispose()


def _explain_syntax(error: yaml.MarkedYAMLError, file: str, text: str) -> Problem:
    """Return the problem for an error of the YAML scanner or parser in this text."""
    mark = error.problem_mark or error.context_mark
    place = _place(file, mark) if mark else Place(file)
    if _character(text, place) == "\t":
        return Problem(place, "", "tab in the indentation", "indent with spaces")
    cause = error.problem or error.context or "cannot be parsed"
    found = next((explained for part, explained in _ERRORS if part in cause), None)
    return Problem(place, "", *(found or (f"invalid YAML: {cause}", "fix the syntax")))


def _character(text: str, place: Place) -> str:
    lines = text.split("\n", place.line)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    return line[place.column - 1 : place.column]


class _StopParsingError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Node(Struct):
    """A value; ``size`` counts it and the values in it, ``depth`` the nested collections, with aliases expanded."""

    value: Any
    positions: Positions
    size: int = 1
    depth: int = 0


class _Frame(Struct):
    """A collection that is being read."""

    node: _Node
    anchor: str | None
    key: Any = None
    key_mark: SourceMark | None = None


class _Reader(Struct):
    file: str
    documents: list[YamlDocument] = []
    problems: list[Problem] = []
    stack: list[_Frame] = []
    anchors: dict[str, _Node] = {}
    expanded: int = 0

    def handle(self, event: Any) -> None:
        handler = _HANDLERS.get(type(event))
        if handler:
            handler(self, event)

    def document(self, _event: Any) -> None:
        self.anchors.clear()
        self.expanded = 0

    def scalar(self, event: Any) -> None:
        value: Any = event.value
        if event.implicit[0] and event.tag != "!":
            value = self._unquoted(event)
        elif event.tag not in _STRING_TAGS:
            value = self._unquoted(event)
            self._reject_tag(event)
        elif not value.isascii():
            self._require_utf8(event)
        if event.anchor:
            self.anchors[event.anchor] = _Node(value, Positions(event.start_mark))
        self._add(_Node(value, Positions(event.start_mark)), event)

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
        if event.anchor not in self.anchors:
            name = shorten(event.anchor)
            inside = any(frame.anchor == event.anchor for frame in self.stack)
            message = f"alias *{name} is inside its own anchor" if inside else f"undefined alias *{name}"
            raise self._stop(event, message, f"write the value out, or put &{name} before an earlier value")
        node = self.anchors[event.anchor]
        self._limit_depth(node.depth, event)
        self.expanded += node.size
        if self.expanded > MAX_EXPANDED:
            message = f"the aliases of this document expand to more than {MAX_EXPANDED:,} values"
            raise self._stop(event, message, "use fewer aliases, or write the values out")
        self._add(replace(node, positions=Positions(event.start_mark, children=node.positions.children)), event)

    def _open(self, value: Any, event: Any) -> None:
        if not event.implicit and event.tag != "!":
            self._reject_tag(event)
        self._limit_depth(1, event)
        self.stack.append(_Frame(_Node(value, Positions(event.start_mark), depth=1), event.anchor))

    def _limit_depth(self, depth: int, event: Any) -> None:
        if len(self.stack) + depth > MAX_DEPTH:
            raise self._stop(event, f"nested more than {MAX_DEPTH} levels deep", "reduce the nesting")

    def _add(self, node: _Node, event: Any) -> None:
        value, positions = node.value, node.positions
        if not self.stack:
            if value is not None:
                self.documents.append(YamlDocument(self.file, value, positions))
            return
        frame = self.stack[-1]
        outer = frame.node
        outer.size += node.size
        outer.depth = max(outer.depth, node.depth + 1)
        if isinstance(outer.value, list):
            outer.positions.children[len(outer.value)] = positions
            outer.value.append(value)
        elif frame.key is None:
            frame.key = self._key(value, outer, positions.mark, event)
            frame.key_mark = positions.mark
        else:
            if frame.key is not _REJECTED:
                outer.value[frame.key] = value
                positions.key = frame.key_mark
                outer.positions.children[frame.key] = positions
            frame.key = None

    def _key(self, value: Any, mapping: _Node, mark: SourceMark, event: Any) -> Any:
        if not isinstance(value, str):
            self._report(mark, f"{_describe_key(value)}: expected a string", "put the key in quotes")
        elif value == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
            self._report(mark, "unsupported merge key <<", "write the fields out, or use an alias as a value")
        elif value in mapping.value:
            first = mapping.positions.children[value].key or mark
            message = f'duplicate key "{shorten(value)}" (first defined on line {first.line + 1})'
            self._report(mark, message, "remove one of them", value)
        else:
            return value
        return _REJECTED

    def _unquoted(self, event: Any) -> Any:
        try:
            return parse_scalar(event.value)
        except ValueError:
            self._report(event.start_mark, "number out of range", "set a smaller number")
            return event.value

    def _require_utf8(self, event: Any) -> None:
        try:
            event.value.encode()
        except UnicodeEncodeError:
            message, remedy = "unpaired surrogate character", "write the whole character in place of \\ud…"
            raise self._stop(event, message, remedy) from None

    def _reject_tag(self, event: Any) -> None:
        tag = shorten(event.tag.replace("tag:yaml.org,2002:", "!!"))
        self._report(event.start_mark, f"unsupported tag {tag}", "remove it, and quote the value if it is a string")

    def _stop(self, event: Any, message: str, remedy: str) -> _StopParsingError:
        self._report(event.start_mark, message, remedy)
        return _StopParsingError(self.problems.pop())

    def _report(self, mark: SourceMark, message: str, remedy: str, *last: str) -> None:
        path = [*self._path(), *last]
        self.problems.append(Problem(_place(self.file, mark), dotted(path), message, remedy))

    def _path(self) -> Iterator[str | int]:
        for frame in self.stack:
            value = frame.node.value
            step = len(value) if isinstance(value, list) else frame.key
            if isinstance(step, str | int):
                yield step


def _describe_key(value: Any) -> str:
    if isinstance(value, dict | list):
        return "invalid key"
    return "empty key" if value is None else f"invalid key {shorten(str(value)).lower()}"


_HANDLERS: dict[type, Callable[[_Reader, Any], None]] = {
    yaml.DocumentStartEvent: _Reader.document,
    yaml.ScalarEvent: _Reader.scalar,
    yaml.MappingStartEvent: _Reader.mapping,
    yaml.SequenceStartEvent: _Reader.sequence,
    yaml.MappingEndEvent: _Reader.end,
    yaml.SequenceEndEvent: _Reader.end,
    yaml.AliasEvent: _Reader.alias,
}
