"""Inspect a data set: measures, repeated and contradictory examples, leaks, and texts that do not belong into it.

The file is read once, in bounded memory: examples are compared in an index on disk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from msgspec import Struct

from reconciler.domain.errors import Problem
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.inspection import (
    Finding,
    FindingKind,
    Inspection,
    Label,
    LengthBucket,
    Lengths,
    Spot,
)
from reconciler.domain.text import counted, quote
from reconciler.domain.tokens import TokenCount, estimate_tokens
from reconciler.manifests.datasets.conversations import TURN_BREAK, example_text
from reconciler.manifests.datasets.data_files import ExampleIndex, LabelCount, example_index
from reconciler.manifests.datasets.near_duplicates import Sample, near_duplicates
from reconciler.manifests.datasets.records import ConversationRow, Row
from reconciler.manifests.datasets.suspicious_texts import suspicions
from reconciler.manifests.datasets.validation import DatasetSource, observe_examples
from reconciler.planning.hidden_examples import redact_problems

FIRST: Final = 5
"""The number of places that a finding has."""
_CONFIDENTIAL: Final = frozenset({"secret", "personalData"})
_HIDDEN: Final = "[hidden]"
"""What is shown in place of an output with a secret or personal data."""
_TRAINING: Final = "training"
_HELD_OUT: Final = "held out"


class _Phrase(Struct, frozen=True):
    """What one example or several examples have in common, and the remedy; ``{}`` is the name of it."""

    single: str
    several: str
    remedy: str


_PHRASES: Final[Mapping[FindingKind, _Phrase]] = {
    "duplicate": _Phrase("repeats an earlier one", "repeat earlier ones", "delete the repeated examples"),
    "contradiction": _Phrase(
        "has the input of an earlier one, but a different output",
        "have the input of an earlier one, but a different output",
        "delete the wrong examples",
    ),
    "nearDuplicate": _Phrase(
        "has an input that is similar to that of an earlier one",
        "have an input that is similar to that of an earlier one",
        "keep one of them, unless the difference matters",
    ),
    "leak": _Phrase(
        "has an input that is held out for the check {}",
        "have an input that is held out for the check {}",
        "remove it from one of the two data sets: right answers to it prove little",
    ),
    "secret": _Phrase(
        "probably contains {}",
        "probably contain {}",
        "remove it, and revoke it if it is real: training data is sent to the service",
    ),
    "personalData": _Phrase(
        "probably contains {}", "probably contain {}", "remove or replace it, unless you are allowed to train with it"
    ),
    "brokenText": _Phrase("contains {}", "contain {}", "export the data again, as UTF-8"),
}
_ORDER: Final[tuple[FindingKind, ...]] = (
    *("invalid", "contradiction", "leak", "secret", "personalData", "brokenText", "duplicate", "nearDuplicate"),
    "warning",
)

HeldOut = Iterable[tuple[str, str]]
"""The names of checks, and the inputs that are held out for them."""


class _Place(NamedTuple):
    """An example: which record it is, and its number for messages; and those of an earlier one, or 0."""

    ordinal: int
    number: int
    earlier: int = 0
    earlier_number: int = 0


class _Places:
    """Counts examples, and keeps the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[_Place] = []

    def add(self, place: _Place) -> None:
        self.count += 1
        if len(self._first) < FIRST:
            self._first.append(place)
        elif place < self._first[-1]:
            self._first[-1] = place
        else:
            return
        self._first.sort()

    def spots(self, source: DatasetSource) -> tuple[Spot, ...]:
        return tuple(map(partial(_spot, source), self._first))


def _spot(source: DatasetSource, place: _Place) -> Spot:
    located = source.locate(place.number)[0]
    earlier = source.locate(place.earlier_number)[0]
    several = source.files > 1
    return Spot(
        line=located.line,
        column=located.column,
        file=located.file if several else "",
        example=place.ordinal,
        earlier=place.earlier or None,
        earlier_line=earlier.line if place.earlier else None,
        earlier_file=earlier.file if place.earlier and several else "",
    )


