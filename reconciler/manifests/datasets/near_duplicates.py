"""Near duplicates: inputs that differ in case, punctuation or a few words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from heapq import heappush, heapreplace
from itertools import islice, pairwise
from typing import Final, NamedTuple
from zlib import crc32

SAMPLE: Final = 3000
"""The number of examples that are compared: those with the smallest digests, which no order of the file changes."""
_COMPARED: Final = 500
"""The characters of each input that are compared."""
_SIMILARITY: Final = 90.0
"""The least similarity in percent, as rapidfuzz measures it: the share of characters that are in both, in order."""
_SHORTEST: Final = 20
"""Shorter inputs must have the same words: a letter can be all that distinguishes them."""
_SKETCH: Final = 8
_BUCKET: Final = 8
"""The number of examples that are kept for one value of a sketch; common phrases would have all."""
_CANDIDATES: Final = 3
_WORD: Final = re.compile(r"\w+")
_DIGITS: Final = re.compile(r"\d+")


class SampledText(NamedTuple):
    """An example of the sample: its digest, which record it is, its number for messages, and its input."""

    digest: bytes
    ordinal: int
    number: int
    text: str


class Sample:
    """A sample of the distinct inputs, in bounded memory; ``dropped`` says whether there are more."""

    def __init__(self) -> None:
        self.dropped = False
        self._heap: list[tuple[int, SampledText]] = []
        self._digests: set[bytes] = set()

    def add(self, digest: bytes, ordinal: int, number: int, text: str) -> None:
        """Offer an input to the sample."""
        order = -int.from_bytes(digest)
        full = len(self._heap) == SAMPLE
        if digest in self._digests:
            return
        self.dropped = full
        if full and order <= self._heap[0][0]:
            return
        sampled = order, SampledText(digest, ordinal, number, text[:_COMPARED])
        if full:
            self._digests.discard(heapreplace(self._heap, sampled)[1].digest)
        else:
            heappush(self._heap, sampled)
        self._digests.add(digest)

    def __len__(self) -> int:
        return len(self._heap)

    def texts(self) -> list[SampledText]:
        """Return the sample in the order of the file."""
        return sorted((sampled for _, sampled in self._heap), key=lambda sampled: sampled.ordinal)


def near_duplicates(texts: Iterable[SampledText]) -> Iterator[tuple[SampledText, SampledText]]:
    """Yield each text that is similar to an earlier one, with this one.

    Candidates share one of the smallest hashes of their word pairs (a bottom-k sketch), and rapidfuzz compares them.
    Texts with different numbers are different.
    """
    from rapidfuzz import fuzz

    seen: list[tuple[str, tuple[str, ...], SampledText]] = []
    same: dict[str, SampledText] = {}
    buckets: defaultdict[int, list[int]] = defaultdict(list)
    for sampled in texts:
        words = _WORD.findall(sampled.text.casefold())
        if not words:
            continue
        normal, numbers = " ".join(words), tuple(_DIGITS.findall(sampled.text))
        first = same.setdefault(normal, sampled)
        if first is not sampled:
            yield sampled, first
            continue
        sketch = _sketch(words, normal)
        shared = Counter(index for value in sketch for index in buckets[value])
        for index, _ in shared.most_common(_CANDIDATES):
            other, other_numbers, earlier = seen[index]
            long_enough = min(len(normal), len(other)) >= _SHORTEST
            if long_enough and numbers == other_numbers and fuzz.ratio(normal, other, score_cutoff=_SIMILARITY):
                yield sampled, earlier
                break
        else:
            for value in sketch:
                if len(buckets[value]) < _BUCKET:
                    buckets[value].append(len(seen))
            seen.append((normal, numbers, sampled))


def _sketch(words: list[str], normal: str) -> list[int]:
    """Return the smallest hashes of the pairs of words, or of pieces of a text that is not written in words."""
    pieces = (
        {f"{left} {right}" for left, right in pairwise(words)}
        if len(words) > _CANDIDATES
        else {normal[start : start + 3] for start in range(max(len(normal) - 2, 1))}
    )
    return list(islice(sorted({crc32(piece.encode(errors="surrogatepass")) for piece in pieces}), _SKETCH))
