"""Held-out data sets: what the evaluations of checks ask, and what of it a model has been trained on all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from reconciler.domain.errors import Problem, ReconcileError
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.model import REMOTE_SCHEME, Capabilities, Dataset
from reconciler.manifests.datasets.declarations import LoadContext, Origin, file_at, preamble_of
from reconciler.manifests.datasets.records import ConversationRow, Fault, Items, Row
from reconciler.manifests.datasets.validation import DatasetSource, validate_dataset
from reconciler.manifests.schema_validation import counted
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted

_ONE_EACH = "write one input and one output in each line"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A data set that was read without a preamble, and where to read it again."""

    dataset: Dataset
    source: DatasetSource


def read_held_out(
    document: Document, where: FieldPath, origin: Origin, surroundings: LoadContext
) -> tuple[HeldOut | None, tuple[Problem, ...]]:
    """The held-out data set declared at ``where``, and what is wrong with it; its part must fit the schema."""
    declared, at = document.child(where).value, [*where, "path"]
    if declared["path"].startswith(REMOTE_SCHEME):
        message = "a check reads no data set in Cloud Storage"
        return None, (Problem(document.place(at), dotted(at), message, "name a file beside this manifest"),)
    try:
        found = file_at(document, where, "", origin, surroundings)
    except ReconcileError as error:
        return None, (Problem(document.place(at), dotted(at), error.message, error.remedy),)
    source = replace(found, items=partial(_asked, found, preamble_of(document), surroundings.capabilities))
    checked = validate_dataset(source, None)
    if checked.dataset is None:
        return None, checked.problems
    few = _few(document, where, checked.dataset.examples)
    return HeldOut(checked.dataset, source), (*checked.problems, *few)


def _asked(source: DatasetSource, preamble: str, capabilities: Capabilities | None) -> Items:
    """The items of a source, in which what no check can ask is a fault."""
    most = capabilities.max_input_characters if capabilities else None
    for item in source.items():
        if isinstance(item, ConversationRow):
            yield Fault(item.number, "is in Vertex AI's own form, which checks do not compare with answers", _ONE_EACH)
            return
        if isinstance(item, Row) and capabilities and most and len(preamble + item.input) > most:
            yield Fault(item.number, f"the input {too_long(item.input, preamble, capabilities)}", "shorten it")
        else:
            yield item


def too_long(prompt: str, preamble: str, capabilities: Capabilities) -> str:
    """That a prompt is longer than what the service takes."""
    told = " with the preamble" if preamble else ""
    length, most = len(preamble + prompt), capabilities.max_input_characters
    return f"has {length:,} characters{told}, where {capabilities.label} takes {most:,}"


def _few(document: Document, where: FieldPath, examples: int) -> Iterator[Problem]:
    sample, at = document.child(where).value.get("sample", 0), [*where, "sample"]
    if sample > examples:
        message = f"asks about {int(sample):,} examples, of which the file has {examples:,}: all of them are asked"
        yield Problem(document.place(at), dotted(at), message, "add examples, or delete the line", "warning")


def leaked(held_out: Sequence[HeldOut], training: DatasetSource) -> Iterator[tuple[int, tuple[Problem, ...]]]:
    """How many examples of each data set have inputs that stand in the training data too, and a warning about that.

    The training data are read as a stream; of the others the hashes of their inputs are kept. Of conversations only
    those of one exchange can be compared.
    """
    asked = {hash(text) for one in held_out for _, text in inputs(one.source)}
    learnt = asked.intersection(hash(text) for _, text in inputs(training)) if asked else set()
    for one in held_out:
        numbers = [number for number, text in inputs(one.source) if hash(text) in learnt] if learnt else []
        yield len(numbers), tuple(_told(one, numbers))


def _told(one: HeldOut, numbers: Sequence[int]) -> Iterator[Problem]:
    if numbers:
        stand = "stands" if len(numbers) == 1 else "stand"
        message = (
            f"{len(numbers):,} of {counted(one.dataset.examples, 'input')} {stand} in the training data too,"
            " first here: of what was learnt, right answers prove little"
        )
        yield Problem(*one.source.at(numbers[0]), message, "take them out of one of the two", "warning")


def inputs(source: DatasetSource) -> Iterator[tuple[int, str]]:
    """The numbers and the inputs, without preamble, of the items that have one."""
    for item in source.items():
        if isinstance(item, Row):
            yield item.number, normalize_newlines(item.input)
        elif isinstance(item, ConversationRow):
            yield from _one_exchange(item)


def _one_exchange(row: ConversationRow) -> Iterator[tuple[int, str]]:
    """What is asked in a valid conversation, if it is but one question."""
    turns = row.value["contents"]
    parts = turns[0]["parts"]
    if len(turns) == len(("user", "model")) and all("text" in part for part in parts):
        yield row.number, normalize_newlines("".join(part["text"] for part in parts))
