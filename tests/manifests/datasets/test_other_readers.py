"""pandas, DuckDB and Hugging Face `datasets` read the corpus to the same rows; each has files that it cannot read.

The packages are in the extra `readers`; with REQUIRE_READERS=1 a missing one is an error.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from reconciler.manifests.datasets.conversations import single_turn
from reconciler.manifests.datasets.declarations import declared_options
from reconciler.manifests.datasets.file_formats import complete_options
from reconciler.manifests.datasets.records import ConversationRow, ReadOptions, Row
from reconciler.manifests.datasets.shapes import read_object
from support.files_samples import CORPUS, EXPECTED, READABLE

Rows = Iterable[dict[Any, Any]]
Reader = Callable[[Path, ReadOptions, Path], Rows]
"""Reads a file; the folder is for what the reader stores."""


def package(name: str) -> Any:
    """Return a package; skips the test without it, unless it is required."""
    if os.environ.get("REQUIRE_READERS"):
        return importlib.import_module(name)
    return pytest.importorskip(name, reason="needs the extra readers")


def delimiter(options: ReadOptions) -> str:
    """Return the delimiter of a table."""
    return options.delimiter or {"csv": ",", "tsv": "\t"}[options.format]


def pandas(file: Path, options: ReadOptions, _cache: Path) -> Rows:
    """Read a file with pandas."""
    reader = package("pandas")
    compression = None if options.compression == "none" else options.compression
    if options.format in {"csv", "tsv"}:
        frame = reader.read_csv(
            file,
            sep=delimiter(options),
            header=0 if options.header else None,
            dtype=str,
            keep_default_na=False,
            encoding=options.encoding or "utf-8",
            compression=compression,
        )
    elif options.format == "parquet":
        frame = reader.read_parquet(file)
    elif options.format == "arrow":
        frame = reader.read_feather(file)
    else:
        frame = reader.read_json(file, lines=options.format == "jsonl", dtype=False, compression=compression)
    rows = frame.to_dict("records")
    return [
        {name: getattr(value, "tolist", lambda value=value: value)() for name, value in row.items()} for row in rows
    ]


def duckdb(file: Path, options: ReadOptions, _cache: Path) -> Rows:
    """Read a file with DuckDB."""
    function, settings = {"parquet": "read_parquet", "jsonl": "read_json", "json": "read_json"}.get(options.format), {}
    if options.format in {"csv", "tsv"}:
        function = "read_csv"
        settings = {"delim": delimiter(options), "quote": '"', "header": options.header, "all_varchar": True}
        settings |= {"encoding": options.encoding or "utf-8", "compression": options.compression}
    elif function == "read_json":
        kind = "newline_delimited" if options.format == "jsonl" else "array"
        settings = {"format": kind, "compression": options.compression}
    named = "".join(f", {name} = ${name}" for name in settings)
    query = f"SELECT * FROM {function}($file{named})"  # noqa: S608 - of the names above
    found = package("duckdb").connect().execute(query, {"file": str(file), **settings})
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def datasets(file: Path, options: ReadOptions, cache: Path) -> Rows:
    """Read a file with Hugging Face `datasets`."""
    reader = package("datasets")
    reader.disable_progress_bars()
    place = {"cache_dir": str(cache), "keep_in_memory": True}
    if options.format in {"csv", "tsv"}:
        header = 0 if options.header else None
        settings = {"sep": delimiter(options), "header": header, "keep_default_na": False, "encoding": options.encoding}
        return list(reader.Dataset.from_csv(str(file), **settings, **place))
    if options.format == "parquet":
        return list(reader.Dataset.from_parquet(str(file), **place))
    if options.format == "arrow":
        return list(reader.Dataset.from_file(str(file)))
    return list(reader.Dataset.from_json(str(file), field=options.items or None, **place))


SEPARATOR: Final = dict.fromkeys(("csv-excel-german.csv", "csv-sep-line.csv"), "the first line is for Excel alone")
WRAPPED: Final = dict.fromkeys(
    ("json-wrapped.json", "json-wrapped-behind.json"), "reads an array that is not in an object"
)
CANNOT: Final[Mapping[Reader, Mapping[str, str]]] = {
    pandas: {
        **SEPARATOR,
        **WRAPPED,
        "arrow-questions.arrow": "reads Arrow files, and not streams",
        "csv-zstd.csv.zst": "needs one more package",
        "jsonl-crlf-bom.jsonl": "does not expect a byte order mark",
        "openai-system-member.jsonl": "makes NaN of null",
    },
    duckdb: {
        **SEPARATOR,
        **WRAPPED,
        "arrow-questions.arrow": "reads no Arrow files",
        "csv-utf-16-unmarked.csv": "needs a byte order mark",
        **dict.fromkeys(
            ("csv-german-accents.csv", "csv-polish.csv", "csv-turkish.csv", "csv-windows-1252.csv"),
            "needs an extension, which it downloads",
        ),
        "openai-parts.jsonl": "makes JSON texts of members that are texts or lists",
    },
    datasets: {**SEPARATOR, "csv-no-header.csv": "makes numbers of texts of digits"},
}
"""The files that a reader does not read to the same rows, and why."""


def rows_of(read: Reader, name: str, options: ReadOptions, cache: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows that have values, by the names of columns without spaces around them, or by their numbers."""
    for row in read(CORPUS / name, options, cache):
        if any(value is not None and value != "" for value in row.values()):
            names = (
                [name.strip() for name in row] if options.header else [str(number + 1) for number in range(len(row))]
            )
            yield dict(zip(names, row.values(), strict=True))


def examples(rows: Iterable[Mapping[str, Any]], options: ReadOptions) -> Iterator[list[str]]:
    """Yield the inputs and outputs in rows."""
    for number, row in enumerate(rows, 1):
        record = read_object(number, row, options)
        found = single_turn(record) if isinstance(record, ConversationRow) else record
        yield [found.input, found.output] if isinstance(found, Row) else [str(found)]


@pytest.mark.parametrize("reader", CANNOT, ids=lambda reader: str(reader.__name__))
def test_another_reader_has_the_same_rows(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert {*CANNOT[reader]} < {*READABLE}
    for name in READABLE:
        if name not in CANNOT[reader]:
            options = complete_options(name, declared_options(EXPECTED[name]["dataset"]))
            rows = list(rows_of(reader, name, options, tmp_path))
            assert (name, list(examples(rows, options))) == (name, EXPECTED[name]["examples"])
