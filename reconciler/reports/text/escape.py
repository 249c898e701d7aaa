"""Escape text from services and manifests for a terminal or a log."""

from __future__ import annotations

import unicodedata
from typing import Final

_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS: Final = frozenset("\u200c\u200d")
"""Required for Persian, several Indic scripts and emoji; they do not hide or reorder text."""

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
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def encodable(text: str, encoding: str) -> str:
    """Return the text for a stream of that encoding: our own signs in ASCII, other characters escaped."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text
