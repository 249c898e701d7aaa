"""Compare two data files: added, removed and changed examples, regardless of order and of how they are written."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from heapq import nsmallest
from itertools import groupby
from operator import itemgetter
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from reconciler.domain.inspection import DifferentExample
from reconciler.domain.text import shorten
from reconciler.manifests.datasets.conversations import TURN_BREAK, ExampleText
from reconciler.manifests.datasets.data_files import DataFile, ExampleIndex, example_index, read_valid

MOST_LISTED: Final = 100
"""The number of examples of each kind that a comparison lists."""
_SHOWN: Final = 200
"""The characters of each text in a comparison."""
_COUNTS: Final = """
SELECT input, sum(part = 'old'), sum(part = 'new'),
    max(CASE part WHEN 'old' THEN ordinal END), max(CASE part WHEN 'new' THEN ordinal END)
FROM example GROUP BY input, output ORDER BY input, min(ordinal)
"""
"""For each example: its input, how often each file has it, and which record of each file it is."""


class Comparison(Struct, frozen=True):
    """The numbers of added, removed, changed and unchanged examples, and the first of those that differ."""

    added: int
    removed: int
    changed: int
    unchanged: int
    examples: tuple[DifferentExample, ...]


class _Difference(NamedTuple):
    """Which record of the new file and of the old file an example is; 0 if it is in the other one only."""

    new: int
    old: int

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        if self.new and self.old:
            return "changed"
        return "added" if self.new else "removed"


class _Listed:
    """Counts differences, and keeps those that come first in the files."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[_Difference] = []

    def add(self, difference: _Difference, times: int) -> None:
        self.count += times
        self._first.append(difference)
        if len(self._first) > 2 * MOST_LISTED:
            self._first = self.first()

    def first(self) -> list[_Difference]:
        return nsmallest(MOST_LISTED, self._first)


def compare_files(old: DataFile, new: DataFile) -> Comparison:
    """Return the differences between two files.

    An example that occurs twice counts twice. Two examples with the same input and different outputs are a changed
    example; that is the last answer of a conversation. The memory does not depend on the size of the files.

    Raises:
        InvalidInput: an example is invalid.
        ReconcileError: there is no room for the index on the disk.
    """
    with example_index() as index:
        for part, data in (("old", old), ("new", new)):
            for record in read_valid(data):
                index.add_record(part, record)
        unchanged, found = _differences(index)
    listed = [difference for kind in found.values() for difference in kind.first()]
    texts_of_new = _texts(new, {difference.new for difference in listed})
    texts_of_old = _texts(old, {difference.old for difference in listed})
    return Comparison(
        added=found["added"].count,
        removed=found["removed"].count,
        changed=found["changed"].count,
        unchanged=unchanged,
        examples=tuple(_example(difference, texts_of_new, texts_of_old) for difference in listed),
    )


def _differences(index: ExampleIndex) -> tuple[int, Mapping[str, _Listed]]:
    """Return the number of equal examples, and the differences by their kind."""
    unchanged, found = 0, {kind: _Listed() for kind in ("added", "removed", "changed")}
    for _, outputs in groupby(index.query(_COUNTS), key=itemgetter(0)):
        removed: deque[list[int]] = deque()
        added: deque[list[int]] = deque()
        for _, before, after, old, new in outputs:
            unchanged += min(before, after)
            if before != after:
                (removed if before > after else added).append([abs(before - after), old if before > after else new])
        while removed and added:
            times = min(removed[0][0], added[0][0])
            found["changed"].add(_Difference(added[0][1], removed[0][1]), times)
            for side in (removed, added):
                side[0][0] -= times
                if not side[0][0]:
                    side.popleft()
        for times, new in added:
            found["added"].add(_Difference(new, 0), times)
        for times, old in removed:
            found["removed"].add(_Difference(0, old), times)
    return unchanged, found


def _texts(data: DataFile, ordinals: set[int]) -> dict[int, tuple[int, ExampleText]]:
    """Return the line and the texts of some records of a file."""
    if not ordinals - {0}:
        return {}
    records = (record for record in read_valid(data) if record.ordinal in ordinals)
    return {record.ordinal: (data.source.locate(record.number)[0].line, record.text) for record in records}


def _example(
    difference: _Difference,
    texts_of_new: Mapping[int, tuple[int, ExampleText]],
    texts_of_old: Mapping[int, tuple[int, ExampleText]],
) -> DifferentExample:
    old = texts_of_old.get(difference.old)
    shown = texts_of_new.get(difference.new) or old
    if shown is None:
        raise AssertionError(difference)  # it is in one of the files
    line, text = shown
    is_changed = difference.kind == "changed"
    return DifferentExample(
        kind=difference.kind,
        line=line,
        old_line=old[0] if is_changed and old else None,
        input=_shown(text.input),
        output=_shown(text.output),
        old_output=_shown(old[1].output) if is_changed and old else None,
    )


def _shown(text: str) -> str:
    return shorten(text.replace(TURN_BREAK, " / "), _SHOWN)
