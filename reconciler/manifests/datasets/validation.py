"""Read the examples of data sets: to validate them before a run, and again when a training is started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from operator import add
from pathlib import Path
from unicodedata import is_normalized

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import InvalidInput, Place, Problem, ReconcileError, Severity
from reconciler.domain.identity import DatasetDigest, encode_normalized, encode_texts
from reconciler.domain.model import Capabilities, Conversation, Dataset, Example, TrainingExample
from reconciler.domain.text import exceeds_limit, one_of, quote
from reconciler.domain.tokens import TokenCount
from reconciler.manifests.datasets.conversations import (
    TURN_BREAK,
    ExampleText,
    NotSingleTurnError,
    canonical_json,
    conversation_problems,
    example_text,
    has_media,
    preference_value,
    single_turn,
    unknown_members,
)
from reconciler.manifests.datasets.file_formats import FORMATS, complete_options, file_records, record_places
from reconciler.manifests.datasets.records import (
    ConversationRow,
    Fault,
    ReadOptions,
    Record,
    Records,
    Row,
    byte_length,
    text_problems,
)
from reconciler.manifests.datasets.shapes import SHAPES

CONVERSATIONS = "conversations"
"""The feature of a service that accepts examples in Vertex AI's format."""
_MAX_SHOWN = 10
"""The number of problems of one severity that are shown for one data set."""
_MAX_COMPARED = 100_000
"""The number of examples that are compared with each other, by their hashes."""

_MAX_LISTED = 3
"""The number of lines that a warning about several examples lists."""

_FILE_STEP = 2**40
"""What the numbers of records in a further file of a data set are greater by; no file has as many records."""
_MOST_AT_ONCE = 64
_LONG = 2**12
"""The number of characters of an example from which on it is validated at once, to limit the memory."""
_UNLIMITED = Capabilities("", frozenset())
_NO_PAIR = (
    "no rejected answer, which the method preference needs",
    "declare shape: preference for examples with chosen and rejected, or set spec.method to supervised",
)
_DECOMPOSED = "is not in Unicode normalization form C (NFC)"

Location = tuple[Place, str]
"""A place, and the dotted path of the field in the manifest; the path is empty for a file without a manifest."""
Observer = Callable[[Row | ConversationRow, int], None]
"""Receives each valid record, and which record of the file it is, counted from 1."""


class DatasetSource(Struct, frozen=True):
    """Where the examples of a data set come from.

    ``path`` is the file's path relative to the root, empty for inline examples. ``declared_at`` is the location of the
    data set in the manifest, and ``locate`` returns that of the record with a number. ``records`` reads the records
    again with each call. ``options`` are those of a file. ``single_turns`` says that conversations of one turn become
    examples of an input and an output, because the service accepts no others. ``pairs`` says that the rejected answers
    are part of the examples. ``files`` is the number of files.
    """

    path: str
    declared_at: Location
    preamble: str
    records: Callable[[], Records]
    locate: Callable[[int], Location]
    options: ReadOptions | None = None
    single_turns: bool = False
    pairs: bool = False
    files: int = 1

    def row(self, record: Row | ConversationRow) -> Row | ConversationRow:
        """Return the record as the service accepts it; raises NotSingleTurnError."""
        return single_turn(record) if self.single_turns and isinstance(record, ConversationRow) else record

    def example(self, record: Row | ConversationRow) -> TrainingExample:
        """Return the training example of a valid record.

        Raises ValueError for a conversation without a canonical form, or that the service does not accept.
        """
        row = self.row(record)
        if isinstance(row, Row):
            row = row._replace(input=self.preamble + row.input)
        if self.pairs:
            return Conversation(canonical_json(preference_value(row)))
        return Example(row.input, row.output) if isinstance(row, Row) else Conversation(canonical_json(row.value))

    def of_files(self, files: Sequence[Path]) -> DatasetSource:
        """Return the source of the examples in another version of the files."""
        if self.options is None:
            return self
        records = partial(_joined, [partial(file_records, file, self.options) for file in files])
        return replace(self, records=records, files=len(files))

    @property
    def counts_items(self) -> bool:
        """Whether the numbers of records are positions in a list, not lines."""
        return self.options is not None and not FORMATS[self.options.format].counts_lines

    def describe(self, number: int) -> str:
        """Return which record has a number: its line or its position, with its file if there are several."""
        place = self.locate(number)[0]
        of_file = f" of {place.file}" if self.files > 1 else ""
        if self.counts_items:
            return f"example {number % _FILE_STEP:,}{of_file}"
        return f"line {place.line:,}{of_file}"


