"""Recognize how to read a data file, for manifests that are written for it; runs use what manifests declare."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.text import join_names, quote
from reconciler.manifests.datasets.file_formats import complete_options, open_text, read_start
from reconciler.manifests.datasets.json_files import first_objects
from reconciler.manifests.datasets.records import ReadOptions
from reconciler.manifests.datasets.separated_values import first_rows
from reconciler.manifests.datasets.shapes import SHAPES, recognize

_SAMPLE_BYTES: Final = 2**18
_SAMPLE_ROWS: Final = 100
_DELIMITERS: Final = ",;\t|"
_INPUTS: Final = ("text_input", "input", "prompt", "question", "instruction", "query", "text", "source", "request")
_OUTPUTS: Final = (
    *("output", "completion", "answer", "response", "label", "target", "reply", "category", "summary", "chosen"),
)
"""The usual names of columns, the most specific ones first."""
_BOMS: Final = {codecs.BOM_UTF8: "", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_NUMBER: Final = re.compile(r"[-+]?\d+([.,]\d+)?")
_UNNAMED: Final = re.compile(r"(unnamed: \d+|index|idx|id|_?_?id_?_?|.*[ _-]id|uuid|guid|row|no\.?|#|)", re.IGNORECASE)
"""Names of columns that number or identify rows."""


Fields = tuple[str | None, str | None]
"""The names of the input and the output field; ``None`` to recognize one."""


class Detected(Struct, frozen=True):
    """How to read a file, and the first example as its fields name it.

    ``options`` has only what differs from the defaults of the file's suffix.
    """

    options: ReadOptions
    first: Mapping[str, Any]


def detect_options(file: Path, chosen: Fields = (None, None)) -> Detected:
    """Return how to read a data file, by its content; ``chosen`` are the fields that the user names.

    If no example can be read, the fields are the default ones: reading the file then says why.

    Raises:
        ReconcileError: it cannot be read, has no text, or its fields are ambiguous.
        UsageError: a chosen field does not exist.
    """
    start = read_start(file, _SAMPLE_BYTES)
    options = replace(ReadOptions(), compression=start.compression, encoding=_encoding(start.content))
    text = _decode(start.content, options.encoding)
    found = _format(file, text)
    options = replace(options, format=found)
    if found in {"csv", "tsv"}:
        options = replace(options, delimiter=_delimiter(text, found))
    elif found == "json":
        options = replace(options, items=_items(text))
    with open_text(file, complete_options(file.name, options)) as whole:
        names, examples = _sample(whole, options)
    if options.format in {"csv", "tsv"} and _is_data(names, examples):
        options = replace(options, header=False)
        with open_text(file, complete_options(file.name, options)) as whole:
            names, examples = _sample(whole, options)
    if not names:
        return Detected(_without_defaults(file, options), {})
    if chosen == (None, None) and (shape := recognize(names)):
        return Detected(_without_defaults(file, replace(options, shape=shape)), {})
    given, wanted = _choose(file, names, examples, chosen)
    first = examples[0] if examples else {}
    return Detected(_without_defaults(file, replace(options, input=given, output=wanted)), first)


def describe_mapping(name: str, detected: Detected) -> tuple[str, ...]:
    """Return lines that show how a file is read, with its first example."""
    options, first = detected.options, detected.first
    declared = (options.format, options.compression, options.encoding, options.items)
    details = [option for option in declared if option]
    details += [f"delimiter {quote(options.delimiter)}"] if options.delimiter else []
    if options.shape:
        return (f"{name}: {', '.join([SHAPES[options.shape].title, *details])}",)
    columns = (("input", options.input), ("output", options.output))
    shown = (f"  {field} = {column}, first: {quote(first.get(column, ''))}" for field, column in columns)
    return (f"{name}: {', '.join(['one input and one output', *details])}", *shown)


def _encoding(content: bytes) -> str:
    """Return the name of an encoding other than UTF-8, empty if it is UTF-8."""
    for mark, name in _BOMS.items():
        if content.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        best = from_bytes(content).best()
        if best is None:
            raise ReconcileError("the encoding of the file is unknown", "save it as UTF-8") from None
        return "windows-1252" if best.encoding in {"cp1252", "cp1250", "latin_1", "cp1254"} else best.encoding
    return ""


def _decode(content: bytes, encoding: str) -> str:
    return codecs.getincrementaldecoder(encoding or "utf-8-sig")("replace").decode(content)


def _format(file: Path, text: str) -> str:
    start = text.lstrip()
    if not start.startswith(("{", "[")):
        suffix = Path(re.sub(r"\.(gz|zst)$", "", file.name.lower())).suffix
        return "tsv" if suffix == ".tsv" else "csv"
    if start.startswith("["):
        return "json"
    try:
        value = json.loads(start.splitlines()[0])
    except ValueError:
        return "json"
    alone = not start.rstrip().count("\n")
    return (
        "json"
        if alone and any(isinstance(member, list) for member in value.values()) and not recognize(value)
        else "jsonl"
    )


def _delimiter(text: str, found: str) -> str:
    """Return the delimiter of a table if it is not the default one."""
    if text.startswith("sep=") or found == "tsv":
        return ""
    header = next((line for line in text.splitlines() if line.strip()), "")
    present = [mark for mark in _DELIMITERS if mark in header]
    if present in ([], [","]):
        return ""
    if len(present) == 1:
        return present[0]
    import clevercsv

    try:
        dialect = clevercsv.Sniffer().sniff(text[: 2**14], delimiters=present)
    except clevercsv.Error:
        return ""
    return "" if dialect is None or dialect.delimiter in {"", ","} else str(dialect.delimiter)


def _items(text: str) -> str:
    """Return the name of the first member of an object whose value begins an array of objects; empty for an array."""
    if not text.lstrip().startswith("{"):
        return ""
    found = re.search(r'"((?:[^"\\]|\\.)*)"\s*:\s*\[\s*\{', text)
    return str(json.loads(f'"{found[1]}"')) if found else ""


def _sample(text: TextIO, options: ReadOptions) -> tuple[list[str], Sequence[Mapping[str, Any]]]:
    """Return the names of the fields, and the first examples."""
    if options.format in {"csv", "tsv"}:
        return first_rows(text, options, "\t" if options.format == "tsv" else ",", _SAMPLE_ROWS)
    examples = list(islice(first_objects(text, options), _SAMPLE_ROWS))
    return list(examples[0]) if examples else [], examples


def _is_data(names: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the first row of a table is an example: it has numbers, questions, or values of rows below."""
    if {name.lower() for name in names} & {*_INPUTS, *_OUTPUTS}:
        return False
    return any(
        _NUMBER.fullmatch(name) or name.endswith(("?", ".", "!")) or name in {row.get(name) for row in examples}
        for name in names
        if name
    )


