"""Everything that a run reads: the target, the manifests and their data sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

from reconciler.domain.checks import Check
from reconciler.domain.errors import InvalidInput, Place, Problem, ReconcileError, UsageError
from reconciler.domain.model import API_GROUP, Capabilities, Example, Manifest, Target, TrainingExample
from reconciler.manifests.datasets.declarations import LoadContext, Origin
from reconciler.manifests.datasets.validation import read_examples
from reconciler.manifests.discovery import (
    DEFAULT,
    STDIN,
    TUNED_MODEL,
    ManifestFile,
    Root,
    absolute,
    discover,
    expand_lists,
    find_root,
    foreign,
    is_everything,
    is_foreign,
    misfits,
    read,
    require_existing,
    target_file_name,
)
from reconciler.manifests.manifest import Collection, Selected, Sources
from reconciler.manifests.schema_validation import discreet_problems
from reconciler.manifests.target import read_target
from reconciler.manifests.yaml_parser import Parsed, parse
from reconciler.paths import repository_of, require_inside

_SPECS = "specs"


@dataclass(frozen=True, slots=True)
class Workspace:
    """What was read.

    ``root`` is the folder of the target file. ``problems`` holds errors and warnings, sorted; a manifest with an error
    is not among ``manifests``, which are sorted by name. ``complete`` says whether the whole root was read, so that
    a model without a manifest here has none anywhere. ``files`` counts the files with manifests.
    """

    root: Path
    target: Target
    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]
    complete: bool
    lockfile: Path
    files: int
    _sources: Mapping[str, Sources] = field(repr=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are no mere warnings."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    def sources(self, manifest: Manifest) -> Sources:
        """Where the examples of a manifest come from."""
        return self._sources[manifest.name]

    def training(self, manifest: Manifest) -> Iterator[TrainingExample]:
        """The training examples of a manifest, read afresh while they are taken; none of a data set in Cloud Storage.

        Raises ReconcileError, at the end at the latest, when they are not those that were checked: the file was changed
        meanwhile.
        """
        source = self._sources[manifest.name].training
        return read_examples(source, manifest.dataset) if source else iter(())

    def validation(self, manifest: Manifest) -> Iterator[TrainingExample]:
        """The validation examples of a manifest, as :meth:`training` gives the others."""
        source = self._sources[manifest.name].validation
        return read_examples(source, manifest.validation) if source and manifest.validation else iter(())

    def held_out(self, manifest: Manifest, check: Check) -> Iterator[Example]:
        """What the evaluation of a check asks, without preamble, as :meth:`training` gives what is trained on."""
        held_out = self._sources[manifest.name].held_out.get(check.name)
        read = read_examples(held_out.source, held_out.dataset) if held_out else iter(())
        return (example for example in read if isinstance(example, Example))


def load(
    paths: Sequence[str],
    *,
    target: str | None,
    cwd: Path,
    stdin: TextIO | BinaryIO | None,
    environ: Mapping[str, str],
    capabilities: Callable[[Target], Capabilities],
    selected: Selected = lambda _name, _labels: True,
) -> Workspace:
    """Read everything that these paths stand for; none stand for ``specs`` if it is there, else for the folder.

    ``environ`` holds the variables that a target may name; ``capabilities`` tells what the service of a target can do,
    which is asked of the ``selected`` manifests alone.
    What is wrong with manifests and data sets is returned, not raised. Raises UsageError for paths or targets that do
    not exist, InvalidInput with all problems when those of the target leave nothing to work with, and ReconcileError
    when a folder cannot be read or the lockfile is a link out of the repository.
    """
    given = tuple(paths) or (_SPECS if (cwd / _SPECS).is_dir() else ".",)
    try:
        return _load(given, target or DEFAULT, cwd, stdin, environ, capabilities, selected)
    except OSError as error:
        raise ReconcileError(f"{error.filename} cannot be read: {error.strerror}", "see to its permissions") from error


def _load(
    given: Sequence[str],
    target: str,
    cwd: Path,
    stdin: TextIO | BinaryIO | None,
    environ: Mapping[str, str],
    capabilities: Callable[[Target], Capabilities],
    selected: Selected,
) -> Workspace:
    require_existing(given, cwd)
    root = find_root(given[0], target, cwd)
    repository = repository_of(root.folder)
    lock = (root.folder / target_file_name(target)).with_suffix(".lock.json")
    require_inside(lock, repository)
    found = read_target(root, _shown(root.file, given[0], cwd), environ)
    able = capabilities(found.target) if found.target else None
    allows_public = found.target is None or found.target.public_access
    collection = Collection(LoadContext(root.folder, repository, able, allows_public), selected)
    ours = [path for path in given if path == given[0] or _belongs(path, root, target, cwd)]
    collection.problems += [*found.problems, *(_stranger(path, given[0], root) for path in given if path not in ours)]
    files = discover(ours, cwd, target_file_name(target))
    for file in files:
        _take(collection, read(file.path, file.shown, repository), _origin(file, root), named=file.named)
    if STDIN in ours:
        _take(collection, parse(_bytes(stdin), STDIN), Origin(STDIN, cwd), named=True)
    complete = _is_complete(ours, files, root, target, cwd)
    collection.finish(complete=complete)
    told = set(collection.problems)
    if found.target is None or not found.target.show_examples:
        told = set(discreet_problems(told))
    problems = tuple(sorted(told))
    if found.target is None:
        raise InvalidInput(problems)
    return Workspace(
        root=root.folder,
        target=found.target,
        manifests=tuple(sorted(collection.manifests, key=lambda manifest: manifest.name)),
        problems=problems,
        complete=complete,
        lockfile=lock,
        files=len(files) + (STDIN in ours),
        _sources=collection.sources,
    )


def _is_complete(given: Sequence[str], files: Sequence[ManifestFile], root: Root, target: str, cwd: Path) -> bool:
    """Whether the whole root was read: it was named, or a folder was that holds all of its manifests."""
    if STDIN in given:
        return False
    folders = [absolute(path, cwd) for path in given if (cwd / path).is_dir()]
    if root.folder in folders:
        return True
    return bool(folders) and is_everything(files, root.folder, target_file_name(target), API_GROUP)


def _take(collection: Collection, parsed: Parsed, origin: Origin, *, named: bool) -> None:
    collection.problems += parsed.problems
    documents = list(expand_lists(parsed.documents))
    if named and not documents and not parsed.problems:
        collection.problems.append(Problem(Place(parsed.file), "", "holds no manifest", "write one, or do not name it"))
    for document in documents:
        if is_foreign(document):
            collection.problems += [foreign(document)] if named else []
        elif wrong := misfits(document):
            collection.problems += wrong
        elif document.value["kind"] == TUNED_MODEL:
            collection.add(document, origin)


def _stranger(path: str, first: str, root: Root) -> Problem:
    message = f"does not belong to the root of {first}, {root.folder}"
    return Problem(Place(path), "", message, "run the command once for each root")


def _belongs(path: str, root: Root, name: str, cwd: Path) -> bool:
    if root.file is None:
        return path == STDIN or absolute(path, cwd).is_relative_to(root.folder)
    try:
        return find_root(path, name, cwd) == root
    except UsageError:
        return False


def _origin(file: ManifestFile, root: Root) -> Origin:
    return Origin(Path(os.path.relpath(file.path, root.folder)).as_posix(), file.path.parent)


def _shown(file: Path | None, given: str, cwd: Path) -> str:
    if file is None:
        return ""
    return str(file) if Path(given).is_absolute() else os.path.relpath(file, cwd)


def _bytes(stdin: TextIO | BinaryIO | None) -> bytes:
    if stdin is None:
        raise UsageError("there is no standard input to read", "name files or folders")
    data = stdin.read()
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
