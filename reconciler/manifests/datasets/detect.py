"""Recognize how to read a data file, for manifests that are written for it; runs use what manifests declare."""

from __future__ import annotations

import codecs
import json
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.text import counted, join_names, quote, quote_escaped
from reconciler.manifests.datasets.columnar_files import columnar_objects
from reconciler.manifests.datasets.file_formats import (
    FORMATS,
    Start,
    columnar_format,
    complete_options,
    not_utf_8,
    open_text,
    read_start,
    unmarked_utf_16,
)
from reconciler.manifests.datasets.json_files import first_array, first_objects
from reconciler.manifests.datasets.preferences import transcript
from reconciler.manifests.datasets.records import MAX_LABEL, MAX_LABELS, ReadOptions, as_text, text_problems
from reconciler.manifests.datasets.separated_values import first_rows
from reconciler.manifests.datasets.shapes import PREFERENCE, SHAPES, recognize, unused_members

_SAMPLE_BYTES: Final = 2**18
_LARGEST_SAMPLE: Final = 2**22
"""As many bytes as the longest example may have; the usual sample is much shorter."""
_SAMPLE_ROWS: Final = 100
_MOST_NAMES: Final = 10
"""The number of fields that messages list."""
_TABLES: Final = frozenset({"csv", "tsv"})
_DELIMITERS: Final = ",;\t|"
_INPUTS: Final = (
    *("text_input", "input", "prompt", "question", "instruction", "query", "text", "source", "request", "user"),
)
_PROMPTS: Final = ("text_input", "prompt", "instruction")
"""The names of the prompts of preference pairs, which are not declared."""
_QUESTIONS: Final = ("question", "query", "request", "input", "text")
_OUTPUTS: Final = (
    *("output", "completion", "answer", "response", "label", "target", "reply", "category", "summary", "chosen"),
    "assistant",
)
"""The usual names of columns, the most specific ones first."""
_BOMS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WESTERN: Final = "cp1252"
_ENCODINGS: Final = (
    *(_WESTERN, "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "cp932", "euc_jp"),
    *("gb18030", "big5", "cp949"),
)
"""What data is usually in, if not in UTF-8: short texts also look like encodings that are out of use."""
_NUMBER: Final = re.compile(r"[-+]?\d+([.,]\d+)*( ?%)?")
_DATE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ][\d:.]+(Z|[+-][\d:]+)?)?")
_INDEX_NAME: Final = re.compile(r"(index|idx|row|no\.?|nr\.?|#|_c0)", re.IGNORECASE)
_ID_NAME: Final = re.compile(r"(.*[ _-])?(?i:id|uuid|guid|hash)_*|.*[a-z0-9]I[Dd]")
_UNNAMED: Final = re.compile(r"unnamed: \d+|__index_level_\d+__|", re.IGNORECASE)
"""A column that pandas has numbered or named: its rows are named, too."""
_TOKEN: Final = re.compile(r"\S*")
_JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})
_LINES_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
_JSON_START: Final = re.compile(r"""\{\s*(["'}]|$)|\[\s*([{\]]|$)""")
"""What no table starts with: other brackets may be part of a text."""
_QUOTED: Final = re.compile(r'"[^"]*("|$)')
_DELIMITED: Final = re.compile(rf"\s*[^\n{_DELIMITERS}]+\s*\n[^\n]*[{_DELIMITERS}]")
"""A first line without a delimiter, and one with it."""
_NEXT_LINE: Final = re.compile(r"[\r\n]\s*\S")
_ENOUGH: Final = 10
"""The number of examples at least by which labels are recognized."""
_UNIQUE: Final = 0.9
"""The share of distinct texts at least in inputs beside labels."""
_LONG_NAME: Final = 60
"""A name with more characters is a text."""


Fields = tuple[str | None, str | None]
"""The names of the input and the output field; ``None`` to recognize one."""


class Detected(Struct, frozen=True):
    """How to read a file, and the fields that are neither inputs nor outputs.

    ``options`` has only what differs from the defaults of the file's suffix.
    """

    options: ReadOptions
    unused: tuple[str, ...] = ()


