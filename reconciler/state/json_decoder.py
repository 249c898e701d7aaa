"""Decode JSON documents into their types; an error is one message with file, line, column and path.

A valid document is read by C code only. The text is scanned for a position when something failed, in linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import reduce
from operator import getitem
from types import UnionType
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from msgspec import Struct, ValidationError, convert
from msgspec.structs import fields

from reconciler.domain.document import VERSION
from reconciler.domain.errors import InvalidFile, Place, ReconcileError
from reconciler.domain.text import decode_utf8, shorten, terminal_safe

_T = TypeVar("_T")
JsonPath = Sequence[str | int]
"""The names and list positions from the whole document to a value."""

MAX_BYTES: Final = 2**28
"""The largest file that is read; a document of a thousand models is less than a twentieth of that."""
MAX_DEPTH: Final = 64
"""The deepest nesting of lists and objects."""
UPGRADE: Final = "upgrade reconcile"
"""The remedy for a document that a newer reconcile wrote."""
_LARGEST: Final = 2**63
_OUT_OF_RANGE: Final = "number out of range"
_WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]*+(?![\w.+-])")
_CLOSING: Final = {"{": "}", "[": "]"}
_LONGEST_ESCAPE: Final = len("\\u0000")
_MAX_NAME: Final = 100
"""The most characters of a name in a path."""
_BOM: Final = "\ufeff"
_BLANK: Final = re.compile(r"[ \t\n\r]*+")
_STRING_PART: Final = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_SCALAR: Final = re.compile(r"(?:true|false|null|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?)(?![\w.+-])")
_PARTIAL: Final = re.compile(r"[\w.+-]++\Z|\Z")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PLACE: Final = re.compile(r"(.*) - at ((?:`key` in )?`\$(?:\.\w+|\[(?:\d+|\.\.\.)\])*`)", re.DOTALL)
"""The end of a message of msgspec. Names in the document come before it, and can contain the same text."""
_STEP: Final = re.compile(r"\.([^.\[`]+)|\[(\d+|\.\.\.)\]")
_FIELD: Final = re.compile(r"(?s)Object (missing required|contains unknown) field `(.*)`")
_WRONG_TYPE: Final = re.compile(r"Expected `([^`]*)`, got `[^`]*`")
_BOUND: Final = re.compile(r"Expected `(\w+)` ((?:of length )?(?:[<>]=?|==) \S+)")
_TYPE_NAMES: Final[Mapping[str, str]] = {
    "bool": "a boolean",
    "object": "an object",
    "float": "a number",
    "int": "an integer",
    "int | float": "a number",
    "int | str": "an integer or a string",
    "int | float | str": "a number or a string",
    "array": "a list",
    "str": "a string",
}


class JsonError(ValueError):
    """Invalid JSON: the problem, its offset in the text, and the path of the value if it is known."""

    def __init__(self, problem: str, offset: int, path: JsonPath = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset
        self.path = path


class JsonSource:
    """The bytes of a JSON document; ``file`` is its name in messages, ``remedy`` what to do if it is invalid.

    Attributes:
        text: The text, without a byte order mark.
    """

    def __init__(
        self,
        data: bytes | str,
        file: str,
        remedy: str,
        prefix: str = "",
        *,
        allow_bom: bool = True,
        conflict_remedy: str = "",
        limit: int = MAX_BYTES,
    ) -> None:
        """Decode the bytes; ``prefix`` begins every problem, ``conflict_remedy`` is what to do about conflict markers.

        ``limit`` is the largest number of bytes.

        Raises:
            ReconcileError: there are too many bytes, they are not UTF-8, or they begin with a byte order mark although
                ``allow_bom`` is not set.
        """
        self.file = file
        self.remedy = remedy
        self._prefix = prefix
        self._conflict_remedy = conflict_remedy
        if len(data) > limit:
            raise ReconcileError(f"{file}: {prefix}larger than {limit} bytes, the limit for this kind of file", remedy)
        self.text = data if isinstance(data, str) else decode_utf8(data, file, remedy)
        if self.text.startswith(_BOM):
            if not allow_bom:
                raise self._error("begins with a byte order mark", 0, "save it as UTF-8 without a byte order mark")
            self.text = self.text[1:]

    def parse(self) -> Any:
        """Return the document as dictionaries, lists, strings and numbers.

        Raises:
            ReconcileError: the JSON is invalid or truncated, has a duplicate key, a number that does not fit, half of a
                surrogate pair or too many nested values, or the text has conflict markers.
        """
        try:
            document = json.loads(
                self.text,
                object_pairs_hook=_unique,
                parse_int=_integer,
                parse_float=_finite,
                parse_constant=_finite,
            )
            check_depth(document)
            if "\\u" in self.text:
                json.dumps(document, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            self._report(error)
        return document

    def _report(self, error: Exception) -> NoReturn:
        marker = find_conflict_marker(self.text)
        if marker is not None:
            raise self._error("contains git conflict markers", marker, self._conflict_remedy)
        try:
            for _ in scan(self.text):
                pass
        except JsonError as found:
            newer = _WHOLE_NUMBER.match(self.text, found.offset) if [*found.path] == ["version"] else None
            if newer and found.problem == _OUT_OF_RANGE:
                raise self._newer(shorten(newer[0]), found.offset, VERSION) from error
            raise self._error(found.problem, found.offset, path=found.path) from error
        raise AssertionError(f"the scan of {self.file} found no problem: {error}") from error

    def require_version(self, document: Mapping[str, Any], newest: int) -> None:
        """Raise ReconcileError for a document whose version is newer than this code reads."""
        version = document.get("version")
        if isinstance(version, int) and version > newest:
            raise self._newer(str(version), find_offset(self.text, ["version"]), newest)

    def _newer(self, version: str, offset: int, newest: int) -> ReconcileError:
        self._prefix = ""
        problem = f"unsupported version {version}: this reconcile reads up to version {newest}"
        return self._error(problem, offset, UPGRADE)

    def convert(self, document: Any, kind: type[_T], inside: JsonPath = ()) -> _T:
        """Return the document, or the part of it at the path ``inside``, as a value of this type.

        Raises:
            ReconcileError: naming the first field that is missing, unknown or of another type.
        """
        try:
            return convert(document, kind)
        except ValidationError as error:
            path, problem = _explain(error, document, kind)
            raise self.error([*inside, *path], problem) from error

    def error(self, path: JsonPath, problem: str, remedy: str = "") -> ReconcileError:
        """Return an error about the value at a path, or about the innermost value around it that exists."""
        return self._error(problem, find_offset(self.text, path), remedy, path)

    def _error(self, problem: str, offset: int, remedy: str = "", path: JsonPath = ()) -> ReconcileError:
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        place = Place(self.file, line, column)
        return InvalidFile(place, show_path(path), f"{self._prefix}{problem}", remedy or self.remedy)


def show_path(path: JsonPath) -> str:
    """Return a path as in messages, such as ``models.numbers.generations[0].key``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{terminal_safe(step[:_MAX_NAME])}" for step in path)
    return "".join(steps).removeprefix(".")


