"""Records of data files, and the checks that all formats share; files may be large, so they are read line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from itertools import chain
from typing import Any, NamedTuple, TextIO

from msgspec import Struct

from reconciler.domain.errors import Severity
from reconciler.domain.text import list_choices

MAX_CHARACTERS = 2**20
"""The maximum length of an example in a file, in characters; it limits the memory that a file of any size needs."""

MAX_LABELS = 100
"""The number of distinct outputs at most that are labels."""
MAX_LABEL = 64
"""The length of a label at most, in characters."""
_BLOCK = 2**15
"""The number of characters that are split at once: what the cache of a processor keeps is faster."""


class ReadOptions(Struct, frozen=True):
    """How a data file is read; an empty option stands for the default of the file's suffix.

    ``input`` and ``output`` are the names of columns, or of members of JSON objects. ``shape`` is a key of
    ``shapes.SHAPES``, ``items`` the member of a JSON object that has the examples, and ``declared`` the dotted path of
    the options in the manifest. Columns without a ``header`` are named by their numbers, from 1.
    """

    input: str = "text_input"
    output: str = "output"
    declared: str = "spec.dataset"
    format: str = ""
    compression: str = ""
    encoding: str = ""
    delimiter: str = ""
    shape: str = ""
    items: str = ""
    header: bool = True


class Row(NamedTuple):
    """An example of one input and one output.

    ``number`` is the line on which it starts; in a JSON array, its position from 1. ``rejected`` is the answer of a
    preference pair that is not the output; empty for other examples.
    """

    number: int
    input: str
    output: str
    rejected: str = ""


class ConversationRow(NamedTuple):
    """A JSON object with an example in Vertex AI's format; ``rejected`` is as in a :class:`Row`."""

    number: int
    value: Mapping[str, Any]
    rejected: str = ""


class Fault(Struct, frozen=True):
    """An error or warning about the record with a number, and the remedy.

    ``option`` is the field beside ``path`` that it is about, if any. Number 0 is the whole file; then ``line`` is the
    line, where there is one. ``form`` is how the example is written if it lacks what ``option`` declares.
    """

    number: int
    message: str
    remedy: str
    column: int = 1
    option: str = ""
    line: int = 0
    severity: Severity = "error"
    form: str = ""


Record = Row | ConversationRow | Fault
Records = Iterator[Record]


class UnreadableError(Exception):
    """The rest of the file cannot be read because of this fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def require_short(number: int, characters: int, remedy: str) -> None:
    """Raise UnreadableError if the record that starts on a line has more than ``MAX_CHARACTERS``."""
    if characters > MAX_CHARACTERS:
        message = f"the example exceeds the limit of {MAX_CHARACTERS:,} characters"
        raise UnreadableError(Fault(number, message, remedy))


def _blocks(text: TextIO) -> Iterator[list[str]]:
    """Yield the lines of a text, which end with any line break; of a line that is too long, at least what is too much.

    Blocks of lines take a third of the time of ``readline``.
    """
    rest = ""
    while block := text.read(_BLOCK):
        rest += block
        if "\r" in rest:
            lines = list(StringIO(rest, newline=""))
            # Another part of a line, or of its break, may follow.
            rest = lines.pop() if lines[-1][-1] != "\n" else ""
        elif "\n" in block:
            *parts, rest = rest.split("\n")
            lines = [f"{part}\n" for part in parts]  # twice as fast as StringIO
        else:
            lines = []
        if len(rest) > MAX_CHARACTERS:
            lines.append(rest)
            rest = ""
        if lines:
            yield lines
    if rest:
        yield [rest]


class Lines:
    """The lines of a text with their line breaks, for a parser that counts them; ``first`` is where the record starts.

    Raises UnreadableError, with ``remedy``, for a record that is longer than ``MAX_CHARACTERS``.
    """

    def __init__(self, text: TextIO, remedy: str) -> None:
        self.first = 1
        self._text = text
        self._kept: list[str] = []
        self._kept_from = 1
        self._spans = False
        self._remedy = remedy

    def end_record(self, line: int) -> None:
        """Start a new record after the line with this number, which is the last of the record before."""
        if self._spans:
            self._require_short(self.record[: line + 1 - self.first])
            self._spans = False
        self.first = line + 1

    @property
    def record(self) -> list[str]:
        """The lines from the start of the record on; those after it are already split from the text."""
        return self._kept[self.first - self._kept_from :]

    def _require_short(self, record: Iterable[str]) -> None:
        require_short(self.first, sum(map(len, record)), self._remedy)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._read())  # a step in Python for each line would take as long as the parser

    def _read(self) -> Iterator[list[str]]:
        for lines in _blocks(self._text):
            self._require_short(self.record)
            self._kept = [*self.record, *lines]
            self._kept_from = self.first
            self._spans = True  # the record may have begun in the block before, or be a line that is too long
            yield lines
        self._require_short(self.record)


def require_content(number: int, empty: int) -> None:
    """Raise UnreadableError if the line with this number is the last of too many empty ones: they hold no example."""
    if empty > MAX_CHARACTERS:
        raise UnreadableError(Fault(number, f"more than {MAX_CHARACTERS:,} empty lines", "delete them"))


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


def as_text(value: Any) -> Any:
    """Return an integer or boolean as the text that JSON has for it, as labels often are; other values as they are."""
    return value if isinstance(value, str) or not isinstance(value, int) else json.dumps(value)


def byte_length(text: str) -> int | None:
    """Return the length in UTF-8; ``None`` if the text cannot be encoded because of an unpaired surrogate."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def missing(number: int, message: str, name: str, known: Iterable[str], options: ReadOptions) -> Fault:
    """Return the fault of a missing column or member: the option that names it must be one of the known ones."""
    option = "inputField" if name == options.input else "outputField"
    remedy = f"set {options.declared}.{option} to one of: {list_choices(name, known)}"
    return Fault(number, message, remedy, option=option)
