"""Reading JSON objects whose fields have types; what is odd is told with its place."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from reconciler.domain.model import Number

T = TypeVar("T")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST = sys.float_info.max
_CALLED: Mapping[type, str] = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "whole number",
    list: "list",
    str: "text",
}


class DecodeError(ValueError):
    """A field is missing or of another type; the message says which and where."""


@dataclass(frozen=True, slots=True)
class JsonReader:
    """One JSON object and where it stands in its document, as in ``models.n.generations[0]``; empty for the document.

    Every method raises OddFieldError for a field of another type.
    """

    where: str
    fields: Mapping[str, Any]

    def need(self, name: str, kind: type[T]) -> T:
        """A field that must be there; raises OddFieldError when it is not."""
        value = self.find(name, kind)
        if value is None:
            raise DecodeError(f"{self.where} lacks {name}")
        return value

    def find(self, name: str, kind: type[T]) -> T | None:
        """A field that may be absent; a bool is no number."""
        value = self.fields.get(name)
        return None if value is None else _typed(value, kind, self._place(name))

    def digest(self, name: str) -> str:
        """A ``sha256:`` digest that must be there."""
        text = self.need(name, str)
        if not _DIGEST.fullmatch(text):
            raise DecodeError(f"{self._place(name)} is no sha256 digest")
        return text

    def block(self, name: str) -> JsonReader:
        """An object inside this one, empty where there is none."""
        return JsonReader(self._place(name), self.find(name, dict) or {})

    def blocks(self, name: str) -> tuple[JsonReader, ...]:
        """The objects of a list, none where there is no list."""
        items = self.find(name, list) or []
        places = (f"{self._place(name)}[{index}]" for index in range(len(items)))
        return tuple(JsonReader(where, _typed(item, dict, where)) for where, item in zip(places, items, strict=True))

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a list, none where there is no list."""
        return tuple(_typed(item, str, self._place(name)) for item in self.find(name, list) or [])

    def numbers(self, name: str) -> dict[str, Number]:
        """An object of numbers, empty where there is none."""
        block = self.block(name)
        return {key: block.need(key, float) for key in block.fields}

    def _place(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name


def _typed(value: Any, kind: type[T], where: str) -> T:
    if not (_is_number(value) if kind is float else type(value) is kind):
        raise DecodeError(f"{where} is no {_CALLED[kind]}")
    typed: T = value
    return typed


def _is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold: JSON may write one of any size."""
    return type(value) in {int, float} and -_LARGEST <= value <= _LARGEST
