"""Compare the data sets that manifests declare with those at a base commit, such as the base of a pull request."""

from __future__ import annotations

import hashlib
import posixpath
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final
from unicodedata import normalize

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import Judge
from reconciler.domain.errors import Problem, ReconcileError
from reconciler.domain.model import HUB_SCHEME, Capabilities, Dataset, Manifest, TrainingExample
from reconciler.domain.text import counted
from reconciler.manifests.checks import inputs
from reconciler.manifests.dataset_history import paths_within
from reconciler.manifests.datasets.declarations import LoadContext, Origin
from reconciler.manifests.datasets.file_formats import LfsPointer, read_pointer
from reconciler.manifests.datasets.folders import expand_patterns, find_files
from reconciler.manifests.datasets.hub_addresses import has_wildcards
from reconciler.manifests.datasets.validation import DatasetSource, raw_examples
from reconciler.manifests.discovery import expand_lists, manifest_name, read, target_file_name
from reconciler.manifests.git import (
    Blob,
    Git,
    GitError,
    IncomparableError,
    missing_files,
    open_repository,
    resolve_base,
)
from reconciler.manifests.manifest import ManifestReader, Sources
from reconciler.manifests.overlay import Overlay, has_valid_overlay, read_overlay
from reconciler.manifests.workspace import Workspace
from reconciler.manifests.yaml_parser import YamlDocument
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
from reconciler.planning.hidden_examples import redact_problems

_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_MAX_BYTES: Final = 2**30
"""The limit for the size of all files that are read from a commit."""


class BaseManifest(Struct, frozen=True):
    """A manifest at the commit and the sources of its data sets, or its first error.

    ``unavailable`` is the reason why a data set of it cannot be read from git.
    """

    manifest: Manifest | None = None
    sources: Sources | None = None
    problem: Problem | None = None
    unavailable: str = ""


@dataclass(slots=True)
class Base:
    """The manifests at a commit, by name; readable only in the context of :func:`base_at`."""

    commit: str
    manifests: Mapping[str, BaseManifest]
    _tree: _Tree = field(repr=False)

    def source_at_commit(self, source: DatasetSource) -> DatasetSource | None:
        """Return the source of the same file at the commit; ``None`` if the file did not exist."""
        in_git = source.options and not source.path.startswith(HUB_SCHEME)
        files = self._tree.files(source.path) if in_git and not self.unavailable(source) else ()
        return source.of_files(files) if files else None

    def unavailable(self, source: DatasetSource) -> str:
        """Return why git has no data of a file at the commit; empty where it has, or there was no file."""
        return self._tree.unavailable_data(".", (source.path,))


@contextmanager
def base_at(
    ref: str,
    commit: str,
    root: Path,
    names: Iterable[str],
    data: Iterable[str],
    capabilities: Capabilities,
    environ: Mapping[str, str],
    target_file: str = "",
) -> Iterator[Base]:
    """Read the manifests with these names, and the files ``data`` (relative to the root), at the merge base of ``ref``.

    The ``target_file`` of that commit has their overrides and variables.

    The merge base is the best common ancestor of the commit ``ref`` and HEAD: ``commit``, or
    what git finds if it is empty.

    Raises:
        UsageError: if the commit does not exist, or has no ancestor in common with HEAD.
        IncomparableError: if git, the repository or a part of the commit is missing.
    """
    git, directory = open_repository(root, environ)
    commit = commit or resolve_base(git, ref)
    try:
        with TemporaryDirectory(prefix="reconcile-", ignore_cleanup_errors=True) as folder:
            tree = _Tree(git, commit, directory, Path(folder).resolve())
            manifests = tree.manifests(frozenset(names), capabilities, target_file)
            tree.check_out_data(paths_within(tree.base, data))
            yield Base(commit, manifests, tree)
    except GitError:
        raise missing_files(ref) from None
    except OSError as error:
        raise IncomparableError(
            f"cannot write {error.filename or 'temporary files'}: {error.strerror}", "free space, or set TMPDIR"
        ) from error


