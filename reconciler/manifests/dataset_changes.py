"""Compare the data sets that manifests declare with those at a base commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import Problem
from reconciler.domain.model import Capabilities, Dataset, Manifest, TrainingExample
from reconciler.domain.text import counted
from reconciler.manifests.base_commit import Base, BaseManifest, IncomparableError, base_at
from reconciler.manifests.checks import inputs
from reconciler.manifests.datasets.validation import DatasetSource, raw_examples
from reconciler.manifests.manifest import Sources
from reconciler.manifests.workspace import Workspace
from reconciler.planning.datasets import (
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
from reconciler.planning.redaction import redact_problems

_CLOUD = "data sets in Cloud Storage are not compared"


class _Version(Struct, frozen=True):
    """A data set at one commit; without ``source`` if it is in Cloud Storage."""

    dataset: Dataset
    source: DatasetSource | None

    def examples(self) -> Iterator[TrainingExample]:
        return raw_examples(self.source) if self.source else iter(())

    def inputs(self) -> Iterator[str]:
        return (text for _, text in inputs(self.source)) if self.source else iter(())


class _Pair(Struct, frozen=True):
    """A declared data set now and at the base commit."""

    use: Use
    check: str
    now: _Version
    base: _Version | None

    @property
    def differs(self) -> bool:
        return self.base is None or self.base.dataset.digest != self.now.dataset.digest


def data_changes(
    workspace: Workspace,
    manifests: Sequence[Manifest],
    ref: str,
    capabilities: Capabilities,
    environ: Mapping[str, str],
) -> DatasetChanges:
    """Return the data sets of these manifests that differ from the commit ``ref``.

    Notes explain what cannot be compared. Raises UsageError if the commit does not exist.
    """
    current = {manifest.name: (manifest, workspace.sources(manifest)) for manifest in manifests}
    names = [name for manifest in manifests for name in manifest.names]
    data = [version.dataset.path for _, _, version in _all_versions(current.values()) if version.source]
    try:
        with base_at(ref, workspace.root, names, data, capabilities, environ) as base:
            comparison = _Comparison(base, ref, show_examples=workspace.target.show_examples)
            changes = [change for pair in current.values() for change in comparison.changes(*pair)]
            return DatasetChanges(ref, base.commit, tuple(changes))
    except IncomparableError as error:
        return DatasetChanges(ref, note=f"the data sets are not compared with {ref}: {error}")


def _all_versions(manifests: Iterable[tuple[Manifest, Sources]]) -> Iterator[tuple[Use, str, _Version]]:
    for manifest, sources in manifests:
        yield from _versions(manifest, sources)


def _versions(manifest: Manifest, sources: Sources) -> Iterator[tuple[Use, str, _Version]]:
    """Yield the use of each data set of a manifest, the name of the check that uses it, and the data set."""
    if not manifest.dataset.unknown:
        yield "training", "", _Version(manifest.dataset, sources.training)
    if manifest.validation:
        yield "validation", "", _Version(manifest.validation, sources.validation)
    for check, held_out in sources.held_out.items():
        yield "check", check, _Version(held_out.dataset, held_out.source)


class _Comparison(Struct, frozen=True):
    base: Base
    ref: str
    show_examples: bool

    def changes(self, manifest: Manifest, sources: Sources) -> Iterator[DatasetChange]:
        """Yield the changes of the data sets of one manifest."""
        names = (name for name in manifest.names if name in self.base.manifests)
        base = next((self.base.manifests[name] for name in names), None)
        if base and base.problem:
            yield self._invalid_base(manifest, base.problem)
            return
        pairs = list(self._pairs(manifest, sources, base))
        leaks = collect_samples(leak for leaks in _leaks(pairs) for leak in leaks)
        for pair in pairs:
            pair_leaks: Samples[Leak] = leaks if pair.use == "training" else Samples()
            change = self._change(manifest, pair, renamed=base is None)
            if change or pair_leaks.count:
                unchanged = DatasetChange(manifest.name, pair.use, pair.now.dataset.path, pair.check, ExampleChanges())
                yield replace(change or unchanged, leaks=pair_leaks)

    def _invalid_base(self, manifest: Manifest, problem: Problem) -> DatasetChange:
        (shown,) = (problem,) if self.show_examples else redact_problems([problem])
        note = f"not compared: the manifest at {self.ref} is invalid: {shown}"
        return DatasetChange(manifest.name, "training", manifest.dataset.path, note=note)

    def _pairs(self, manifest: Manifest, sources: Sources, base: BaseManifest | None) -> Iterator[_Pair]:
        before: dict[tuple[Use, str], _Version] = {}
        if base and base.manifest and base.sources:
            before = {(use, check): version for use, check, version in _versions(base.manifest, base.sources)}
        for use, check, now in _versions(manifest, sources):
            yield _Pair(use, check, now, before.get((use, check)) or self._same_file(now))

    def _same_file(self, now: _Version) -> _Version | None:
        """Return the content of the same file at the base commit, where the manifest or check did not use it yet."""
        source = self.base.source_at_commit(now.source) if now.source else None
        return _Version(Dataset("", source.path, 0), source) if source else None

    def _change(self, manifest: Manifest, pair: _Pair, *, renamed: bool) -> DatasetChange | None:
        now, base = pair.now, pair.base
        change = DatasetChange(manifest.name, pair.use, now.dataset.path, pair.check)
        if base and base.dataset.digest == now.dataset.digest and base.dataset.digest:
            return None
        if now.source is None or (base and base.source is None):
            moved = base is None or base.dataset.path != now.dataset.path
            return replace(change, note=self._note(now, base, _CLOUD)) if moved else None
        if base is None:
            return _new(change, now)
        return self._compared(change, now, base, renamed=renamed)

    def _compared(self, change: DatasetChange, now: _Version, base: _Version, *, renamed: bool) -> DatasetChange | None:
        found = compare(base.examples(), now.examples())
        counts = found.added or found.removed or found.changed
        if not counts and not base.dataset.digest:
            return None  # an unchanged file that the manifest uses now
        duplicates, contradictions = repetitions(base.examples(), now.examples())
        note = "" if counts else _explain_difference(now, base)
        return replace(
            change,
            changes=found,
            duplicates=duplicates,
            contradictions=contradictions,
            note=self._note(now, base, note, renamed=renamed),
        )

    def _note(self, now: _Version, base: _Version | None, note: str, *, renamed: bool = False) -> str:
        """Return the note, with the former path of the data set, and whether a manifest declared it."""
        if base is None:
            return note
        path = base.dataset.path or "in the manifest"
        moved = f"at {self.ref} it was {path}" if base.dataset.path != now.dataset.path else ""
        undeclared = f"no manifest had this name at {self.ref}; compared with the file at {self.ref}" if renamed else ""
        return "; ".join(filter(None, (note, moved, undeclared)))


def _new(change: DatasetChange, now: _Version) -> DatasetChange:
    duplicates, contradictions = repetitions((), now.examples())
    return replace(
        change,
        changes=compare((), now.examples()),
        duplicates=duplicates,
        contradictions=contradictions,
        note=f"new data set, {counted(now.dataset.examples, 'example')}",
    )


def _explain_difference(now: _Version, base: _Version) -> str:
    """Return why the training data differs although the examples are the same."""
    same_preamble = now.source and base.source and now.source.preamble == base.source.preamble
    return "the same examples in another order" if same_preamble else "the preamble changed, and so does every input"


def _leaks(pairs: Sequence[_Pair]) -> Iterator[Iterator[Leak]]:
    """Yield the new leaks into each held-out data set, unless both it and the training data are unchanged."""
    training = next((pair for pair in pairs if pair.use == "training"), None)
    for pair in pairs if training else ():
        if training and pair.use == "check" and (pair.differs or training.differs):
            yield new_leaks(
                pair.check, _exposure_at_base(training, pair), Exposure(training.now.inputs, pair.now.inputs)
            )


def _exposure_at_base(training: _Pair, held_out: _Pair) -> Exposure | None:
    """Return the former exposure; ``None`` if the check is new, although its file is not."""
    if training.base is None or held_out.base is None:
        return None
    is_new = training.base.dataset.digest and not held_out.base.dataset.digest
    return None if is_new else Exposure(training.base.inputs, held_out.base.inputs)
