"""Examples in Vertex AI's own form, one JSON object each.

The form: https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-prepare
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any

import rfc8785

from reconciler.domain.text import shorten
from reconciler.manifests.datasets.records import text_faults
from reconciler.manifests.schema_validation import shown, suggest

Finding = tuple[str, str]
"""What is wrong, and what to do."""

_MEMBERS = ("contents", "systemInstruction", "tools")
_TURNS = "let user and model take turns, beginning with user"
_PARTS = 'write [{"text": "…"}]'


def canonical(value: Mapping[str, Any]) -> str:
    """The object as RFC 8785 canonical JSON; raises ValueError, with a message for people, when it has no such form."""
    try:
        line = _COMPACT.encode(value) if _is_plain(value) else rfc8785.dumps(value).decode()
        line.encode()
    except (rfc8785.IntegerDomainError, rfc8785.FloatDomainError):
        raise ValueError("holds a number that not every reader of JSON would read alike") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except ValueError:
        raise ValueError("holds half of a surrogate pair") from None
    return line


def _is_plain(value: Any) -> bool:
    """Whether the standard library writes the value as RFC 8785 does; what it makes of numbers and keys may differ."""
    if isinstance(value, dict):
        return all(map(str.isascii, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool)


def conversation_faults(value: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that is wrong with an example in this form."""
    for name in value:
        if name not in _MEMBERS:
            free = [member for member in _MEMBERS if member not in value]
            yield f'has an unknown member "{shorten(name)}"', suggest(name, free)
    if "systemInstruction" in value:
        yield from _object(value["systemInstruction"], "systemInstruction", _parts)
    yield from _list(value["contents"], "contents", "write what user and model say", _turns)


def _turns(turns: list[Any], where: str) -> Iterator[Finding]:
    for index, (turn, role) in enumerate(zip(turns, cycle(("user", "model")), strict=False)):
        at = f"{where}[{index}]"
        if isinstance(turn, dict) and turn.get("role") != role:
            is_now = f"is {shown(turn['role'])}" if "role" in turn else "is missing"
            yield f"{at}.role must be {role}, {is_now}", _TURNS
            return
        yield from _object(turn, at, _parts)
    if len(turns) % 2:
        yield f"{where} ends with user", "end with what the model should say"


def _parts(content: Mapping[str, Any], where: str) -> Iterator[Finding]:
    yield from _list(content.get("parts"), f"{where}.parts", _PARTS, _each_part)


def _each_part(parts: list[Any], where: str) -> Iterator[Finding]:
    for index, part in enumerate(parts):
        yield from _object(part, f"{where}[{index}]", _text)


def _text(part: Mapping[str, Any], where: str) -> Iterator[Finding]:
    text = part.get("text", "-")
    if not isinstance(text, str):
        yield f"{where}.text must be a text, is {shown(text)}", "put it in double quotes"
        return
    for message, remedy in text_faults(text):
        yield f"{where}.text {message}", remedy


def _object(value: Any, where: str, within: Callable[[Mapping[str, Any], str], Iterator[Finding]]) -> Iterator[Finding]:
    if isinstance(value, dict) and value:
        yield from within(value, where)
    else:
        yield f"{where} is {_what(value)}, where an object is expected", "write {…}"


def _list(
    value: Any, where: str, remedy: str, within: Callable[[list[Any], str], Iterator[Finding]]
) -> Iterator[Finding]:
    if isinstance(value, list) and value:
        yield from within(value, where)
    else:
        yield f"{where} is {_what(value)}, where a list is expected", remedy


def _what(value: Any) -> str:
    return shown(value) if value else "empty"


_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
