"""Held-out data sets of checks, and which of their inputs are in the training data too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import Problem, ReconcileError
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.model import REMOTE_SCHEME, Capabilities, Dataset
from reconciler.manifests.datasets.declarations import LoadContext, Origin, declared_file, preamble_of
from reconciler.manifests.datasets.records import ConversationRow, Fault, Records, Row
from reconciler.manifests.datasets.validation import DatasetSource, validate_dataset
from reconciler.manifests.messages import counted, exceeds_limit
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted


class HeldOut(Struct, frozen=True):
    """A data set that was read without a preamble, and its source."""

    dataset: Dataset
    source: DatasetSource


def read_held_out(
    document: YamlDocument, declared_at: FieldPath, origin: Origin, context: LoadContext
) -> tuple[HeldOut | None, tuple[Problem, ...]]:
    """Return the held-out data set declared in a part of the document that fits the schema, and its problems."""
    path = [*declared_at, "path"]
    if document.child(path).value.startswith(REMOTE_SCHEME):
        message = "checks do not support data sets in Cloud Storage"
        return None, (Problem(document.place(path), dotted(path), message, "set the path of a file"),)
    try:
        file = declared_file(document, declared_at, "", origin, context)
    except ReconcileError as error:
        return None, (Problem(document.place(path), dotted(path), error.message, error.remedy),)
    source = replace(file, records=partial(_prompts, file, preamble_of(document), context.capabilities))
    validated = validate_dataset(source, None)
    if validated.dataset is None:
        return None, validated.problems
    warnings = _sample_warnings(document, declared_at, validated.dataset.examples)
    return HeldOut(validated.dataset, source), (*validated.problems, *warnings)


def _prompts(source: DatasetSource, preamble: str, capabilities: Capabilities | None) -> Records:
    """Yield the records of a source; a record that a check cannot send is a fault."""
    limit = capabilities.max_input_characters if capabilities else None
    for record in source.records():
        if isinstance(record, ConversationRow):
            message = "checks do not support examples in Vertex AI's format"
            yield Fault(record.number, message, "write one input and one output in each line")
            return
        if isinstance(record, Row) and capabilities and limit and len(preamble + record.input) > limit:
            yield Fault(record.number, f"the input {too_long(record.input, preamble, capabilities)}", "shorten it")
        else:
            yield record


def too_long(prompt: str, preamble: str, capabilities: Capabilities) -> str:
    """Return the message for a prompt that is longer than the service accepts."""
    with_preamble = " with the preamble" if preamble else ""
    limit = exceeds_limit(capabilities.label, capabilities.max_input_characters or 0)
    return f"has {len(preamble + prompt):,} characters{with_preamble}, {limit}"


def _sample_warnings(document: YamlDocument, declared_at: FieldPath, examples: int) -> Iterator[Problem]:
    sample, path = document.child(declared_at).value.get("sample", 0), [*declared_at, "sample"]
    if sample > examples:
        message = f"{int(sample):,} examples requested, but the file has {examples:,}, which are all used"
        yield Problem(document.place(path), dotted(path), message, "add examples, or delete the line", "warning")


def find_leaks(held_out: Sequence[HeldOut], training: DatasetSource) -> Iterator[tuple[int, tuple[Problem, ...]]]:
    """Yield for each data set how many of its inputs are in the training data too, and a warning about them.

    The training data is streamed; of the held-out data, hashes of the inputs are kept in memory. Only conversations of
    one prompt and one answer are compared.
    """
    hashes = {hash(text) for dataset in held_out for _, text in inputs(dataset.source)}
    trained = hashes.intersection(hash(text) for _, text in inputs(training)) if hashes else set()
    for dataset in held_out:
        numbers = [number for number, text in inputs(dataset.source) if hash(text) in trained] if trained else []
        yield len(numbers), tuple(_leak_warnings(dataset, numbers))


def _leak_warnings(held_out: HeldOut, numbers: Sequence[int]) -> Iterator[Problem]:
    if numbers:
        verb = "is" if len(numbers) == 1 else "are"
        message = (
            f"{len(numbers):,} of {counted(held_out.dataset.examples, 'input')} {verb} in the training data too,"
            " first on this line: right answers to them prove little"
        )
        remedy = "remove them from one of the two data sets"
        yield Problem(*held_out.source.locate(numbers[0]), message, remedy, "warning")


def inputs(source: DatasetSource) -> Iterator[tuple[int, str]]:
    """Yield the number and the input, without preamble, of each record that has one."""
    for record in source.records():
        if isinstance(record, Row):
            yield record.number, normalize_newlines(record.input)
        elif isinstance(record, ConversationRow):
            yield from _single_prompt(record)


def _single_prompt(row: ConversationRow) -> Iterator[tuple[int, str]]:
    """Yield the prompt of a valid conversation that has only one."""
    turns = row.value["contents"]
    parts = turns[0]["parts"]
    if len(turns) == len(("user", "model")) and all("text" in part for part in parts):
        yield row.number, normalize_newlines("".join(part["text"] for part in parts))
