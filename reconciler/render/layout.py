"""Lines of text: a style hook that decides colour, and entries whose text is folded to a width."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Final, Literal

from reconciler.render.safe import terminal_safe

Role = Literal["heading", "create", "update", "promote", "retire", "hold", "wait", "muted", "warning", "error", "good"]
Style = Callable[[Role, str], str]
"""Colours a piece of text by its role; it adds nothing that is needed to understand the text."""

_NARROWEST: Final = 20
"""Folding to fewer columns than this is worse than a line that is too long."""

_HANGING: Final = 6
"""The indent of a body that is put below its head."""

_ANSI: Final[dict[Role, str]] = {
    "heading": "1",
    "create": "32",
    "update": "33",
    "promote": "36",
    "retire": "31",
    "hold": "31",
    "wait": "34",
    "muted": "2",
    "warning": "33",
    "error": "31",
    "good": "32",
}


def plain(_role: Role, text: str) -> str:
    """No colour."""
    return text


def ansi(role: Role, text: str) -> str:
    """The colours of an ANSI terminal."""
    return f"\x1b[{_ANSI[role]}m{text}\x1b[0m"


def folded(head: str, body: str, width: int | None) -> Iterator[tuple[str, str]]:
    """The body beside its head, folded to ``width`` columns; each further line is indented to the head's length.

    Words are never broken, so that what is copied stays whole. A body with a word that fits into the width and not
    beside the head stands below the head.
    """
    if width is None:
        yield head, body
        return
    room = max(width - len(head), _NARROWEST)
    if room < max(map(len, body.split()), default=0) <= width - _HANGING:
        yield head.rstrip(), ""
        head, room = " " * _HANGING, width - _HANGING
    lines = textwrap.wrap(body, room, break_long_words=False, break_on_hyphens=False) or [""]
    yield head, lines[0]
    yield from ((" " * len(head), line) for line in lines[1:])


def told(head: str, text: str, width: int | None) -> Iterator[tuple[str, str]]:
    """A text from anywhere beside its head, made safe and folded; its own lines stay lines, all of them indented."""
    for line in text.split("\n"):
        yield from folded(head, terminal_safe(line), width)
        head = " " * len(head)
