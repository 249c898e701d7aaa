"""Data sets as manifests declare them: for training, and for validation on services that support it."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import Judge
from reconciler.domain.errors import Problem, ReconcileError
from reconciler.domain.model import HUB_SCHEME, REMOTE_SCHEME, UNKNOWN_DATA, Capabilities, Dataset
from reconciler.domain.text import counted
from reconciler.manifests.datasets.folders import find_files
from reconciler.manifests.datasets.records import ReadOptions, Records, Row
from reconciler.manifests.datasets.shapes import PREFERENCE
from reconciler.manifests.datasets.validation import (
    CONVERSATIONS,
    DatasetSource,
    Location,
    files_source,
    validate_dataset,
)
from reconciler.manifests.provider_fields import PREFERENCE_METHOD, mapping
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted

TRAINING: FieldPath = ("spec", "dataset")
VALIDATION = "validationDataset"
"""The field of a provider's block that declares the validation data set."""
CLOUD_STORAGE = "cloudStorage"
"""The feature of a service that reads data sets in Cloud Storage."""

# Bucket names: https://cloud.google.com/storage/docs/buckets#naming; object names without characters of patterns.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SPECIAL = re.compile(r"[*?\[\]#\x00-\x1f\x7f-\x9f]")
_MOVE_PREAMBLE = "remove it, and write it into the systemInstruction of each line"


class Origin(Struct, frozen=True):
    """The file of a document, relative to the root, and the directory that its paths are relative to."""

    file: str
    folder: FilePath


class LoadContext(Struct, frozen=True):
    """What a manifest is read with: the root, its resolved repository, and the capabilities of the service if known.

    ``public_access`` says whether the target allows access for everyone. ``offline`` reads data sets of the Hugging
    Face Hub from the cache alone. ``judge`` is that of the target, for checks without their own.
    """

    root: FilePath
    repository: FilePath
    capabilities: Capabilities | None
    public_access: bool = True
    offline: bool = False
    judge: Judge | None = None


class Reading(Struct, frozen=True):
    """A declared data set, the source of its examples unless it is in Cloud Storage, its problems, and its bytes.

    ``longest`` is the longest example in bytes, and ``tokens`` the estimated number of tokens that an epoch trains on,
    ``None`` if it is unknown. ``conversations`` says whether the examples are in Vertex AI's format.
    """

    dataset: Dataset | None = None
    source: DatasetSource | None = None
    problems: tuple[Problem, ...] = ()
    size: int = 0
    longest: int = 0
    tokens: int | None = None
    conversations: bool = False


def read_training(document: YamlDocument, origin: Origin, context: LoadContext) -> Reading:
    """Read the training data set; its part of the document must fit the schema."""
    reading = _read(document, TRAINING, origin, context)
    recommended = context.capabilities.recommended_examples if context.capabilities else 0
    if not reading.dataset or reading.dataset.examples >= recommended:
        return reading
    if reading.source is None:  # in Cloud Storage, where the examples are not counted
        return reading
    message = f"{counted(reading.dataset.examples, 'example')}, at least {recommended} are recommended"
    remedy = "add examples if the model learns too little"
    warning = Problem(*reading.source.declared_at, message, remedy, "warning")
    return replace(reading, problems=(*reading.problems, warning))


def read_validation(document: YamlDocument, block: str, origin: Origin, context: LoadContext) -> Reading:
    """Read the validation data set in a provider's block; its part of the document must fit the schema."""
    return _read(document, ("spec", block, VALIDATION), origin, context)


