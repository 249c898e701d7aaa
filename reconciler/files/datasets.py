"""Data sets: read, checked and digested before a run, and read again when a model is created from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.core.identity import dataset_digest
from reconciler.core.model import Capabilities, Dataset, Example
from reconciler.core.problems import Place, Problem, ReconcileError
from reconciler.files.dataset_formats import FORMATS, Fault, Fields
from reconciler.files.explain import counted, suggest
from reconciler.files.shorten import shortened
from reconciler.files.yaml import Document, position

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_MOST_BYTES = 2**30
"""The largest data set that any of the services takes."""
_MOST_SHOWN = 10
"""Problems of one severity that are shown for one data set."""
_FILE_FIELD = "spec.dataset.path"


@dataclass(frozen=True, slots=True)
class Entry:
    """One example with the place where it stands, before the preamble is put before its input."""

    place: Place
    path: str
    input: str
    output: str


Entries = Iterator[Entry | Problem]


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where the examples of a manifest come from.

    ``path`` is the file's path relative to the root, empty for inline examples; ``place`` is where the manifest
    declares them. ``entries`` reads them afresh at every call.
    """

    path: str
    place: Place
    preamble: str
    entries: Callable[[], Entries]


@dataclass(frozen=True, slots=True)
class CheckedDataset:
    """A data set and what is wrong with it; there is no data set when something is wrong, warnings aside."""

    dataset: Dataset | None
    problems: tuple[Problem, ...]


def file_entries(file: Path, shown: str, fields: Fields) -> Entries:
    """The examples of a data file; ``shown`` is its name in places."""
    text = read_text(file, shown)
    if isinstance(text, Problem):
        yield text
    elif text.strip():
        for item in FORMATS[file.suffix.lower()](text, fields):
            place = Place(shown, item.line)
            if isinstance(item, Fault):
                yield Problem(place, _FILE_FIELD, item.message, item.remedy)
            else:
                yield Entry(place, _FILE_FIELD, item.input, item.output)


def inline_entries(document: Document) -> Entries:
    """The examples that stand in the manifest itself."""
    for index, example in enumerate(document.value["spec"]["dataset"]["examples"]):
        place = document.place(["spec", "dataset", "examples", index])
        yield Entry(place, f"spec.dataset.examples[{index}]", example["input"], example["output"])


def require_format(file: Path) -> None:
    """Raise ReconcileError, with what is wrong and what to do, for a file whose suffix is no format of data sets."""
    if file.suffix.lower() not in FORMATS:
        suffix = f"the suffix {shortened(file.suffix)}" if file.suffix else "a file without a suffix"
        raise ReconcileError(f"{suffix} is no format of data sets", suggest(file.suffix, FORMATS))


