"""What stands in files is quoted in messages no longer than it takes to be found again: logs outlive the terminal."""

from __future__ import annotations

_SHOWN_CHARACTERS = 40


def shortened(text: str) -> str:
    """The text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 1]}…"
