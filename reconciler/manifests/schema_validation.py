"""Validate documents against the JSON Schema of their kind; each error has a place, a field and a remedy.

The jsonschema library reports every error and is slow to import, so it is only used for documents that fail here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.json import schema_components

from reconciler.domain.errors import Problem, UsageError
from reconciler.domain.text import format_number, invalid, join_names, one_of, quote, suggest, suggest_name
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted, parse_scalar

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from reconciler.providers.spec import ProviderSpec


_ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "examples", "default", "patternErrorMessage", "enumRemedies"}
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


_IS_OF_TYPE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and value == int(value),
    "number": is_number,
    "null": lambda value: value is None,
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

    def type(self, names: Any, value: Any, _schema: Any) -> bool:
        types = [_IS_OF_TYPE.get(str(name)) for name in (names if isinstance(names, list) else [names])]
        if None in types:
            raise UnsupportedError(names)
        return any(is_type(value) for is_type in types if is_type)

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
    "maxItems": lambda _, length, value, __: not isinstance(value, list) or len(value) <= length,
    "uniqueItems": lambda _, unique, value, __: not unique or _is_unique(value),
    "minimum": lambda _, limit, value, __: not is_number(value) or value >= limit,
    "maximum": lambda _, limit, value, __: not is_number(value) or value <= limit,
    "exclusiveMinimum": lambda _, limit, value, __: not is_number(value) or value > limit,
}


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


def kustomize_configuration() -> str:
    """Return the configuration with which kustomize changes references to models together with their names."""
    return (_directory() / "kustomize.yaml").read_text(encoding="utf-8")


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


def with_records(schema: dict[str, Any], providers: Iterable[ProviderSpec]) -> dict[str, Any]:
    """Return the schema of lockfiles with what these providers record for themselves; the argument is changed."""
    for provider in providers:
        if provider.record is None:
            continue
        template = f"#/$defs/{provider.name}.{{name}}"
        (record,), definitions = schema_components([provider.record], ref_template=template)
        schema["$defs"] |= {f"{provider.name}.{name}": definition for name, definition in definitions.items()}
        generations = {"type": "array", "items": {"properties": {"providerData": record}}}
        models = {"additionalProperties": {"properties": {"generations": generations}}}
        target = {"properties": {"provider": {"const": provider.name}}, "required": ["provider"]}
        same = {"properties": {"target": target}, "required": ["target"]}
        rule = {"if": same, "then": {"properties": {"models": models}}}
        schema["allOf"] = [*schema.get("allOf", ()), rule]
    return schema


def full_schema_text(kind: str) -> str:
    """Return the JSON Schema of a kind as text; Target and Lock have the types of installed providers."""
    extend = {"Target": with_providers, "Lock": with_records}.get(kind)
    if extend is None:
        return schema_text(kind).rstrip()
    from reconciler.providers.registry import provider_names, provider_spec

    schema = extend(json.loads(schema_text(kind)), map(provider_spec, provider_names()))
    return json.dumps(schema, indent=2, ensure_ascii=False)


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


IGNORED: Final = {"$ref": "#/$defs/kubernetes"}
"""The schema of a field that is accepted, and that no user needs."""


def _unknown(error: Any, path: list[Any]) -> Iterator[Finding]:
    known = error.schema["properties"]
    unused = [name for name in known if name not in error.instance]
    useful = [name for name in unused if known[name] != IGNORED]
    for name in error.instance:
        if name not in known:
            similar = suggest(name, unused, cutoff=0.8)
            yield [*path, name], f"unknown field {quote(name)}", similar or suggest_name(name, useful)


def _missing(error: Any, path: list[Any]) -> Iterator[Finding]:
    for name in error.validator_value:
        if name not in error.instance:
            yield [*path, name], "missing required field", "add it"


def _type(error: Any, path: list[Any]) -> Iterator[Finding]:
    value = error.validator_value
    types = [value] if isinstance(value, str) else [name for name in value if name != "null"]
    expected = " or ".join(_TYPES[name][0] for name in types)
    yield path, invalid(error.instance, expected), _type_remedy(types[-1], error)


def _fields_example(schema: Mapping[str, Any]) -> str:
    """Return a mapping with the first field of a schema; empty if it has no example."""
    for name, field in schema.get("properties", {}).items():
        for example in field.get("examples", ())[:1]:
            return f"{{{name}: {example}}}"
    return ""


def _type_remedy(expected: str, error: Any) -> str:
    value, remedy = error.instance, _TYPES[expected][1]
    if isinstance(value, str) and type(_unquoted(value)) in _UNQUOTED.get(expected, ()):
        return "remove the quotes"
    if expected == "string" and value is not None and not isinstance(value, dict | list):
        fits = "pattern" not in error.schema or matches(error.schema["pattern"])(str(value))
        return "put it in quotes" if fits else str(error.schema["patternErrorMessage"])
    if expected == "integer" and "minimum" in error.schema:
        remedy += f" of at least {error.schema['minimum']}"
    if expected != "object" and (fields := _fields_example(error.schema)):
        remedy += f", or fields as in {fields}"
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


_LISTED: Final = 10
"""How many allowed values an error lists."""


def _enum(error: Any, path: list[Any]) -> Iterator[Finding]:
    allowed = [str(value) for value in error.validator_value]
    expected, remedy = one_of(allowed), "set one of these"
    if len(allowed) > _LISTED:
        names = [step for step in path if isinstance(step, str)]
        fields = ".".join(["target", *names] if "stages" in names else names)  # checks are in targets too
        expected = join_names(allowed, _LISTED)
        remedy = f"set one of these; run `reconcile explain {fields}` for all of them"
    if isinstance(error.instance, str):
        remedies = error.schema.get("enumRemedies", {})
        remedy = remedies.get(error.instance) or suggest(error.instance, allowed, otherwise=remedy)
    yield path, invalid(error.instance, expected), remedy


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


def _too_many(error: Any, path: list[Any]) -> Iterator[Finding]:
    yield path, f"{len(error.instance)} items exceed the limit of {error.validator_value}", "remove some of them"


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
    "maxItems": _too_many,
    "minimum": _out_of_range("at least", "increase it"),
    "exclusiveMinimum": _out_of_range("more than", "increase it"),
    "maximum": _out_of_range("at most", "decrease it"),
    "uniqueItems": _repeated,
}