def check_depth(document: Any) -> None:
    """Raise ValueError for a document whose lists and objects are nested too deeply."""
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [value for value in level if isinstance(value, dict | list)]
        level = [child for value in level for child in (value.values() if isinstance(value, dict) else value)]
    if level:
        raise ValueError(f"more than {MAX_DEPTH} nested values")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("duplicate key")
    return fields


def _integer(text: str) -> int:
    value = int(text) if len(text) <= len(str(-_LARGEST)) else _LARGEST
    if not -_LARGEST <= value < _LARGEST:
        raise ValueError(_OUT_OF_RANGE)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(_OUT_OF_RANGE)
    return value


def find_offset(text: str, path: JsonPath) -> int:
    """Return where the value at a path begins in a valid text, or the innermost value around it that exists."""
    wanted, found = [*path], 0
    for known, offset in scan(text):
        if known == wanted[: len(known)]:
            found = offset
            if len(known) == len(wanted):
                break
    return found


def find_positions(text: str, paths: Iterable[JsonPath]) -> dict[tuple[str | int, ...], tuple[int, int]]:
    """Return line and column of the value at each path, or of the innermost value around it, in one scan.

    The text must be valid.
    """
    wanted = {tuple(path) for path in paths}
    around = {path[:length] for path in wanted for length in range(len(path) + 1)}
    offsets = {key: offset for known, offset in scan(text) if (key := tuple(known)) in around}
    found: dict[int, tuple[int, int]] = {}
    line, last = 1, 0
    for offset in sorted(set(offsets.values())):
        line += text.count("\n", last, offset)
        last = offset
        found[offset] = line, offset - text.rfind("\n", 0, offset)
    return {
        path: found[next(offsets[path[:length]] for length in range(len(path), -1, -1) if path[:length] in offsets)]
        for path in wanted
    }