class _LengthCount:
    """The lengths of texts, counted by powers of two."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._least = self._most = self._total = 0

    def add(self, length: int) -> None:
        power = (length - 1).bit_length()
        self._least = min(self._least, length) if self._counts else length
        self._most = max(self._most, length)
        self._total += length
        self._counts[power] = self._counts.get(power, 0) + 1

    def lengths(self) -> Lengths | None:
        if not self._counts:
            return None
        powers = range(min(self._counts), max(self._counts) + 1)
        return Lengths(
            least=self._least,
            most=self._most,
            mean=round(self._total / sum(self._counts.values()), 1),
            histogram=tuple(LengthBucket(2**power, self._counts.get(power, 0)) for power in powers),
        )


class _Observer:
    """Measures each valid record, and adds it to the index."""

    def __init__(self, index: ExampleIndex) -> None:
        self.index = index
        self.labels, self.sample = LabelCount(), Sample()
        self.conversations = False
        self.inputs, self.outputs = _LengthCount(), _LengthCount()
        self.examples = self.turns = self.most_turns = self.most_tokens = 0
        self.tokens = TokenCount()
        self.suspicions: dict[tuple[FindingKind, str], _Places] = {}

    def __call__(self, record: Row | ConversationRow, ordinal: int) -> None:
        text = example_text(record)
        self.conversations = self.conversations or isinstance(record, ConversationRow)
        given, wanted = text.input.encode(), text.output.encode()
        whole = b"\n".join((given, wanted))
        added = self.index.add(_TRAINING, ordinal, record.number, given, wanted)
        texts = (*text.input.split(TURN_BREAK), text.output)
        for part in texts:
            self.tokens.add(part)
        self.examples += 1
        self.turns += text.turns
        self.most_turns = max(self.most_turns, text.turns)
        self.most_tokens = max(self.most_tokens, estimate_tokens(*texts))
        self.inputs.add(len(text.input))
        self.outputs.add(len(text.output))
        self.labels.add(text.output)
        self.sample.add(added.input, ordinal, record.number, text.input)
        for kind, name in {(suspicion.kind, suspicion.name): None for suspicion in suspicions(whole)}:
            self.suspicions.setdefault((kind, name), _Places()).add(_Place(ordinal, record.number))


def inspect_dataset(
    source: DatasetSource, shape: str, held_out: HeldOut = (), *, show_examples: bool = True
) -> Inspection:
    """Return the findings in a data set; ``shape`` is that of its examples, empty if it is not declared.

    Without ``show_examples``, labels and the texts that messages quote are omitted.

    Raises ReconcileError if there is no room for the index on the disk.
    """
    with example_index() as index:
        observer = _Observer(index)
        problems = observe_examples(source, observer)
        for check, text in held_out:
            index.add(_HELD_OUT, 0, 0, normalize_newlines(text).encode(), b"", check)
        findings = [
            *_problem_findings(problems if show_examples else redact_problems(problems), several=source.files > 1),
            *_findings(observer, source),
        ]
    return Inspection(
        shape=shape or ("contents" if observer.conversations else "input-output"),
        examples=observer.examples,
        turns=observer.turns,
        longest_conversation=observer.most_turns,
        tokens=observer.tokens.tokens,
        longest_example=observer.most_tokens,
        inputs=observer.inputs.lengths(),
        outputs=observer.outputs.lengths(),
        labels=tuple(_labels(observer)) if show_examples else (),
        compared=len(observer.sample),
        sampled=observer.sample.dropped,
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.kind))),
    )


def _labels(observer: _Observer) -> Iterator[Label]:
    for output, examples in observer.labels.labels().items():
        confidential = any(suspicion.kind in _CONFIDENTIAL for suspicion in suspicions(output.encode()))
        yield Label(_HIDDEN if confidential else output, examples)


def _problem_findings(problems: Iterable[Problem], *, several: bool) -> Iterator[Finding]:
    """Yield the errors and warnings of the validation; equal ones are one finding."""
    equal: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        equal.setdefault((problem.severity, problem.message, problem.remedy), []).append(problem)
    for found in equal.values():
        problem = found[0]
        yield Finding(
            kind="invalid" if problem.severity == "error" else "warning",
            severity=problem.severity,
            count=len(found),
            message=problem.message,
            remedy=problem.remedy,
            first=tuple(
                Spot(line=place.line, column=place.column, file=place.file if several else "")
                for place in (same.place for same in found[:FIRST])
            ),
        )


def _findings(observer: _Observer, source: DatasetSource) -> Iterator[Finding]:
    for (kind, name), places in _found(observer):
        phrase = _PHRASES[kind]
        text = phrase.single if places.count == 1 else phrase.several
        yield Finding(
            kind=kind,
            severity="warning",
            count=places.count,
            message=f"{counted(places.count, 'example')} {text.format(name)}",
            remedy=phrase.remedy,
            first=places.spots(source),
        )


def _found(observer: _Observer) -> Iterator[tuple[tuple[FindingKind, str], _Places]]:
    yield from observer.suspicions.items()
    repetitions: dict[tuple[FindingKind, str], _Places] = defaultdict(_Places)
    for kind, place in _repetitions(observer.index):
        repetitions[kind, ""].add(place)
    for sampled, earlier in near_duplicates(observer.sample.texts()):
        place = _Place(sampled.ordinal, sampled.number, earlier.ordinal, earlier.number)
        repetitions["nearDuplicate", ""].add(place)
    for check, ordinal, number in observer.index.query(_LEAKS, _HELD_OUT, _TRAINING):
        repetitions["leak", quote(check)].add(_Place(ordinal, number))
    yield from repetitions.items()


_REPEATED: Final = """
SELECT input, output, ordinal, number FROM example
WHERE part = ?1 AND input IN (SELECT input FROM example WHERE part = ?1 GROUP BY input HAVING count(*) > 1)
ORDER BY input, ordinal
"""
_LEAKS: Final = """
SELECT held.label, example.ordinal, example.number
FROM example CROSS JOIN (SELECT DISTINCT input, label FROM example WHERE part = ?1) AS held
WHERE example.part = ?2 AND example.input = held.input
ORDER BY held.label, example.ordinal
"""


def _repetitions(index: ExampleIndex) -> Iterator[tuple[FindingKind, _Place]]:
    """Yield each example with the input of an earlier one, compared with the first that has this input."""
    first: tuple[bytes, bytes, int, int] = b"", b"", 0, 0
    for row in index.query(_REPEATED, _TRAINING):
        given, wanted, ordinal, number = row
        if given == first[0]:
            yield "duplicate" if wanted == first[1] else "contradiction", _Place(ordinal, number, first[2], first[3])
        else:
            first = row
