"""Phrases that messages share (suggestions, quoted values, lists), and text that is escaped, cut or decoded."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from reconciler.domain.errors import InvalidFile, Place

_MAX_RECEIVED_TEXT = 600
UNSEEN: Final = (
    r"\0-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that steer a terminal, reorder text or are invisible, as in a character class of a regular expression.

That is control characters, line ends, bidirectional and other format characters, halves of surrogate pairs, and what
Unicode ignores by default. Every output uses this one list.
"""
_ESCAPED: Final = re.compile(rf"[{UNSEEN}\ufffe\uffff]")
JOINERS: Final = r"\u200c\u200d\ufe0e\ufe0f"
"""Of these, those that Persian, several Indic scripts and emoji require; they do not hide or reorder text."""
STEERING: Final = re.compile(rf"(?![{JOINERS}])[{UNSEEN}]")
"""A character that text for people does not contain; JSON escapes joiners too, as it loses nothing by it."""
_STEERING_RUN: Final = re.compile(rf"(?:{STEERING.pattern})+")


def suggest(value: str, choices: Iterable[str], *, prefix: str = "", otherwise: str = "", cutoff: float = 0.6) -> str:
    """Return ``did you mean NAME?`` for the choice most like the value, or ``otherwise`` where none is like it.

    ``cutoff`` is the least similarity, from 0 to 1, as :func:`difflib.get_close_matches` measures it.
    """
    matches = difflib.get_close_matches(value, list(choices), n=1, cutoff=cutoff)
    return f"did you mean {prefix}{matches[0]}?" if matches else otherwise


def decode_unicode(data: bytes) -> str:
    """Return text in any encoding of Unicode for a search; invalid bytes are replaced."""
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    return data.decode(encoding, "replace")


def join_names(names: Collection[str], most: int | None = None, *, none: str = "none") -> str:
    """Return ``a, b and 3 more``: at most ``most`` names, and the count of the others."""
    shown = list(names)[:most]
    hidden = len(names) - len(shown)
    listed = ", ".join(shown) or none
    return f"{listed} and {hidden:,} more" if hidden else listed


def shorten(text: str, room: int = 40) -> str:
    """Return the text on one line of at most ``room`` characters; a longer one ends with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= room else f"{line[: room - 1]}…"


def sanitize(text: str) -> str:
    """Return text that a service sent on one line, at most 600 characters long and without its final period.

    Characters that steer a terminal or are invisible are replaced, and so are lone surrogates, which JSON can spell and
    UTF-8 cannot encode.
    """
    line = _STEERING_RUN.sub(" ", text).strip()
    return line[:_MAX_RECEIVED_TEXT].rstrip(". ") + ("…" if len(line) > _MAX_RECEIVED_TEXT else "")


def decode_utf8(data: bytes, file: str, remedy: str) -> str:
    """Return bytes as text; raises InvalidFile with line and column of the first byte that is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        problem = f"not UTF-8 text: invalid byte 0x{data[error.start]:02x}"
        raise InvalidFile(Place(file, line, column), "", problem, remedy) from error


_PLAIN: Final = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "x",
        "…": "...",
        "→": "->",
        "\N{EN DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "━": "-",
        "╸": "-",
        "─": "-",
        "│": "|",
        "├": "|",
        "└": "`",
        **dict.fromkeys("▁▂▃▄▅▆▇█", ""),
    }
)


def terminal_safe(text: str) -> str:
    r"""Return the text with everything escaped that steers a terminal or is invisible (``\x1b``, ``\u202e``).

    That is control characters with line breaks and tabs, bidirectional and other invisible formatting, and halves of
    surrogate pairs. The result is one line.
    """
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def quote_escaped(text: str) -> str:
    r"""Return the text in double quotes, with ``\U0000202E`` in place of each character of :data:`UNSEEN`.

    YAML and the strings of shells have these escapes, but not JSON's pairs of escapes for one character.
    """
    return _ESCAPED.sub(lambda found: f"\\U{ord(found[0]):08X}", json.dumps(text, ensure_ascii=False))


def encodable(text: str, encoding: str) -> str:
    """Return the text for a stream of that encoding: our own signs in ASCII, other characters escaped."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text


_MAX_NAMES = 16
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
