"""What is wrong with a document, in words for the person who wrote it."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler.domain.errors import Problem, UsageError
from reconciler.domain.text import shorten
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted, plain

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from reconciler.providers.spec import ProviderSpec


_SUFFIX = ".schema.json"


def _folder() -> Path:
    packaged = Path(__file__).parent.parent / "schemas"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


def _kind(file: Path) -> str:
    return "".join(word.capitalize() for word in file.name.removesuffix(_SUFFIX).split("-"))


SCHEMA_KINDS: Mapping[str, Path] = {_kind(file): file for file in sorted(_folder().glob(f"*{_SUFFIX}"))}
"""The schema file of each kind of document: ``tuned-model.schema.json`` is that of TunedModel."""


def schema_text(kind: str) -> str:
    """The JSON Schema (2020-12) of a kind of document, as text; raises UsageError for a kind that is not known."""
    if kind not in SCHEMA_KINDS:
        near = difflib.get_close_matches(kind, SCHEMA_KINDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"the kinds are {', '.join(SCHEMA_KINDS)}"
        raise UsageError(f"there is no schema of the kind {kind}", remedy)
    return SCHEMA_KINDS[kind].read_text(encoding="utf-8")


@cache
def validator(kind: str) -> Validator:
    """Return a validator of a kind of document; see :func:`strict_validator`."""
    return strict_validator(json.loads(schema_text(kind)))


@cache
def target_validator(provider: ProviderSpec) -> Validator:
    """Return a validator of targets of a provider, whose schema describes its settings."""
    return strict_validator(with_providers(json.loads(schema_text("Target")), [provider]))


def with_providers(schema: dict[str, Any], providers: Iterable[ProviderSpec]) -> dict[str, Any]:
    """Return the schema of targets with the names and settings of these providers; the argument is changed."""
    fields = schema["properties"]["spec"]["properties"]
    for provider in providers:
        fields["provider"]["enum"] = list(dict.fromkeys([*fields["provider"]["enum"], provider.name]))
        if provider.settings is not None:
            fields[provider.name] = dict(provider.settings)
    return schema


def strict_validator(schema: Mapping[str, Any]) -> Validator:
    """Return a validator that finds every error.

    Numbers are finite, and ``$`` is the very end of a text, as in ECMA-262.
    """
    # Here, because importing jsonschema takes longer than most commands that check nothing.
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_validator: Any, expression: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not matches(expression)(value):
            yield ValidationError(f"{value!r} does not match {expression!r}")

    numbers = Draft202012Validator.TYPE_CHECKER.redefine("number", lambda _checker, value: _is_number(value))
    strict: type[Validator] = extend(  # type: ignore[no-untyped-call] # the stubs leave the function untyped
        Draft202012Validator, {"pattern": pattern}, type_checker=numbers
    )
    return strict(schema)


@cache
def matches(pattern: str) -> Callable[[str], object]:
    """Search for an ECMA-262 pattern of the kind that our schemas use."""
    return re.compile(re.sub(r"\$$", r"\\Z", pattern)).search


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


Finding = tuple[FieldPath, str, str]
"""The path of a field, what is wrong with it and what to do."""

_LISTED_NAMES = 12
_ALIKE = 0.65
"""How much a known name resembles another (difflib's ratio) when it was probably meant: batchSize is no adapterSize."""
_WANTED = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}
_REMEDIES = {
    "object": "write its fields as indented `name: value` lines",
    "array": "write its items as `- item` lines",
    "string": "write a text",
    "boolean": "write true or false",
    "integer": "write a whole number",
    "number": "write a number",
}

_KINDS: Mapping[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}
_UNQUOTED: Mapping[str, tuple[type, ...]] = {"boolean": (bool,), "integer": (int,), "number": (int, float)}