class _Tree(Struct):
    """Files of a commit, checked out into a directory as they are in the repository."""

    git: Git
    commit: str
    base: str
    folder: Path
    bytes_left: int = _MAX_BYTES
    unavailable: dict[str, str] = {}

    @property
    def _root(self) -> Path:
        return self.folder / self.base

    def check_out(self, paths: Iterable[str]) -> None:
        """Write the files that exist at the commit, up to the size limit."""
        missing = tuple(path for path in dict.fromkeys(paths) if not (self.folder / path).exists())
        (found,) = self.git.blobs((self.commit,), missing) if missing else ({},)
        self.git.save_all(dict(self._fitting(found)))

    def check_out_data(self, paths: Iterable[str]) -> None:
        """Write the data sets that exist at the commit, and note those whose data is elsewhere."""
        listed = self.git.files(self.commit, ".") if any(map(has_wildcards, paths := tuple(paths))) else ()
        paths = expand_patterns(paths, listed)
        self.check_out(paths)
        missing = [path for path in paths if not (self.folder / path).exists()]
        if not all(map(str.isascii, missing)):
            names = {normalize("NFC", name): name for name in self.git.files(self.commit, ".")}
            self.check_out(names[form] for path in missing if (form := normalize("NFC", path)) in names)
        submodules = self.git.submodules(self.commit, {parent for path in missing for parent in _parents(path)})
        for path in missing:
            for submodule in submodules.intersection(_parents(path)):
                self.unavailable[path] = (
                    f"is in the submodule {submodule}, whose files this repository does not contain"
                )
        for path in set(paths).difference(missing):
            file = self.folder / path
            pointer = file.is_file() and read_pointer(file)
            if pointer and not self._fill(file, path, pointer):
                self.unavailable[path] = (
                    f"is a Git LFS pointer, and this clone does not contain its data; run `git lfs fetch origin"
                    f" {self.commit}`"
                )

    def unavailable_data(self, directory: str, paths: Iterable[str]) -> str:
        """Return which of these files, relative to a directory in the root, git does not contain, and why."""
        for path in paths_within(posixpath.normpath(posixpath.join(self.base, directory)), paths):
            for file in expand_patterns([path], self.unavailable):
                if reason := self.unavailable.get(file):
                    return f"{file} {reason}"
        return ""

    def _fill(self, file: Path, path: str, pointer: LfsPointer) -> bool:
        """Replace a Git LFS pointer by its data, if the clone has it: as an object, or in the file of today."""
        objects = self.git.common_directory() / "lfs" / "objects" / pointer.oid[:2] / pointer.oid[2:4]
        for candidate in (objects / pointer.oid, self.git.repository / path):
            with suppress(OSError):
                if candidate.is_file() and candidate.stat().st_size == pointer.size <= self.bytes_left:
                    with candidate.open("rb") as stream:
                        if hashlib.file_digest(stream, "sha256").hexdigest() == pointer.oid:
                            self.bytes_left -= pointer.size
                            shutil.copyfile(candidate, file)
                            return True
        return False

    def _fitting(self, found: Mapping[str, Blob]) -> Iterator[tuple[Path, Blob]]:
        for path, blob in found.items():
            file = self.folder / path
            if blob.size <= self.bytes_left:
                with suppress(OSError):  # the path was valid where it was committed, but is not on this system
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self.bytes_left -= blob.size
                    yield file, blob

    def files(self, path: str) -> tuple[Path, ...]:
        """Return the files that a path relative to the root stands for, if they were checked out."""
        with suppress(ReconcileError):
            return tuple(find_files(path, self._root, self.folder).values())
        return ()

    def manifests(
        self, names: frozenset[str], capabilities: Capabilities, target_file: str = ""
    ) -> Mapping[str, BaseManifest]:
        """Return the manifests with these names from anywhere in the root; their data sets are checked out too."""
        self.check_out(filter(_may_contain_manifests, paths_within(".", self.git.files(self.commit, self.base))))
        overlay = self._overlay(target_file)
        documents = [(file, overlay.effective(document)[0]) for file, document in self._documents(names)]
        data = (
            paths_within(PurePosixPath(self.base, file).parent.as_posix(), _data_paths(document.value.get("spec")))
            for file, document in documents
        )
        self.check_out_data(path for paths in data for path in paths)
        return {manifest_name(document): self._read(file, document, capabilities) for file, document in documents}

    def _overlay(self, target_file: str) -> Overlay:
        """Return what the target changed in manifests at the commit; nothing if its file was missing or invalid."""
        path = self._root / target_file
        documents = read(path, target_file, self.folder).documents if path.is_file() else ()
        return read_overlay(documents[0], ()) if documents and has_valid_overlay(documents[0]) else Overlay()

    def _documents(self, names: frozenset[str]) -> Iterator[tuple[str, YamlDocument]]:
        self._root.mkdir(parents=True, exist_ok=True)
        for path in sorted(file for file in self._root.rglob("*") if file.suffix in _SUFFIXES):
            file = path.relative_to(self._root).as_posix()
            if any(name.encode() in path.read_bytes() for name in names):
                for document in expand_lists(read(path, file, self.folder).documents):
                    if manifest_name(document) in names:
                        yield file, document

    def _read(self, file: str, document: YamlDocument, capabilities: Capabilities) -> BaseManifest:
        directory = PurePosixPath(file).parent.as_posix()
        if unavailable := self.unavailable_data(directory, _data_paths(document.value.get("spec"))):
            return BaseManifest(unavailable=unavailable)
        judge = Judge()  # the judge of the target then is unknown, and only data sets are compared
        context = LoadContext(self._root, self.folder, capabilities, judge=judge)
        reader = ManifestReader(context, lambda _name, _labels: True)
        reader.add(document, Origin(file, (self._root / file).parent))
        if reader.manifests:
            (manifest,) = reader.manifests
            return BaseManifest(manifest, reader.sources[manifest.name])
        return BaseManifest(problem=next(found for found in sorted(reader.problems) if found.severity == "error"))


