"""Records of data files, and the checks that all formats share; files may be large, so they are read line by line.

Conversations are examples in Vertex AI's format, one JSON object each
(https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-prepare).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, NamedTuple, TextIO

import rfc8785
from msgspec import Struct

from reconciler.domain.text import invalid, quote, suggest_name

MAX_CHARACTERS = 2**20
"""The maximum length of an example in a file, in characters; it limits the memory that a file of any size needs."""


class Fields(Struct, frozen=True):
    """The names of the columns, or JSON members, that contain the inputs and the outputs.

    ``declared`` is the dotted path of their declaration in the manifest.
    """

    input: str
    output: str
    declared: str = "spec.dataset"


class Row(NamedTuple):
    """An example of one input and one output; ``number`` is the line on which it starts."""

    number: int
    input: str
    output: str


class ConversationRow(NamedTuple):
    """A JSON object with an example in Vertex AI's format."""

    number: int
    value: Mapping[str, Any]


class Fault(Struct, frozen=True):
    """An error on a line, and the remedy; ``option`` is the field beside ``path`` that it is about, if any."""

    number: int
    message: str
    remedy: str
    column: int = 1
    option: str = ""


Record = Row | ConversationRow | Fault
Records = Iterator[Record]


class UnreadableError(Exception):
    """The rest of the file cannot be read because of this fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Lines:
    """The lines of a text with their line breaks; ``number`` counts those that were read.

    Raises UnreadableError, with ``remedy``, for a record that is longer than ``MAX_CHARACTERS``.
    """

    def __init__(self, text: TextIO, remedy: str) -> None:
        self.number = 0
        self._text = text
        self._remedy = remedy
        self.start_record()

    def start_record(self) -> None:
        """Start a new record with the next line."""
        self._first = self.number + 1
        self._left = MAX_CHARACTERS

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_CHARACTERS + 1):
            self.number += 1
            self._left -= len(line)
            if self._left < 0:
                message = f"the example exceeds the limit of {MAX_CHARACTERS:,} characters"
                raise UnreadableError(Fault(self._first, message, self._remedy))
            yield line


def text_problems(text: str, owner: str = "example") -> list[tuple[str, str]]:
    """Return the errors in a text of an example, or of another ``owner``, as pairs of message and remedy."""
    problems = []
    if not text or text.isspace():
        problems.append(("is empty", f"fill it in, or delete the {owner}"))
    if "\0" in text:
        problems.append(("contains a NUL character", "remove it"))
    if byte_length(text) is None:
        problems.append(("contains an unpaired surrogate character", "write the whole character in place of \\ud…"))
    return problems


def byte_length(text: str) -> int | None:
    """Return the length in UTF-8; ``None`` if the text cannot be encoded because of an unpaired surrogate."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


MessageAndRemedy = tuple[str, str]
"""What is wrong, and the remedy."""

_MEMBERS = ("contents", "systemInstruction", "tools")
_TURNS = "alternate user and model, starting with user"
_PARTS = 'write [{"text": "…"}]'


def canonical_json(value: Mapping[str, Any]) -> str:
    """Return the object as RFC 8785 canonical JSON; raises ValueError, with a message for users, if it has none."""
    try:
        line = _COMPACT.encode(value) if _is_simple(value) else rfc8785.dumps(value).decode()
        line.encode()
    except (rfc8785.IntegerDomainError, rfc8785.FloatDomainError):
        raise ValueError("contains a number that JSON readers may read differently") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("contains an unpaired surrogate character") from None
    return line


def _is_simple(value: Any) -> bool:
    """Return whether the standard library writes the value as RFC 8785 does: it may differ for numbers and keys."""
    if isinstance(value, dict):
        return all(map(str.isascii, value)) and all(map(_is_simple, value.values()))
    if isinstance(value, list):
        return all(map(_is_simple, value))
    return value is None or isinstance(value, str | bool)


def conversation_problems(value: Mapping[str, Any]) -> Iterator[MessageAndRemedy]:
    """Yield all errors in an example of this format."""
    for name in value:
        if name not in _MEMBERS:
            yield (
                f"unknown member {quote(name)}",
                suggest_name(name, [known for known in _MEMBERS if known not in value]),
            )
    if "systemInstruction" in value:
        yield from _object(value["systemInstruction"], "systemInstruction", _parts)
    yield from _list(value["contents"], "contents", "write the turns of user and model", _turns)


def _turns(turns: list[Any], where: str) -> Iterator[MessageAndRemedy]:
    for index, (turn, role) in enumerate(zip(turns, cycle(("user", "model")), strict=False)):
        place = f"{where}[{index}]"
        if isinstance(turn, dict) and turn.get("role") != role:
            found = invalid(turn["role"], role, f"{place}.role") if "role" in turn else f"missing {place}.role"
            yield found, _TURNS
            return
        yield from _object(turn, place, _parts)
    if len(turns) % 2:
        yield f"{where} ends with user", "add the answer of the model"


def _parts(content: Mapping[str, Any], where: str) -> Iterator[MessageAndRemedy]:
    yield from _list(content.get("parts"), f"{where}.parts", _PARTS, _each_part)


def _each_part(parts: list[Any], where: str) -> Iterator[MessageAndRemedy]:
    for index, part in enumerate(parts):
        yield from _object(part, f"{where}[{index}]", _text)


def _text(part: Mapping[str, Any], where: str) -> Iterator[MessageAndRemedy]:
    text = part.get("text", "-")
    if not isinstance(text, str):
        yield invalid(text, "a string", f"{where}.text"), "put it in double quotes"
        return
    for message, remedy in text_problems(text):
        yield f"{where}.text {message}", remedy


def _object(
    value: Any, where: str, check: Callable[[Mapping[str, Any], str], Iterator[MessageAndRemedy]]
) -> Iterator[MessageAndRemedy]:
    if isinstance(value, dict) and value:
        yield from check(value, where)
    else:
        yield invalid(value or None, "an object", where), "write {…}"


def _list(
    value: Any, where: str, remedy: str, check: Callable[[list[Any], str], Iterator[MessageAndRemedy]]
) -> Iterator[MessageAndRemedy]:
    if isinstance(value, list) and value:
        yield from check(value, where)
    else:
        yield invalid(value or None, "a list", where), remedy


_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
