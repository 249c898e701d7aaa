"""What became of the data sets that manifests declare, since some commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.domain.errors import Problem
from reconciler.domain.model import Capabilities, Dataset, Manifest, TrainingExample
from reconciler.manifests.datasets.held_out import inputs
from reconciler.manifests.datasets.validation import DatasetSource, raw_examples
from reconciler.manifests.git.base_commit import Base, IncomparableError, ManifestThen, base_at
from reconciler.manifests.manifest import Sources
from reconciler.manifests.schema_validation import counted, discreet_problems
from reconciler.manifests.workspace import Workspace
from reconciler.planning.dataset_diff import (
    DatasetChange,
    DatasetChanges,
    ExampleChanges,
    Exposure,
    Leak,
    Samples,
    Use,
    collect_samples,
    compare,
    new_leaks,
    repetitions,
)

_CLOUD = "data in Cloud Storage are not compared"


@dataclass(frozen=True, slots=True)
class _Side:
    """A data set at one time, and its examples; no ``source`` where those are in Cloud Storage."""

    dataset: Dataset
    source: DatasetSource | None

    def examples(self) -> Iterator[TrainingExample]:
        return raw_examples(self.source) if self.source else iter(())

    def inputs(self) -> Iterator[str]:
        return (text for _, text in inputs(self.source)) if self.source else iter(())


@dataclass(frozen=True, slots=True)
class _Declared:
    """A data set that a manifest declares; ``now`` and ``then`` are the same data set at two times."""

    use: Use
    check: str
    now: _Side
    then: _Side | None


def data_changes(
    workspace: Workspace,
    manifests: Sequence[Manifest],
    ref: str,
    capabilities: Capabilities,
    environ: Mapping[str, str],
) -> DatasetChanges:
    """The data sets of these manifests that are not what they were in the commit that ``ref`` names.

    What cannot be compared is told in notes.

    Raises:
        UsageError: when git knows no such commit.
    """
    now = {one.name: (one, workspace.sources(one)) for one in manifests}
    wanted = [name for one in manifests for name in one.names]
    data = [side.dataset.path for _, _, side in _all_sides(now.values()) if side.source]
    try:
        with base_at(ref, workspace.root, wanted, data, capabilities, environ) as base:
            quotes = workspace.target.show_examples
            found = [_Comparison(base, ref, quotes=quotes).of(*one) for one in now.values()]
            return DatasetChanges(ref, base.commit, tuple(change for changes in found for change in changes))
    except IncomparableError as error:
        return DatasetChanges(ref, note=f"the data sets are not compared with {ref}: {error}")


def _all_sides(everything: Iterable[tuple[Manifest, Sources]]) -> Iterator[tuple[Use, str, _Side]]:
    for manifest, sources in everything:
        yield from _sides(manifest, sources)


def _sides(manifest: Manifest, sources: Sources) -> Iterator[tuple[Use, str, _Side]]:
    """The data sets of a manifest, and what each is for: the use, and the name of the check."""
    if not manifest.dataset.is_unknown:
        yield "training", "", _Side(manifest.dataset, sources.training)
    if manifest.validation:
        yield "validation", "", _Side(manifest.validation, sources.validation)
    for name, one in sources.held_out.items():
        yield "check", name, _Side(one.dataset, one.source)


@dataclass(frozen=True, slots=True)
class _Comparison:
    base: Base
    ref: str
    quotes: bool

    def of(self, manifest: Manifest, sources: Sources) -> Iterator[DatasetChange]:
        """What became of each data set of one manifest."""
        then = next((self.base.manifests[name] for name in manifest.names if name in self.base.manifests), None)
        if then and then.problem:
            yield self._unreadable(manifest, then.problem)
            return
        declared = list(self._declared(manifest, sources, then))
        leaks = collect_samples(leak for one in _leaks(declared) for leak in one)
        for one in declared:
            mine: Samples[Leak] = leaks if one.use == "training" else Samples()
            change = self._change(manifest, one, renamed=then is None)
            if change or mine.count:
                same = DatasetChange(manifest.name, one.use, one.now.dataset.path, one.check, ExampleChanges())
                yield replace(change or same, leaks=mine)

    def _unreadable(self, manifest: Manifest, problem: Problem) -> DatasetChange:
        (told,) = (problem,) if self.quotes else discreet_problems([problem])
        note = f"not compared: at {self.ref} it was not valid: {told}"
        return DatasetChange(manifest.name, "training", manifest.dataset.path, note=note)

    def _declared(self, manifest: Manifest, sources: Sources, then: ManifestThen | None) -> Iterator[_Declared]:
        before: dict[tuple[Use, str], _Side] = {}
        if then and then.manifest and then.sources:
            before = {(use, check): side for use, check, side in _sides(then.manifest, then.sources)}
        for use, check, now in _sides(manifest, sources):
            yield _Declared(use, check, now, before.get((use, check)) or self._moved(now))

    def _moved(self, now: _Side) -> _Side | None:
        """What stood in the same file when the manifest, or the check, did not name it yet."""
        source = self.base.moved(now.source) if now.source else None
        return _Side(Dataset(source.path, "", 0), source) if source else None

    def _change(self, manifest: Manifest, one: _Declared, *, renamed: bool) -> DatasetChange | None:
        now, then = one.now, one.then
        known = DatasetChange(manifest.name, one.use, now.dataset.path, one.check)
        if then and then.dataset.digest == now.dataset.digest and then.dataset.digest:
            return None
        if now.source is None or (then and then.source is None):
            moved = then is None or then.dataset.path != now.dataset.path
            return replace(known, note=self._told(now, then, _CLOUD)) if moved else None
        if then is None:
            return self._new(known, one)
        return self._compared(known, now, then, renamed=renamed)

    def _new(self, known: DatasetChange, one: _Declared) -> DatasetChange:
        repeated, contradicting = repetitions((), one.now.examples())
        return replace(
            known,
            changes=compare((), one.now.examples()),
            duplicates=repeated,
            contradictions=contradicting,
            note=f"new data set, {counted(one.now.dataset.examples, 'example')}",
        )

    def _compared(self, known: DatasetChange, now: _Side, then: _Side, *, renamed: bool) -> DatasetChange | None:
        found = compare(then.examples(), now.examples())
        counts = found.added or found.removed or found.changed
        if not counts and not then.dataset.digest:
            return None  # the same file, which the manifest names now
        repeated, contradicting = repetitions(then.examples(), now.examples())
        note = "" if counts else _unseen(now, then)
        return replace(
            known,
            changes=found,
            duplicates=repeated,
            contradictions=contradicting,
            note=self._told(now, then, note, renamed=renamed),
        )

    def _told(self, now: _Side, then: _Side | None, note: str, *, renamed: bool = False) -> str:
        """The note, and where the data set stood before, or that nobody declared it."""
        if then is None:
            return note
        was = then.dataset.path or "in the manifest"
        moved = f"at {self.ref} it was {was}" if then.dataset.path != now.dataset.path else ""
        named = f"at {self.ref} no manifest had this name; compared with the file as it was" if renamed else ""
        return "; ".join(filter(None, (note, moved, named)))


def _unseen(now: _Side, then: _Side) -> str:
    """Why the training data differ although the examples do not."""
    same_preamble = now.source and then.source and now.source.preamble == then.source.preamble
    return "the same examples in another order" if same_preamble else "the preamble changed, and so does every input"


def _leaks(declared: Sequence[_Declared]) -> Iterator[Iterator[Leak]]:
    """The new leaks into each held-out data set, unless neither it nor the training data have changed."""
    training = next((one for one in declared if one.use == "training"), None)
    for one in declared if training else ():
        if training and one.use == "check" and (_differs(one) or _differs(training)):
            yield new_leaks(one.check, _exposure_then(training, one), Exposure(training.now.inputs, one.now.inputs))


def _exposure_then(training: _Declared, held_out: _Declared) -> Exposure | None:
    """What was trained on and held out before, unless the check is new although its file is not."""
    if training.then is None or held_out.then is None:
        return None
    is_new = training.then.dataset.digest and not held_out.then.dataset.digest
    return None if is_new else Exposure(training.then.inputs, held_out.then.inputs)


def _differs(one: _Declared) -> bool:
    return one.then is None or one.then.dataset.digest != one.now.dataset.digest
