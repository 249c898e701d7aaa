"""Data sets: read and checked before a run, and read again when a model is created from them, one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from reconciler.domain.errors import Place, Problem, ReconcileError, Severity
from reconciler.domain.identity import DatasetDigest
from reconciler.domain.model import Capabilities, Conversation, Dataset, Example, TrainingExample
from reconciler.manifests.datasets.conversations import canonical, conversation_faults
from reconciler.manifests.datasets.file_formats import file_items
from reconciler.manifests.datasets.records import (
    ConversationRow,
    Fault,
    Fields,
    Item,
    Items,
    Row,
    byte_length,
    text_faults,
)

CONVERSATIONS = "conversations"
"""The feature of a service that takes examples in Vertex AI's own form."""
_MOST_SHOWN = 10
"""Problems of one severity that are shown for one data set."""
_MOST_COMPARED = 100_000
"""Examples among which repetitions are sought; they are remembered by their hashes."""

Spot = tuple[Place, str]
"""Where something stands: its place, and the dotted path of the field in the manifest."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where the examples of a data set come from.

    ``path`` is the file's path relative to the root, empty for inline examples. ``spot`` is where the manifest declares
    the data set, and ``at`` where the item with a certain number stands. ``items`` reads them afresh at every call.
    ``fields`` are those of a file.
    """

    path: str
    spot: Spot
    preamble: str
    items: Callable[[], Items]
    at: Callable[[int], Spot]
    fields: Fields | None = None

    def example(self, row: Row | ConversationRow) -> TrainingExample:
        """What is trained on; raises ValueError for a conversation that cannot be written down."""
        if isinstance(row, Row):
            return Example(self.preamble + row.input, row.output)
        return Conversation(canonical(row.value))


@dataclass(frozen=True, slots=True)
class ValidatedDataset:
    """A data set and what is wrong with it; there is no data set when something is wrong, warnings aside.

    ``conversations`` says that its examples are in Vertex AI's own form.
    """

    dataset: Dataset | None
    problems: tuple[Problem, ...]
    conversations: bool = False


def file_source(file: Path, shown: str, path: str, fields: Fields, spot: Spot, preamble: str) -> DatasetSource:
    """The examples in a file; ``shown`` is its name in places, ``path`` its path relative to the root."""
    at = partial(_file_spot, shown, f"{spot[1]}.path")
    return DatasetSource(path, spot, preamble, partial(file_items, file, fields), at, fields)


def _file_spot(shown: str, path: str, line: int) -> Spot:
    return Place(shown, line), path


def validate_dataset(source: DatasetSource, capabilities: Capabilities | None) -> ValidatedDataset:
    """Read a data set and hold it to what every service asks, and to the limits of the one given.

    No more than the first 100,000 examples are searched for repetitions.
    """
    findings = _Check(source, capabilities)
    for item in source.items():
        findings.take(item)
        if findings.stopped:
            break
    return findings.result()


def read_examples(source: DatasetSource, expected: Dataset) -> Iterator[TrainingExample]:
    """The examples of a data set that was checked before, one at a time.

    Raises ReconcileError, at the end at the latest, when they are no longer the ones that were checked.
    """
    digest = DatasetDigest()
    for item in source.items():
        example = _example(source, item)
        digest.add(example)
        yield example
    if str(digest) != expected.digest:
        raise _changed(source)


def raw_examples(source: DatasetSource) -> Iterator[TrainingExample]:
    """The examples of a data set as they stand there, without the preamble, whatever was checked before."""
    bare = replace(source, preamble="")
    return (bare.example(item) for item in source.items() if not isinstance(item, Fault))


def _example(source: DatasetSource, item: Item) -> TrainingExample:
    if isinstance(item, Fault):
        raise _changed(source)
    try:
        return source.example(item)
    except ValueError:
        raise _changed(source) from None


def _changed(source: DatasetSource) -> ReconcileError:
    return ReconcileError(f"{source.path} has changed since the plan was made", "run the command again")


@dataclass(slots=True)
class _Capped:
    """The first problems of one severity, and how many more there are."""

    severity: Severity
    shown: list[Problem] = field(default_factory=list)
    first_more: Problem | None = None
    more: int = 0

    def add(self, place: Place, path: str, message: str, remedy: str) -> None:
        problem = Problem(place, path, message, remedy, self.severity)
        if len(self.shown) < _MOST_SHOWN:
            self.shown.append(problem)
        else:
            self.first_more = self.first_more or problem
            self.more += 1

    def all(self, path: str) -> list[Problem]:
        if self.first_more is None:
            return self.shown
        remedy = "mend these first" if self.severity == "error" else ""
        message = f"and {self.more:,} more like these"
        return [*self.shown, Problem(self.first_more.place, path, message, remedy, self.severity)]