def explain(document: Document, kind: str, schema: Validator | None = None) -> list[Problem]:
    """Return every violation of the schema of a kind, or of ``schema`` in its place."""
    errors = (schema or validator(kind)).iter_errors(document.value)
    found = (
        Problem(document.place(path, key=_is_about_key(error)), dotted(path), message, remedy)
        for error in errors
        for path, message, remedy in _EXPLAINED[str(error.validator)](error, list(error.absolute_path))
    )
    return list(dict.fromkeys(found))


def is_told(path: str, found: Iterable[Problem]) -> bool:
    """Whether the field at this path, or one in it, has a problem already."""
    return any(f"{problem.path}.".startswith((f"{path}.", f"{path}[")) for problem in found)


def suggest(wrong: str, known: Iterable[str]) -> str:
    """A remedy for a name that is not known: the one that was probably meant, else all of them if they are few."""
    names = list(known)
    if not names:
        return "delete it"
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=_ALIKE) or [
        name for name in names if name.lower() == wrong.lower()
    ]
    if near:
        return f"did you mean {near[0]}?"
    return f"use one of {', '.join(names)}" if len(names) <= _LISTED_NAMES else "delete it"


def choices(wrong: str, known: Iterable[str]) -> str:
    """The first names that are known, joined by commas, and the one that was probably meant."""
    names = [shorten(name) for name in known]
    near = difflib.get_close_matches(wrong, names, n=1)
    listed = ", ".join(names[:_LISTED_NAMES]) + (", …" if len(names) > _LISTED_NAMES else "")
    return f"{listed} (did you mean {near[0]}?)" if near else listed


def shown(value: Any) -> str:
    """A value in a message: its kind and, when short, itself."""
    if isinstance(value, str):
        return f'the text "{shorten(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    return f"the number {_number(value)}" if isinstance(value, int | float) else kind(value)


def kind(value: Any) -> str:
    """What a value is, without a word of what it says."""
    return "empty" if value is None else _KINDS[type(value)]