class ValidatedDataset(Struct, frozen=True):
    """A data set and its problems; the data set is ``None`` if there are errors.

    ``conversations`` says whether the examples are in Vertex AI's format, and ``size`` is that of their texts in bytes;
    ``longest`` is that of the longest example. ``tokens`` is the estimated number of tokens that an epoch trains on;
    ``None`` if examples have media.
    """

    dataset: Dataset | None
    problems: tuple[Problem, ...]
    conversations: bool = False
    size: int = 0
    longest: int = 0
    tokens: int | None = None


def file_source(
    file: Path,
    shown: str,
    path: str,
    options: ReadOptions,
    declared_at: Location,
    preamble: str,
    *,
    single_turns: bool = False,
) -> DatasetSource:
    """Return the source of the examples in a file; ``shown`` is its name in messages, ``path`` relative to the root.

    Raises ReconcileError if the format of the file is neither declared nor known by its suffix.
    """
    options = complete_options(path, options)
    places = cache(partial(record_places, file, options))  # read again, where there are problems

    def locate(number: int) -> Location:
        line, column = (number if FORMATS[options.format].counts_lines else 1), 1
        if number and (found := places()) is not None:
            line, column = found[2 * number - 2 : 2 * number] or (1, 1)
        return Place(shown, max(line, 1), column), f"{declared_at[1]}.path" if declared_at[1] else ""

    records = partial(file_records, file, options)
    return DatasetSource(path, declared_at, preamble, records, locate, options, single_turns)


def files_source(
    files: Mapping[str, Path],
    path: str,
    options: ReadOptions,
    declared_at: Location,
    preamble: str,
    *,
    single_turns: bool = False,
) -> DatasetSource:
    """Return the source of the examples in files, by their names in messages; ``path`` is what is declared."""
    sources = [
        file_source(file, shown, shown, options, declared_at, preamble, single_turns=single_turns)
        for shown, file in files.items()
    ]
    return join_sources(path, sources)


def join_sources(path: str, sources: Sequence[DatasetSource]) -> DatasetSource:
    """Return the source of the examples of several files that are read in the same way, one after the other."""

    def locate(number: int) -> Location:
        index, of_file = divmod(number, _FILE_STEP)
        return sources[index].locate(of_file)

    if len(sources) == 1:
        return replace(sources[0], path=path)
    records = partial(_joined, [source.records for source in sources])
    return replace(sources[0], path=path, records=records, locate=locate, files=len(sources))


def _joined(files: Iterable[Callable[[], Records]]) -> Records:
    for index, records in enumerate(files):
        for record in records():
            yield _renumbered(record, index * _FILE_STEP) if index else record


def _renumbered(record: Record, first: int) -> Record:
    if isinstance(record, Fault):
        return replace(record, number=first + record.number)
    return record._replace(number=first + record.number)


def validate_dataset(source: DatasetSource, capabilities: Capabilities | None) -> ValidatedDataset:
    """Read a data set and check it against the rules of all services, and the limits of the given one.

    Duplicates are searched for among the first 100,000 examples.
    """
    return _validate(_Validation(source, capabilities), source)


def observe_examples(source: DatasetSource, observer: Observer) -> tuple[Problem, ...]:
    """Read a data set, and return the problems that it has on every service, duplicates excepted.

    The observer receives each valid record.
    """
    return _validate(_Observation(source, observer), source).problems


def valid_records(source: DatasetSource) -> Iterator[tuple[Row | ConversationRow, int]]:
    """Yield each record of a data set, and which one it is, counted from 1.

    Raises InvalidInput, at the latest after the last record, if one is invalid.
    """
    found: list[tuple[Row | ConversationRow, int]] = []
    observation = _Observation(source, lambda row, ordinal: found.append((row, ordinal)))
    for record in source.records():
        observation.add_all(iter((record,)))
        yield from found
        found.clear()
    errors = tuple(problem for problem in observation.result().problems if problem.severity == "error")
    if errors:
        raise InvalidInput(errors)


