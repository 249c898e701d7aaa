"""Recorded data sets found again: among the files as they are, or as they were in some commit."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Final

from reconciler.domain.errors import Place, ReconcileError
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import REMOTE_SCHEME, Dataset, TrainingExample
from reconciler.manifests.datasets.declarations import TRAINING, LoadContext, Origin, read_training
from reconciler.manifests.datasets.file_formats import require_format
from reconciler.manifests.datasets.records import Fields
from reconciler.manifests.datasets.validation import DatasetSource, file_source, read_examples, validate_dataset
from reconciler.manifests.discovery import TUNED_MODEL, expand_lists, is_foreign, misfits, read
from reconciler.manifests.git.repository import Blob, Git, GitError
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import explain
from reconciler.manifests.yaml_parser import Document, dotted
from reconciler.paths import find_file, repository_of

_MOST_COMMITS: Final = 500
_MOST_BYTES: Final = 2**30
"""What is taken out of the history at most, of all versions together."""
_DEFAULT_FIELDS: Final = Fields("text_input", "output")
_UNFIT: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters and halves of surrogate pairs, which stand in no path of ours and would confuse git's answers."""

Examples = Callable[[], Iterator[TrainingExample]]
"""Reads the examples of a data set afresh."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is known of the data sets that are sought.

    ``root`` is the folder of the target. ``files`` are those, relative to it, where the manifest of this ``name``
    stands or stood. They, and what the ``generations`` say, may come from a lockfile that somebody else has written.
    """

    root: Path
    name: str
    files: tuple[str, ...]
    generations: tuple[LockedGeneration, ...]


@contextmanager
def examples_at_hand(recorded: Recorded, environ: Mapping[str, str]) -> Iterator[Mapping[str, Examples]]:
    """The data sets that stand in the files or in the git history, by digest; those that do not are left out.

    That is so for data in Cloud Storage and in Git LFS, for what a shallow clone lacks, and where there is no git. The
    history is that of the present commit, which is followed for the newest 500 commits that touch the manifest or the
    data. ``environ`` tells where git is. They can be read inside the context alone.
    """
    with TemporaryDirectory(prefix="reconcile-", ignore_cleanup_errors=True) as folder:
        yield _Search(recorded, Path(folder).resolve()).everywhere(environ)


