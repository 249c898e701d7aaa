"""Data files that a user names: how each is read, its examples, and an index of examples that may exceed memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct

from reconciler.domain.errors import Place, ReconcileError
from reconciler.domain.inspection import DatasetFormat
from reconciler.manifests.datasets.conversations import ExampleText, example_text
from reconciler.manifests.datasets.detect import AmbiguousFieldsError, Detected, Fields, detect_options
from reconciler.manifests.datasets.file_formats import complete_options
from reconciler.manifests.datasets.folders import FolderFiles
from reconciler.manifests.datasets.hub import HubFiles
from reconciler.manifests.datasets.records import MAX_LABEL, MAX_LABELS, ConversationRow, ReadOptions, Row
from reconciler.manifests.datasets.shapes import PREFERENCE
from reconciler.manifests.datasets.validation import DatasetSource, file_source, files_source, valid_records
from reconciler.paths import require_file

if TYPE_CHECKING:
    import sqlite3

_DIGEST_BYTES: Final = 16
_BATCH: Final = 1000
"""The number of rows that are written to the index at once."""
_CACHE_KIB: Final = 16_384
"""The memory of the index; what does not fit is in a temporary file."""


class DataFile(Struct, frozen=True):
    """A file, its name in messages, how it is read, and the source of its examples.

    A data set of the Hugging Face Hub or in a folder may have several files; then it is the first, and the source has
    all of them.
    """

    file: Path
    shown: str
    detected: Detected
    source: DatasetSource
    options: ReadOptions

    @property
    def shape(self) -> str:
        """The shape of the examples; empty if the fields do not show one."""
        is_preference = self.options.output == "chosen" and "rejected" in self.detected.unused
        return PREFERENCE if is_preference else self.options.shape


def open_data_file(file: Path, shown: str, fields: Fields = (None, None)) -> DataFile:
    """Recognize how to read a data file; ``fields`` are the input and the output field that the user names.

    Raises:
        ReconcileError: it does not exist, cannot be read, is outside the repository, or its fields are ambiguous.
        UsageError: a named field does not exist.
    """
    require_file(file, shown)
    detected, options = _detect(file, fields)
    source = file_source(file, shown, file.name, options, (Place(shown), ""), "")
    return DataFile(file, shown, detected, source, options)


def open_data_files(found: HubFiles | FolderFiles, fields: Fields = (None, None)) -> DataFile:
    """Recognize how to read several files, by the first; raises as :func:`open_data_file`."""
    first, shown = next(iter(found.files.values())), str(found.declared)
    detected, options = _detect(first, fields)
    source = files_source(found.files, shown, detected.options, (Place(shown), ""), "")
    return DataFile(first, shown, detected, source, options)


def _detect(file: Path, fields: Fields) -> tuple[Detected, ReadOptions]:
    """Return how to read a file, and its complete options."""
    try:
        detected = detect_options(file, fields)
    except AmbiguousFieldsError as error:
        if not error.usual:
            raise
        detected = detect_options(file, error.proposed)  # a part of a data set may have one label only
    return detected, complete_options(file.name, detected.options)


class ValidRecord(NamedTuple):
    """A valid record: which one of the file it is, counted from 1, its number for messages, and its texts."""

    ordinal: int
    number: int
    row: Row | ConversationRow
    text: ExampleText


def read_valid(data: DataFile) -> Iterator[ValidRecord]:
    """Yield the records of a file, which are read as they are consumed.

    Raises InvalidInput, at the latest after the last record, if one is invalid.
    """
    for row, ordinal in valid_records(data.source):
        yield ValidRecord(ordinal, row.number, row, example_text(row))


def dataset_format(options: ReadOptions) -> DatasetFormat:
    """Return how a file is read; ``options`` are complete."""
    return DatasetFormat(
        format=options.format,
        compression=options.compression,
        encoding=options.encoding or "utf-8",
        delimiter=options.delimiter,
        header=options.header,
        items=options.items,
        input_field="" if options.shape else options.input,
        output_field="" if options.shape else options.output,
    )


class IndexedExample(NamedTuple):
    """An example in an index: which record it is, counted from 1, its number for messages, and its digests."""

    ordinal: int
    number: int
    input: bytes
    output: bytes


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()


class ExampleIndex:
    """The digests of examples of several sets, in a temporary file of the database that the system removes."""

    def __init__(self) -> None:
        import sqlite3  # needed by few commands

        self._database: sqlite3.Connection = sqlite3.connect("", isolation_level=None)
        self._pending: list[tuple[str, int, int, bytes, bytes, str]] = []
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            f"PRAGMA cache_size = -{_CACHE_KIB}",
            "PRAGMA temp_store = FILE",
            "CREATE TABLE example (part, ordinal, number, input, output, label)",
            "BEGIN",
        ):
            self._database.execute(statement)

    def add_record(self, part: str, record: ValidRecord, label: str = "") -> None:
        """Add a record to a set."""
        given, wanted = record.text.input.encode(), record.text.output.encode()
        self.add(part, record.ordinal, record.number, given, wanted, label)

    def add(self, part: str, ordinal: int, number: int, given: bytes, wanted: bytes, label: str = "") -> IndexedExample:
        """Add an example to a set; ``given`` and ``wanted`` are its input and output in UTF-8."""
        added = IndexedExample(ordinal, number, _digest(given), _digest(wanted))
        self._pending.append((part, *added, label))
        if len(self._pending) >= _BATCH:
            self._write()
        return added

    def mark(self, part: str, inputs: Iterable[bytes]) -> None:
        """Add inputs to a set."""
        self._pending += [(part, 0, 0, given, b"", "") for given in inputs]

    def query(self, statement: str, *parameters: str) -> Iterator[Any]:
        """Yield the rows of a query of the table ``example``."""
        self._write()
        yield from self._database.execute(statement, parameters)

    def close(self) -> None:
        """Remove the index."""
        self._database.close()

    def _write(self) -> None:
        self._database.executemany("INSERT INTO example VALUES (?, ?, ?, ?, ?, ?)", self._pending)
        self._pending.clear()


@contextmanager
def example_index() -> Iterator[ExampleIndex]:
    """Return an index for a while.

    Raises ReconcileError if its temporary file cannot be written.
    """
    import sqlite3

    index = ExampleIndex()
    try:
        yield index
    except sqlite3.Error as error:
        message = f"the temporary file for comparing examples cannot be written: {error}"
        raise ReconcileError(message, "free disk space, or set TMPDIR to a directory with more of it") from error
    finally:
        index.close()


class LabelCount:
    """Counts the distinct outputs while they may be labels: few and short ones."""

    def __init__(self) -> None:
        self._counts: dict[str, int] | None = {}
        self._examples = 0

    def add(self, output: str) -> None:
        """Count an output."""
        self._examples += 1
        if self._counts is None:
            return
        if len(output) > MAX_LABEL or (output not in self._counts and len(self._counts) == MAX_LABELS):
            self._counts = None
            return
        self._counts[output] = self._counts.get(output, 0) + 1

    def labels(self) -> dict[str, int]:
        """Return the examples of each output, the most frequent first; empty if they are not labels.

        They are labels if each occurs twice or more on average.
        """
        counts = self._counts or {}
        if 2 * len(counts) > self._examples:
            return {}
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