class AmbiguousFieldsError(ReconcileError):
    """Which fields have the inputs and outputs is ambiguous: the fields, and those of the two that are known.

    ``chosen`` are those of them that the user has named. ``usual`` says whether the proposed ones have usual names, but
    the same value in all examples.
    """

    def __init__(
        self,
        file: Path,
        names: Sequence[str],
        known: Fields,
        proposed: tuple[str, str],
        *,
        chosen: Fields,
        usual: bool = False,
    ) -> None:
        fields = join_names(list(names), _MOST_NAMES)
        message = f"{file.name} has the fields {fields}; which of them are inputs and outputs is ambiguous"
        pairs = zip(("--input", "--output"), chosen, proposed, strict=True)
        options = " ".join(f"{option} {_shell_word(name)}" for option, given, name in pairs if given is None)
        super().__init__(message, f"add the options for them, such as {options}")
        self.names = tuple(names)
        self.known = known
        self.proposed = proposed
        self.usual = usual


def _shell_word(text: str) -> str:
    """Return the text as a word of a command; characters that are not shown are escaped, as in Bash and Zsh."""
    escaped = quote_escaped(text)
    if escaped == json.dumps(text, ensure_ascii=False) and text.isprintable():
        return shlex.quote(text)
    return "$'{}'".format(escaped[1:-1].replace("'", "\\'"))


def detect_options(file: Path, chosen: Fields = (None, None), *, header: bool | None = None) -> Detected:
    """Return how to read a data file, by its content; ``chosen`` are the fields that the user names.

    ``header`` is whether the first row of a table has the names of its columns; ``None`` to recognize it. If no example
    can be read, the fields are the default ones: reading the file then says why.

    Raises:
        AmbiguousFieldsError: which fields are inputs and outputs is ambiguous.
        ReconcileError: it cannot be read, or has no text.
        UsageError: a chosen field does not exist.
    """
    start = read_start(file, _SAMPLE_BYTES)
    options = replace(ReadOptions(), compression=start.compression)
    found, text = columnar_format(start.content), ""
    if not found:
        options = replace(options, encoding=_encoding(file, start))
        text = _first_text(file, start, options.encoding)
        found = _format(file, text, options)
    options = replace(options, format=found)
    if found in _TABLES:
        options = replace(options, delimiter=_delimiter(text, found), header=header is not False)
    elif found == "json":
        options = replace(options, items=_items(file, options))
    sample = _sample(file, options)
    if found in _TABLES and header is None and not {*chosen} & {*sample.names} and _is_data(sample):
        options = replace(options, header=False)
        sample = _sample(file, options)
    if found in _TABLES and len(sample.names) == 1 and _DELIMITED.match(text):
        message = f"{file.name}: the first line has one field, unlike the next"
        raise ReconcileError(message, "delete what is above the header")
    if not sample.names:
        return Detected(_without_defaults(file, options))
    if chosen == (None, None) and (shape := recognize(sample.names)):
        options = replace(options, shape=shape)
        if shape == PREFERENCE:
            options = replace(options, input=_prompt_field(sample) or options.input)
        return Detected(_without_defaults(file, options), unused_members(sample.examples, options))
    given, wanted = _choose(file, sample, chosen, named=options.header)
    unused = tuple(name for name in sample.names if name not in {given, wanted, ""})
    return Detected(_without_defaults(file, replace(options, input=given, output=wanted)), unused)


def describe_options(name: str, options: ReadOptions, examples: int) -> str:
    """Return a line that says how a file is read."""
    compression = "not compressed" if options.compression == "none" else options.compression
    title = SHAPES[options.shape].title if options.shape else "one input and one output"
    details = [option for option in (options.format, compression, options.encoding, options.items) if option]
    details += [f"delimiter {json.dumps(options.delimiter)}"] if options.delimiter else []
    details += [] if options.header else ["no header"]
    return f"{name}: {', '.join([counted(examples, 'example'), title, *details])}"


