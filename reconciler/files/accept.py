"""JSON Schema compiled to closures that say yes or no, for the keywords that the schemas of input use.

A no is only a hint: the real validator has the last word, and gives the reasons. A yes must be right; a test holds it
to the real validator. It spares a run over valid manifests the import of that validator and most of the time it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Check = Callable[[Any], object]
"""A test of a value; what it answers is true or not."""
_NOTES = frozenset({"$schema", "$defs", "title", "description", "default", "examples", "patternErrorMessage"})
_OBJECT = frozenset({"properties", "additionalProperties", "required", "propertyNames"})
_TYPES: Mapping[str, Check] = {
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) is int or (type(value) is float and math.isfinite(value)),
}


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles parts of the schema ``root``; ``matches`` makes the test for a pattern."""

    root: Mapping[str, Any]
    matches: Callable[[str], Check]

    def compile(self, schema: Mapping[str, Any]) -> Check:
        """A test for values of this schema; raises KeyError for a keyword that is not known here."""
        checks = [
            _KEYWORDS[keyword](self, argument)
            for keyword, argument in schema.items()
            if keyword not in _NOTES and keyword not in _OBJECT
        ]
        if not _OBJECT.isdisjoint(schema):
            checks.append(self._object(schema))
        return checks[0] if len(checks) == 1 else lambda value: all(check(value) for check in checks)

    def _object(self, schema: Mapping[str, Any]) -> Check:
        known = {name: self.compile(part) for name, part in schema.get("properties", {}).items()}
        others = schema.get("additionalProperties", {})
        other: Check = self.compile(others) if others else lambda _value: others is not False
        named = self.compile(schema.get("propertyNames", {}))
        required = frozenset(schema.get("required", ()))

        def check(value: Any) -> bool:
            return required <= value.keys() and all(
                named(name) and known.get(name, other)(part) for name, part in value.items()
            )

        return _if_mapping(check)

    def reference(self, pointer: str) -> Check:
        """The schema that ``#/$defs/NAME`` points at."""
        part: Any = self.root
        for step in pointer.removeprefix("#/").split("/"):
            part = part[step]
        return self.compile(part)

    def one_of(self, schemas: list[Mapping[str, Any]]) -> Check:
        """Exactly one of these schemas."""
        checks = [self.compile(schema) for schema in schemas]
        return lambda value: sum(bool(check(value)) for check in checks) == 1

    def negation(self, schema: Mapping[str, Any]) -> Check:
        """Not this schema."""
        check = self.compile(schema)
        return lambda value: not check(value)

    def items(self, schema: Mapping[str, Any]) -> Check:
        """Each item is of this schema."""
        check = self.compile(schema)
        return lambda value: all(check(item) for item in value)


def _if_mapping(check: Check) -> Check:
    return lambda value: type(value) is not dict or check(value)


def _member(allowed: list[Any]) -> Check:
    """Compares the types too: 1, 1.0 and true are one to Python."""
    pairs = {(type(value), value) for value in allowed}
    return lambda value: type(value) in (str, int, bool) and (type(value), value) in pairs


_KEYWORDS: Mapping[str, Callable[[Compiler, Any], Check]] = {
    "type": lambda _compiler, name: _TYPES[name],
    "const": lambda _compiler, value: _member([value]),
    "enum": lambda _compiler, values: _member(values),
    "pattern": lambda compiler, pattern: compiler.matches(pattern),
    "minLength": lambda _compiler, least: lambda value: len(value) >= least,
    "maxLength": lambda _compiler, most: lambda value: len(value) <= most,
    "minItems": lambda _compiler, least: lambda value: len(value) >= least,
    "minimum": lambda _compiler, least: lambda value: value >= least,
    "maximum": lambda _compiler, most: lambda value: value <= most,
    "exclusiveMinimum": lambda _compiler, bound: lambda value: value > bound,
    "uniqueItems": lambda _compiler, _yes: lambda value: len(set(map(repr, value))) == len(value),
    "items": Compiler.items,
    "oneOf": Compiler.one_of,
    "not": Compiler.negation,
    "$ref": Compiler.reference,
}
