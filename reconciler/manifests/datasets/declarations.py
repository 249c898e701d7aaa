"""The data sets that a manifest declares: for training, and on Vertex AI for validation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from reconciler.domain.errors import Problem, ReconcileError
from reconciler.domain.model import REMOTE_SCHEME, UNKNOWN_DATA, Capabilities, Dataset
from reconciler.manifests.datasets.file_formats import require_format
from reconciler.manifests.datasets.records import Fields, Items, Row
from reconciler.manifests.datasets.validation import DatasetSource, Spot, file_source, validate_dataset
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import counted
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted
from reconciler.paths import find_file

TRAINING: FieldPath = ("spec", "dataset")
VALIDATION = "validationDataset"
"""The field of a provider's own block that holds the validation data set."""
CLOUD_STORAGE = "cloudStorage"
"""The feature of a service that reads data sets in Cloud Storage."""
_MANY_FOR_VALIDATION = 256
"""What some base models of Vertex AI take at most."""

# Bucket names: https://cloud.google.com/storage/docs/buckets#naming; of objects, nothing that tools read as a pattern.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SPECIAL = re.compile(r"[*?\[\]#\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document comes from: its file relative to the root, and the folder that its paths are relative to."""

    file: str
    folder: FilePath


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a manifest is read in: the root, its repository (resolved), and the service, unless none is asked.

    ``public_access`` says whether the target allows models that everyone may use.
    """

    root: FilePath
    repository: FilePath
    capabilities: Capabilities | None
    public_access: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """A declared data set, where to read its examples again (unless it is in Cloud Storage), and what is wrong."""

    dataset: Dataset | None = None
    source: DatasetSource | None = None
    problems: tuple[Problem, ...] = ()


def read_training(document: Document, origin: Origin, surroundings: LoadContext) -> Reading:
    """The data set to train on; the document's part about it must fit its schema."""
    reading = _read(document, TRAINING, origin, surroundings)
    able = surroundings.capabilities
    wanted = able.recommended_examples if able else 0
    if not reading.dataset or reading.dataset.examples >= wanted:
        return reading
    message = (
        f"the data set has {counted(reading.dataset.examples, 'example')}, where at least {wanted} are recommended"
    )
    return _warned(reading, message, "add examples if the model learns too little")


def read_validation(document: Document, block: str, origin: Origin, surroundings: LoadContext) -> Reading:
    """The data set to measure the training on, as declared in a provider's block; its part must fit the schema."""
    reading = _read(document, ("spec", block, VALIDATION), origin, surroundings)
    if not reading.dataset or reading.dataset.examples <= _MANY_FOR_VALIDATION:
        return reading
    message = (
        f"the data set has {counted(reading.dataset.examples, 'example')}, where some base models take no more"
        f" than {_MANY_FOR_VALIDATION} for validation"
    )
    return _warned(reading, message, "use fewer if the service refuses them")


def _warned(reading: Reading, message: str, remedy: str) -> Reading:
    if reading.source is None:  # in Cloud Storage, where nobody has counted
        return reading
    warning = Problem(*reading.source.spot, message, remedy, "warning")
    return Reading(reading.dataset, reading.source, (*reading.problems, warning))


def _read(document: Document, where: FieldPath, origin: Origin, surroundings: LoadContext) -> Reading:
    declared = _at(document, where)
    path = declared.get("path", "")
    if path.startswith(REMOTE_SCHEME):
        faults = _remote_faults(declared, surroundings.capabilities)
        return _unread(document, where, Dataset(path, "", 0), faults)
    if "unknown" in declared:
        return _unread(document, where, Dataset("", UNKNOWN_DATA, 0), _unknown_faults(declared))
    try:
        source = _source(document, where, origin, surroundings)
    except ReconcileError as error:
        at = [*where, "path"]
        return Reading(problems=(Problem(document.place(at), dotted(at), error.message, error.remedy),))
    checked = validate_dataset(source, surroundings.capabilities)
    problems = checked.problems
    if checked.conversations and source.preamble:
        at = [*TRAINING, "preamble"]
        message = f"does not apply to {source.spot[1]}, whose examples are in Vertex AI's own form"
        remedy = "delete it, and write it into the systemInstruction of each line"
        problems += (Problem(document.place(at), dotted(at), message, remedy),)
    return Reading(checked.dataset, source, problems)