def counted(number: int, noun: str) -> str:
    """``1 field``, ``1,000 fields``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _number(value: float) -> str:
    return f"{value:.16g}" if math.isfinite(value) else f"{value:+}".replace("+", ".").replace("-", "-.")


def _is_about_key(error: Any) -> bool:
    return error.validator in {"additionalProperties", "required", "oneOf", "not"} or _is_key(error)


def _is_key(error: Any) -> bool:
    return "propertyNames" in error.absolute_schema_path


def _unknown(error: Any, path: list[Any]) -> Iterator[Finding]:
    known = error.schema["properties"]
    free = [name for name in known if name not in error.instance]
    for name in error.instance:
        if name not in known:
            yield [*path, name], "is an unknown field", suggest(name, free)


def _missing(error: Any, path: list[Any]) -> Iterator[Finding]:
    for name in error.validator_value:
        if name not in error.instance:
            yield [*path, name], "is missing", "add it"


def _type(error: Any, path: list[Any]) -> Iterator[Finding]:
    wanted, value = str(error.validator_value), error.instance
    yield path, f"must be {_WANTED[wanted]}, is {shown(value)}", _type_remedy(wanted, value)


def _type_remedy(wanted: str, value: Any) -> str:
    if value is None:
        return f"{_REMEDIES[wanted]}, or delete the line"
    if isinstance(value, str) and type(_meant(value)) in _UNQUOTED.get(wanted, ()):
        return "remove the quotes"
    if wanted == "string" and not isinstance(value, dict | list):
        return "put it in quotes"
    return _REMEDIES[wanted]


def _meant(text: str) -> Any:
    try:
        return plain(text)
    except ValueError:
        return text


def _one_of_names(error: Any, path: list[Any]) -> Iterator[Finding]:
    if not isinstance(error.instance, dict):
        return
    names = [schema["required"][0] for schema in error.validator_value]
    there = [name for name in names if name in error.instance]
    if there:
        yield [*path, there[1]], f"{_joined(there, 'and')} exclude each other", "keep one of them"
    else:
        yield path, f"needs {_joined(names, 'or')}", "add one of them"


def _excluded(error: Any, path: list[Any]) -> Iterator[Finding]:
    if isinstance(error.instance, dict):
        names = error.validator_value["required"]
        yield [*path, names[-1]], f"{_joined(names, 'and')} exclude each other", "keep one of them"


def _joined(names: Sequence[str], word: str) -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def _enum(error: Any, path: list[Any]) -> Iterator[Finding]:
    allowed = [str(value) for value in error.validator_value]
    value = error.instance
    near = difflib.get_close_matches(value, allowed, n=1) if isinstance(value, str) else []
    remedy = f"did you mean {near[0]}?" if near else "use one of these"
    yield path, f"must be {_joined(allowed, 'or')}, is {shown(value)}", remedy


def _const(error: Any, path: list[Any]) -> Iterator[Finding]:
    wanted = str(error.validator_value).lower() if isinstance(error.validator_value, bool) else error.validator_value
    yield path, f"must be {wanted}, is {shown(error.instance)}", f"write {wanted}"


def _pattern(error: Any, path: list[Any]) -> Iterator[Finding]:
    where = [*path, error.instance] if _is_key(error) else path
    if error.instance or _is_key(error):
        yield where, f'"{shorten(error.instance)}" is not allowed here', error.schema["patternErrorMessage"]
    else:
        yield where, "is empty", error.schema["patternErrorMessage"]


def _too_short(_error: Any, path: list[Any]) -> Iterator[Finding]:
    yield path, "is empty", "write something, or delete the line"


def _too_long(error: Any, path: list[Any]) -> Iterator[Finding]:
    length, most = len(error.instance), error.validator_value
    yield path, f"has {length} characters, where {most} are allowed", "shorten it"


def _too_small(error: Any, path: list[Any]) -> Iterator[Finding]:
    yield path, f"must be at least {error.validator_value}, is {_number(error.instance)}", "raise it"


def _not_above(error: Any, path: list[Any]) -> Iterator[Finding]:
    yield path, f"must be more than {error.validator_value}, is {_number(error.instance)}", "raise it"


def _too_large(error: Any, path: list[Any]) -> Iterator[Finding]:
    yield path, f"must be at most {error.validator_value}, is {_number(error.instance)}", "lower it"


def _repeated(error: Any, path: list[Any]) -> Iterator[Finding]:
    items = error.instance
    for index, item in enumerate(items):
        if item in items[:index]:
            yield [*path, index], f"{shown(item)} stands in this list twice", "delete one of them"


_EXPLAINED: Mapping[str, Callable[[Any, list[Any]], Iterator[Finding]]] = {
    "additionalProperties": _unknown,
    "required": _missing,
    "type": _type,
    "oneOf": _one_of_names,
    "not": _excluded,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "minLength": _too_short,
    "minItems": _too_short,
    "maxLength": _too_long,
    "minimum": _too_small,
    "exclusiveMinimum": _not_above,
    "maximum": _too_large,
    "uniqueItems": _repeated,
}


_CONFIDENTIAL: Final = re.compile(r"spec\.(dataset|checks|\w+\.validationDataset)\b")


_QUOTED: Final = (
    (re.compile(r'the text ".*"', re.DOTALL), "a text"),
    (re.compile(r"the number \S+"), "a number"),
    (re.compile(r'".*"', re.DOTALL), '"…"'),
    (re.compile(r"(that RE2 takes: [^:]*).*", re.DOTALL), r"\1"),
    (re.compile(r"(to one that is there): .*", re.DOTALL), r"\1"),
)
"""What messages quote: values of fields, parts of expressions, and headers, which may be an example in disguise."""


def discreet_problems(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The problems, in which no part of an example, a prompt or an expectation stands."""
    for problem in problems:
        if _CONFIDENTIAL.match(problem.path):
            yield replace(problem, message=_discreet(problem.message), remedy=_discreet(problem.remedy))
        else:
            yield problem


def _discreet(text: str) -> str:
    for quoted, stand_in in _QUOTED:
        text = quoted.sub(stand_in, text)
    return text
