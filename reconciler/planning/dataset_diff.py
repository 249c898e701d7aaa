"""What a change of data sets brings: examples, repetitions, contradictions, and held-out inputs that are trained on."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Generic, Literal, TypeVar

from reconciler.domain.identity import normalize_newlines
from reconciler.domain.model import Conversation, Example, TrainingExample

Use = Literal["training", "validation", "check"]
"""What a manifest uses a data set for."""
MOST_COMPARED: Final = 100_000
"""Examples of a data set among which repetitions are sought."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Some(Generic[_T]):
    """How many there are of something, and the first few."""

    count: int = 0
    samples: tuple[_T, ...] = ()


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One input with several outputs."""

    input: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """An input that the held-out data set of a check has in common with the training data."""

    check: str
    input: str


@dataclass(frozen=True, slots=True)
class DataChange:
    """What became of one data set of the manifest ``name``; ``check`` names the check that it is held out for.

    ``path`` is relative to the root, empty for inline examples. ``changes`` is ``None`` where the data sets could not
    be compared, which ``note`` explains; it also tells what else is odd about the comparison. ``duplicates`` are
    examples that stand there more often than before, ``contradictions`` inputs with another output than before, and
    ``leaks`` what is new in both training and held-out data; these hold whatever the counts say.
    """

    name: str
    use: Use
    path: str
    check: str = ""
    changes: ExampleChanges | None = None
    duplicates: Some[TrainingExample] = field(default_factory=Some)
    contradictions: Some[Contradiction] = field(default_factory=Some)
    leaks: Some[Leak] = field(default_factory=Some)
    note: str = ""

    @property
    def without_samples(self) -> DataChange:
        """The same with the counts alone."""
        found = self.changes
        return replace(
            self,
            changes=found and ExampleChanges(found.added, found.removed, found.changed),
            duplicates=Some(self.duplicates.count),
            contradictions=Some(self.contradictions.count),
            leaks=Some(self.leaks.count),
        )


@dataclass(frozen=True, slots=True)
class DataChanges:
    """What became of the data sets since the commit that ``ref`` names.

    ``commit`` is empty where nothing could be compared; ``note`` then says why.
    """

    ref: str
    commit: str = ""
    changes: tuple[DataChange, ...] = ()
    note: str = ""


def some(found: Iterable[_T]) -> Some[_T]:
    """Count them, and keep the first few."""
    everything = iter(found)
    samples = tuple(islice(everything, SAMPLES))
    return Some(len(samples) + sum(1 for _ in everything), samples)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The first examples of a data set: how often each stands there, and the outputs of each input, in their order."""

    times: Counter[TrainingExample]
    outputs: dict[str, dict[str, None]]


def repetitions(
    old: Iterable[TrainingExample], new: Iterable[TrainingExample]
) -> tuple[Some[TrainingExample], Some[Contradiction]]:
    """The duplicates and contradictions that the new examples have, and the old ones had not.

    No more than the first 100,000 examples of each are looked at, and held in memory.
    """
    before, after = _seen(old), _seen(new)
    repeated = (one for one, times in after.times.items() if times > max(1, before.times[one]))
    return some(repeated), some(_contradictions(before, after))


def _contradictions(before: _Seen, after: _Seen) -> Iterator[Contradiction]:
    for given, outputs in after.outputs.items():
        if len(outputs) > 1 and outputs.keys() - before.outputs.get(given, {}).keys():
            yield Contradiction(given, tuple(outputs))


def _seen(examples: Iterable[TrainingExample]) -> _Seen:
    times: Counter[TrainingExample] = Counter()
    outputs: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for one in islice(examples, MOST_COMPARED):
        if isinstance(one, Conversation):
            times[one] += 1
        else:
            same = Example(normalize_newlines(one.input), normalize_newlines(one.output))
            times[same] += 1
            outputs[same.input][same.output] = None
    return _Seen(times, dict(outputs))


Inputs = Callable[[], Iterable[str]]
"""Reads the inputs of a data set afresh."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """The inputs that are trained on, and those that are held out for a check."""

    training: Inputs
    held_out: Inputs


def new_leaks(check: str, before: Exposure | None, after: Exposure) -> Iterator[Leak]:
    """The held-out inputs that are trained on, each once, unless they were both before.

    The held-out inputs are held in memory, the others are read as a stream.
    """
    held_out = dict.fromkeys(after.held_out())
    learnt = held_out.keys() & set(filter(held_out.__contains__, after.training()))
    known: set[str] = set()
    if before and learnt:
        known = set(filter(learnt.__contains__, before.held_out()))
        known &= set(filter(known.__contains__, before.training()))
    return (Leak(check, one) for one in held_out if one in learnt and one not in known)


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
    return (
        one if isinstance(one, Conversation) else Example(normalize_newlines(one.input), normalize_newlines(one.output))
    )
