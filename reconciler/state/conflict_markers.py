"""Split a text with git's conflict markers into the sides of the merge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from reconciler.domain.errors import ReconcileError

_Side = Literal["ours", "base", "theirs"]
_SIDES: Final[tuple[_Side, ...]] = ("ours", "base", "theirs")
_FIRST_MARKER: Final = re.compile(r"<{7,}(?=[ \r\n]|$)")
_NEXT_SIDE: Final[Mapping[tuple[_Side | None, str], _Side | None]] = {
    (None, "<"): "ours",
    ("ours", "|"): "base",
    ("ours", "="): "theirs",
    ("base", "="): "theirs",
    ("theirs", ">"): None,
}
"""The side that begins at a marker, by the side before it; ``None`` is text that all sides share."""


class MergeSides(Struct, frozen=True):
    """The texts of both sides of a merge; ``base`` is ``None`` where the markers do not contain the ancestor.

    In the style ``zdiff3``, ``base`` also has the lines that both sides added.
    """

    ours: str
    theirs: str
    base: str | None = None


def has_conflict_markers(text: str) -> bool:
    """Whether a text has conflict markers."""
    return find_conflict_marker(text) is not None


def find_conflict_marker(text: str) -> int | None:
    """Return the offset of the first conflict marker, or ``None``; no line of JSON begins with one."""
    marker = re.search(r"^(<{7,}|>{7,})( |\r?$)", text, re.MULTILINE)
    return marker.start() if marker else None


def split_sides(text: str, file: str) -> MergeSides:
    """Split a text with markers of git's default style, ``diff3`` or ``zdiff3``; ``file`` is its name in messages.

    Raises:
        ReconcileError: the markers do not pair up.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # str.splitlines also splits inside JSON strings
    size = next((len(first[0]) for line in lines if (first := _FIRST_MARKER.match(line))), 0)
    marker = re.compile(rf"([<|=>])\1{{{max(size - 1, 6)}}}( |$)")
    texts: dict[_Side, list[str]] = {side: [] for side in _SIDES}
    current: _Side | None = None
    conflicts = bases = 0
    for number, line in enumerate(lines, start=1):
        match = marker.match(line.rstrip("\r\n"))
        if match is None:
            for side in (current,) if current else _SIDES:
                texts[side].append(line)
            continue
        if (current, match[1]) not in _NEXT_SIDE:
            raise _unpaired(file, f"line {number} has an unexpected marker")
        current = _NEXT_SIDE[current, match[1]]
        conflicts += match[1] == "<"
        bases += match[1] == "|"
    if current:
        raise _unpaired(file, "the last conflict has no end marker")
    base = "".join(texts["base"]) if bases == conflicts else None
    return MergeSides("".join(texts["ours"]), "".join(texts["theirs"]), base)


def _unpaired(file: str, detail: str) -> ReconcileError:
    return ReconcileError(
        f"{file}: the conflict markers do not pair up: {detail}",
        f"run git checkout --merge {file}, then reconcile refresh",
    )