class _Check:
    """What is known of a data set after the items so far."""

    def __init__(self, source: DatasetSource, capabilities: Capabilities | None) -> None:
        self.stopped = False
        self._source = source
        self._able = capabilities
        self._form: type[Row | ConversationRow] | None = None
        self._digest = DatasetDigest()
        self._examples = self._bytes = 0
        self._seen: dict[int, tuple[int, int]] = {}
        self._errors, self._warnings = _Capped("error"), _Capped("warning")

    def take(self, item: Item) -> None:
        if isinstance(item, Fault):
            place, path = self._source.at(item.number)
            self._errors.add(replace(place, column=max(place.column, item.column)), path, item.message, item.remedy)
        elif not self._fits(item):
            return
        elif isinstance(item, Row):
            self._row(item)
        else:
            self._conversation(item)

    def result(self) -> ValidatedDataset:
        if not self._errors.shown:
            self._check_size()
        path = self._source.spot[1]
        dataset = None if self._errors.shown else Dataset(self._source.path, str(self._digest), self._examples)
        problems = (*self._errors.all(path), *self._warnings.all(path))
        return ValidatedDataset(dataset, problems, self._form is ConversationRow)

    def _fits(self, item: Row | ConversationRow) -> bool:
        """Whether the item is of the form of all others, and of one that the service takes."""
        if self._form is None:
            self._form = type(item)
            if self._form is ConversationRow and self._able and CONVERSATIONS not in self._able.features:
                self._error(
                    item.number,
                    f"the examples are in Vertex AI's own form, which {self._able.label} does not take",
                    "write one input and one output in each line, or use a target of Vertex AI",
                )
                self.stopped = True
                return False
        if type(item) is self._form:
            return True
        forms = "a conversation", "input and output"
        is_now, before = forms if self._form is Row else forms[::-1]
        self._error(item.number, f"is {is_now}, where the lines before are {before}", "write every line in one form")
        return False

    def _row(self, row: Row) -> None:
        example = Example(self._source.preamble + row.input, row.output)
        faults = [("input", *fault) for fault in text_faults(row.input)]
        faults += [("output", *fault) for fault in text_faults(row.output)]
        for name, message, remedy in faults:
            self._error(row.number, f"the {name} {message}", remedy)
        if self._is_short(row.number, example) and not faults:
            size = (byte_length(example.input) or 0) + (byte_length(example.output) or 0)
            self._add(row.number, example, size, row.input, row.output)

    def _is_short(self, number: int, example: Example) -> bool:
        able, short = self._able, True
        if able is None:
            return short
        for name, text, limit in (
            ("input", example.input, able.max_input_characters),
            ("output", example.output, able.max_output_characters),
        ):
            if limit and len(text) > limit:
                message = f"the {name} has {len(text):,} characters, where {able.label} takes {limit:,}"
                self._error(number, message, "shorten it")
                short = False
        return short

    def _conversation(self, row: ConversationRow) -> None:
        faults = list(conversation_faults(row.value))
        try:
            line = canonical(row.value)
        except ValueError as error:
            faults = faults or [(str(error), "write it in another way, or delete the example")]
        else:
            if not faults:
                self._add(row.number, Conversation(line), byte_length(line) or 0, line, "")
        for message, remedy in faults:
            self._error(row.number, message, remedy)

    def _add(self, number: int, example: TrainingExample, size: int, given: str, wanted: str) -> None:
        self._digest.add(example)
        self._examples += 1
        self._bytes += size
        if self._examples <= _MOST_COMPARED:
            mine = number, hash(wanted)
            first = self._seen.setdefault(hash(given), mine)
            if first is not mine:
                self._repetition(number, first[0], same=first[1] == mine[1])

    def _repetition(self, number: int, first: int, *, same: bool) -> None:
        line = self._source.at(first)[0].line
        if same:
            message, remedy = f"is the same example as in line {line}", "delete one of them"
        else:
            message, remedy = f"has the same input as line {line} and another output", "keep the one that is right"
        self._warnings.add(*self._source.at(number), message, remedy)

    def _check_size(self) -> None:
        if not self._examples:
            self._errors.add(*self._source.spot, "the data set has no examples", "add some")
        able = self._able
        if able and able.max_dataset_bytes and self._bytes > able.max_dataset_bytes:
            message = f"the examples have {self._bytes:,} bytes, where {able.label} takes {able.max_dataset_bytes:,}"
            self._errors.add(*self._source.spot, message, "use fewer or shorter examples")

    def _error(self, number: int, message: str, remedy: str) -> None:
        self._errors.add(*self._source.at(number), message, remedy)
