"""Split a data file into two in the same format: one to train on, and one that is held out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Final, TextIO

from msgspec import Struct

from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.text import counted
from reconciler.files import create_file, write_errors
from reconciler.manifests.datasets.data_files import DataFile, ExampleIndex, LabelCount, example_index, read_valid
from reconciler.manifests.datasets.file_formats import (
    FORMATS,
    complete_options,
    encoded,
    has_byte_order_mark,
    names_data_file,
    open_text,
)
from reconciler.manifests.datasets.json_files import array_spans
from reconciler.manifests.datasets.records import ReadOptions

_LONGEST_LABEL: Final = 64
_BLOCK: Final = 2**18
_GROUPS: Final = """
SELECT input, count(*), min(ordinal), label FROM example WHERE part = '' GROUP BY input ORDER BY input
"""
"""Each distinct input in the order of its digest, the number of examples that have it, and the label of the first."""
_SIDES: Final = """
SELECT number, input IN (SELECT input FROM example WHERE part = 'held out') FROM example WHERE part = ''
ORDER BY ordinal
"""
_SUFFIXES: Final = frozenset({".gz", ".zst", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json"})


class HeldOutShare(Struct, frozen=True):
    """How much is held out: a share of the examples, or a number of them."""

    share: Fraction | None = None
    count: int = 0

    def of(self, examples: int) -> int:
        """Return the number of examples of so many; at least one."""
        return max(1, round(self.share * examples)) if self.share is not None else self.count


class SplitFile(Struct, frozen=True):
    """One of the two files: its path, the number of examples, and of each label."""

    path: Path
    examples: int
    labels: Mapping[str, int]


def split_paths(file: Path) -> tuple[Path, Path]:
    """Return the paths of the two files beside a data file: for training, and held out."""
    stem, ending = PurePath(file.name), ""
    while stem.suffix.lower() in _SUFFIXES and len(ending) < len(".jsonl.zst"):
        stem, ending = stem.with_suffix(""), stem.suffix + ending
    return file.with_name(f"{stem}.train{ending}"), file.with_name(f"{stem}.held-out{ending}")


def split_file(data: DataFile, held_out: HeldOutShare, out: Path | None = None) -> tuple[SplitFile, SplitFile]:
    """Write the two files, and return the one for training and the one that is held out.

    They are beside the data file, or beside ``out`` and named like it.

    Which examples are held out depends on their inputs and outputs, and not on their order. Examples with the same
    input are in the same file. If the outputs are labels, both files have the same share of each.

    Raises:
        InvalidInput: an example is invalid.
        ReconcileError: one of the files exists, too few examples can be held out or trained on, or the format is not
            text.
    """
    if FORMATS[data.options.format].binary or data.source.files > 1:
        target = "messages" if data.options.shape else "jsonl"
        remedy = f"convert it first: reconcile data convert {shlex.quote(data.shown)} --to {target} --out FILE.jsonl"
        what = f"files of the format {data.options.format}" if data.source.files == 1 else "several files"
        raise ReconcileError(f"{data.shown}: {what} cannot be split", remedy)
    if out:
        wanted = data.options.format, data.options.compression
        written = complete_options(out.name, ReadOptions()) if names_data_file(out.name) else None
        if written is None or (written.format, written.compression) != wanted:
            expected = "".join(PurePath(data.file.name).suffixes[-2:])
            raise UsageError(f"{out.name}: the files have the format of {data.shown}", f"name it NAME{expected}")
    paths = split_paths(out or data.file)
    for path in paths:
        if path.exists() or path.is_symlink():
            raise ReconcileError(f"{path.name} already exists, so nothing was written", "move it away first")
    with example_index() as index:
        labels, examples = LabelCount(), 0
        for record in read_valid(data):
            examples += 1
            labels.add(record.text.output)
            index.add_record("", record, record.text.output[:_LONGEST_LABEL])
        counts = labels.labels()
        held = _hold_out(index, _quotas(counts, examples, held_out.of(examples)), by_label=bool(counts))
        number = sum(held.values())
        if not 0 < number < examples:
            message = (
                f"cannot hold out {'all' if number else 'any'} of the {counted(examples, 'example')} of {data.shown}"
            )
            raise ReconcileError(message, "add examples with different inputs, or hold out another share")
        trained = {label: count - held.get(label, 0) for label, count in counts.items()}
        files = (
            SplitFile(paths[0], examples - number, trained),
            SplitFile(paths[1], number, {label: held.get(label, 0) for label in counts}),
        )
        mark = has_byte_order_mark(data.file, data.options)
        for side, file in enumerate(files):
            sides = ((first, held_out_side == side) for first, held_out_side in index.query(_SIDES))
            with write_errors(file.path.name):
                create_file(file.path, encoded(_selected(data, sides), data.options, byte_order_mark=mark))
    return files


def _quotas(labels: Mapping[str, int], examples: int, wanted: int) -> dict[str, int]:
    """Return the number of examples to hold out of each label, by largest remainders; of ``""`` without labels."""
    counts = labels or {"": examples}
    exact = {label: Fraction(wanted * count, max(examples, 1)) for label, count in counts.items()}
    quotas = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(counts, key=lambda label: (quotas[label] - exact[label], label))
    for label in by_remainder[: wanted - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _hold_out(index: ExampleIndex, quotas: dict[str, int], *, by_label: bool) -> dict[str, int]:
    """Mark inputs as held out, and return the number of examples of each label that have them."""
    held = dict.fromkeys(quotas, 0)
    inputs = []
    for given, count, _, label in index.query(_GROUPS):
        stratum = label if by_label else ""
        if held[stratum] + count <= quotas[stratum]:
            held[stratum] += count
            inputs.append(given)
    index.mark("held out", inputs)
    return held


def _selected(data: DataFile, sides: Iterator[tuple[int, bool]]) -> Iterator[str]:
    """Yield the text of a file without the records whose side is false; what is around them is kept."""
    with open_text(data.file, data.options) as text:
        if FORMATS[data.options.format].places:
            with open_text(data.file, data.options) as same:
                yield from _elements(text, array_spans(same, data.options), sides)
        else:
            yield from _lines(text, sides)


def _lines(text: TextIO, sides: Iterator[tuple[int, bool]]) -> Iterator[str]:
    """Yield the lines before the first record, and those of the selected records."""
    first, following = next(sides, (0, False))
    selected, line_break = True, "\n"
    for number, line in enumerate(text, 1):
        while first and number >= first:
            selected = following
            first, following = next(sides, (0, False))
        end = line[len(line.rstrip("\r\n")) :]
        line_break = end or line_break
        if selected:
            yield line if end else line + line_break


def _elements(text: TextIO, spans: Iterator[tuple[int, int]], sides: Iterator[tuple[int, bool]]) -> Iterator[str]:
    """Yield an array with the selected elements, and what is around it in the file."""
    position, separator = 0, ""
    for (start, end), (_, selected) in zip(spans, sides, strict=True):
        between, element = text.read(start - position), text.read(end - start)
        if not position:
            yield between
        if selected:
            yield f"{separator}{element}"
            separator = ",\n"
        position = end
    while block := text.read(_BLOCK):
        yield block
