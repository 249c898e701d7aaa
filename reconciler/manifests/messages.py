"""Phrases that the errors of manifests and data sets share, and the redaction of the values in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from reconciler.domain.errors import Problem
from reconciler.domain.text import join_names, shorten, suggest

_MAX_NAMES = 12
_CUTOFF = 0.65
"""How similar (difflib's ratio) a known field must be to be suggested: batchSize does not suggest adapterSize."""
_KINDS: Mapping[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "an empty value",
}
_CONFIDENTIAL: Final = re.compile(r"spec\.(dataset|checks|\w+\.validationDataset)\b")
_QUOTED: Final = (
    (re.compile(r'".*"', re.DOTALL), '"…"'),
    (re.compile(r'(invalid (?!regular )\S+ )[^\s":]+:'), r"\1…:"),
    (re.compile(r"(invalid regular expression: [^:]*).*", re.DOTALL), r"\1"),
    (re.compile(r"(to one of): .*", re.DOTALL), r"\1 the fields of the file"),
)
"""What messages quote: values, parts of regular expressions, and headers, which may be an example by mistake."""


def invalid(value: Any, expected: str, subject: str = "value") -> str:
    """Return a message such as ``invalid value "three": expected a whole number``."""
    if value is None:
        return f"empty {subject}: expected {expected}"
    if isinstance(value, dict | list):
        return f"invalid {subject}: expected {expected}, not {kind_of(value)}"
    return f"invalid {subject} {quote(value)}: expected {expected}"


def quote(value: Any) -> str:
    """Return a scalar as messages show it: a string is shortened and in double quotes."""
    if isinstance(value, str):
        return f'"{shorten(value)}"'
    return str(value).lower() if isinstance(value, bool) else format_number(value)


def format_number(value: float) -> str:
    """Return a number as YAML writes it."""
    return f"{value:.16g}" if math.isfinite(value) else f"{value:+}".replace("+", ".").replace("-", "-.")


def kind_of(value: Any) -> str:
    """Return the kind of a value, such as ``a mapping``, without its content."""
    return _KINDS[type(value)]


def counted(number: int, noun: str) -> str:
    """Return ``1 field`` or ``1,000 fields``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def exceeds_limit(service: str, limit: int) -> str:
    """Return the end of a message about a value above a limit of the service with this label."""
    return f"which exceeds the limit of {limit:,} for {service}"


def one_of(names: Sequence[str], word: str = "or") -> str:
    """Return ``a, b or c``."""
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else "".join(names)


def suggest_name(unknown: str, known: Iterable[str]) -> str:
    """Return the remedy for an unknown name: the similar known one, else the list of them if it is short."""
    names = list(known)
    equal = [name for name in names if name.lower() == unknown.lower()]
    listed = f"use one of {', '.join(names)}" if names and len(names) <= _MAX_NAMES else "remove it"
    return f"did you mean {equal[0]}?" if equal else suggest(unknown, names, otherwise=listed, cutoff=_CUTOFF)


def list_choices(value: str, known: Iterable[str]) -> str:
    """Return the known names as a list, and which one the value is similar to."""
    names = [shorten(name) for name in known]
    similar = suggest(value, names)
    return join_names(names, _MAX_NAMES, none="") + (f" ({similar})" if similar else "")


def redact_problems(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the problems without any part of an example, a prompt or an expected answer."""
    for problem in problems:
        if _CONFIDENTIAL.match(problem.path):
            yield replace(problem, message=_redact(problem.message), remedy=_redact(problem.remedy))
        else:
            yield problem


def _redact(text: str) -> str:
    for quoted, replacement in _QUOTED:
        text = quoted.sub(replacement, text)
    return text