def scan(text: str) -> Iterator[tuple[list[str | int], int]]:
    """Yield the path of each value and the offset where it begins; the list of a path changes afterwards.

    Every character is read once, without recursion.

    Raises:
        JsonError: at the first problem.
    """
    path: list[str | int] = []
    keys: list[dict[str, int]] = []  # of each open object the offsets of its keys; empty for a list
    offset = _skip(text, 0)
    if offset == len(text):
        raise JsonError("empty file", offset)
    while True:
        yield path, offset
        opening = text[offset : offset + 1]
        if opening in _CLOSING:
            if len(path) == MAX_DEPTH:
                raise JsonError(f"more than {MAX_DEPTH} nested values", offset)
            keys.append({})
            offset = _skip(text, offset + 1)
            if text[offset : offset + 1] != _CLOSING[opening]:
                path.append(0 if opening == "[" else "")
                offset = offset if opening == "[" else _read_key(text, offset, keys[-1], path)
                continue
            keys.pop()
            offset += 1
        else:
            offset = _read_scalar(text, offset, path)
        offset = _skip(text, offset)
        while path and text[offset : offset + 1] == ("]" if isinstance(path[-1], int) else "}"):
            path.pop()
            keys.pop()
            offset = _skip(text, offset + 1)
        if not path:
            break
        last = path[-1]
        _require(text, offset, ",")
        offset = _skip(text, offset + 1)
        if isinstance(last, int):
            path[-1] = last + 1
        else:
            offset = _read_key(text, offset, keys[-1], path)
    if offset < len(text):
        raise JsonError("invalid JSON: unexpected text after the document", offset)


def _skip(text: str, offset: int) -> int:
    blank = _BLANK.match(text, offset)
    return blank.end() if blank else offset


def _require(text: str, offset: int, character: str) -> None:
    if text[offset : offset + 1] != character:
        raise _unexpected(text, offset, f"`{character}`")


def _unexpected(text: str, offset: int, expected: str, path: JsonPath = ()) -> JsonError:
    if _PARTIAL.match(text, offset):
        return JsonError("truncated JSON: the file ends too early", offset, path)
    return JsonError(f"invalid JSON: expected {expected}", offset, path)


def _read_key(text: str, offset: int, known: dict[str, int], path: list[str | int]) -> int:
    """Put the key at an offset into the path, and return where its value begins."""
    path.pop()
    if text[offset : offset + 1] not in ('"', ""):
        raise _unexpected(text, offset, "a key in double quotes", path)
    end = _read_string(text, offset, path)
    key = str(json.loads(text[offset:end]))
    if key in known:
        line = text.count("\n", 0, known[key]) + 1
        raise JsonError(f"duplicate key (first defined on line {line})", offset, [*path, key])
    known[key] = offset
    path.append(key)
    offset = _skip(text, end)
    _require(text, offset, ":")
    return _skip(text, offset + 1)