def _encoding(file: Path, start: Start) -> str:
    """Return the name of an encoding other than UTF-8, empty if it is UTF-8."""
    for mark, name in _BOMS.items():
        if start.content.startswith(mark):
            return name
    if name := unmarked_utf_16(start.content):
        return name
    undecodable = not_utf_8(file, start.compression)
    if not undecodable:
        return ""
    from charset_normalizer import from_bytes

    matches = from_bytes(undecodable, cp_isolation=list(_ENCODINGS))
    best = matches.best()
    if best is None or not best.coherence:  # letters, but of no language
        raise ReconcileError(f"{file.name}: the encoding of the file is unknown", "save it as UTF-8")
    western = next((match for match in matches if _WESTERN in match.could_be_from_charset), best)
    is_western = (western.chaos, -western.coherence) <= (best.chaos, -best.coherence)
    return "windows-1252" if is_western and _WESTERN in western.could_be_from_charset else best.encoding


def _first_text(file: Path, start: Start, encoding: str) -> str:
    """Return the start of a text, at least the first line or row, unless it is longer than an example may be."""
    content, size = start.content, _SAMPLE_BYTES
    while not _is_enough(text := _decode(content, encoding)) and len(content) == size < _LARGEST_SAMPLE:
        size *= 2
        content = read_start(file, size).content
    return text


def _is_enough(text: str) -> bool:
    """Return whether the first line of JSON, or the first row of a table, has ended, and another one begins."""
    start = text.lstrip()
    if not start.startswith("{"):
        start = _QUOTED.sub("", start)
    return len(start.split(maxsplit=1)) > 1 and bool(_NEXT_LINE.search(start))


def _decode(content: bytes, encoding: str) -> str:
    return codecs.getincrementaldecoder(encoding or "utf-8-sig")("replace").decode(content)


def _format(file: Path, text: str, options: ReadOptions) -> str:
    start = text.lstrip()
    suffix = Path(re.sub(r"\.(gz|zst)$", "", file.name.lower())).suffix
    if not (_JSON_START.match(start) or (suffix in _JSON_SUFFIXES and start.startswith(("{", "[")))):
        return "tsv" if suffix == ".tsv" and "\t" in _header(text) else "csv"
    first, *others = (line for line in start.split("\n") if line.strip())
    following = others[0].lstrip() if others else ""
    if start.startswith("["):
        return "jsonl" if following.startswith("[") and first.rstrip().endswith("]") else "json"
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        if following.startswith(('"', "}")) or _items(file, options):
            return "json"
        return "jsonl" if suffix in _LINES_SUFFIXES or following.startswith("{") else "json"
    has_items = any(isinstance(member, list) and _has_objects(member) for member in value.values())
    return "json" if not following and has_items and not recognize(value) else "jsonl"


def _has_objects(member: list[Any]) -> bool:
    return all(isinstance(element, dict) for element in member)


def _header(text: str) -> str:
    """Return the first line of a table without what is quoted."""
    return next((line for line in _QUOTED.sub("", text).splitlines() if line.strip()), "")


def _delimiter(text: str, found: str) -> str:
    """Return the delimiter of a table if it is not the default one."""
    if text.startswith("sep=") or found == "tsv":
        return ""
    header = _header(text)
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


def _items(file: Path, options: ReadOptions) -> str:
    """Return the name of the first member of an object that has an array of objects; empty for an array."""
    with open_text(file, complete_options(file.name, replace(options, format="json"))) as text:
        return first_array(text)


class _Sample(Struct, dict=True):
    """The names of the fields, the first examples, and the names of the fields with one value in all examples."""

    names: list[str]
    examples: Sequence[Mapping[str, Any]]
    constant: set[str]

    @cached_property
    def counts(self) -> Counter[str]:
        """How many fields have each name."""
        return Counter(self.names)


def _sample(file: Path, options: ReadOptions) -> _Sample:
    """Read the first examples, and further ones while a field has the same value in all of them."""
    complete = complete_options(file.name, options)
    opened = nullcontext(StringIO()) if FORMATS[options.format].binary else open_text(file, complete)
    with opened as text:
        names: list[str] = []
        found: Iterator[Mapping[str, Any]]
        if FORMATS[options.format].binary:
            found = columnar_objects(file, complete)
        elif options.format in _TABLES:
            names, found = first_rows(text, options, "\t" if options.format == "tsv" else ",")
        else:
            found = first_objects(text, options)
        examples: list[Mapping[str, Any]] = list(islice(found, _SAMPLE_ROWS))
        if not names and examples:
            names = list(examples[0])
        first = examples[0] if examples else {}
        constant = {name for name in names if all(row.get(name) == first.get(name) for row in examples)}
        while len(examples) > 1 and constant and (row := next(found, None)) is not None:
            constant = {name for name in constant if row.get(name) == first.get(name)}
    return _Sample(names, examples, constant if len(examples) > 1 else set())