def _read(document: YamlDocument, declared_at: FieldPath, origin: Origin, context: LoadContext) -> Reading:
    declared = document.child(declared_at).value
    path = declared.get("path", "")
    # On a service without this method, that is the error to report, and not what each example lacks for it.
    supported = context.capabilities is None or PREFERENCE_METHOD in context.capabilities.features
    pairs = supported and document.value["spec"].get("method") == PREFERENCE_METHOD
    if path.startswith(REMOTE_SCHEME):
        faults = _remote_faults(declared, context.capabilities)
        return _unread(document, declared_at, Dataset("", path, 0, pairs=pairs), faults)
    if "unknown" in declared:
        return _unread(document, declared_at, Dataset(UNKNOWN_DATA, "", 0), _unknown_faults(declared))
    try:
        source = _source(document, declared_at, origin, context)
        source = replace(source, pairs=pairs)
        if source.options and (wrong := tuple(_option_faults(declared, source.options))):
            return _unread(document, declared_at, Dataset(""), wrong)
    except ReconcileError as error:
        field = [*declared_at, "path"]
        return Reading(problems=(Problem(document.place(field), dotted(field), error.message, error.remedy),))
    validated = validate_dataset(source, context.capabilities)
    problems = validated.problems
    if validated.conversations and source.preamble:
        field = [*TRAINING, "preamble"]
        message = f"does not apply to {source.declared_at[1]}, whose examples are in Vertex AI's format"
        problems += (Problem(document.place(field), dotted(field), message, _MOVE_PREAMBLE),)
    return Reading(
        dataset=validated.dataset,
        source=source,
        problems=problems,
        size=validated.size,
        longest=validated.longest,
        tokens=validated.tokens,
        conversations=validated.conversations,
    )


def _unread(
    document: YamlDocument, declared_at: FieldPath, dataset: Dataset, faults: Iterable[tuple[str, str, str]]
) -> Reading:
    """Return a data set whose examples are not read, or the faults (field, message, remedy) of its declaration."""
    problems = tuple(
        Problem(document.place([*declared_at, field]), dotted([*declared_at, field]), message, remedy)
        for field, message, remedy in faults
    )
    return Reading(None if problems else dataset, None, problems)