def read_text(file: Path, shown: str) -> str | Problem:
    """The text of a data file, or why it has none."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return _whole(shown, f"has more than {_MOST_BYTES:,} bytes", "no service takes as much; use fewer examples")
        data = file.read_bytes()
    except OSError as error:
        return _whole(shown, f"cannot be read: {error.strerror}", "see to the file")
    if data.startswith(_LFS_POINTER):
        return _whole(shown, "is a Git LFS pointer in place of the data", "run `git lfs pull`")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = position(data[: error.start].decode("utf-8-sig", "replace"))
        return Problem(Place(shown, line, column), _FILE_FIELD, "is not UTF-8 text", "save the file as UTF-8")


def _whole(shown: str, message: str, remedy: str) -> Problem:
    return Problem(Place(shown), _FILE_FIELD, message, remedy)


def check(source: DatasetSource, capabilities: Capabilities | None) -> CheckedDataset:
    """Read a data set and hold it to what every service asks, and to the limits of the one given."""
    examples: list[Example] = []
    problems: list[Problem] = []
    seen: dict[str, Entry] = {}
    for entry in source.entries():
        if isinstance(entry, Problem):
            problems.append(entry)
            continue
        example = Example(source.preamble + entry.input, entry.output)
        faults = list(_faults(entry, example, capabilities))
        if not faults:
            examples.append(example)
            problems.extend(_repetition(entry, seen.setdefault(entry.input, entry)))
        problems.extend(faults)
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        errors = list(_size_problems(source, examples, capabilities))
    warnings = [problem for problem in problems if problem.severity == "warning"]
    warnings += _few(source, examples, capabilities)
    dataset = None if errors else Dataset(source.path, dataset_digest(examples), len(examples))
    return CheckedDataset(dataset, (*_capped(errors), *_capped(warnings)))


def read_examples(source: DatasetSource, expected: Dataset) -> tuple[Example, ...]:
    """The examples of a data set that was checked before.

    Raises ReconcileError when they are no longer the ones that were checked.
    """
    entries = list(source.entries())
    examples = tuple(Example(source.preamble + one.input, one.output) for one in entries if isinstance(one, Entry))
    if len(examples) < len(entries) or dataset_digest(examples) != expected.digest:
        raise ReconcileError(f"{source.path} has changed since the plan was made", "run the command again")
    return examples


def _faults(entry: Entry, example: Example, capabilities: Capabilities | None) -> Iterator[Problem]:
    limits = (
        ("input", entry.input, example.input, capabilities and capabilities.max_input_characters),
        ("output", entry.output, example.output, capabilities and capabilities.max_output_characters),
    )
    for name, own, whole, limit in limits:
        for message, remedy in _text_faults(own):
            yield Problem(entry.place, entry.path, f"the {name} {message}", remedy)
        if capabilities and limit and len(whole) > limit:
            message = f"the {name} has {len(whole):,} characters, where {capabilities.label} takes {limit:,}"
            yield Problem(entry.place, entry.path, message, "shorten it")


def _text_faults(text: str) -> Iterator[tuple[str, str]]:
    if not text.strip():
        yield "is empty", "fill it in, or delete the example"
    if "\0" in text:
        yield "holds a NUL character", "delete it"
    try:
        text.encode()
    except UnicodeEncodeError:
        yield "holds half of a surrogate pair", "write the whole character in place of \\ud…"


def _repetition(entry: Entry, first: Entry) -> Iterator[Problem]:
    if entry is first:
        return
    line = first.place.line
    if entry.output == first.output:
        message, remedy = f"is the same example as in line {line}", "delete one of them"
    else:
        message, remedy = f"has the same input as line {line} and another output", "keep the one that is right"
    yield Problem(entry.place, entry.path, message, remedy, "warning")


def _size_problems(
    source: DatasetSource, examples: list[Example], capabilities: Capabilities | None
) -> Iterator[Problem]:
    if not examples:
        yield Problem(source.place, "spec.dataset", "the data set has no examples", "add some")
    limit = capabilities and capabilities.max_dataset_bytes
    size = sum(len(example.input.encode()) + len(example.output.encode()) for example in examples)
    if capabilities and limit and size > limit:
        message = f"the examples have {size:,} bytes, where {capabilities.label} takes {limit:,}"
        yield Problem(source.place, "spec.dataset", message, "use fewer or shorter examples")


def _few(source: DatasetSource, examples: list[Example], capabilities: Capabilities | None) -> list[Problem]:
    wanted = capabilities.recommended_examples if capabilities else 0
    if not 0 < len(examples) < wanted:
        return []
    message = f"the data set has {counted(len(examples), 'example')}, where at least {wanted} are recommended"
    return [Problem(source.place, "spec.dataset", message, "add examples if the model learns too little", "warning")]


def _capped(problems: list[Problem]) -> list[Problem]:
    shown, more = problems[:_MOST_SHOWN], problems[_MOST_SHOWN:]
    if more:
        first = more[0]
        remedy = "mend these first" if first.severity == "error" else ""
        shown.append(Problem(first.place, "spec.dataset", f"and {len(more):,} more like these", remedy, first.severity))
    return shown