def _read_string(text: str, offset: int, path: JsonPath) -> int:
    """Return the end of a string."""
    part = _STRING_PART.match(text, offset)
    end = part.end() if part else offset
    if text[end : end + 1] != '"' or not part:
        if len(text) - end < _LONGEST_ESCAPE and "\n" not in text[end:]:
            raise JsonError("truncated JSON: the file ends too early", offset, path)
        raise JsonError("invalid JSON: invalid character or escape sequence in a string", end, path)
    if "\\u" in part[0] and _SURROGATE.search(json.loads(part[0] + '"')):
        raise JsonError("invalid text: half of a surrogate pair", offset, path)
    return end + 1


def _read_scalar(text: str, offset: int, path: JsonPath) -> int:
    """Return the end of a string, number, boolean or null."""
    if text[offset : offset + 1] == '"':
        return _read_string(text, offset, path)
    scalar = _SCALAR.match(text, offset)
    if scalar is None:
        raise _unexpected(text, offset, "a value", path)
    try:
        json.loads(scalar[0], parse_int=_integer, parse_float=_finite)
    except ValueError as error:
        raise JsonError(_OUT_OF_RANGE, offset, path) from error
    return scalar.end()


def _explain(error: ValidationError, document: Any, kind: Any) -> tuple[JsonPath, str]:
    """Return the path and the problem of an error of msgspec, which does not name the keys of maps."""
    problem, place = str(error), ""
    found = _PLACE.fullmatch(problem)
    if found:
        problem, place = found[1], found[2]
    try:
        path, expected = _resolve(document, kind, _STEP.findall(place))
    except (LookupError, TypeError, ValueError, StopIteration):  # an unknown name in the document looks like a place
        return [], "unknown field" if problem.startswith("Object contains unknown field") else "invalid value"
    field = _FIELD.fullmatch(problem)
    if field:
        return [*path, field[2]], "missing" if field[1].startswith("missing") else "unknown field"
    if place.startswith("`key`"):
        names, _ = get_args(_plain(expected, document))
        document = reduce(getitem, path, document)
        path, expected = [*path, next(key for key in document if _fails(key, names))], names
    own = isinstance(error.__cause__, ValueError)  # a rule of the type itself, in our words
    return path, problem if own else _expectation(problem, expected)


def _resolve(document: Any, kind: Any, steps: Sequence[tuple[str, str]]) -> tuple[list[str | int], Any]:
    """Return the path with the keys of maps, and the annotation of the value there."""
    path: list[str | int] = []
    for name, index in steps:
        tags = _tags(kind)
        kind = _plain(kind, document)
        if name:
            types = (field.type for field in fields(kind) if field.encode_name == name)
            kind = next(types, Literal[tags])  # a tag is not a field
            path.append(name)
        elif index == "...":
            kind = get_args(kind)[1]
            path.append(next(key for key, value in document.items() if _fails(value, kind)))
        else:
            kind = get_args(kind)[0]
            path.append(int(index))
        document = document[path[-1]]
    return path, kind


