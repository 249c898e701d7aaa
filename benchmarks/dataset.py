"""Writing a data set of any size in bounded memory."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

MEGABYTE = 10**6
_PHRASES = 2000
_TEXT = (
    'the a model answers that "no" customer wrote yesterday morning about his order, which café said; naïve prices'
    " rose by 4 % in Zürich until they, well, did not: see C:\\orders and try again\nKind regards"
)


def write_dataset(file: Path, megabytes: int) -> None:
    """Examples of some 1,000 bytes as lines of JSON or, by the suffix, CSV; the same ones at every call."""
    with file.open("w", encoding="utf-8", newline="") as text:
        write = _csv if file.suffix == ".csv" else _json
        write(text, megabytes * MEGABYTE)


def _json(text: TextIO, size: int) -> None:
    for given, wanted in _examples():
        text.write(json.dumps({"text_input": given, "output": wanted}, ensure_ascii=False) + "\n")
        if text.buffer.tell() >= size:
            return


def _csv(text: TextIO, size: int) -> None:
    writer = csv.writer(text)
    writer.writerow(("text_input", "output"))
    for example in _examples():
        writer.writerow(example)
        if text.buffer.tell() >= size:
            return


def _examples() -> Iterator[tuple[str, str]]:
    """Yield distinct examples: inputs of about 700 characters and outputs of about 250."""
    chance = random.Random(1)  # noqa: S311 - the same text at every run, not secrets
    words = _TEXT.split(" ")
    phrases = [" ".join(chance.choices(words, k=12)) for _ in range(_PHRASES)]
    number = 0
    while True:
        number += 1
        yield f"{number} {' '.join(chance.choices(phrases, k=11))}", " ".join(chance.choices(phrases, k=4))