def _choose(file: Path, names: list[str], examples: Sequence[Mapping[str, Any]], chosen: Fields) -> tuple[str, str]:
    for name in filter(None, chosen):
        if name not in names:
            raise UsageError(f"{file} has no field {quote(name)}", f"choose one of {join_names(names)}")
    usable = [name for name in names if _is_usable(name, names, examples)] if len(names) > 2 else names  # noqa: PLR2004
    known = {name.lower(): name for name in reversed(usable)}
    given, wanted = chosen
    wanted = wanted or next((known[name] for name in _OUTPUTS if name in known and known[name] != given), None)
    given = given or next((known[name] for name in _INPUTS if name in known and known[name] != wanted), None)
    rest = [name for name in usable if name not in {given, wanted}]
    if given is None and wanted is None and len(rest) == 2:  # noqa: PLR2004 - an input and an output, in this order
        return rest[0], rest[1]
    if (given is None) != (wanted is None) and len(rest) == 1:
        return given or rest[0], wanted or rest[0]
    if given is None or wanted is None or (given == wanted):
        if len(names) < 2:  # noqa: PLR2004
            message = f"{file}: expected two fields, one for inputs and one for outputs"
            raise ReconcileError(message, "add a header with two columns, or use JSON objects with two members")
        missing = [option for option, name in (("--input", given), ("--output", wanted)) if name is None]
        message = f"{file} has the fields {join_names(names)}; which of them are inputs and outputs is ambiguous"
        raise ReconcileError(message, f"add {' and '.join(f'{option} FIELD' for option in missing)}")
    return given, wanted


def _is_usable(name: str, names: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a field can be an input or output: it has texts, and does not number or repeat itself."""
    values = [example.get(name) for example in examples]
    if not all(isinstance(value, str) for value in values) or names.count(name) > 1 or _UNNAMED.fullmatch(name):
        return False
    return len(values) == 1 or len(set(values)) > 1


def _without_defaults(file: Path, options: ReadOptions) -> ReadOptions:
    """Return the options without those that the file's suffix implies."""
    try:
        implied = complete_options(file.name, ReadOptions())
    except ReconcileError:
        implied = ReadOptions(compression="none")
    return replace(
        options,
        format="" if options.format == implied.format else options.format,
        compression="" if options.compression == implied.compression else options.compression,
    )
