"""The manifests and data sets of a root as they were at some commit."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final

from reconciler.domain.errors import Problem, ReconcileError, UsageError
from reconciler.domain.model import Capabilities, Manifest
from reconciler.manifests.datasets.declarations import LoadContext, Origin
from reconciler.manifests.datasets.file_formats import file_items
from reconciler.manifests.datasets.validation import DatasetSource
from reconciler.manifests.discovery import TUNED_MODEL, expand_lists, is_foreign, misfits, read
from reconciler.manifests.git.dataset_history import paths_within
from reconciler.manifests.git.repository import Blob, Git, GitError
from reconciler.manifests.manifest import Collection, Sources
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.yaml_parser import Document
from reconciler.paths import find_file, repository_of

_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_MOST_BYTES: Final = 2**30
"""What is taken out of a commit at most."""


class IncomparableError(Exception):
    """Nothing can be read from the commit; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ManifestThen:
    """A manifest as it was, and its data sets; neither when ``problem`` was wrong with it."""

    manifest: Manifest | None = None
    sources: Sources | None = None
    problem: Problem | None = None


@dataclass(slots=True)
class Base:
    """What stood in a commit. It can be read inside the context of :func:`base_at` alone."""

    commit: str
    manifests: Mapping[str, ManifestThen]
    _tree: _Tree = field(repr=False)

    def moved(self, source: DatasetSource) -> DatasetSource | None:
        """The examples that stood in the file of a data set of today; ``None`` where there was no such file."""
        if source.fields is None:
            return None
        file = self._tree.file(source.path)
        return replace(source, items=partial(file_items, file, source.fields)) if file else None


@contextmanager
def base_at(
    ref: str,
    root: Path,
    wanted: Iterable[str],
    data: Iterable[str],
    capabilities: Capabilities,
    environ: Mapping[str, str],
) -> Iterator[Base]:
    """The manifests of the ``wanted`` names, and the files ``data`` (relative to the root), as ``ref`` has them.

    Raises:
        UsageError: when git knows no such commit.
        IncomparableError: when there is no git, no repository, or not all of the commit.
    """
    repository = repository_of(root)
    if not (repository / ".git").exists():
        raise IncomparableError(f"{root} is in no git repository")
    real = Path(os.path.realpath(root))
    if not real.is_relative_to(repository):
        raise IncomparableError(f"{root} leads out of its git repository")
    git = Git(repository, environ)
    commit = _commit(git, ref)
    try:
        with TemporaryDirectory(prefix="reconcile-", ignore_cleanup_errors=True) as folder:
            tree = _Tree(git, commit, real.relative_to(repository).as_posix(), Path(folder).resolve())
            manifests = tree.manifests(frozenset(wanted), capabilities)
            tree.take(paths_within(tree.base, data))
            yield Base(commit, manifests, tree)
    except GitError:
        raise IncomparableError(
            f"git has not all of {ref} at hand; in a partial clone, fetch what it lacks (git fetch --refetch)"
        ) from None
    except OSError as error:
        raise IncomparableError(f"{error.filename or 'the disk'} cannot be used: {error.strerror}") from error


def _commit(git: Git, ref: str) -> str:
    try:
        shallow = git.is_shallow()
    except GitError:
        raise IncomparableError("git is not installed, or does not read this repository") from None
    try:
        return git.commit(ref)
    except GitError:
        if shallow:
            message = f"this clone is shallow and has no {ref}; fetch it (with actions/checkout, fetch-depth: 0)"
            raise IncomparableError(message) from None
        raise UsageError(
            f"--base {ref}: git knows no such commit here", "name a branch, a tag or a commit; fetch it first"
        ) from None


@dataclass(slots=True)
class _Tree:
    """Files of a commit, laid out in a folder as they were in the repository."""

    git: Git
    commit: str
    base: str
    folder: Path
    bytes_left: int = _MOST_BYTES

    @property
    def _root(self) -> Path:
        return self.folder / self.base

    def take(self, paths: Iterable[str]) -> None:
        """Lay out files, as far as they were there and there is room."""
        missing = tuple(path for path in dict.fromkeys(paths) if not (self.folder / path).exists())
        (found,) = self.git.blobs((self.commit,), missing) if missing else ({},)
        self.git.save_all(dict(self._fitting(found)))

    def _fitting(self, found: Mapping[str, Blob]) -> Iterator[tuple[Path, Blob]]:
        for path, blob in found.items():
            file = self.folder / path
            if blob.size <= self.bytes_left:
                with suppress(OSError):  # the path was legal where it was committed, and is not here
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self.bytes_left -= blob.size
                    yield file, blob

    def file(self, path: str) -> Path | None:
        """The file of a path relative to the root, if it was laid out."""
        with suppress(ReconcileError):
            return find_file(path, self._root, self.folder)
        return None

    def manifests(self, wanted: frozenset[str], capabilities: Capabilities) -> Mapping[str, ManifestThen]:
        """The manifests of these names, wherever in the root they stood; their data sets are laid out too."""
        self.take(filter(_may_hold_manifests, paths_within(".", self.git.files(self.commit, self.base))))
        documents = list(self._documents(wanted))
        named = (
            paths_within(PurePosixPath(self.base, file).parent.as_posix(), _paths(document.value.get("spec")))
            for file, document in documents
        )
        self.take(path for paths in named for path in paths)
        return {
            document.value["metadata"]["name"]: self._read(file, document, capabilities) for file, document in documents
        }

    def _documents(self, wanted: frozenset[str]) -> Iterator[tuple[str, Document]]:
        self._root.mkdir(parents=True, exist_ok=True)
        for path in sorted(one for one in self._root.rglob("*") if one.suffix in _SUFFIXES):
            file = path.relative_to(self._root).as_posix()
            if any(name.encode() in path.read_bytes() for name in wanted):
                for document in expand_lists(read(path, file, self.folder).documents):
                    if _name(document) in wanted:
                        yield file, document

    def _read(self, file: str, document: Document, capabilities: Capabilities) -> ManifestThen:
        collection = Collection(LoadContext(self._root, self.folder, capabilities), lambda _name, _labels: True)
        collection.add(document, Origin(file, (self._root / file).parent))
        if collection.manifests:
            (manifest,) = collection.manifests
            return ManifestThen(manifest, collection.sources[manifest.name])
        wrong = next(problem for problem in sorted(collection.problems) if problem.severity == "error")
        return ManifestThen(problem=wrong)


def _may_hold_manifests(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.suffix in _SUFFIXES and not any(part.startswith(".") for part in parts.parts)


def _name(document: Document) -> str:
    """The name of the manifest that a document is, empty where it is none."""
    if not isinstance(document.value, dict) or is_foreign(document) or misfits(document):
        return ""
    name = mapping(document.value.get("metadata")).get("name")
    return name if document.value["kind"] == TUNED_MODEL and isinstance(name, str) else ""


def _paths(value: Any) -> Iterator[str]:
    """Everything that a manifest may call a path."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield posixpath.normpath(value["path"])
        for one in value.values():
            yield from _paths(one)
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one)