def _is_data(sample: _Sample) -> bool:
    """Return whether the first row of a table is an example: it has numbers, texts, or values of rows below."""
    if {name.lower() for name in sample.names} & {*_INPUTS, *_OUTPUTS}:
        return False
    return any(
        _NUMBER.fullmatch(name)
        or name.endswith(("?", ".", "!"))
        or len(name) > _LONG_NAME
        or (not name.startswith("#") and name in {row.get(name) for row in sample.examples})
        for name in sample.names
        if name and not _INDEX_NAME.fullmatch(name)
    )


def _prompt_field(sample: _Sample) -> str:
    """Return the field with the prompts of preference pairs of texts, if it has another usual name than these."""
    first = sample.examples[0]["chosen"]
    if not isinstance(first, str) or transcript(first) or {*_PROMPTS} & {*sample.names}:
        return ""
    return next((name for name in sample.names if name.lower() in _QUESTIONS), "")


def _choose(file: Path, sample: _Sample, chosen: Fields, *, named: bool) -> tuple[str, str]:
    """Return the names of the input and the output field.

    Both have their usual names, or are the only ones with texts: labels are the outputs, otherwise the second field has
    them. None numbers or identifies examples, or has the same value in all of them. Of more than two columns that are
    not ``named``, none is chosen.
    """
    names = sample.names
    nested = _require_fields(file, sample, chosen)
    usable = [name for name in names if _is_usable(name, sample)]
    known = {name.lower(): name for name in reversed(usable)}
    written = {name: field for name, field in known.items() if _has_strings(field, sample)}
    given, wanted = chosen
    for found in (written, known):  # texts come before integers and booleans
        wanted = wanted or next((found[name] for name in _OUTPUTS if name in found and found[name] != given), None)
    for found in (written, known):
        given = given or next((found[name] for name in _INPUTS if name in found and found[name] != wanted), None)
    if given is not None and given == wanted:
        raise UsageError(f"--input and --output both name {quote(given)}", "name two fields")
    if given and wanted:
        return given, wanted
    missing = [given, wanted].count(None)
    rest = [name for name in usable if name not in {given, wanted}]
    texts = [name for name in rest if _has_text(name, sample)]
    for candidates in (texts, rest) if named else (rest,):
        if len(candidates) == missing:
            return _pair(candidates, sample, given, wanted)
    constant = {name.lower(): name for name in reversed(names) if name in sample.constant}
    usual_given = given or next((constant[name] for name in _INPUTS if name in constant), None)
    usual_wanted = wanted or next((constant[name] for name in _OUTPUTS if name in constant), None)
    if usual_given and usual_wanted:
        usual = usual_given, usual_wanted
        _require_unique(file, names, usual)
        if any(text_problems(str(sample.examples[0].get(name) or "-")) for name in usual):
            return usual  # reading the file says what is wrong with them
        raise AmbiguousFieldsError(file, names, (given, wanted), usual, chosen=chosen, usual=True)
    others = list(dict.fromkeys((*texts, *rest)))
    if len(others) < missing:
        _require_unique(file, names, [name for name in names if name])
        raise _no_two_texts(file, sample, nested)
    proposed = _pair(others, sample, given, wanted)
    raise AmbiguousFieldsError(file, names, (given, wanted), proposed, chosen=chosen)


def _pair(candidates: Sequence[str], sample: _Sample, given: str | None, wanted: str | None) -> tuple[str, str]:
    """Return the input and the output field; those that are unknown are the first candidates, or labels and texts."""
    if given or wanted:
        return given or candidates[0], wanted or candidates[0]
    distinct = {name: len({str(row.get(name)) for row in sample.examples}) for name in candidates}
    unique = [name for name in candidates if distinct[name] >= _UNIQUE * len(sample.examples)]
    labels = [name for name in candidates if _has_labels(name, sample, distinct[name])]
    if not unique or not labels or len(sample.examples) < _ENOUGH:
        return candidates[0], candidates[1]
    return max(unique, key=lambda name: sum(len(str(row.get(name))) for row in sample.examples)), labels[0]


