"""Escape text from services and manifests for a terminal or a log."""

from __future__ import annotations

from typing import Final

from reconciler.domain.text import STEERING

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


def encodable(text: str, encoding: str) -> str:
    """Return the text for a stream of that encoding: our own signs in ASCII, other characters escaped."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text
