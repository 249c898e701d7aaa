"""Find recorded data sets again: in the working tree, or in the git history."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.errors import Place, ReconcileError
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import HUB_SCHEME, REMOTE_SCHEME, Dataset, TrainingExample
from reconciler.manifests.datasets.declarations import TRAINING, LoadContext, Origin, declared_options, read_training
from reconciler.manifests.datasets.folders import expand_patterns, find_files
from reconciler.manifests.datasets.hub_addresses import has_wildcards
from reconciler.manifests.datasets.records import ReadOptions
from reconciler.manifests.datasets.validation import DatasetSource, files_source, read_examples, validate_dataset
from reconciler.manifests.discovery import TUNED_MODEL, expand_lists, manifest_name, read
from reconciler.manifests.git import Blob, Git, GitError
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import explain
from reconciler.manifests.yaml_parser import YamlDocument, dotted
from reconciler.paths import repository_of

_MAX_COMMITS: Final = 500
_MAX_BYTES: Final = 2**30
"""The limit for the size of all versions that are read from the history."""
_UNSUPPORTED: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters and surrogates, which would break the parsing of git's output."""

Examples = Callable[[], Iterator[TrainingExample]]
"""Reads the examples of a data set from the start."""


class RecordedData(Struct, frozen=True):
    """The data sets to find: those of ``generations`` of the manifest ``name``.

    ``root`` is the directory of the target, and ``files`` are the current and former files of the manifest, relative to
    it. The files and generations may come from an untrusted lockfile.
    """

    root: Path
    name: str
    files: tuple[str, ...]
    generations: tuple[LockedGeneration, ...]


@contextmanager
def find_examples(recorded: RecordedData, environ: Mapping[str, str]) -> Iterator[Mapping[str, Examples]]:
    """Find the data sets in the working tree or the git history, by digest; readable only in the context.

    The history is that of HEAD, limited to the newest 500 commits that changed the manifest or the data; without git,
    only the working tree is searched. Data sets in Cloud Storage and in Git LFS are not found, nor those in commits
    that a shallow clone does not contain. ``environ`` provides the PATH of git.
    """
    with TemporaryDirectory(prefix="reconcile-", ignore_cleanup_errors=True) as folder:
        yield _Search(recorded, Path(folder).resolve()).run(environ)


