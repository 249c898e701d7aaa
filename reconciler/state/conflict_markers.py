"""A text in which git left the conflict markers of a merge, taken apart into the sides that it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from reconciler.domain.errors import ReconcileError

_Part = Literal["ours", "base", "theirs"]
_PARTS: Final[tuple[_Part, ...]] = ("ours", "base", "theirs")
_BEGIN: Final = re.compile(r"<{7,}(?=[ \r\n]|$)")
_STEPS: Final[Mapping[tuple[_Part | None, str], _Part | None]] = {
    (None, "<"): "ours",
    ("ours", "|"): "base",
    ("ours", "="): "theirs",
    ("base", "="): "theirs",
    ("theirs", ">"): None,
}
"""Which part of a conflict begins with which marker; after the last one comes what both sides have."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The texts of both sides of a merge; ``base`` is ``None`` where the markers do not tell what both began with.

    With the style ``zdiff3`` the base holds what both sides added alike, too.
    """

    ours: str
    theirs: str
    base: str | None = None


def has_markers(text: str) -> bool:
    """Whether a text holds conflict markers; lines of JSON never begin like them."""
    return bool(re.search(r"^(<{7,}|>{7,})( |\r?$)", text, re.MULTILINE))


def sides_of(text: str, file: str) -> Sides:
    """Take a text with markers apart: git's default style, ``diff3`` and ``zdiff3``. ``file`` names it in messages.

    Raises:
        ReconcileError: when the markers do not pair up.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # str.splitlines would cut texts inside of JSON, too
    size = next((len(found[0]) for line in lines if (found := _BEGIN.match(line))), 0)
    marker = re.compile(rf"([<|=>])\1{{{max(size - 1, 6)}}}( |$)")
    texts: dict[_Part, list[str]] = {part: [] for part in _PARTS}
    part: _Part | None = None
    conflicts = bases = 0
    for number, line in enumerate(lines, start=1):
        found = marker.match(line.rstrip("\r\n"))
        if found is None:
            for one in (part,) if part else _PARTS:
                texts[one].append(line)
            continue
        if (part, found[1]) not in _STEPS:
            raise _odd(file, f"the one in line {number} belongs to no other")
        part = _STEPS[part, found[1]]
        conflicts += found[1] == "<"
        bases += found[1] == "|"
    if part:
        raise _odd(file, "the last conflict has no end")
    base = "".join(texts["base"]) if bases == conflicts else None
    return Sides("".join(texts["ours"]), "".join(texts["theirs"]), base)


def _odd(file: str, why: str) -> ReconcileError:
    return ReconcileError(
        f"{file} holds conflict markers that do not pair up: {why}",
        f"have git write it anew (git checkout --merge {file}), and run reconcile refresh",
    )
