"""Compare data sets (changed examples, duplicates, contradictions, leaks), and resolve ``gs://`` paths to versions."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Generic, Literal, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.identity import normalize_newlines, object_digest
from reconciler.domain.lock import Lock
from reconciler.domain.model import Conversation, Dataset, Example, Manifest, TrainingExample

Use = Literal["training", "validation", "check"]
"""The use of a data set in a manifest."""
MOST_COMPARED: Final = 100_000
"""The number of examples of a data set that are searched for duplicates."""
SAMPLES: Final = 3
"""The number of samples that are kept of each kind of change."""
_T = TypeVar("_T")


class Samples(Struct, Generic[_T], frozen=True):
    """A count, and the first few of what is counted."""

    count: int = 0
    samples: tuple[_T, ...] = ()


class Contradiction(Struct, frozen=True):
    """One input with several outputs."""

    input: str
    outputs: tuple[str, ...]


class Leak(Struct, frozen=True):
    """An input that is in the training data and in the held-out data set of a check."""

    check: str
    input: str


class DatasetChange(Struct, frozen=True):
    """The changes of one data set of the manifest ``name``; ``check`` is the check that it is held out for.

    ``path`` is relative to the root, empty for inline examples. ``changes`` is ``None`` if the data sets cannot be
    compared; ``note`` has the reason, or a remark on the comparison. ``duplicates`` are examples that occur more often
    than before, ``contradictions`` inputs with a new second output, and ``leaks`` new inputs in both training and
    held-out data. These are set even if ``changes`` has no counts.
    """

    name: str
    use: Use
    path: str
    check: str = ""
    changes: ExampleChanges | None = None
    duplicates: Samples[TrainingExample] = field(default_factory=Samples)
    contradictions: Samples[Contradiction] = field(default_factory=Samples)
    leaks: Samples[Leak] = field(default_factory=Samples)
    note: str = ""

    @property
    def without_samples(self) -> DatasetChange:
        """The change with counts only."""
        found = self.changes
        return replace(
            self,
            changes=found and ExampleChanges(found.added, found.removed, found.changed),
            duplicates=Samples(self.duplicates.count),
            contradictions=Samples(self.contradictions.count),
            leaks=Samples(self.leaks.count),
        )


class DatasetChanges(Struct, frozen=True):
    """The changes of all data sets since the commit of ``ref``.

    ``commit`` is empty if no data set can be compared; ``note`` then has the reason.
    """

    ref: str
    commit: str = ""
    changes: tuple[DatasetChange, ...] = ()
    note: str = ""


def collect_samples(found: Iterable[_T]) -> Samples[_T]:
    """Return the count and the first few; the iterable is read once."""
    iterator = iter(found)
    samples = tuple(islice(iterator, SAMPLES))
    return Samples(len(samples) + sum(1 for _ in iterator), samples)


class _Index(Struct, frozen=True):
    """The number of each example of a data set, and the outputs of each input in their order."""

    times: Counter[TrainingExample]
    outputs: dict[str, dict[str, None]]


def repetitions(
    old: Iterable[TrainingExample], new: Iterable[TrainingExample]
) -> tuple[Samples[TrainingExample], Samples[Contradiction]]:
    """Return the duplicates and contradictions of the new examples that the old ones do not have.

    Only the first 100,000 examples of each are read; they are held in memory.
    """
    before, after = _index(old), _index(new)
    repeated = (example for example, times in after.times.items() if times > max(1, before.times[example]))
    return collect_samples(repeated), collect_samples(_contradictions(before, after))


def _contradictions(before: _Index, after: _Index) -> Iterator[Contradiction]:
    for given, outputs in after.outputs.items():
        if len(outputs) > 1 and outputs.keys() - before.outputs.get(given, {}).keys():
            yield Contradiction(given, tuple(outputs))


def _index(examples: Iterable[TrainingExample]) -> _Index:
    times: Counter[TrainingExample] = Counter()
    outputs: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for example in map(_normalize, islice(examples, MOST_COMPARED)):
        times[example] += 1
        if isinstance(example, Example):
            outputs[example.input][example.output] = None
    return _Index(times, dict(outputs))


Inputs = Callable[[], Iterable[str]]
"""Reads the inputs of a data set from the start."""


class Exposure(Struct, frozen=True):
    """The inputs of the training data, and those that are held out for a check."""

    training: Inputs
    held_out: Inputs


def new_leaks(check: str, before: Exposure | None, after: Exposure) -> Iterator[Leak]:
    """Return each held-out input that is in the training data, unless both had it before.

    The held-out inputs are held in memory; the training data is read as a stream.
    """
    held_out = dict.fromkeys(after.held_out())
    leaked = held_out.keys() & set(filter(held_out.__contains__, after.training()))
    known: set[str] = set()
    if before and leaked:
        known = set(filter(leaked.__contains__, before.held_out()))
        known &= set(filter(known.__contains__, before.training()))
    return (Leak(check, text) for text in held_out if text in leaked - known)


class ChangedExample(Struct, frozen=True):
    """An example with the same input and another output."""

    input: str
    old: str
    new: str


class ExampleChanges(Struct, frozen=True):
    """The numbers of added, removed and changed examples (same input, other output), and the first few of each.

    All counts are 0 if only the order of the examples differs. ``renormalized`` counts examples whose old and new texts
    differ only in their Unicode normalization; they look the same, and are in the other counts too.
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    some_added: tuple[TrainingExample, ...] = ()
    some_removed: tuple[TrainingExample, ...] = ()
    some_changed: tuple[ChangedExample, ...] = ()
    renormalized: int = 0