def _has_labels(name: str, sample: _Sample, distinct: int) -> bool:
    """Return whether the values of a field are few and short, as in the labels that `data inspect` shows."""
    is_short = all(len(str(row.get(name))) <= MAX_LABEL for row in sample.examples)
    return is_short and distinct <= MAX_LABELS and 2 * distinct <= len(sample.examples)


def _require_fields(file: Path, sample: _Sample, chosen: Fields) -> set[str]:
    """Return the fields with objects or lists; raises if a chosen field does not exist, or there is only one."""
    names = sample.names
    for name in filter(None, chosen):
        if name not in names:
            raise UsageError(
                f"{file.name} has no field {quote(name)}", f"choose one of {join_names(names, _MOST_NAMES)}"
            )
    nested = {name for name in names if any(isinstance(row.get(name), list | dict) for row in sample.examples)}
    if len(names) < 2:  # noqa: PLR2004 - an input and an output
        if nested:
            raise _no_two_texts(file, sample, nested)
        message = f"{file.name} has one field, {quote(names[0])}: expected one for inputs and one for outputs"
        raise ReconcileError(message, "add a field with the outputs; a model is not tuned on texts alone")
    return nested


def _no_two_texts(file: Path, sample: _Sample, nested: Collection[str]) -> ReconcileError:
    """Return the error that too few fields can be inputs and outputs, with the reason for each of the others."""
    constant = sample.constant - {*nested, ""}
    same = [name for name in sample.names if name in constant]
    unusable = {name for name in sample.names if name and not _is_usable(name, sample)}
    unusable -= {*same, *nested}
    numbers = [name for name in sample.names if name in unusable]
    groups = {"objects or lists": sorted(nested), "the same value in all examples": same, "numbers or IDs": numbers}
    found = "".join(f"; {title}: {join_names(group, 3)}" for title, group in groups.items() if group)
    message = f"{file.name} has no two fields with texts{found}"
    return ReconcileError(message, "give each example a field with its input, and one with its output")


def _require_unique(file: Path, names: Sequence[str], proposed: Sequence[str]) -> None:
    counts = Counter(names)
    for name in proposed:
        if counts[name] > 1:
            message = f"{file.name}: {counts[name]} columns in the header are named {quote(name)}"
            raise ReconcileError(message, "rename all but one of them")


def _has_strings(name: str, sample: _Sample) -> bool:
    return any(isinstance(row.get(name), str) for row in sample.examples)


def _is_usable(name: str, sample: _Sample) -> bool:
    """Return whether a field can be an input or output; gaps in it are reported when the file is read."""
    values = [value for example in sample.examples if not _is_gap(value := example.get(name))]
    texts = [text for value in values if isinstance(text := as_text(value), str)]
    if sample.counts[name] > 1 or name in sample.constant or _UNNAMED.fullmatch(name):
        return False
    if any(isinstance(value, list | dict) for value in values):
        return False
    if _INDEX_NAME.fullmatch(name):
        return not all(map(str.isdecimal, texts))
    if _ID_NAME.fullmatch(name):
        return not all(map(_TOKEN.fullmatch, texts))
    if len(sample.names) == 2:  # noqa: PLR2004 - columns of numbers may be inputs and outputs
        return True
    return len(texts) == len(values) and (name.lower() in {*_INPUTS, *_OUTPUTS} or not _counts(texts))


def _is_gap(value: Any) -> bool:
    """Return whether a value is null or NaN."""
    return value is None or value != value  # noqa: PLR0124 - NaN


def _counts(texts: Sequence[str]) -> bool:
    """Return whether the texts number the examples."""
    numbers = [int(text) for text in texts if text.isdecimal() and len(text) < 19]  # noqa: PLR2004 - digits of 64 bits
    return len(numbers) == len(texts) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _has_text(name: str, sample: _Sample) -> bool:
    texts = [str(value) for row in sample.examples if not isinstance(value := row.get(name), bool)]
    return not all(_NUMBER.fullmatch(text) or _DATE.fullmatch(text) or not text for text in texts)


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