def _parents(path: str) -> tuple[str, ...]:
    return tuple(parent.as_posix() for parent in PurePosixPath(path).parents if parent.name)


def _may_contain_manifests(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.suffix in _SUFFIXES and not any(part.startswith(".") for part in parts.parts)


def _data_paths(value: Any) -> Iterator[str]:
    """Yield the values of all fields ``path`` in a spec, which may be invalid."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield posixpath.normpath(value["path"])
        for child in value.values():
            yield from _data_paths(child)
    elif isinstance(value, list):
        for child in value:
            yield from _data_paths(child)


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
    commit: str,
    capabilities: Capabilities,
    environ: Mapping[str, str],
) -> DatasetChanges:
    """Return the data sets of these manifests that differ from ``commit``, the merge base of ``ref`` and HEAD.

    If ``commit`` is empty, git finds it. Notes explain what cannot be compared. Raises UsageError if the ref does
    not exist.
    """
    current = {manifest.name: (manifest, workspace.sources(manifest)) for manifest in manifests}
    names = [name for manifest in manifests for name in manifest.names]
    data = [version.dataset.path for _, _, version in _all_versions(current.values()) if version.source]
    try:
        file = target_file_name(workspace.target.name)
        with base_at(ref, commit, workspace.root, names, data, capabilities, environ, file) as base:
            comparison = _Comparison(base, ref, show_examples=workspace.target.show_examples)
            changes = [change for pair in current.values() for change in comparison.changes(*pair)]
            return DatasetChanges(ref, base.commit, tuple(changes))
    except IncomparableError as error:
        return DatasetChanges(ref, note=f"the lockfile and the data sets are not compared with {ref}: {error.advice}")


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
        if base and (base.problem or base.unavailable):
            yield self._incomparable(manifest, base)
            return
        pairs = list(self._pairs(manifest, sources, base))
        leaks = collect_samples(leak for leaks in _leaks(pairs) for leak in leaks)
        for pair in pairs:
            pair_leaks: Samples[Leak] = leaks if pair.use == "training" else Samples()
            change = self._change(manifest, pair, renamed=base is None)
            if change or pair_leaks.count:
                unchanged = DatasetChange(manifest.name, pair.use, pair.now.dataset.path, pair.check, ExampleChanges())
                yield replace(change or unchanged, leaks=pair_leaks)

    def _incomparable(self, manifest: Manifest, base: BaseManifest) -> DatasetChange:
        note = f"not compared: at {self.ref}, {base.unavailable}"
        if base.problem:
            (shown,) = (base.problem,) if self.show_examples else redact_problems([base.problem])
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
            unavailable = self.base.unavailable(now.source)
            return (
                replace(change, note=f"not compared: at {self.ref}, {unavailable}")
                if unavailable
                else _new(change, now)
            )
        return self._compared(change, now, base, renamed=renamed)

    def _compared(self, change: DatasetChange, now: _Version, base: _Version, *, renamed: bool) -> DatasetChange | None:
        found = compare(base.examples(), now.examples())
        counts = found.added or found.removed or found.changed
        if not counts and not base.dataset.digest:
            return None  # an unchanged file that the manifest uses now
        duplicates, contradictions = repetitions(base.examples(), now.examples())
        note = "" if counts else _explain_difference(now, base)
        if found.renormalized:
            note = f"{counted(found.renormalized, 'example')} differing only in Unicode normalization"
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
