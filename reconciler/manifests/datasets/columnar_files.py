"""Parquet and Arrow files, read one batch of rows at a time; pyarrow is in the extra `parquet`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

from reconciler.domain.text import quote
from reconciler.manifests.datasets.records import Fault, ReadOptions, Records, UnreadableError
from reconciler.manifests.datasets.shapes import read_object

_ROWS: Final = 64
"""The number of rows that are converted at once."""
_INSTALL: Final = "run `pip install 'tuned-model-reconciler[parquet]'`"
_ARROW_FILE: Final = b"ARROW1"
_TEXTS: Final = re.compile(r"null$|u?int\d+$|bool$|.*string")
"""The names of the types that texts have: also string_view, large_string and dictionaries of strings."""
_EXPORT: Final = "export it again, or save it as JSON Lines"


def columnar_records(file: Path, options: ReadOptions) -> Records:
    """Yield the examples of a Parquet or Arrow file; they are numbered from 1."""
    with _conversion_errors(options):
        for number, value in enumerate(_rows(file, options), 1):
            yield read_object(number, value, options)


def columnar_objects(file: Path, options: ReadOptions) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet or Arrow file as objects, with all columns, up to one that cannot be read."""
    with suppress(UnreadableError), _conversion_errors(options):
        yield from _rows(file, options, every_column=True)


@contextmanager
def _conversion_errors(options: ReadOptions) -> Iterator[None]:
    """Turn the errors of pyarrow, which are ValueErrors, NotImplementedErrors and OSErrors, into a fault."""
    try:
        yield
    except (ValueError, NotImplementedError, OSError) as error:
        if getattr(error, "errno", None):
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise UnreadableError(Fault(0, f"cannot read the {options.format} file: {quote(reason)}", _EXPORT)) from error


def _rows(file: Path, options: ReadOptions, *, every_column: bool = False) -> Iterator[dict[str, Any]]:
    given = {options.input, options.output}
    with file.open("rb") as binary:
        schema, batches = _open(binary, options)
        names = list(schema.names)
        if not options.shape and not every_column and given <= {*names}:
            _require_texts(schema, options)
            names = list(given)
        for batch in batches(names):
            chosen = batch.select(names)
            for first in range(0, chosen.num_rows, _ROWS):
                for row in chosen.slice(first, _ROWS).to_pylist():
                    yield {name: _bare(value) for name, value in row.items() if value is not None or name in given}


def _open(binary: BinaryIO, options: ReadOptions) -> tuple[Any, Callable[[list[str]], Iterator[Any]]]:
    """Return the schema of a file, and a function that returns its batches with the named columns, or with all."""
    if options.format == "parquet":
        source = _pyarrow("pyarrow.parquet", options).ParquetFile(binary)
        return source.schema_arrow, lambda names: source.iter_batches(batch_size=_ROWS, columns=names)
    ipc = _pyarrow("pyarrow.ipc", options)
    start = binary.read(len(_ARROW_FILE))
    binary.seek(0)
    if start != _ARROW_FILE:
        stream = ipc.open_stream(binary)
        return stream.schema, lambda _names: iter(stream)
    opened = ipc.open_file(binary)
    return opened.schema, lambda _names: map(opened.get_batch, range(opened.num_record_batches))


def _pyarrow(name: str, options: ReadOptions) -> Any:
    try:
        return import_module(name)
    except ImportError:
        fault = Fault(0, f"reading {options.format} files needs pyarrow", _INSTALL, option="format")
        raise UnreadableError(fault) from None


def _require_texts(schema: Any, options: ReadOptions) -> None:
    for option, name in (("inputField", options.input), ("outputField", options.output)):
        found = str(schema.field(name).type)
        if not _TEXTS.match(found):
            message = f"column {quote(name)} has the type {found}, not texts, integers or booleans"
            raise UnreadableError(Fault(0, message, "name a column with texts, or convert it", option=option))


def _bare(value: Any) -> Any:
    """Return a value without absent members of objects, which columns of objects have as nulls."""
    if isinstance(value, Mapping):
        return {name: _bare(member) for name, member in value.items() if member is not None}
    return [_bare(element) for element in value] if isinstance(value, list) else value
