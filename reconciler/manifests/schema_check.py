"""Test whether a document satisfies its JSON Schema, without the jsonschema library.

jsonschema reports every error and is slow to import, so it is only used for documents that fail here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from msgspec import Struct

_ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "examples", "default", "patternErrorMessage"}
)
_WITH_OTHERS: Final = frozenset({"then", "else"})
"""Keywords that are part of another one."""


class UnsupportedError(Exception):
    """The schema uses a keyword that only jsonschema supports, or the value needs its rules of equality."""


def is_valid(schema: Mapping[str, Any], value: Any) -> bool:
    """Return whether jsonschema finds no error in the value; ``False`` also where this module cannot determine it."""
    try:
        return _Check(schema.get("$defs", {})).accepts(schema, value)
    except UnsupportedError:
        return False


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; schemas accept no other ones."""
    return math.isfinite(value) if isinstance(value, float) else type(value) is int


@cache
def matches(pattern: str) -> Callable[[str], object]:
    r"""Return a search function for an ECMA-262 pattern, if it uses only what the schemas use: ``$`` is ``\Z``."""
    return re.compile(re.sub(r"\$$", r"\\Z", pattern)).search


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and value == int(value),
    "number": is_number,
}


class _Check(Struct, frozen=True):
    """A schema's definitions; its methods follow the specification exactly, because ``not`` reverses their result."""

    definitions: Mapping[str, Any]

    def accepts(self, schema: Mapping[str, Any], value: Any) -> bool:
        for keyword, expected in schema.items():
            if keyword not in _ANNOTATIONS and keyword not in _WITH_OTHERS:
                check = _KEYWORDS.get(keyword)
                if check is None:
                    raise UnsupportedError(keyword)
                if not check(self, expected, value, schema):
                    return False
        return True

    def reference(self, name: str, value: Any, _schema: Any) -> bool:
        definition = self.definitions.get(name.removeprefix("#/$defs/"))
        if definition is None:
            raise UnsupportedError(name)
        return self.accepts(definition, value)

    def type(self, name: Any, value: Any, _schema: Any) -> bool:
        is_type = _TYPES.get(str(name))
        if is_type is None:
            raise UnsupportedError(name)
        return is_type(value)

    def enum(self, members: Sequence[Any], value: Any, _schema: Any) -> bool:
        return any(_equal(member, value) for member in members)

    def const(self, constant: Any, value: Any, _schema: Any) -> bool:
        return _equal(constant, value)

    def properties(self, schemas: Mapping[str, Any], value: Any, _schema: Any) -> bool:
        if not isinstance(value, dict):
            return True
        return all(self.accepts(schema, value[name]) for name, schema in schemas.items() if name in value)

    def additional(self, allowed: Any, value: Any, schema: Mapping[str, Any]) -> bool:
        if not isinstance(value, dict):
            return True
        others = [part for name, part in value.items() if name not in schema.get("properties", {})]
        if isinstance(allowed, bool):
            return allowed or not others
        return all(self.accepts(allowed, part) for part in others)

    def property_names(self, schema: Mapping[str, Any], value: Any, _schema: Any) -> bool:
        return not isinstance(value, dict) or all(self.accepts(schema, name) for name in value)

    def items(self, schema: Mapping[str, Any], value: Any, _schema: Any) -> bool:
        return not isinstance(value, list) or all(self.accepts(schema, part) for part in value)

    def one_of(self, schemas: Sequence[Mapping[str, Any]], value: Any, _schema: Any) -> bool:
        return sum(self.accepts(schema, value) for schema in schemas) == 1

    def all_of(self, schemas: Sequence[Mapping[str, Any]], value: Any, _schema: Any) -> bool:
        return all(self.accepts(schema, value) for schema in schemas)

    def negation(self, schema: Mapping[str, Any], value: Any, _schema: Any) -> bool:
        return not self.accepts(schema, value)

    def condition(self, condition: Mapping[str, Any], value: Any, schema: Mapping[str, Any]) -> bool:
        return self.accepts(schema.get("then" if self.accepts(condition, value) else "else", {}), value)


def _equal(member: Any, value: Any) -> bool:
    if isinstance(member, dict | list):
        raise UnsupportedError(member)
    if isinstance(member, bool) or isinstance(value, bool):
        return member is value
    return bool(member == value)


def _is_unique(value: Any) -> bool:
    if not isinstance(value, list):
        return True
    if not all(isinstance(part, str) for part in value):
        raise UnsupportedError(value)
    return len(set(value)) == len(value)


_KEYWORDS: Final[Mapping[str, Callable[[_Check, Any, Any, Mapping[str, Any]], bool]]] = {
    "$ref": _Check.reference,
    "type": _Check.type,
    "enum": _Check.enum,
    "const": _Check.const,
    "properties": _Check.properties,
    "additionalProperties": _Check.additional,
    "propertyNames": _Check.property_names,
    "items": _Check.items,
    "oneOf": _Check.one_of,
    "allOf": _Check.all_of,
    "not": _Check.negation,
    "if": _Check.condition,
    "required": lambda _, names, value, __: not isinstance(value, dict) or all(name in value for name in names),
    "pattern": lambda _, pattern, value, __: not isinstance(value, str) or bool(matches(pattern)(value)),
    "minLength": lambda _, length, value, __: not isinstance(value, str) or len(value) >= length,
    "maxLength": lambda _, length, value, __: not isinstance(value, str) or len(value) <= length,
    "minItems": lambda _, length, value, __: not isinstance(value, list) or len(value) >= length,
    "uniqueItems": lambda _, unique, value, __: not unique or _is_unique(value),
    "minimum": lambda _, limit, value, __: not is_number(value) or value >= limit,
    "maximum": lambda _, limit, value, __: not is_number(value) or value <= limit,
    "exclusiveMinimum": lambda _, limit, value, __: not is_number(value) or value > limit,
}