def _validate(validation: _Validation, source: DatasetSource) -> ValidatedDataset:
    validation.add_all(source.records())
    return validation.result()


def read_examples(source: DatasetSource, expected: Dataset) -> Iterator[TrainingExample]:
    """Yield the examples of a validated data set.

    Raises ReconcileError, at the latest after the last example, if they have changed since the validation.
    """
    digest = DatasetDigest()
    for record in source.records():
        example = _example(source, record)
        digest.add(example)
        yield example
    if str(digest) != expected.digest:
        raise _changed(source)


def raw_examples(source: DatasetSource) -> Iterator[TrainingExample]:
    """Yield the readable examples of a data set without the preamble, whether or not they have changed."""
    bare = replace(source, preamble="", single_turns=False)
    return (bare.example(record) for record in source.records() if not isinstance(record, Fault))


def _example(source: DatasetSource, record: Record) -> TrainingExample:
    if isinstance(record, Fault):
        raise _changed(source)
    try:
        return source.example(record)
    except ValueError:
        raise _changed(source) from None


def _changed(source: DatasetSource) -> ReconcileError:
    return ReconcileError(f"{source.path} has changed since the plan was made", "run the command again")


def _is_composed(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode("latin-1"))  # composed, and found out quickly
    except UnicodeEncodeError:
        return is_normalized("NFC", text)


class _Capped(Struct):
    """The first problems of one severity, with the numbers of their records, and the number of further ones."""

    severity: Severity
    shown: list[tuple[int, Problem]] = []
    first_hidden: Problem | None = None
    hidden: int = 0

    def add(self, number: int, problem: Problem) -> None:
        if len(self.shown) < _MAX_SHOWN:
            self.shown.append((number, problem))
        else:
            self.first_hidden = self.first_hidden or problem
            self.hidden += 1

    def all(self, path: str, count: Callable[[int], str]) -> list[Problem]:
        """Return the problems; ``count`` says which of how many examples one with a number is."""
        shown = [replace(problem, message=f"{count(number)}{problem.message}") for number, problem in self.shown]
        if self.first_hidden is None:
            return shown
        remedy = "fix the errors above first" if self.severity == "error" else ""
        message = f"{self.hidden:,} more {self.severity}s of this data set are not shown"
        return [*shown, Problem(self.first_hidden.place, path, message, remedy, self.severity)]


class _Repetition(Struct, frozen=True):
    """The message and the remedy for an example that repeats an earlier one, and for several."""

    single: tuple[str, str]
    several: tuple[str, str]


_DUPLICATE = _Repetition(
    ("duplicate of {}", "delete one of them"),
    ("{} examples are duplicates of earlier ones: {}", "delete them"),
)
_CONTRADICTION = _Repetition(
    ("same input as {}, but a different output", "delete the wrong example"),
    ("{} examples have the input of an earlier one, but a different output: {}", "delete the wrong examples"),
)


_MOST_UNKNOWN = 100
"""How many unknown members are kept, so that the memory does not grow with the data."""


class _UnknownMember(Struct):
    """A member that is not documented: the number of the first example with it, the remedy, and how many have it."""

    first: int
    remedy: str
    count: int = 0


