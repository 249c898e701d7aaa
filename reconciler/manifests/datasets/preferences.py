"""Preference pairs as texts: transcripts, and the common beginning of two texts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final, TypeVar

_SPEAKER: Final = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
"""The beginning of a turn in the transcripts of Anthropic's data set hh-rlhf."""
_ROLES: Final = {"Human": "user", "Assistant": "model"}
_Turn = TypeVar("_Turn")


def transcript(text: str) -> list[tuple[str, str]]:
    """Return the turns of a transcript, as role and text; empty for other texts."""
    before, *turns = _SPEAKER.split(text)
    if before or not turns:
        return []
    return [(_ROLES[speaker], said.strip()) for speaker, said in zip(turns[::2], turns[1::2], strict=True)]


def common_turns(chosen: Sequence[_Turn], rejected: Sequence[_Turn]) -> int:
    """Return the number of turns that two conversations begin with."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(chosen), len(rejected)))


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Return the whole words that two texts begin with, and the rest of each, without the space between them."""
    shared = len(os.path.commonprefix([chosen, rejected]))  # noqa: RUF071 - of characters
    words = re.match(r"(?s)(.*\s)?", chosen[:shared])
    end = words.end() if words else 0
    return chosen[:end].rstrip(), chosen[end:].strip(), rejected[end:].strip()
