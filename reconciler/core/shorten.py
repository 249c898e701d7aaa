"""Text from elsewhere is quoted no longer than it takes to be found again: logs and lockfiles outlive the terminal."""

from __future__ import annotations


def shortened(text: str, room: int) -> str:
    """The text on one line of at most ``room`` characters, cut where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= room else f"{line[: room - 1]}…"
