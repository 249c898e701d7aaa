"""How much of a manifest or a data set a message quotes."""

from __future__ import annotations

from reconciler.core import shorten

_SHOWN_CHARACTERS = 40


def shortened(text: str) -> str:
    """The text on one line, cut where it is long."""
    return shorten.shortened(text, _SHOWN_CHARACTERS)