def _unread(document: Document, where: FieldPath, dataset: Dataset, faults: Iterable[tuple[str, str, str]]) -> Reading:
    """A data set whose examples are not read, unless there are faults (field, message, remedy) in what is declared."""
    problems = tuple(
        Problem(document.place([*where, field]), dotted([*where, field]), message, remedy)
        for field, message, remedy in faults
    )
    return Reading(None if problems else dataset, None, problems)


def _unknown_faults(declared: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for field in ("inputField", "outputField"):
        if field in declared:
            yield field, "does not apply to data that is not at hand", "delete it"


def _at(document: Document, where: FieldPath) -> Mapping[str, Any]:
    value: Mapping[str, Any] = document.child(where).value
    return value


def _remote_faults(declared: Mapping[str, Any], capabilities: Capabilities | None) -> Iterator[tuple[str, str, str]]:
    """The field, the message and the remedy of everything that is wrong with a data set in Cloud Storage."""
    if capabilities and CLOUD_STORAGE not in capabilities.features:
        message = "data sets in Cloud Storage are read by Vertex AI alone"
        yield "path", message, "name a file beside this manifest, or use a target of Vertex AI"
        return
    bucket, _, name = declared["path"].removeprefix(REMOTE_SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket) or not name:
        yield "path", "is no address of an object in Cloud Storage", "write gs://BUCKET/NAME.jsonl"
    elif _SPECIAL.search(name):
        yield "path", "holds a character that stands for other names", "name one object, without any of * ? [ ] #"
    elif not name.endswith(".jsonl"):
        message = "is no JSON Lines file, which is all that Vertex AI reads in Cloud Storage"
        yield "path", message, "write gs://BUCKET/NAME.jsonl"
    for field, remedy in _INAPPLICABLE.items():
        if field in declared:
            yield field, "does not apply to a data set in Cloud Storage, which is in Vertex AI's own form", remedy


_INAPPLICABLE = {
    "inputField": "delete it",
    "outputField": "delete it",
    "preamble": "delete it, and write it into the systemInstruction of each line",
}


def _source(document: Document, where: FieldPath, origin: Origin, surroundings: LoadContext) -> DatasetSource:
    declared, preamble = _at(document, where), preamble_of(document)
    if "examples" in declared:
        spot = document.place(where, key=True), dotted(where)
        return DatasetSource("", spot, preamble, partial(_inline, declared), partial(_inline_spot, document, where))
    return file_at(document, where, preamble, origin, surroundings)


def file_at(
    document: Document, where: FieldPath, preamble: str, origin: Origin, surroundings: LoadContext
) -> DatasetSource:
    """The examples in the file that is declared at ``where``, with this preamble; that part must fit its schema.

    Raises ReconcileError, with what is wrong and what to do, for a path that is none.
    """
    declared, field = _at(document, where), dotted(where)
    named = declared["path"]
    file = find_file(named, origin.folder, surroundings.repository)
    require_format(file)
    fields = Fields(declared.get("inputField", "text_input"), declared.get("outputField", "output"), field)
    shown = os.path.normpath(FilePath(document.file).parent / named)
    relative = FilePath(os.path.relpath(origin.folder / named, surroundings.root)).as_posix()
    return file_source(file, shown, relative, fields, (document.place(where, key=True), field), preamble)


def preamble_of(document: Document) -> str:
    """The preamble of the training examples, for all other prompts too; its part may not fit the schema."""
    preamble = mapping(mapping(document.value.get("spec")).get("dataset")).get("preamble")
    return preamble if isinstance(preamble, str) else ""


def _inline(declared: Mapping[str, Any]) -> Items:
    for index, example in enumerate(declared["examples"]):
        yield Row(index, example["input"], example["output"])


def _inline_spot(document: Document, where: FieldPath, index: int) -> Spot:
    path = [*where, "examples", index]
    return document.place(path), dotted(path)
