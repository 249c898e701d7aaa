"""Phrases that messages share: suggestions, cut lists and cut texts."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def suggest(value: str, choices: Iterable[str], *, otherwise: str = "", cutoff: float = 0.6) -> str:
    """Return ``did you mean NAME?`` for the choice most like the value, or ``otherwise`` where none is like it.

    ``cutoff`` is the least similarity, from 0 to 1, as :func:`difflib.get_close_matches` measures it.
    """
    matches = difflib.get_close_matches(value, list(choices), n=1, cutoff=cutoff)
    return f"did you mean {matches[0]}?" if matches else otherwise


def join_names(names: Collection[str], most: int | None = None, *, none: str = "none") -> str:
    """Return ``a, b and 3 more``: at most ``most`` names, and the count of the others."""
    shown = list(names)[:most]
    hidden = len(names) - len(shown)
    listed = ", ".join(shown) or none
    return f"{listed} and {hidden} more" if hidden else listed


def shorten(text: str, room: int = 40) -> str:
    """Return the text on one line of at most ``room`` characters; a longer one ends with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= room else f"{line[: room - 1]}…"
