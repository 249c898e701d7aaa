"""Read typed fields of JSON objects; errors name the path of the field."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import Number

T = TypeVar("T")

UPGRADE: Final = "upgrade reconcile"
"""The remedy for a document that a newer reconcile wrote."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST: Final = sys.float_info.max
_TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "an integer",
    list: "a list",
    str: "a string",
}


class DecodeError(ValueError):
    """A field is missing or has another type; the message begins with its path."""


def check_version(version: int, newest: int, file: str) -> None:
    """Raise ReconcileError for a document whose version is newer than this code reads."""
    if version > newest:
        raise ReconcileError(
            f"{file}: unsupported version {version}: this reconcile reads up to version {newest}", UPGRADE
        )


class JsonReader(Struct, frozen=True):
    """A JSON object and its path in the document, such as ``models.n.generations[0]``; empty for the document.

    Every method raises DecodeError for a field of another type.
    """

    path: str
    fields: Mapping[str, Any]

    def require(self, name: str, kind: type[T]) -> T:
        """Return a required field; raises DecodeError when it is missing."""
        value = self.get(name, kind)
        if value is None:
            raise DecodeError(f"{self._path_of(name)}: missing")
        return value

    def get(self, name: str, kind: type[T]) -> T | None:
        """Return an optional field; a boolean does not count as a number."""
        value = self.fields.get(name)
        return None if value is None else _typed(value, kind, self._path_of(name))

    def digest(self, name: str) -> str:
        """Return a required ``sha256:`` digest."""
        text = self.require(name, str)
        if not _DIGEST.fullmatch(text):
            raise DecodeError(f"{self._path_of(name)}: expected a sha256 digest")
        return text

    def child(self, name: str) -> JsonReader:
        """Return an optional object, empty by default."""
        return JsonReader(self._path_of(name), self.get(name, dict) or {})

    def children(self, name: str) -> tuple[JsonReader, ...]:
        """Return an optional list of objects, empty by default."""
        paths = ((f"{self._path_of(name)}[{index}]", value) for index, value in enumerate(self.get(name, list) or []))
        return tuple(JsonReader(path, _typed(value, dict, path)) for path, value in paths)

    def strings(self, name: str) -> tuple[str, ...]:
        """Return an optional list of strings, empty by default."""
        return tuple(_typed(value, str, self._path_of(name)) for value in self.get(name, list) or [])

    def numbers(self, name: str) -> dict[str, Number]:
        """Return an optional object of numbers, empty by default."""
        child = self.child(name)
        return {key: child.require(key, float) for key in child.fields}

    def _path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def _typed(value: Any, kind: type[T], path: str) -> T:
    if not (_is_number(value) if kind is float else type(value) is kind):
        raise DecodeError(f"{path}: expected {_TYPE_NAMES[kind]}")
    typed: T = value
    return typed


def _is_number(value: Any) -> bool:
    """Whether a value is a number that fits a float; JSON numbers can have any size."""
    return type(value) in {int, float} and -_LARGEST <= value <= _LARGEST