class _Validation:
    """The state of the validation after the records so far."""

    def __init__(self, source: DatasetSource, capabilities: Capabilities | None) -> None:
        self._source = source
        self._capabilities = capabilities
        self._form: type[Row | ConversationRow] | None = None
        self._digest = DatasetDigest()
        self._examples = self._bytes = self._longest = self._records = 0
        self._tokens, self._has_media = TokenCount(), False
        self._seen: dict[int, tuple[int, int]] = {}
        self._without_pair: list[int] = []
        self._decomposed: list[int] = []
        self._repeated: dict[_Repetition, list[tuple[int, int]]] = {_DUPLICATE: [], _CONTRADICTION: []}
        self._errors, self._warnings = _Capped("error"), _Capped("warning")
        self._forms: dict[int, str] = {}
        self._unknown: dict[str, _UnknownMember] = {}

    def add_all(self, records: Records) -> None:
        """Validate records; pairs of texts are collected, because many at once take half of the time."""
        rows: list[Row] = []
        for record in records:
            if type(record) is Row:
                rows.append(record)
                if len(rows) < _MOST_AT_ONCE and len(record.input) + len(record.output) < _LONG:
                    continue
            self._add_rows(rows)
            rows = []
            if type(record) is not Row:
                self._add(record)
        self._add_rows(rows)

    def _add_rows(self, rows: Sequence[Row]) -> None:
        if rows and not self._add_plain(rows):
            for row in rows:
                self._add(row)

    def _add_plain(self, rows: Sequence[Row]) -> bool:
        """Count rows if there is nothing to report about any of them; return whether that is so."""
        if self._form is not Row or self._source.pairs:
            return False
        numbers, inputs, outputs, _ = zip(*rows, strict=True)
        given = [self._source.preamble + text for text in inputs] if self._source.preamble else inputs
        service = self._capabilities or _UNLIMITED
        texts = (*given, *outputs)
        joined = "\n".join(texts)  # searched at once in a fraction of the time
        if (
            "" in inputs
            or "" in outputs
            or any(map(str.isspace, inputs))
            or any(map(str.isspace, outputs))
            or "\0" in joined
            or not _is_composed(joined)
            or (service.max_input_characters and max(map(len, given)) > service.max_input_characters)
            or (service.max_output_characters and max(map(len, outputs)) > service.max_output_characters)
        ):
            return False
        try:
            encoded = (encode_texts if "\r" in joined else encode_normalized)(given, outputs)
        except UnicodeEncodeError:
            return False
        if not self._compare_plain(numbers, inputs, outputs):
            return False
        self._digest.add_lines(encoded)
        self._tokens.add(joined, len(texts))
        self._records += len(rows)
        self._examples += len(rows)
        sizes = list(map(len, texts if joined.isascii() else map(str.encode, texts)))
        self._bytes += sum(sizes)
        self._longest = max(self._longest, *map(add, sizes[: len(rows)], sizes[len(rows) :]))
        return True

    def _compare_plain(self, numbers: Sequence[int], inputs: Sequence[str], outputs: Sequence[str]) -> bool:
        """Remember examples for later comparisons if all their inputs are new; return whether they are."""
        if self._examples >= _MAX_COMPARED:
            return True
        if self._examples + len(numbers) > _MAX_COMPARED:
            return False
        found = dict(zip(map(hash, inputs), zip(numbers, map(hash, outputs), strict=True), strict=True))
        if len(found) < len(numbers) or not self._seen.keys().isdisjoint(found):
            return False
        self._seen.update(found)
        return True

    def _add(self, record: Record) -> None:
        if isinstance(record, Fault):
            self._fault(record)
            return
        self._records += 1
        if not self._has_right_form(record):
            return
        if self._source.pairs and not record.rejected:
            self._without_pair.append(record.number)
        elif isinstance(record, Row):
            self._row(record)
        else:
            self._conversation(record)

    def _fault(self, fault: Fault) -> None:
        place, path = self._source.locate(fault.number)
        place = replace(place, line=fault.line or place.line, column=max(place.column, fault.column))
        if fault.option and path:
            path = f"{self._source.declared_at[1]}.{fault.option}"
        self._records += bool(fault.number % _FILE_STEP) and fault.severity == "error"
        capped = self._errors if fault.severity == "error" else self._warnings
        if fault.form:
            self._forms[len(capped.shown)] = fault.form
        capped.add(fault.number, Problem(place, path, fault.message, fault.remedy, fault.severity))

    def result(self) -> ValidatedDataset:
        if self._without_pair:
            message, remedy = _NO_PAIR
            several = f"{len(self._without_pair):,} of {self._records:,} examples have"
            which = several if len(self._without_pair) > 1 else "the example has"
            self._error(self._without_pair[0], f"{which} {message}", remedy)
        if not self._errors.shown:
            self._check_size()
        if self._examples:
            self._ask_for_one_form()
        self._warn_of_repetitions()
        for name, member in self._unknown.items():
            several = f" in {member.count:,} examples" if member.count > 1 else ""
            self._warn(member.first, f"unknown member {quote(name)}{several}", member.remedy)
        self._warn_of_normalization()
        path = self._source.declared_at[1]
        dataset = Dataset(str(self._digest), self._source.path, self._examples, pairs=self._source.pairs)
        problems = (*self._errors.all(path, self._counted), *self._warnings.all(path, self._counted))
        conversations = self._form is ConversationRow and not self._source.single_turns
        accepted = None if self._errors.shown else dataset
        tokens = None if self._has_media else self._tokens.tokens
        return ValidatedDataset(accepted, problems, conversations, self._bytes, self._longest, tokens)

    def _ask_for_one_form(self) -> None:
        """Replace remedies that set an option for all examples: it fits some of them."""
        options = self._source.options
        for index, form in self._forms.items():
            if options is None or index >= len(self._errors.shown):
                continue
            usual = SHAPES[options.shape].title if options.shape else f"{options.input}, {options.output}"
            remedy = f"write all examples in one form: this one has {form}, others have {usual}"
            number, problem = self._errors.shown[index]
            self._errors.shown[index] = number, replace(problem, remedy=remedy)

    def _counted(self, number: int) -> str:
        """Return which of how many examples one is, where its line does not say that."""
        if not number % _FILE_STEP or not self._source.counts_items:
            return ""
        of_all = f" of {self._records:,}" if self._source.files == 1 else ""
        return f"example {number % _FILE_STEP:,}{of_all}: "

    def _has_right_form(self, record: Row | ConversationRow) -> bool:
        """Return whether the record has the form of the first one, which only a declared shape may mix with others."""
        self._form = self._form or type(record)
        options = self._source.options
        if type(record) is self._form or (options and options.shape):
            return True
        expected, found = "an input and an output", "a conversation"
        if self._form is ConversationRow:
            expected, found = found, expected
        message = f"expected {expected} as in the lines above, found {found}"
        self._error(record.number, message, "write all lines in one format")
        return False

    def _row(self, row: Row) -> None:
        example = Example(self._source.preamble + row.input, row.output)
        problems = [("input", *problem) for problem in text_problems(row.input)]
        problems += [("output", *problem) for problem in text_problems(row.output)]
        for name, message, remedy in problems:
            self._error(row.number, f"the {name} {message}", remedy)
        if self._within_limits(row.number, example) and not problems:
            size = sum(byte_length(text) or 0 for text in (example.input, example.output, row.rejected))
            counted = self._source.example(row) if self._source.pairs else example
            self._count(row, counted, size, row.input, row.output)
            self._add_tokens(example.input, example.output, row.rejected)

    def _within_limits(self, number: int, example: Example) -> bool:
        service, within = self._capabilities, True
        if service is None:
            return within
        for name, text, limit in (
            ("input", example.input, service.max_input_characters),
            ("output", example.output, service.max_output_characters),
        ):
            if limit and len(text) > limit:
                message = f"the {name} has {len(text):,} characters, {exceeds_limit(service.label, limit)}"
                self._error(number, message, "shorten it")
                within = False
        return within

    def _conversation(self, record: ConversationRow) -> None:
        problems = list(conversation_problems(record.value))
        for name, remedy in unknown_members(record.value).items():
            if name in self._unknown or len(self._unknown) < _MOST_UNKNOWN:
                self._unknown.setdefault(name, _UnknownMember(record.number, remedy)).count += 1
        try:
            line = canonical_json(preference_value(record) if self._source.pairs else record.value)
            row = record if problems else self._source.row(record)
        except NotSingleTurnError as error:
            label = self._capabilities.label if self._capabilities else "the service"
            message = f"{error}, and {label} accepts one input and one output"
            problems = [(message, "split the example, or use a Vertex AI target")]
        except ValueError as error:
            problems = problems or [(str(error), "rewrite or delete the example")]
        else:
            if isinstance(row, Row):
                self._row(row)
            elif not problems:
                text = example_text(row)
                compared = ExampleText(line, "") if self._source.pairs else text
                self._count(row, Conversation(line), byte_length(line) or 0, compared.input, compared.output)
                self._has_media = self._has_media or has_media(row.value)
                self._add_tokens(text.input, text.output, row.rejected)
        for message, remedy in problems:
            self._error(record.number, message, remedy)

    def _count(self, row: Row | ConversationRow, example: TrainingExample, size: int, given: str, wanted: str) -> None:
        self._digest.add(example)
        self._examples += 1
        self._bytes += size
        self._longest = max(self._longest, size)
        self._note_normalization(row.number, given, wanted)
        if self._examples <= _MAX_COMPARED:
            current = row.number, hash(wanted)
            first = self._seen.setdefault(hash(given), current)
            if first is not current:
                repetition = _DUPLICATE if first[1] == current[1] else _CONTRADICTION
                self._repeated[repetition].append((row.number, first[0]))

    def _add_tokens(self, given: str, wanted: str, rejected: str) -> None:
        """Add the tokens of an example; a pair trains on its prompt twice, once with each answer."""
        prompt = given.split(TURN_BREAK)
        for text in (*prompt, wanted, *((*prompt, rejected) if self._source.pairs else ())):
            self._tokens.add(text)

    def _note_normalization(self, number: int, given: str, wanted: str) -> None:
        if not (_is_composed(given) and _is_composed(wanted)):
            self._decomposed.append(number)

    def _warn_of_repetitions(self) -> None:
        """Warn of duplicates and of contradictions: one warning each, with their number and the first of them."""
        for repetition, found in self._repeated.items():
            if len(found) == 1:
                (number, earlier), (message, remedy) = found[0], repetition.single
                shown = self._source.describe(earlier)
                message = message.format(shown if self._source.counts_items else f"the example on {shown}")
                self._warn(number, message, remedy)
            elif found:
                message, remedy = repetition.several
                listed = [self._source.describe(number) for number, _ in found[:_MAX_LISTED]]
                more = [f"{len(found) - _MAX_LISTED:,} more"] if len(found) > _MAX_LISTED else []
                self._warn(found[0][0], message.format(f"{len(found):,}", one_of([*listed, *more], "and")), remedy)

    def _warn(self, number: int, message: str, remedy: str) -> None:
        place, path = self._source.locate(number)
        self._warnings.add(number, Problem(place, path, message, remedy, "warning"))

    def _warn_of_normalization(self) -> None:
        """Warn of texts that look the same in other characters, which would give another key."""
        advice = "convert it to NFC before the first training: a later conversion is another data set, and trains again"
        if not _is_composed(self._source.preamble):
            place, path = self._source.declared_at
            self._warnings.add(0, Problem(place, f"{path}.preamble", f"the text {_DECOMPOSED}", advice, "warning"))
        if self._decomposed:
            count = len(self._decomposed)
            subject = "the example has text that" if count == 1 else f"this and {count - 1:,} more have text that"
            place, path = self._source.locate(self._decomposed[0])
            self._warnings.add(self._decomposed[0], Problem(place, path, f"{subject} {_DECOMPOSED}", advice, "warning"))

    def _check_size(self) -> None:
        service, (place, path) = self._capabilities, self._source.declared_at
        if not self._examples:
            place, path = self._source.locate(0) if self._source.path else (place, path)
            self._errors.add(0, Problem(place, path, "the data set has no examples", "add examples"))
        if service and service.max_dataset_bytes and self._bytes > service.max_dataset_bytes:
            limit = exceeds_limit(service.label, service.max_dataset_bytes)
            message = f"the examples have {self._bytes:,} bytes, {limit}"
            self._errors.add(0, Problem(place, path, message, "use fewer or shorter examples"))

    def _error(self, number: int, message: str, remedy: str) -> None:
        place, path = self._source.locate(number)
        self._errors.add(number, Problem(place, path, message, remedy))


class _Observation(_Validation):
    """A validation that passes the valid records on."""

    def __init__(self, source: DatasetSource, observer: Observer) -> None:
        super().__init__(source, None)
        self._observer = observer

    def _add_plain(self, rows: Sequence[Row]) -> bool:  # noqa: ARG002 - the observer needs each record
        return False

    def _count(
        self,
        row: Row | ConversationRow,
        example: TrainingExample,  # noqa: ARG002 - the digest is not needed
        size: int,  # noqa: ARG002 - neither is the size
        given: str,
        wanted: str,
    ) -> None:
        self._examples += 1
        self._note_normalization(row.number, given, wanted)
        self._observer(row, self._records)

    def _add_tokens(self, given: str, wanted: str, rejected: str) -> None:
        pass  # the observer counts them, if it needs them
