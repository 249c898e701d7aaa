"""Validate documents against the JSON Schema of their kind; each error has a place, a field and a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.domain.errors import Problem, UsageError
from reconciler.domain.text import format_number, invalid, join_names, one_of, quote, suggest, suggest_name
from reconciler.manifests.schema_check import is_number, is_valid, matches
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted, parse_scalar

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from reconciler.providers.spec import ProviderSpec


_SUFFIX = ".schema.json"


def _directory() -> Path:
    packaged = Path(__file__).parent.parent / "schemas"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


def _kind(file: Path) -> str:
    return "".join(word.capitalize() for word in file.name.removesuffix(_SUFFIX).split("-"))


SCHEMA_KINDS: Mapping[str, Path] = {_kind(file): file for file in sorted(_directory().glob(f"*{_SUFFIX}"))}
"""The schema file of each kind of document: ``tuned-model.schema.json`` for TunedModel."""


def schema_text(kind: str) -> str:
    """Return the JSON Schema (2020-12) of a kind of document as text; raises UsageError for an unknown kind."""
    if kind not in SCHEMA_KINDS:
        remedy = suggest(kind, SCHEMA_KINDS, otherwise=f"choose one of {join_names(SCHEMA_KINDS)}")
        raise UsageError(f'unknown kind "{kind}"', remedy)
    return SCHEMA_KINDS[kind].read_text(encoding="utf-8")


@cache
def schema_of(kind: str) -> Mapping[str, Any]:
    """Return the JSON Schema of a kind of document."""
    schema: dict[str, Any] = json.loads(schema_text(kind))
    return schema


@cache
def validator(kind: str) -> Validator:
    """Return a validator of a kind of document; see :func:`strict_validator`."""
    return strict_validator(schema_of(kind))


@cache
def target_schema(provider: ProviderSpec) -> Mapping[str, Any]:
    """Return the schema of targets of a provider, which describes its settings."""
    return with_providers(json.loads(schema_text("Target")), [provider])


def with_providers(schema: dict[str, Any], providers: Iterable[ProviderSpec]) -> dict[str, Any]:
    """Return the schema of targets with the names and settings of these providers; the argument is changed."""
    fields = schema["properties"]["spec"]["properties"]
    for provider in providers:
        fields["provider"]["enum"] = list(dict.fromkeys([*fields["provider"]["enum"], provider.name]))
        if provider.settings is not None:
            fields[provider.name] = dict(provider.settings)
    return schema


def strict_validator(schema: Mapping[str, Any]) -> Validator:
    """Return a validator that accepts only finite numbers, and matches ``$`` only at the end of a string (ECMA-262)."""
    # Imported here, because it takes longer than most commands, and valid documents do not need it.
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_validator: Any, expression: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not matches(expression)(value):
            yield ValidationError(f"{value!r} does not match {expression!r}")

    numbers = Draft202012Validator.TYPE_CHECKER.redefine("number", lambda _checker, value: is_number(value))
    strict: type[Validator] = extend(  # type: ignore[no-untyped-call] # the stubs leave the function untyped
        Draft202012Validator, {"pattern": pattern}, type_checker=numbers
    )
    return strict(schema)


Finding = tuple[FieldPath, str, str]
"""The path of a field, the message and the remedy."""

_TYPES: Mapping[str, tuple[str, str]] = {
    "object": ("a mapping", "write its fields as indented `name: value` lines"),
    "array": ("a list", "write its items as `- value` lines"),
    "string": ("a string", "set a string"),
    "boolean": ("true or false", "set true or false"),
    "integer": ("a whole number", "set a whole number"),
    "number": ("a number", "set a number"),
}
"""What is expected for each type of JSON Schema, and the remedy."""
_UNQUOTED: Mapping[str, tuple[type, ...]] = {"boolean": (bool,), "integer": (int,), "number": (int, float)}


def explain(document: YamlDocument, kind: str, schema: Mapping[str, Any] | None = None) -> list[Problem]:
    """Return every violation of the schema of a kind, or of ``schema`` in its place."""
    if is_valid(schema or schema_of(kind), document.value):
        return []
    errors = (strict_validator(schema) if schema else validator(kind)).iter_errors(document.value)
    found = (
        Problem(document.place(path, key=_is_about_key(error)), dotted(path), message, remedy)
        for error in errors
        for path, message, remedy in _EXPLANATIONS[str(error.validator)](error, list(error.absolute_path))
    )
    return list(dict.fromkeys(found))


def has_problem(path: str, problems: Iterable[Problem]) -> bool:
    """Return whether the field at this path, or one in it, has a problem."""
    return any(f"{problem.path}.".startswith((f"{path}.", f"{path}[")) for problem in problems)


def _is_about_key(error: Any) -> bool:
    return error.validator in {"additionalProperties", "required", "oneOf", "not"} or _is_key(error)


def _is_key(error: Any) -> bool:
    return "propertyNames" in error.absolute_schema_path


def _unknown(error: Any, path: list[Any]) -> Iterator[Finding]:
    known = error.schema["properties"]
    unused = [name for name in known if name not in error.instance]
    for name in error.instance:
        if name not in known:
            yield [*path, name], f"unknown field {quote(name)}", suggest_name(name, unused)


def _missing(error: Any, path: list[Any]) -> Iterator[Finding]:
    for name in error.validator_value:
        if name not in error.instance:
            yield [*path, name], "missing required field", "add it"


def _type(error: Any, path: list[Any]) -> Iterator[Finding]:
    expected = str(error.validator_value)
    yield path, invalid(error.instance, _TYPES[expected][0]), _type_remedy(expected, error)


def _type_remedy(expected: str, error: Any) -> str:
    value, remedy = error.instance, _TYPES[expected][1]
    if isinstance(value, str) and type(_unquoted(value)) in _UNQUOTED.get(expected, ()):
        return "remove the quotes"
    if expected == "string" and value is not None and not isinstance(value, dict | list):
        return "put it in quotes"
    if expected == "integer" and "minimum" in error.schema:
        remedy += f" of at least {error.schema['minimum']}"
    return f"{remedy}, or delete the line" if value is None else remedy


def _unquoted(text: str) -> Any:
    try:
        return parse_scalar(text)
    except ValueError:
        return text


def _one_field_of(error: Any, path: list[Any]) -> Iterator[Finding]:
    if not isinstance(error.instance, dict):
        return
    names = [schema["required"][0] for schema in error.validator_value]
    present = [name for name in names if name in error.instance]
    if present:
        yield _mutually_exclusive(present, [*path, present[1]])
    else:
        yield path, f"missing required field: {one_of(names)}", "add one of them"


def _excluded(error: Any, path: list[Any]) -> Iterator[Finding]:
    if isinstance(error.instance, dict):
        names = error.validator_value["required"]
        yield _mutually_exclusive(names, [*path, names[-1]])


def _mutually_exclusive(names: list[str], path: list[Any]) -> Finding:
    return path, f"{one_of(names, 'and')} are mutually exclusive", "keep one of them"


def _enum(error: Any, path: list[Any]) -> Iterator[Finding]:
    allowed = [str(value) for value in error.validator_value]
    remedy = "set one of these"
    if isinstance(error.instance, str):
        remedy = suggest(error.instance, allowed, otherwise=remedy)
    yield path, invalid(error.instance, one_of(allowed)), remedy


def _const(error: Any, path: list[Any]) -> Iterator[Finding]:
    constant = error.validator_value
    expected = str(constant).lower() if isinstance(constant, bool) else constant
    yield path, invalid(error.instance, expected), f"set {expected}"


def _pattern(error: Any, path: list[Any]) -> Iterator[Finding]:
    remedy = error.schema["patternErrorMessage"]
    if _is_key(error):
        yield [*path, error.instance], f"invalid key {quote(error.instance)}", remedy
    else:
        yield path, f"invalid value {quote(error.instance)}" if error.instance else "empty value", remedy


def _too_short(error: Any, path: list[Any]) -> Iterator[Finding]:
    yield path, f"empty {'list' if isinstance(error.instance, list) else 'value'}", "set a value, or delete the line"


def _too_long(error: Any, path: list[Any]) -> Iterator[Finding]:
    yield path, f"{len(error.instance)} characters exceed the limit of {error.validator_value}", "shorten it"


def _out_of_range(expected: str, remedy: str) -> Callable[[Any, list[Any]], Iterator[Finding]]:
    def explanation(error: Any, path: list[Any]) -> Iterator[Finding]:
        value = format_number(error.instance)
        yield path, f"invalid value {value}: expected {expected} {error.validator_value}", remedy

    return explanation


def _repeated(error: Any, path: list[Any]) -> Iterator[Finding]:
    values = error.instance
    for index, value in enumerate(values):
        if value in values[:index] and isinstance(value, str | int | float):
            yield [*path, index], f"duplicate value {quote(value)}", "remove it"


_EXPLANATIONS: Mapping[str, Callable[[Any, list[Any]], Iterator[Finding]]] = {
    "additionalProperties": _unknown,
    "required": _missing,
    "type": _type,
    "oneOf": _one_field_of,
    "not": _excluded,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "minLength": _too_short,
    "minItems": _too_short,
    "maxLength": _too_long,
    "minimum": _out_of_range("at least", "increase it"),
    "exclusiveMinimum": _out_of_range("more than", "increase it"),
    "maximum": _out_of_range("at most", "decrease it"),
    "uniqueItems": _repeated,
}