def _plain(kind: Any, document: Any) -> Any:
    """Return a type without constraints and ``None``; of several structs the one of the document's kind."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0], document)
    if get_origin(kind) not in (Union, UnionType):
        return kind
    choices = [_plain(choice, document) for choice in get_args(kind) if choice is not type(None)]
    structs = (choice for choice in choices if isinstance(choice, type) and issubclass(choice, Struct))
    tagged = (choice for choice in structs if _has_tag(choice, document))
    return next(tagged, choices[0])


def _tags(kind: Any) -> tuple[Any, ...]:
    """Return the tags of the structs that a type can be."""
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return tuple(choice.__struct_config__.tag for choice in choices if hasattr(choice, "__struct_config__"))


def _has_tag(kind: type[Struct], document: Any) -> bool:
    config = kind.__struct_config__
    return isinstance(document, dict) and document.get(config.tag_field or "") == config.tag


def _fails(value: Any, kind: Any) -> bool:
    try:
        convert(value, kind)
    except ValidationError:
        return True
    return False


def _expectation(problem: str, kind: Any) -> str:
    """Return what was expected, in words."""
    wrong = _WRONG_TYPE.fullmatch(problem)
    if wrong:
        name = wrong[1].removesuffix(" | null")
        return f"expected {_TYPE_NAMES.get(name, name)}"
    if problem.startswith(("Invalid enum value", "Invalid value")):
        values = list(_values(kind))
        return f"expected one of {', '.join(map(str, values))}"
    for constraint in getattr(kind, "__metadata__", ()):
        if "expected" in (constraint.extra or {}):
            return f"expected {constraint.extra['expected']}"
    bound = _BOUND.fullmatch(problem)
    if bound:
        return f"expected {_TYPE_NAMES.get(bound[1], bound[1])} {bound[2]}"
    return "invalid value"


def _values(kind: Any) -> Iterator[Any]:
    """Yield the values of the enumerations among the types of a field."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(kind) in (Union, UnionType):
        for choice in get_args(kind):
            yield from _values(choice)
    elif get_origin(kind) is Literal:
        yield from get_args(kind)
    elif isinstance(kind, type) and issubclass(kind, Enum):
        yield from (member.value for member in kind)


_Side = Literal["ours", "base", "theirs"]
_SIDES: Final[tuple[_Side, ...]] = ("ours", "base", "theirs")
_FIRST_MARKER: Final = re.compile(r"<{7,}(?=[ \r\n]|$)")
_NEXT_SIDE: Final[Mapping[tuple[_Side | None, str], _Side | None]] = {
    (None, "<"): "ours",
    ("ours", "|"): "base",
    ("ours", "="): "theirs",
    ("base", "="): "theirs",
    ("theirs", ">"): None,
}
"""The side that begins at a marker, by the side before it; ``None`` is text that all sides share."""


class MergeSides(Struct, frozen=True):
    """The texts of both sides of a merge; ``base`` is ``None`` where the markers do not contain the ancestor.

    In the style ``zdiff3``, ``base`` also has the lines that both sides added.
    """

    ours: str
    theirs: str
    base: str | None = None


def has_conflict_markers(text: str) -> bool:
    """Whether a text has conflict markers."""
    return find_conflict_marker(text) is not None


def find_conflict_marker(text: str) -> int | None:
    """Return the offset of the first conflict marker, or ``None``; no line of JSON begins with one."""
    marker = re.search(r"^(<{7,}|>{7,})( |\r?$)", text, re.MULTILINE)
    return marker.start() if marker else None


def split_sides(text: str, file: str) -> MergeSides:
    """Split a text with markers of git's default style, ``diff3`` or ``zdiff3``; ``file`` is its name in messages.

    Raises:
        ReconcileError: the markers do not pair up.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # str.splitlines also splits inside JSON strings
    size = next((len(first[0]) for line in lines if (first := _FIRST_MARKER.match(line))), 0)
    marker = re.compile(rf"([<|=>])\1{{{max(size - 1, 6)}}}( |$)")
    texts: dict[_Side, list[str]] = {side: [] for side in _SIDES}
    current: _Side | None = None
    conflicts = bases = 0
    for number, line in enumerate(lines, start=1):
        match = marker.match(line.rstrip("\r\n"))
        if match is None:
            for side in (current,) if current else _SIDES:
                texts[side].append(line)
            continue
        if (current, match[1]) not in _NEXT_SIDE:
            raise _unpaired(file, f"line {number} has an unexpected marker")
        current = _NEXT_SIDE[current, match[1]]
        conflicts += match[1] == "<"
        bases += match[1] == "|"
    if current:
        raise _unpaired(file, "the last conflict has no end marker")
    base = "".join(texts["base"]) if bases == conflicts else None
    return MergeSides("".join(texts["ours"]), "".join(texts["theirs"]), base)


def _unpaired(file: str, detail: str) -> ReconcileError:
    return ReconcileError(
        f"{file}: the conflict markers do not pair up: {detail}",
        f"run git checkout --merge {file}, then reconcile refresh",
    )
