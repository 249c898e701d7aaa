"""How two data sets differ, example by example."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from reconciler.core.identity import with_lf
from reconciler.core.model import Conversation, Example, TrainingExample

SAMPLES: Final = 3
"""Examples of each kind of change that are kept, to be shown."""


@dataclass(frozen=True, slots=True)
class ChangedExample:
    """An example whose input stayed and whose output became another one."""

    input: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ExampleChanges:
    """How many examples were added, removed and changed (same input, other output), and the first few of each.

    All counts are 0 where the same examples stand in another order.
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    some_added: tuple[TrainingExample, ...] = ()
    some_removed: tuple[TrainingExample, ...] = ()
    some_changed: tuple[ChangedExample, ...] = ()


def without_preamble(examples: Iterable[TrainingExample], preamble: str) -> Iterator[TrainingExample]:
    """The examples as they were before the preamble was put before their inputs; conversations never had one."""
    for one in examples:
        yield Example(one.input.removeprefix(preamble), one.output) if isinstance(one, Example) else one


def compare(old: Iterable[TrainingExample], new: Iterable[TrainingExample]) -> ExampleChanges:
    """What became of the old examples in the new ones.

    What stands twice counts twice; the order does not count, nor does the kind of line ends. Conversations are compared
    as a whole, so that they are added and removed, never changed. The old examples are held in memory, of the new ones
    those that the old ones lack.
    """
    gone = Counter(map(_with_lf, old))
    fresh: Counter[TrainingExample] = Counter()
    for one in map(_with_lf, new):
        if gone[one]:
            gone[one] -= 1
        else:
            fresh[one] += 1
    changed = list(_changed(gone, fresh))
    return ExampleChanges(
        added=fresh.total(),
        removed=gone.total(),
        changed=len(changed),
        some_added=tuple(islice(fresh.elements(), SAMPLES)),
        some_removed=tuple(islice(gone.elements(), SAMPLES)),
        some_changed=tuple(changed[:SAMPLES]),
    )


def _changed(gone: Counter[TrainingExample], fresh: Counter[TrainingExample]) -> Iterator[ChangedExample]:
    """The examples that are gone and came back with another output, taken out of both."""
    successors: defaultdict[str, deque[Example]] = defaultdict(deque)
    for one in fresh.elements():
        if isinstance(one, Example):
            successors[one.input].append(one)
    for one in list(gone.elements()):
        if isinstance(one, Example) and successors[one.input]:
            replacement = successors[one.input].popleft()
            gone[one] -= 1
            fresh[replacement] -= 1
            yield ChangedExample(one.input, one.output, replacement.output)


def _with_lf(one: TrainingExample) -> TrainingExample:
    return one if isinstance(one, Conversation) else Example(with_lf(one.input), with_lf(one.output))
