"""Messages of Google APIs as tables: fields, kinds and names, just enough to read requests and to write responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from msgspec import Struct

Kind = Literal["string", "int32", "int64", "float", "double", "bool", "timestamp", "enum", "map", "message"]


class Field(Struct, frozen=True):
    """One field of a message.

    ``optional`` fields are sent even at their default value. An ``output_only`` field is ignored in requests. Of the
    fields with the same ``oneof`` at most one may be set. ``enum`` lists the values by number. A ``map`` has
    strings as keys and values.
    """

    kind: Kind
    repeated: bool = False
    optional: bool = False
    output_only: bool = False
    oneof: str = ""
    enum: tuple[str, ...] = ()
    message: Message | None = None

    @property
    def keeps_default(self) -> bool:
        """Whether the field is sent at its default value too."""
        return self.optional or (self.message is not None and not self.repeated)


@dataclass(frozen=True)
class Message:
    """A message: its name in the proto package, and its fields by their JSON names."""

    name: str
    fields: Mapping[str, Field]

    @cached_property
    def json_names(self) -> Mapping[str, str]:
        """The JSON name of every field, by JSON name and by snake_case proto name."""
        return {spelling: name for name in self.fields for spelling in (name, snake_case(name))}


def snake_case(json_name: str) -> str:
    """Return the proto name of a field, given its JSON name."""
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", json_name)


def message(name: str, /, **fields: Field) -> Message:
    """Return a message; keyword arguments are its fields by JSON name."""
    return Message(name, fields)


def single(of: Message, *, output_only: bool = False, oneof: str = "") -> Field:
    """Return a field with one message."""
    return Field("message", message=of, output_only=output_only, oneof=oneof)


def repeated(of: Message, *, output_only: bool = False) -> Field:
    """Return a field with a list of messages."""
    return Field("message", message=of, repeated=True, output_only=output_only)


def enum(*values: str, output_only: bool = False) -> Field:
    """Return a field with one of the values; the first is the default."""
    return Field("enum", enum=values, output_only=output_only)


STRING = Field("string")


STRINGS = Field("string", repeated=True)


OPTIONAL_STRING = Field("string", optional=True)


OUTPUT_STRING = Field("string", output_only=True)


INT = Field("int32")


INT64 = Field("int64")


OPTIONAL_INT = Field("int32", optional=True)


FLOAT = Field("float")


OPTIONAL_FLOAT = Field("float", optional=True)


DOUBLE = Field("double")


BOOL = Field("bool")


MAP = Field("map")


TIMESTAMP = Field("timestamp")


OUTPUT_TIMESTAMP = Field("timestamp", output_only=True)


EMPTY = message("Empty")


STATUS = message("Status", code=INT, message=STRING)