@dataclass(slots=True)
class _Search:
    recorded: Recorded
    folder: Path
    found: dict[str, Examples] = field(default_factory=dict)
    bytes_left: int = _MOST_BYTES
    _fields: list[Fields] = field(default_factory=lambda: [_DEFAULT_FIELDS])
    _seen: set[tuple[str, ...]] = field(default_factory=set)

    def everywhere(self, environ: Mapping[str, str]) -> Mapping[str, Examples]:
        repository = repository_of(self.recorded.root)
        self._look(self.recorded.root, repository, "")
        with suppress(GitError):
            self._history(Git(repository, environ), repository)
        return self.found

    def _missing(self) -> list[LockedGeneration]:
        sought = (one for one in self.recorded.generations if not one.dataset.is_remote)
        return [one for one in sought if one.dataset.digest not in self.found]

    def _history(self, git: Git, repository: Path) -> None:
        root = Path(os.path.realpath(self.recorded.root))
        if not self._missing() or not root.is_relative_to(repository):
            return
        base = root.relative_to(repository).as_posix()
        manifests = paths_within(base, self.recorded.files)
        data = paths_within(base, (one.dataset.path for one in self.recorded.generations))
        paths = tuple(dict.fromkeys([*manifests, *data]))
        commits = git.commits(paths, _MOST_COMMITS) if paths else ()
        for number, blobs in enumerate(git.blobs(commits, paths)):
            if not self._missing():
                return
            version = self.folder / f"version-{number}"
            self._check_out(git, blobs, version)
            state = {path: blob.name for path, blob in blobs.items() if path not in manifests}
            self._look(version / base, version, json.dumps(state))

    def _check_out(self, git: Git, blobs: Mapping[str, Blob], version: Path) -> None:
        """Lay the files of a version out as they were in the repository; those of one content are one file."""
        version.mkdir()
        for path, blob in blobs.items():
            stored = self.folder / blob.name
            if not stored.exists() and blob.size <= self.bytes_left:
                self.bytes_left -= blob.size
                git.save(blob, stored)
            if stored.exists():
                with suppress(OSError):  # the path was legal where it was committed, and is not here
                    (version / path).parent.mkdir(parents=True, exist_ok=True)
                    os.link(stored, version / path)

    def _look(self, root: Path, repository: Path, data: str) -> None:
        """Take up what is sought and stands in one state of the files; ``data`` tells the states of the data apart."""
        surroundings = LoadContext(root, repository, None)
        for file, document in self._documents(surroundings):
            declared = document.child(TRAINING).value
            if self._is_new(data, file, json.dumps(declared)):
                fields = Fields(declared.get("inputField", "text_input"), declared.get("outputField", "output"))
                reading = read_training(document, Origin(file, (root / file).parent), surroundings)
                self._take(reading.source, reading.dataset)
                self._note(reading.source, fields, data)
        for one in self._missing():
            for source in self._undeclared(one, surroundings, data):
                self._take(source, validate_dataset(source, None).dataset)

    def _note(self, source: DatasetSource | None, fields: Fields, data: str) -> None:
        """Remember under which names inputs and outputs stand, and that this file has been read with them."""
        if fields not in self._fields:
            self._fields.append(fields)
        if source:
            self._is_new(data, source.path, source.preamble, fields.input, fields.output)

    def _documents(self, where: LoadContext) -> Iterator[tuple[str, Document]]:
        for file in filter(_is_path, self.recorded.files):
            for document in expand_lists(read(where.root / file, file, where.repository).documents):
                if _declares(document, self.recorded.name):
                    yield file, document

    def _undeclared(self, one: LockedGeneration, where: LoadContext, data: str) -> Iterator[DatasetSource]:
        """The recorded file, whatever the manifest says of it: that may stand elsewhere by now."""
        path = one.dataset.path
        if not _is_path(path):
            return
        with suppress(ReconcileError):
            file = find_file(path, where.root, where.repository)
            require_format(file)
            for fields in self._fields:
                if self._is_new(data, path, one.preamble, fields.input, fields.output):
                    spot = Place(path), dotted(TRAINING)
                    yield file_source(file, path, path, fields, spot, one.preamble)

    def _is_new(self, *state: str) -> bool:
        before = len(self._seen)
        self._seen.add(state)
        return len(self._seen) > before

    def _take(self, source: DatasetSource | None, dataset: Dataset | None) -> None:
        if source and dataset and any(one.dataset.digest == dataset.digest for one in self._missing()):
            self.found[dataset.digest] = partial(read_examples, source, dataset)


def _declares(document: Document, name: str) -> bool:
    """Whether it is the manifest of that name, and what it says of its data set is legal."""
    if not isinstance(document.value, dict) or is_foreign(document) or misfits(document):
        return False
    if document.value["kind"] != TUNED_MODEL or mapping(document.value.get("metadata")).get("name") != name:
        return False
    wrong = any(problem.path.startswith(dotted(TRAINING)) for problem in explain(document, TUNED_MODEL))
    return "dataset" in mapping(document.value.get("spec")) and not wrong


def paths_within(base: str, named: Iterable[str]) -> list[str]:
    """The paths within the repository that are meant by paths relative to a folder of it."""
    paths = (posixpath.normpath(posixpath.join(base, one)) for one in named if _is_path(one))
    return [path for path in paths if path.partition("/")[0] not in {".", ".."}]


def _is_path(named: str) -> bool:
    """Whether it may be a relative path at all; a lockfile can say anything."""
    elsewhere = named.startswith(REMOTE_SCHEME) or PurePosixPath(named).is_absolute() or PureWindowsPath(named).drive
    return bool(named) and not elsewhere and not _UNFIT.search(named)
