"""Partial responses: the ``fields`` query parameter of Google's REST APIs (``a,b(c,d/e),f/*``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.emulator.errors import ApiError, Code, Violation
from reconciler.emulator.proto import Message

Selection = Mapping[str, "Selection | None"]
"""The selected fields by JSON name with the selection inside each; ``None`` selects everything."""

_TOKEN = re.compile(r"[(),/*]|@?[A-Za-z][A-Za-z0-9_]*")
_MAX_LENGTH = 4000


def parse_fields(text: str, message: Message) -> Selection | None:
    """Return the selection of a ``fields`` parameter for a response message; an empty one selects everything.

    Raises ApiError for a malformed parameter and for unknown fields.
    """
    if not text:
        return None
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != "".join(text.split()) or len(text) > _MAX_LENGTH:
        raise _invalid(text)
    reader = iter([*tokens, ""])
    selection, end = _selection(reader, message, text)
    if end:
        raise _invalid(text)
    return selection


def _selection(tokens: Iterator[str], message: Message, text: str) -> tuple[Selection | None, str]:
    """Read ``a,b/c,d(e)`` up to a closing bracket or the end, which is also returned."""
    selected: dict[str, Selection | None] = {}
    end = ","
    while end == ",":
        name, inner, end = _path(tokens, message, text)
        for field in message.fields if name == "*" else (name,):
            selected[field] = _merge(selected[field], inner) if field in selected else inner
    return selected, end


def _path(tokens: Iterator[str], message: Message, text: str) -> tuple[str, Selection | None, str]:
    """Read ``a``, ``a/b/c`` or ``a(…)``: a name, the selection inside, and the token that follows."""
    spelling = next(tokens)
    name = "*" if spelling == "*" else message.json_names.get(spelling)
    if name is None:
        raise _invalid(spelling or text)
    end = next(tokens)
    if end not in ("/", "("):
        return name, None, end
    inside = None if name == "*" else message.fields[name].message
    if inside is None:
        raise _invalid(text)
    if end == "(":
        selection, end = _selection(tokens, inside, text)
        if end != ")":
            raise _invalid(text)
        return name, selection, next(tokens)
    child, selection, end = _path(tokens, inside, text)
    return name, dict.fromkeys(inside.fields, selection) if child == "*" else {child: selection}, end


def _merge(left: Selection | None, right: Selection | None) -> Selection | None:
    if left is None or right is None:
        return None
    merged = {**left, **right}
    merged.update({name: _merge(left[name], right[name]) for name in left if name in right})
    return merged


def _invalid(path: str) -> ApiError:
    description = f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'."
    return ApiError(
        Code.INVALID_ARGUMENT,
        f"Request contains an invalid argument. {description}",
        [Violation("fields", description)],
    )


def includes(selection: Selection | None, *path: str) -> bool:
    """Return whether any part of the field at this path is selected."""
    for name in path:
        if selection is None:
            return True
        if name not in selection:
            return False
        selection = selection[name]
    return True


def select(value: Any, selection: Selection | None) -> Any:
    """Return the selected part of a message, or of each message of a list."""
    if selection is None:
        return value
    if isinstance(value, list):
        return [select(message, selection) for message in value]
    return {name: select(value[name], inside) for name, inside in selection.items() if name in value}
