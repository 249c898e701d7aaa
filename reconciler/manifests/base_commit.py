"""The manifests and data sets of a root at a commit, such as the base of a pull request."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import Problem, ReconcileError, UsageError
from reconciler.domain.model import Capabilities, Manifest
from reconciler.manifests.dataset_history import paths_within
from reconciler.manifests.datasets.declarations import LoadContext, Origin
from reconciler.manifests.datasets.file_formats import file_records
from reconciler.manifests.datasets.validation import DatasetSource
from reconciler.manifests.discovery import expand_lists, manifest_name, read
from reconciler.manifests.git import Blob, Git, GitError
from reconciler.manifests.manifest import ManifestReader, Sources
from reconciler.manifests.yaml_parser import YamlDocument
from reconciler.paths import find_file, repository_of

_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_MAX_BYTES: Final = 2**30
"""The limit for the size of all files that are read from a commit."""


class IncomparableError(Exception):
    """The commit cannot be read; the message gives the reason and the remedy."""


class BaseManifest(Struct, frozen=True):
    """A manifest at the commit and the sources of its data sets, or its first error."""

    manifest: Manifest | None = None
    sources: Sources | None = None
    problem: Problem | None = None


@dataclass(slots=True)
class Base:
    """The manifests at a commit, by name; readable only in the context of :func:`base_at`."""

    commit: str
    manifests: Mapping[str, BaseManifest]
    _tree: _Tree = field(repr=False)

    def source_at_commit(self, source: DatasetSource) -> DatasetSource | None:
        """Return the source of the same file at the commit; ``None`` if the file did not exist."""
        if source.fields is None:
            return None
        file = self._tree.file(source.path)
        return replace(source, records=partial(file_records, file, source.fields)) if file else None


@contextmanager
def base_at(
    ref: str,
    root: Path,
    names: Iterable[str],
    data: Iterable[str],
    capabilities: Capabilities,
    environ: Mapping[str, str],
) -> Iterator[Base]:
    """Read the manifests with these names, and the files ``data`` (relative to the root), at the commit ``ref``.

    Raises:
        UsageError: if the commit does not exist.
        IncomparableError: if git, the repository or a part of the commit is missing.
    """
    repository = repository_of(root)
    if not (repository / ".git").exists():
        raise IncomparableError(f"{root} is not in a git repository")
    real = Path(os.path.realpath(root))
    if not real.is_relative_to(repository):
        raise IncomparableError(f"{root} is outside its git repository")
    git = Git(repository, environ)
    commit = _resolve(git, ref)
    try:
        with TemporaryDirectory(prefix="reconcile-", ignore_cleanup_errors=True) as folder:
            tree = _Tree(git, commit, real.relative_to(repository).as_posix(), Path(folder).resolve())
            manifests = tree.manifests(frozenset(names), capabilities)
            tree.check_out(paths_within(tree.base, data))
            yield Base(commit, manifests, tree)
    except GitError:
        raise IncomparableError(
            f"this clone does not contain all files of {ref}; fetch them, in a partial clone with git fetch --refetch"
        ) from None
    except OSError as error:
        raise IncomparableError(f"cannot write {error.filename or 'temporary files'}: {error.strerror}") from error


def _resolve(git: Git, ref: str) -> str:
    try:
        shallow = git.is_shallow()
    except GitError:
        raise IncomparableError("git is not installed, or cannot read this repository") from None
    try:
        return git.commit(ref)
    except GitError:
        if shallow:
            message = f"this clone is shallow and does not contain {ref}; fetch it (actions/checkout: fetch-depth: 0)"
            raise IncomparableError(message) from None
        raise UsageError(
            f"--base {ref}: no such commit in this repository", "pass a branch, a tag or a commit, and fetch it first"
        ) from None


class _Tree(Struct):
    """Files of a commit, checked out into a directory as they are in the repository."""

    git: Git
    commit: str
    base: str
    folder: Path
    bytes_left: int = _MAX_BYTES

    @property
    def _root(self) -> Path:
        return self.folder / self.base

    def check_out(self, paths: Iterable[str]) -> None:
        """Write the files that exist at the commit, up to the size limit."""
        missing = tuple(path for path in dict.fromkeys(paths) if not (self.folder / path).exists())
        (found,) = self.git.blobs((self.commit,), missing) if missing else ({},)
        self.git.save_all(dict(self._fitting(found)))

    def _fitting(self, found: Mapping[str, Blob]) -> Iterator[tuple[Path, Blob]]:
        for path, blob in found.items():
            file = self.folder / path
            if blob.size <= self.bytes_left:
                with suppress(OSError):  # the path was valid where it was committed, but is not on this system
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self.bytes_left -= blob.size
                    yield file, blob

    def file(self, path: str) -> Path | None:
        """Return the file at a path relative to the root, if it was checked out."""
        with suppress(ReconcileError):
            return find_file(path, self._root, self.folder)
        return None

    def manifests(self, names: frozenset[str], capabilities: Capabilities) -> Mapping[str, BaseManifest]:
        """Return the manifests with these names from anywhere in the root; their data sets are checked out too."""
        self.check_out(filter(_may_contain_manifests, paths_within(".", self.git.files(self.commit, self.base))))
        documents = list(self._documents(names))
        data = (
            paths_within(PurePosixPath(self.base, file).parent.as_posix(), _data_paths(document.value.get("spec")))
            for file, document in documents
        )
        self.check_out(path for paths in data for path in paths)
        return {manifest_name(document): self._read(file, document, capabilities) for file, document in documents}

    def _documents(self, names: frozenset[str]) -> Iterator[tuple[str, YamlDocument]]:
        self._root.mkdir(parents=True, exist_ok=True)
        for path in sorted(file for file in self._root.rglob("*") if file.suffix in _SUFFIXES):
            file = path.relative_to(self._root).as_posix()
            if any(name.encode() in path.read_bytes() for name in names):
                for document in expand_lists(read(path, file, self.folder).documents):
                    if manifest_name(document) in names:
                        yield file, document

    def _read(self, file: str, document: YamlDocument, capabilities: Capabilities) -> BaseManifest:
        reader = ManifestReader(LoadContext(self._root, self.folder, capabilities), lambda _name, _labels: True)
        reader.add(document, Origin(file, (self._root / file).parent))
        if reader.manifests:
            (manifest,) = reader.manifests
            return BaseManifest(manifest, reader.sources[manifest.name])
        return BaseManifest(problem=next(found for found in sorted(reader.problems) if found.severity == "error"))


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
