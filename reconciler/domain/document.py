"""The base of the typed JSON documents: lockfile, reports, saved plan, pointer and events.

``python docs/generate.py`` derives the schemas in ``schemas/`` from these types: the docstring of a class describes its
object, and the string below a field describes the field; without one, the description of its type does.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from msgspec import Meta, Struct, field, to_builtins

from reconciler.domain.text import UNSEEN

_UNSEEN: Final = re.compile(rf"(?!\n)[{UNSEEN}]")
END: Final = r"$(?!\n)"
"""The end of a pattern. In Python, ``$`` also matches before a final line break; published schemas have ``$`` alone."""
VERSION: Final = 1
Version = Literal[1]
NonEmpty = Annotated[str, Meta(min_length=1, extra={"expected": "a string that is not empty"})]
Count = Annotated[int, Meta(ge=0, extra={"expected": "a whole number, 0 or more"})]
Share = Annotated[float, Meta(ge=0, le=1, extra={"expected": "a number from 0 to 1"})]
Difference = Annotated[float, Meta(ge=-1, le=1, extra={"expected": "a number from -1 to 1"})]
"""The difference of two shares."""
Position = Annotated[int, Meta(ge=1, extra={"expected": "a whole number, 1 or more"})]
"""A line or column, counted from 1."""
Digest = Annotated[str, Meta(pattern=f"^sha256:[0-9a-f]{{64}}{END}", extra={"expected": "a sha256 digest"})]
Commit = Annotated[str, Meta(pattern=f"^[0-9a-f]{{40,64}}{END}", extra={"expected": "the hash of a commit"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""An RFC 3339 time as the service wrote it, empty if it is unknown."""
Moment = Annotated[
    str,
    Meta(
        pattern=rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ{END}",
        examples=["2026-01-31T12:34:56Z"],
        extra={"expected": "a time in UTC, in whole seconds"},
    ),
]
"""A time in UTC, in whole seconds."""
Scalar = str | int | float | bool
ManifestName = Annotated[NonEmpty, Meta(description="The manifest's metadata.name.")]
ManifestPath = Annotated[NonEmpty, Meta(description="The manifest's path relative to the root; `-` is standard input.")]
LockfilePath = Annotated[NonEmpty, Meta(description="The path of the lockfile.")]
Key = Annotated[NonEmpty, Meta(description="The key of the generation.")]
Remote = Annotated[
    NonEmpty,
    Meta(description="The remote name of the generation.", examples=["tunedModels/number-generator-3kq7w2ma"]),
]
Attempt = Annotated[Count, Meta(description="The attempt, counted from 0.")]
TotalSteps = Annotated[Count, Meta(description="The total number of training steps.")]


class Record(Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """An object of a JSON document; fields with their default value are omitted."""


class Document(Record, frozen=True, kw_only=True, tag_field="kind"):
    """A whole JSON document; the tag of a subclass is its kind."""

    version: Version = field(default_factory=lambda: VERSION)  # a plain default would be omitted
    """The version of this format."""


class RunInfo(Record, frozen=True, kw_only=True):
    """Which command made a document, when, from which commit and by which user. What is unknown is omitted.

    Branch, actor and command can be chosen by others: they are text to show, and prove nothing.
    """

    time: Moment
    """When the command started; in UTC, in whole seconds."""
    command: Annotated[str, Meta(examples=["reconcile plan specs"])] = ""
    """The command line, without secrets; omitted for the Python API."""
    reconciler: NonEmpty
    """The version of reconcile."""
    commit: Commit = ""
    """The commit: of the CI job, or else HEAD."""
    branch: str = ""
    """The branch: of the CI job, or else of HEAD."""
    actor: str = ""
    """The user: of the CI job, or else the name in git's settings or that of the operating system."""


class Report(Document, frozen=True, kw_only=True):
    """A document that a command prints."""

    run: RunInfo | None = None
    """Which command made this document."""


def builtins_of(record: Record) -> dict[str, Any]:
    """Return a record as the dictionaries, lists, strings and numbers of its JSON."""
    converted: dict[str, Any] = _with_lists(to_builtins(record))
    return converted


def _with_lists(value: Any) -> Any:
    """Return a value with lists in place of tuples, as JSON decoders return it."""
    if isinstance(value, dict):
        return {name: _with_lists(nested) for name, nested in value.items()}
    return [_with_lists(nested) for nested in value] if isinstance(value, list | tuple) else value


def json_text(record: Record, *, ascii_only: bool = False) -> str:
    """Return the JSON of a record with an indent of two spaces; ``ascii_only`` escapes all other characters.

    The standard library writes it, because msgspec writes ``1e-05`` as ``0.00001``, which would change existing files.
    """
    return escape_unseen(json.dumps(to_builtins(record), indent=2, ensure_ascii=ascii_only))


def escape_unseen(text: str) -> str:
    r"""Return JSON with ``\u202e`` in place of characters that steer a terminal, reorder text or are invisible."""
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


class TableEnum(StrEnum):
    """An enumeration that is a table: each row has the name and a value for each annotated attribute of its class."""

    def __new__(cls, name: str, *values: Any) -> Self:
        """Make a member that is the name, with the values of its row."""
        member = str.__new__(cls, name)
        member._value_ = name
        for attribute, value in zip(cls.__annotations__, values, strict=True):
            setattr(member, attribute, value)
        return member