def without_preamble(examples: Iterable[TrainingExample], preamble: str) -> Iterator[TrainingExample]:
    """Remove the preamble from the inputs; conversations have none."""
    for example in examples:
        if isinstance(example, Conversation):
            yield example
        else:
            yield replace(example, input=example.input.removeprefix(preamble))


def compare(old: Iterable[TrainingExample], new: Iterable[TrainingExample]) -> ExampleChanges:
    """Return the differences between old and new examples, without regard to order and line endings.

    An example that occurs twice counts twice. Conversations are compared as a whole: they are added and removed, never
    changed. The old examples and the added ones are held in memory.
    """
    removed = Counter(map(_normalize, old))
    added: Counter[TrainingExample] = Counter()
    for example in map(_normalize, new):
        if removed[example]:
            removed[example] -= 1
        else:
            added[example] += 1
    changed = list(_take_changed(removed, added))
    return ExampleChanges(
        added=added.total(),
        removed=removed.total(),
        changed=len(changed),
        some_added=tuple(islice(added.elements(), SAMPLES)),
        some_removed=tuple(islice(removed.elements(), SAMPLES)),
        some_changed=tuple(changed[:SAMPLES]),
        renormalized=_count_renormalized(removed, added, changed),
    )


def _count_renormalized(
    removed: Counter[TrainingExample], added: Counter[TrainingExample], changed: Iterable[ChangedExample]
) -> int:
    old, new = (Counter(map(_compose, examples.elements())) for examples in (removed, added))
    return (old & new).total() + sum(compose(example.old) == compose(example.new) for example in changed)


def compose(text: str) -> str:
    """Return a text in Unicode normalization form C."""
    from unicodedata import normalize  # only needed to compare data sets

    return text if text.isascii() else normalize("NFC", text)


def _compose(example: TrainingExample) -> TrainingExample:
    if isinstance(example, Conversation):
        return Conversation(compose(example.line))
    return Example(compose(example.input), compose(example.output))


def _take_changed(removed: Counter[TrainingExample], added: Counter[TrainingExample]) -> Iterator[ChangedExample]:
    """Remove and return the pairs of removed and added examples with the same input."""
    successors: defaultdict[str, deque[Example]] = defaultdict(deque)
    for example in added.elements():
        if isinstance(example, Example):
            successors[example.input].append(example)
    for example in list(removed.elements()):
        if isinstance(example, Example) and successors[example.input]:
            successor = successors[example.input].popleft()
            removed[example] -= 1
            added[successor] -= 1
            yield ChangedExample(example.input, example.output, successor.output)


def _normalize(example: TrainingExample) -> TrainingExample:
    if isinstance(example, Conversation):
        return example
    return Example(normalize_newlines(example.input), normalize_newlines(example.output))


def remote_paths(manifests: Iterable[Manifest]) -> frozenset[str]:
    """Return the ``gs://`` paths of the training and validation data."""
    datasets = (dataset for manifest in manifests for dataset in (manifest.dataset, manifest.validation))
    return frozenset(dataset.path for dataset in datasets if dataset and dataset.is_remote)


def with_dataset_versions(
    manifests: Iterable[Manifest], found: Mapping[str, Dataset | str], lock: Lock
) -> tuple[Manifest, ...]:
    """Return the manifests with the data sets that were found, by path; a text is the reason why there is none.

    A data set that is missing or was not queried has its last recorded version, so that a deletion after the training
    requires no new one. Without a record it has no digest.
    """
    return tuple(_with_versions(manifest, found, lock) for manifest in manifests)


def missing_dataset_notices(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """Return a notice for each data set that is missing and has a recorded version."""
    return tuple(
        f"{manifest.name} is compared with its recorded data set: {manifest.dataset_error}"
        for manifest in manifests
        if manifest.dataset.digest and manifest.dataset_error
    )


def _with_versions(manifest: Manifest, found: Mapping[str, Dataset | str], lock: Lock) -> Manifest:
    dataset, error = _found(manifest.dataset, found)
    if not dataset.digest:
        dataset = _recorded(manifest, lock) or dataset
    changed = replace(manifest, dataset=dataset, dataset_error=error)
    if manifest.validation is None:
        return changed
    validation, error = _found(manifest.validation, found)
    return replace(changed, validation=validation, validation_error=error)


def _found(dataset: Dataset, found: Mapping[str, Dataset | str]) -> tuple[Dataset, str]:
    """Return the current version of a data set, or its path alone and the reason why there is none."""
    version = found.get(dataset.path, dataset) if dataset.is_remote else dataset
    if isinstance(version, str):
        return Dataset("", dataset.path, pairs=dataset.pairs), version
    if dataset.pairs and version is not dataset:
        digest = object_digest(version.path, version.generation, version.checksum, pairs=True)
        version = replace(version, digest=digest, pairs=True)
    return version, ""


def _recorded(manifest: Manifest, lock: Lock) -> Dataset | None:
    """Return the recorded data set with this path: of the serving generation, or else of the newest."""
    for model in filter(None, map(lock.models.get, manifest.names)):
        for generation in (model.serving_generation, *model.generations):
            if generation and _is_same_data(generation.dataset, manifest.dataset):
                return generation.dataset
    return None


def _is_same_data(recorded: Dataset, declared: Dataset) -> bool:
    return (recorded.path, recorded.pairs) == (declared.path, declared.pairs)
