"""What data files hold: rows, and faults where a row cannot be read; read line by line, as they may be large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO

MOST_CHARACTERS = 2**20
"""The longest example, in characters of the file: what is in memory at once stays small whatever a file holds."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the columns, or members, that hold the inputs and the outputs.

    ``declared`` is the dotted path of what declares them in the manifest.
    """

    input: str
    output: str
    declared: str = "spec.dataset"


class Row(NamedTuple):
    """One example as it stands in the file; ``number`` is the line that it begins in."""

    number: int
    input: str
    output: str


class ConversationRow(NamedTuple):
    """One JSON object that looks like an example in Vertex AI's own form."""

    number: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line, and what to do."""

    number: int
    message: str
    remedy: str
    column: int = 1


Item = Row | ConversationRow | Fault
Items = Iterator[Item]


class UnreadableError(Exception):
    """Nothing after this fault can be read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Lines:
    """The lines of a text with their ends, of which no more are taken than one record may have.

    ``number`` counts those that were read. Raises UnreadableError, with ``remedy``, for a record that goes on and on.
    """

    def __init__(self, text: TextIO, remedy: str) -> None:
        self.number = 0
        self._text = text
        self._remedy = remedy
        self.begin()

    def begin(self) -> None:
        """The next line begins a new record."""
        self._first = self.number + 1
        self._left = MOST_CHARACTERS

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MOST_CHARACTERS + 1):
            self.number += 1
            self._left -= len(line)
            if self._left < 0:
                message = f"the example goes on for more than {MOST_CHARACTERS:,} characters"
                raise UnreadableError(Fault(self._first, message, self._remedy))
            yield line


def text_faults(text: str, of: str = "example") -> list[tuple[str, str]]:
    """What is wrong with a text of an example, or of something else; and what to do, each."""
    faults = []
    if not text or text.isspace():
        faults.append(("is empty", f"fill it in, or delete the {of}"))
    if "\0" in text:
        faults.append(("holds a NUL character", "delete it"))
    if byte_length(text) is None:
        faults.append(("holds half of a surrogate pair", "write the whole character in place of \\ud…"))
    return faults


def byte_length(text: str) -> int | None:
    """The length in UTF-8, ``None`` for a text that has none: it holds half of a surrogate pair."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
