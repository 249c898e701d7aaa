"""Load what a run reads: the target, the manifests and their data sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

from reconciler.domain.checks import Check
from reconciler.domain.errors import InvalidInput, Place, Problem, ReconcileError, UsageError
from reconciler.domain.model import Capabilities, Example, Manifest, Target, TrainingExample
from reconciler.domain.text import join_names
from reconciler.manifests.datasets.declarations import LoadContext, Origin
from reconciler.manifests.datasets.validation import read_examples
from reconciler.manifests.discovery import (
    DEFAULT,
    STDIN,
    TEMPLATE,
    TUNED_MODEL,
    ManifestFile,
    absolute,
    covers_root,
    discover,
    expand_lists,
    foreign_problem,
    header_problems,
    is_foreign,
    is_template,
    manifest_name,
    read,
    skip_reason,
    target_file_name,
    template_problem,
)
from reconciler.manifests.manifest import IsSelected, ManifestReader, Sources
from reconciler.manifests.overlay import Overlay
from reconciler.manifests.stages import with_judges
from reconciler.manifests.target import ProjectRoot, read_root
from reconciler.manifests.yaml_parser import Parsed, YamlDocument, parse
from reconciler.paths import require_inside
from reconciler.planning.hidden_examples import redact_problems

_NAMED = 3
"""How many of the files that are skipped a note names."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The target, the manifests and the problems that were read from a root.

    ``root`` is the directory of the target file. ``manifests`` are those without errors, sorted by name, and
    ``problems`` the sorted errors and warnings. ``complete`` says whether the whole root was read: only then is a model
    without a manifest an orphan. ``files`` counts the files that were read; ``read_files`` are their resolved paths.
    """

    root: Path
    target: Target
    manifests: tuple[Manifest, ...]
    problems: tuple[Problem, ...]
    complete: bool
    lockfile: Path
    files: int
    read_files: frozenset[str]
    unselected: Mapping[str, Place]
    documents: Mapping[str, YamlDocument] = field(repr=False)
    _sources: Mapping[str, Sources] = field(repr=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that are not warnings."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    def sources(self, manifest: Manifest) -> Sources:
        """Return the sources of the examples of a manifest."""
        return self._sources[manifest.name]

    def training(self, manifest: Manifest) -> Iterator[TrainingExample]:
        """Yield the training examples of a manifest; none for a data set in Cloud Storage.

        Raises ReconcileError, at the latest after the last example, if the file has changed since it was validated.
        """
        source = self._sources[manifest.name].training
        return read_examples(source, manifest.dataset) if source else iter(())

    def validation(self, manifest: Manifest) -> Iterator[TrainingExample]:
        """Yield the validation examples of a manifest, as :meth:`training` does."""
        source = self._sources[manifest.name].validation
        return read_examples(source, manifest.validation) if source and manifest.validation else iter(())

    def places(self, manifest: Manifest, numbers: Collection[int], *, validation: bool = False) -> dict[int, str]:
        """Return where examples of a manifest are, by their numbers in the data set, counted from 1: ``FILE:LINE``."""
        sources = self._sources[manifest.name]
        source = sources.validation if validation else sources.training
        if source is None or not numbers:
            return {}
        wanted, last = frozenset(numbers), max(numbers)
        records = islice(enumerate(source.records(), start=1), last)
        found = ((number, source.locate(record.number)[0]) for number, record in records if number in wanted)
        return {number: f"{place.file}:{place.line}" for number, place in found}

    def held_out(self, manifest: Manifest, check: Check) -> Iterator[Example]:
        """Yield the examples for the evaluation of a check, without preamble, as :meth:`training` does."""
        held_out = self._sources[manifest.name].held_out.get(check.name)
        examples = read_examples(held_out.source, held_out.dataset) if held_out else iter(())
        return (example for example in examples if isinstance(example, Example))


def load(
    paths: Sequence[str],
    *,
    target: str | None,
    cwd: Path,
    stdin: TextIO | BinaryIO | None,
    stdin_folder: Path | None = None,
    environ: Mapping[str, str],
    capabilities: Callable[[Target], Capabilities],
    is_selected: IsSelected = lambda _name, _labels: True,
) -> Workspace:
    """Read the manifests at these paths; the default is ``specs`` if it exists, else the working directory.

    ``environ`` has the variables that a target may use, and ``capabilities`` returns those of the target's service,
    which limit only the manifests that ``is_selected``. Paths in manifests from ``stdin`` are relative to
    ``stdin_folder``, by default ``cwd``, and the target is in it or above it. Problems of manifests and data sets are
    returned, not raised.

    Raises:
        UsageError: if a path or the target does not exist.
        InvalidInput: with all problems if the target is invalid.
        ReconcileError: if a directory cannot be read, or the lockfile is a link out of the repository.
    """
    try:
        folder = stdin_folder or cwd
        root = read_root(paths, target, cwd, environ, stdin_folder=folder)
        return _load(root, target or DEFAULT, cwd, stdin, folder, capabilities, is_selected)
    except OSError as error:
        raise ReconcileError(f"cannot read {error.filename}: {error.strerror}", "check its permissions") from error


def _load(
    root: ProjectRoot,
    target: str,
    cwd: Path,
    stdin: TextIO | BinaryIO | None,
    stdin_folder: Path,
    capabilities: Callable[[Target], Capabilities],
    is_selected: IsSelected,
) -> Workspace:
    service = capabilities(root.target) if root.target else None
    public_access = root.target is None or root.target.public_access
    judge = root.target.judge if root.target else None
    context = LoadContext(root.folder, root.repository, service, public_access, judge=judge)
    reader = ManifestReader(context, is_selected)
    reader.problems += root.problems
    for path in root.paths:
        if path != STDIN and (cwd / path).is_dir():
            require_inside(absolute(path, cwd), root.repository)
    files: list[ManifestFile] = []
    skipped: dict[str, str] = {}
    all_parsed = True
    documents: dict[str, YamlDocument] = {}
    add = partial(_add, reader, root.overlay, documents)
    for file in discover(root.paths, cwd, target_file_name(target)):
        parsed = read(file.path, file.shown, root.repository)
        reason = "" if file.named else skip_reason(parsed)
        if reason:
            skipped[file.shown] = reason
        else:
            files.append(file)
            all_parsed = all_parsed and not parsed.problems
            add(parsed, _origin(file, root), named=file.named)
    if STDIN in root.paths:
        add(parse(_read_stdin(stdin), STDIN), Origin(STDIN, stdin_folder), named=True)
    reader.problems += _skip_notes(skipped)
    if not reader.manifests and all(problem.severity == "note" for problem in reader.problems):
        reader.problems.append(_no_manifest(root, selects_none=bool(reader.unselected)))
    complete = _is_complete(files, root, target, cwd)
    reader.finish(complete=complete and all_parsed)  # a file that cannot be parsed may declare the parent
    if complete and root.overlay.valid:
        reader.problems += root.overlay.unused()
    problems = tuple(sorted(set(reader.problems)))
    if root.target is None or not root.target.show_examples:
        problems = tuple(sorted(set(redact_problems(problems))))
    if root.target is None:
        raise InvalidInput(problems)
    declared = with_judges(root.target, service) if service else root.target
    manifests = sorted(reader.manifests, key=lambda manifest: manifest.name)
    return Workspace(
        root=root.folder,
        target=declared,
        manifests=tuple(manifest.in_stage(declared.stage(declared.first_stage)) for manifest in manifests),
        problems=problems,
        complete=complete,
        lockfile=root.lockfile,
        files=len(files) + (STDIN in root.paths),
        read_files=frozenset(os.path.realpath(file.path) for file in files),
        unselected=reader.unselected,
        documents=documents,
        _sources=reader.sources,
    )


def _no_manifest(root: ProjectRoot, *, selects_none: bool) -> Problem:
    """Return a warning: every manifest may have been deleted on purpose."""
    if selects_none:
        return root.overlay.selects_none()
    first = "run reconcile init to write a target and a first manifest"
    start = "add one, see reconcile schema TunedModel" if root.file else first
    remedy = f"{start}, or pass the directory that has your manifests"
    return Problem(Place(root.paths[0]), "", "no manifest found", remedy, "warning")


def _is_complete(files: Sequence[ManifestFile], root: ProjectRoot, target: str, cwd: Path) -> bool:
    """Return whether the paths include the root, or directories that contain all of its manifests."""
    if STDIN in root.paths:
        return False
    directories = [absolute(path, cwd) for path in root.paths if (cwd / path).is_dir()]
    if root.folder in directories:
        return True
    return bool(directories) and covers_root(files, root.folder, target_file_name(target))


def _add(
    reader: ManifestReader,
    overlay: Overlay,
    effective: dict[str, YamlDocument],
    parsed: Parsed,
    origin: Origin,
    *,
    named: bool,
) -> None:
    if named and is_template(parsed):
        reader.problems.append(template_problem(parsed))
        return
    reader.problems += parsed.problems
    documents = list(expand_lists(parsed.documents))
    if named and not documents and not parsed.problems:
        remedy = "add a manifest, or do not pass this file"
        reader.problems.append(Problem(Place(parsed.file), "", "contains no manifest", remedy))
    foreign = [is_foreign(document) for document in documents]
    # A pipe carries all that another tool composed; a file is named because it is meant.
    rejected = named and (parsed.file != STDIN or all(foreign))
    if any(foreign) and not rejected:
        message = f"{foreign.count(True)} of {len(documents)} documents are not manifests and are skipped"
        reader.problems.append(Problem(Place(parsed.file), "", message, severity="note"))
    for document, other in zip(documents, foreign, strict=True):
        if other:
            reader.problems += [foreign_problem(document)] if rejected else []
        elif problems := header_problems(document):
            reader.problems += problems
        elif document.value["kind"] == TUNED_MODEL and overlay.evaluates(document):
            if not overlay.selects(document):
                reader.skip(document)
                continue
            patched, problems = overlay.effective(document)
            reader.add(patched, origin, problems)
            effective.setdefault(manifest_name(patched), patched)


def _skip_notes(skipped: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a note for each template of a manifest, and one for all other files that are skipped."""
    render = "render it and pass the output, as in `helm template CHART | reconcile plan -`"
    yield from (
        Problem(Place(file), "", "template, not a manifest: skipped", render, "note")
        for file, reason in skipped.items()
        if reason == TEMPLATE
    )
    others = [file for file, reason in skipped.items() if reason != TEMPLATE]
    if others:
        files = "files are" if len(others) > 1 else "file is"
        further = f": this one, {join_names(others[1:], _NAMED)}" if len(others) > 1 else ""
        message = f"{len(others)} YAML {files} skipped, without manifests{further}"
        yield Problem(Place(others[0]), "", message, severity="note")


def _origin(file: ManifestFile, root: ProjectRoot) -> Origin:
    return Origin(Path(os.path.relpath(file.path, root.folder)).as_posix(), file.path.parent)


def _read_stdin(stdin: TextIO | BinaryIO | None) -> bytes:
    if stdin is None:
        raise UsageError("stdin is not available", "pass files or directories")
    data = stdin.read()
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
