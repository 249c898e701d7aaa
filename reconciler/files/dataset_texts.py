"""What may not stand in a text that a model is trained on, or asked."""

from __future__ import annotations


def text_faults(text: str, of: str = "example") -> list[tuple[str, str]]:
    """What is wrong with a text of an example, or of something else; and what to do, each."""
    faults = []
    if not text or text.isspace():
        faults.append(("is empty", f"fill it in, or delete the {of}"))
    if "\0" in text:
        faults.append(("holds a NUL character", "delete it"))
    if byte_length(text) is None:
        faults.append(("holds half of a surrogate pair", "write the whole character in place of \\ud…"))
    return faults


def byte_length(text: str) -> int | None:
    """The length in UTF-8, ``None`` for a text that has none: it holds half of a surrogate pair."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