def _unknown_faults(declared: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for field in _OPTIONS:
        if field in declared:
            yield field, "does not apply to unknown data", "remove it"


def _remote_faults(declared: Mapping[str, Any], capabilities: Capabilities | None) -> Iterator[tuple[str, str, str]]:
    """Yield the field, the message and the remedy of each error in the declaration of data in Cloud Storage."""
    if capabilities and CLOUD_STORAGE not in capabilities.features:
        message = f"data sets in Cloud Storage are not supported by {capabilities.label}"
        yield "path", message, "set the path of a file, or use a Vertex AI target"
        return
    bucket, _, name = declared["path"].removeprefix(REMOTE_SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket) or not name:
        yield "path", "invalid address of an object in Cloud Storage", "write gs://BUCKET/NAME.jsonl"
    elif _SPECIAL.search(name):
        yield "path", "invalid object name: contains a wildcard or control character", "remove any of * ? [ ] #"
    elif not name.endswith(".jsonl"):
        message = "unsupported format: expected JSON Lines in Cloud Storage"
        yield "path", message, "write gs://BUCKET/NAME.jsonl"
    for field, remedy in _INAPPLICABLE.items():
        if field in declared:
            yield field, "does not apply to a data set in Cloud Storage, which has Vertex AI's format", remedy


_OPTIONS = {
    "inputField": "input",
    "outputField": "output",
    "format": "format",
    "compression": "compression",
    "encoding": "encoding",
    "delimiter": "delimiter",
    "shape": "shape",
    "items": "items",
    "header": "header",
}
"""The fields of ReadOptions by their names in manifests."""
_INAPPLICABLE = {**dict.fromkeys(_OPTIONS, "remove it"), "preamble": _MOVE_PREAMBLE}


def _source(document: YamlDocument, declared_at: FieldPath, origin: Origin, context: LoadContext) -> DatasetSource:
    declared, preamble = document.child(declared_at).value, preamble_of(document)
    if "examples" not in declared:
        return declared_file(document, declared_at, preamble, origin, context)
    location = document.place(declared_at, key=True), dotted(declared_at)
    records, locate = partial(_inline_records, declared), partial(_locate_inline, document, declared_at)
    return DatasetSource("", location, preamble, records, locate)


def declared_file(
    document: YamlDocument, declared_at: FieldPath, preamble: str, origin: Origin, context: LoadContext
) -> DatasetSource:
    """Return the source of the file that a part of the document declares; the part must fit the schema.

    Raises ReconcileError for a path that is not a file of a supported format in the repository, or an address of the
    Hugging Face Hub whose files are unavailable.
    """
    declared, field = document.child(declared_at).value, dotted(declared_at)
    path = declared["path"]
    location = document.place(declared_at, key=True), field
    service = context.capabilities
    single_turns = service is not None and CONVERSATIONS not in service.features
    options = declared_options(declared, field)
    if path.startswith(HUB_SCHEME):
        from reconciler.manifests.datasets.hub import fetch
        from reconciler.manifests.datasets.hub_addresses import parse_address

        found = fetch(parse_address(path), offline=context.offline)
        return files_source(found.files, path, options, location, preamble, single_turns=single_turns)
    files = find_files(path, origin.folder, context.repository)
    shown = {os.path.normpath(FilePath(document.file).parent / name): file for name, file in files.items()}
    relative = FilePath(os.path.relpath(origin.folder / path, context.root)).as_posix()
    return files_source(shown, relative, options, location, preamble, single_turns=single_turns)


def declared_options(declared: Mapping[str, Any], field: str = "spec.dataset") -> ReadOptions:
    """Return how a declared data file is read; the defaults depend on its suffix."""
    given = {name: declared[option] for option, name in _OPTIONS.items() if option in declared}
    return ReadOptions(declared=field, **given)


def option_fields(options: ReadOptions) -> dict[str, str | bool]:
    """Return the fields of a manifest that declare these options; those of an example only where it has no shape."""
    fields = {field: getattr(options, name) for field, name in _OPTIONS.items()}
    unused = {"inputField", "outputField"} if options.shape else set()
    if options.shape == PREFERENCE and options.input != ReadOptions().input:
        unused.remove("inputField")
    return {field: value for field, value in fields.items() if value not in {"", True} and field not in unused}


def _option_faults(declared: Mapping[str, Any], options: ReadOptions) -> Iterator[tuple[str, str, str]]:
    """Yield the field, the message and the remedy of options that do not fit together."""
    if options.input == options.output:
        yield (
            "outputField",
            "is also the inputField: the model would learn to repeat",
            "name the field with the outputs",
        )
    for field in ("delimiter", "header"):
        if field in declared and options.format not in {"csv", "tsv"}:
            yield field, f"does not apply to the format {options.format}", "remove it"
    if options.items and options.format != "json":
        yield "items", f"does not apply to the format {options.format}", "remove it"
    if options.shape:
        for field in ("inputField", "outputField"):
            if field in declared and (field, options.shape) != ("inputField", PREFERENCE):
                yield field, f"does not apply to the shape {options.shape}", "remove it, or remove shape"
    try:
        known = not options.encoding or codecs.lookup(options.encoding)._is_text_encoding  # noqa: SLF001 - no other way
    except LookupError:
        known = False
    if not known:
        yield "encoding", "unknown encoding", "write utf-8, utf-16, windows-1252 or another name that Python knows"


def preamble_of(document: YamlDocument) -> str:
    """Return the preamble of the training examples, which is also that of all prompts; the document may be invalid."""
    preamble = mapping(mapping(document.value.get("spec")).get("dataset")).get("preamble")
    return preamble if isinstance(preamble, str) else ""


def _inline_records(declared: Mapping[str, Any]) -> Records:
    for index, example in enumerate(declared["examples"]):
        yield Row(index, example["input"], example["output"])


def _locate_inline(document: YamlDocument, declared_at: FieldPath, index: int) -> Location:
    path = [*declared_at, "examples", index]
    return document.place(path), dotted(path)