class _Search(Struct):
    recorded: RecordedData
    folder: Path
    found: dict[str, Examples] = {}
    bytes_left: int = _MAX_BYTES
    _options: list[ReadOptions] = field(default_factory=lambda: [declared_options({})])
    _seen: set[tuple[str, ...]] = field(default_factory=set)

    def run(self, environ: Mapping[str, str]) -> Mapping[str, Examples]:
        repository = repository_of(self.recorded.root)
        self._search_files(self.recorded.root, repository, "")
        with suppress(GitError):
            self._search_history(Git(repository, environ), repository)
        return self.found

    def _missing(self) -> list[LockedGeneration]:
        return [
            generation
            for generation in self.recorded.generations
            if not generation.dataset.is_remote and generation.dataset.digest not in self.found
        ]

    def _search_history(self, git: Git, repository: Path) -> None:
        root = Path(os.path.realpath(self.recorded.root))
        if not self._missing() or not root.is_relative_to(repository):
            return
        base = root.relative_to(repository).as_posix()
        manifests = paths_within(base, self.recorded.files)
        data = paths_within(base, (generation.dataset.path for generation in self.recorded.generations))
        listed = git.files("HEAD", ".") if any(map(has_wildcards, data)) else ()
        paths = tuple(dict.fromkeys([*manifests, *expand_patterns(data, listed)]))
        commits = git.commits(paths, _MAX_COMMITS) if paths else ()
        for number, blobs in enumerate(git.blobs(commits, paths)):
            if not self._missing():
                return
            version = self.folder / f"version-{number}"
            self._check_out(git, blobs, version)
            state = {path: blob.name for path, blob in blobs.items() if path not in manifests}
            self._search_files(version / base, version, json.dumps(state))

    def _check_out(self, git: Git, blobs: Mapping[str, Blob], version: Path) -> None:
        """Write the files of a version as they were in the repository; equal contents share one file."""
        version.mkdir()
        for path, blob in blobs.items():
            stored = self.folder / blob.name
            if not stored.exists() and blob.size <= self.bytes_left:
                self.bytes_left -= blob.size
                git.save(blob, stored)
            if stored.exists():
                with suppress(OSError):  # the path was valid where it was committed, but is not on this system
                    (version / path).parent.mkdir(parents=True, exist_ok=True)
                    os.link(stored, version / path)

    def _search_files(self, root: Path, repository: Path, data_version: str) -> None:
        """Record the data sets that one version of the files contains; ``data_version`` identifies that of the data."""
        context = LoadContext(root, repository, None, offline=True)
        for file, document in self._documents(context):
            declared = document.child(TRAINING).value
            if self._is_new(data_version, file, json.dumps(declared)):
                reading = read_training(document, Origin(file, (root / file).parent), context)
                self._record(reading.source, reading.dataset, conversations=reading.conversations)
                self._remember(reading.source, declared_options(declared), data_version)
        for generation in self._missing():
            for source in self._undeclared(generation, context, data_version):
                validated = validate_dataset(source, None)
                self._record(source, validated.dataset, conversations=validated.conversations)

    def _remember(self, source: DatasetSource | None, options: ReadOptions, data_version: str) -> None:
        """Remember the options, and that this file has been read with them."""
        if options not in self._options:
            self._options.append(options)
        if source:
            self._is_new(data_version, source.path, source.preamble, repr(options))

    def _documents(self, context: LoadContext) -> Iterator[tuple[str, YamlDocument]]:
        for file in filter(_is_relative, self.recorded.files):
            for document in expand_lists(read(context.root / file, file, context.repository).documents):
                if manifest_name(document) == self.recorded.name and _has_valid_dataset(document):
                    yield file, document

    def _undeclared(
        self, generation: LockedGeneration, context: LoadContext, data_version: str
    ) -> Iterator[DatasetSource]:
        """Yield the recorded file with all known field names, because the manifest may declare another file now."""
        path = generation.dataset.path
        if not _is_relative(path):
            return
        with suppress(ReconcileError):
            files = find_files(path, context.root, context.repository)
            for options in self._options:
                if self._is_new(data_version, path, generation.preamble, repr(options)):
                    location = Place(path), dotted(TRAINING)
                    yield files_source(files, path, options, location, generation.preamble)

    def _is_new(self, *state: str) -> bool:
        before = len(self._seen)
        self._seen.add(state)
        return len(self._seen) > before

    def _record(self, source: DatasetSource | None, dataset: Dataset | None, *, conversations: bool) -> None:
        if source is None or dataset is None:
            return
        if any(missing.dataset.digest == dataset.digest for missing in self._missing()):
            self.found[dataset.digest] = partial(read_examples, source, dataset)
        if conversations:  # as a service without conversations has read them
            source = replace(source, single_turns=True)
            self._record(source, validate_dataset(source, None).dataset, conversations=False)


def _has_valid_dataset(document: YamlDocument) -> bool:
    invalid = any(problem.path.startswith(dotted(TRAINING)) for problem in explain(document, TUNED_MODEL))
    return "dataset" in mapping(document.value.get("spec")) and not invalid


def paths_within(base: str, paths: Iterable[str]) -> list[str]:
    """Return paths relative to ``base`` as paths relative to the repository; those outside of it are dropped."""
    joined = (posixpath.normpath(posixpath.join(base, path)) for path in paths if _is_relative(path))
    return [path for path in joined if path.partition("/")[0] not in {".", ".."}]


def _is_relative(path: str) -> bool:
    """Return whether the string, which may come from an untrusted lockfile, can be a relative path."""
    absolute = (
        path.startswith((REMOTE_SCHEME, HUB_SCHEME)) or PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive
    )
    return bool(path) and not absolute and not _UNSUPPORTED.search(path)
