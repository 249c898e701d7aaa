"""Find the root of a path, the YAML files in it, the documents that belong to the API group, and select manifests."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from reconciler.domain.errors import Place, Problem, UsageError
from reconciler.domain.model import API_GROUP, API_VERSION, Manifest
from reconciler.domain.target_option import DEFAULT_TARGET
from reconciler.domain.text import invalid, join_names, kind_of, list_choices, quote, suggest, suggest_name
from reconciler.manifests.yaml_parser import Parsed, YamlDocument, parse, position
from reconciler.paths import as_on_disk, file_problem, repository_of

if TYPE_CHECKING:
    from reconciler.domain.labels import LabelRequirement

STDIN = "-"
_SPECS = "specs"
_WORKING_DIRECTORY = "the working directory"
"""What messages call the directory of manifests from stdin."""
DEFAULT = DEFAULT_TARGET
EMBEDDED = "embedded"
ALL_TARGETS = "all"
"""The value of ``--target`` that selects every target of the root; no target has this name."""
TUNED_MODEL = "TunedModel"
TARGET = "Target"
_KINDS = (TUNED_MODEL, TARGET)
_LISTS = frozenset({"List", f"{TUNED_MODEL}List", "ResourceList"})
"""The kinds of documents whose items are documents: those of kubectl, of the Kubernetes API and of kustomize."""
_SUFFIXES = frozenset({".yaml", ".yml"})
_TARGET_FILE = re.compile(r"reconcile(\.(?P<name>[^.]+))?\.yaml")
_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SIMILAR_GROUP = 0.85
"""How similar (difflib's ratio) another API group or kind must be to be reported as a typo."""
_TEMPLATE = re.compile(r"\{\{|\{%|<%")
"""The beginning of an expression of Helm, Jinja or ERB."""
TEMPLATE = "template"


class Root(Struct, frozen=True):
    """A root: its directory, and its target file, or ``None`` for the built-in target ``embedded``."""

    folder: Path
    file: Path | None


class ManifestFile(Struct, frozen=True):
    """A file to read, its path in messages, and whether it was named on the command line."""

    path: Path
    shown: str
    named: bool


def target_file_name(target: str) -> str:
    """Return the name of the file that describes this target."""
    return "reconcile.yaml" if target == DEFAULT else f"reconcile.{target}.yaml"


def target_name(file: Path) -> str | None:
    """Return the name of the target that this file describes; ``None`` if it is not a target file."""
    found = _TARGET_FILE.fullmatch(file.name)
    return (found["name"] or DEFAULT) if found else None


def target_files(directory: Path) -> list[Path]:
    """Return the target files in a directory, sorted."""
    return sorted(file for file in directory.glob("reconcile*.yaml") if target_name(file))


def absolute(path: str, cwd: Path) -> Path:
    """Return the absolute path without ``.`` and ``..``; symbolic links are not followed."""
    return Path(os.path.normpath(as_on_disk(cwd, path)))


def find_root(path: str, target: str, cwd: Path) -> Root:
    """Return the root of a path: the nearest directory at or above it with this target's file.

    The path ``-`` means the working directory. The target ``embedded`` needs no file; without one, the root is the
    directory of the path. Raises UsageError if there is no such target.
    """
    if not _TARGET_NAME.fullmatch(target):
        raise UsageError(f"invalid target name {quote(target)}", "use letters, digits, hyphens and underscores")
    start = cwd if path == STDIN else absolute(path, cwd)
    directory = start if start.is_dir() else start.parent
    for candidate in (directory, *directory.parents):
        file = candidate / target_file_name(target)
        if file.is_file():
            return Root(candidate, file)
    if target == EMBEDDED:
        return Root(directory, None)
    raise _target_not_found(target, _WORKING_DIRECTORY if path == STDIN else path, directory)


def given_paths(paths: Sequence[str], cwd: Path) -> tuple[str, ...]:
    """Return the paths that a command reads; the default is ``specs`` if it exists, else the working directory."""
    return tuple(paths) or (_SPECS if (cwd / _SPECS).is_dir() else ".",)


def find_targets(path: str, cwd: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the nearest directory at or above a path with target files, and the targets: the default one comes first.

    Raises UsageError if there is none.
    """
    start = cwd if path == STDIN else absolute(path, cwd)
    directory = start if start.is_dir() else start.parent
    for candidate in (directory, *directory.parents):
        names = [name for file in target_files(candidate) if (name := target_name(file)) and file.is_file()]
        if names:
            return candidate, tuple(sorted(names, key=lambda name: (name != DEFAULT, name)))
    shown = _WORKING_DIRECTORY if path == STDIN else path
    raise UsageError(f"no target in {shown} or a directory above it", "run `reconcile init` to create one")


def _target_not_found(target: str, shown: str, directory: Path) -> UsageError:
    parents = (directory, *directory.parents)
    known = next((names for parent in parents if (names := list(map(target_name, target_files(parent))))), [])
    message = f'target "{target}" not found: no {target_file_name(target)} in {shown} or a directory above it'
    if known and target == ALL_TARGETS:
        message = f"--target {ALL_TARGETS} is not supported here: this command works on one target at a time"
    if known:
        every = "; reconcile status --target all shows every target" if target == ALL_TARGETS else ""
        return UsageError(message, f"set --target to one of: {list_choices(target, filter(None, known))}{every}")
    remedy = "run `reconcile init` to create a target, or pass `--target embedded`"
    if shown == _WORKING_DIRECTORY:  # of manifests from stdin
        remedy = "pass `--root FOLDER` if the target is in FOLDER or above it, or " + remedy
    return UsageError(message, remedy)


class UnknownPathError(UsageError):
    """A path that does not exist."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: no such file or directory", "pass a manifest, or a directory with manifests")
        self.path = path


def require_existing(paths: Iterable[str], cwd: Path) -> None:
    """Raise UnknownPathError if a path does not exist."""
    for path in paths:
        if path != STDIN and not as_on_disk(cwd, path).exists():
            raise UnknownPathError(path)


def discover(paths: Iterable[str], cwd: Path, root_file: str) -> tuple[ManifestFile, ...]:
    """Return the YAML files at and below these paths, each once, in the order of the paths, sorted in directories.

    Below a path, target files and hidden files and directories are skipped, and also directories that contain a
    ``root_file``: they are roots themselves.
    """
    files: dict[Path, ManifestFile] = {}
    for given in paths:
        if given == STDIN:
            continue
        for file in _expand(given, absolute(given, cwd), root_file):
            key = Path(os.path.realpath(file.path))
            if file.named or key not in files:
                files[key] = file
    return tuple(files.values())


def covers_root(files: Iterable[ManifestFile], root: Path, root_file: str) -> bool:
    """Return whether no other file below a root mentions the API group, so that these files hold all manifests.

    A file that is not read, such as a link out of the repository, may be a manifest.
    """
    read = {os.path.realpath(file.path) for file in files}
    unread = (path for path in _walk(root, root_file) if os.path.realpath(path) not in read)
    repository = repository_of(root)
    return not any(file_problem(path, repository) or API_GROUP.encode() in path.read_bytes() for path in unread)


def _expand(given: str, path: Path, root_file: str) -> Iterator[ManifestFile]:
    if path.is_dir():
        for file in _walk(path, root_file):
            yield ManifestFile(file, str(Path(given) / file.relative_to(path)), named=False)
    else:
        yield ManifestFile(path, str(Path(given)), named=True)


def _walk(directory: Path, root_file: str) -> Iterator[Path]:
    pending = _visible(directory)
    while pending:
        path = pending.pop()
        if path.is_dir() and not path.is_symlink():
            if not (path / root_file).exists():
                pending += _visible(path)
        elif path.suffix in _SUFFIXES and target_name(path) is None:
            yield path


def _visible(directory: Path) -> list[Path]:
    """Return the paths in a directory that are not hidden, in reverse order."""
    return sorted((path for path in directory.iterdir() if not path.name.startswith(".")), reverse=True)


def read(path: Path, shown: str, repository: Path) -> Parsed:
    """Parse a file; a file that is unreadable or outside the repository has no documents and a problem."""
    readable = os.fsencode(shown).decode(errors="replace")
    if readable != shown:  # neither the lockfile nor JSON output can contain it
        problem = Problem(Place(readable), "", "the path of the file is not UTF-8 text", "rename the file or folder")
        return Parsed(readable, (), (problem,))
    try:
        found = file_problem(path, repository)
        if not found:
            return parse(path.read_bytes(), shown)
    except OSError as error:
        found = f"cannot read the file: {error.strerror}", "check its permissions"
    return Parsed(shown, (), (Problem(Place(shown), "", *found),))


def expand_lists(documents: Iterable[YamlDocument]) -> Iterator[YamlDocument]:
    """Yield the documents; the items of a list, as kubectl and kustomize write it, replace the list."""
    for document in documents:
        value = document.value
        if isinstance(value, dict) and value.get("kind") in _LISTS and isinstance(value.get("items"), list):
            yield from expand_lists(document.child(["items", index]) for index in range(len(value["items"])))
        else:
            yield document


def is_foreign(document: YamlDocument) -> bool:
    """Return whether a document is not meant for this project: neither its apiVersion nor its kind is close to one."""
    value = document.value
    if not isinstance(value, dict):
        return True
    group, version, _ = _string(document, "apiVersion").partition("/")
    if group == API_GROUP or difflib.get_close_matches(group, [API_GROUP], cutoff=_SIMILAR_GROUP):
        return False
    if version:
        return True
    kind = value.get("kind")
    if isinstance(kind, str):
        return not difflib.get_close_matches(kind, _KINDS, cutoff=_SIMILAR_GROUP)
    return "apiVersion" in value or not {"metadata", "spec"} <= value.keys()


def skip_reason(parsed: Parsed) -> str:
    """Return why a file in a directory is skipped; empty if it is, or should be, a file with manifests."""
    if is_template(parsed):
        return TEMPLATE
    if parsed.problems:
        mentions = parsed.text is None or any(word in parsed.text for word in (API_GROUP, TUNED_MODEL))
        return "" if mentions else "not a manifest"
    documents = list(expand_lists(parsed.documents))
    return "not a manifest" if documents and all(map(is_foreign, documents)) else ""


def is_template(parsed: Parsed) -> bool:
    """Return whether a file is the template of a manifest, such as of a Helm chart.

    The text of preambles and checks may contain braces: they count only where a manifest cannot have them.
    """
    text = parsed.text
    if text is None or not _TEMPLATE.search(text) or not (API_GROUP in text or TUNED_MODEL in text):
        return False
    return bool(parsed.problems) or any(map(_is_templated, expand_lists(parsed.documents)))


def _is_templated(document: YamlDocument) -> bool:
    if not isinstance(document.value, dict):
        return False
    spec = document.value.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    dataset = spec.get("dataset")
    path = dataset.get("path") if isinstance(dataset, dict) else None
    fixed = [document.value.get("apiVersion"), document.value.get("kind"), document.value.get("metadata"), path]
    fixed += [spec.get(field) for field in ("baseModel", "source", "hyperparameters", "lifecycle")]
    return bool(_TEMPLATE.search(repr(fixed)))


def template_problem(parsed: Parsed) -> Problem:
    """Return the problem with a template that was named on the command line."""
    found = _TEMPLATE.search(parsed.text or "")
    line, column = position((parsed.text or "")[: found.start()]) if found else (1, 1)
    remedy = "render it and pass the output, as in `helm template CHART | reconcile validate -`"
    return Problem(Place(parsed.file, line, column), "", "template, not a manifest", remedy)


_RENDER: Mapping[str, str] = {
    "kustomization": "pass its output, as in `kubectl kustomize FOLDER | reconcile validate -`",
    "chart": "pass its output, as in `helm template FOLDER | reconcile validate -`",
}
"""What to do with a file of another tool, by the name of the file without its ending."""


def foreign_problem(document: YamlDocument) -> Problem:
    """Return the problem with a document that is not meant for this project, in a file that was named."""
    remedy = _RENDER.get(Path(document.file).stem.lower(), "")
    if not isinstance(document.value, dict):
        # The text is not quoted, because the file may be anything, such as a link to credentials.
        message = f"invalid document: expected a mapping, not {kind_of(document.value)}"
        return Problem(document.place([]), "", message, remedy or f"start it with apiVersion: {API_VERSION}")
    if not (version := _string(document, "apiVersion")):
        start = f"pass only manifests, which have apiVersion: {API_VERSION} and kind: {TUNED_MODEL}"
        return Problem(document.place([]), "apiVersion", "missing required field", remedy or start)
    message = f"unsupported apiVersion {quote(version)}"
    remedy = remedy or f"pass only files whose documents have apiVersion: {API_VERSION}"
    return Problem(document.place(["apiVersion"]), "apiVersion", message, remedy)


def header_problems(document: YamlDocument) -> list[Problem]:
    """Return the errors in the apiVersion and kind of a document of the API group."""
    if not isinstance(document.value, dict):
        # The text is not quoted, because the file may be anything, such as a link to credentials.
        message = f"invalid document: expected a mapping, not {kind_of(document.value)}"
        return [Problem(document.place([]), "", message, f"start it with apiVersion: {API_VERSION}")]
    found = [_header_problem(document, "apiVersion", (API_VERSION,)), _header_problem(document, "kind", _KINDS)]
    return [problem for problem in found if problem]


def _header_problem(document: YamlDocument, field: str, allowed: tuple[str, ...]) -> Problem | None:
    value: Any = document.value.get(field)
    if field not in document.value:
        return Problem(document.place([]), field, "missing required field", f"add {field}: {allowed[0]}")
    if not isinstance(value, str):
        return Problem(document.place([field]), field, invalid(value, "a string"), f"set {allowed[0]}")
    if value not in allowed:
        return Problem(
            document.place([field]), field, f"unsupported {field} {quote(value)}", suggest_name(value, allowed)
        )
    return None


def _string(document: YamlDocument, field: str) -> str:
    value = document.value.get(field) if isinstance(document.value, dict) else None
    return value if isinstance(value, str) else ""


def manifest_name(document: YamlDocument) -> str:
    """Return the name of the tuned model that a document declares; empty if it declares none."""
    if not isinstance(document.value, dict) or is_foreign(document) or header_problems(document):
        return ""
    metadata = document.value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if document.value["kind"] == TUNED_MODEL and isinstance(name, str) else ""


class Selection(Struct, frozen=True):
    """Names and labels to select manifests by; an empty selection matches all of them.

    ``labels`` are conditions that must all be met; ``only`` are the names to keep, ``exclude`` those to drop.
    """

    labels: tuple[LabelRequirement, ...] = ()
    only: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    @property
    def selects_all(self) -> bool:
        """Whether it matches every manifest."""
        return self == Selection()

    def select(
        self, manifests: Sequence[Manifest], unselected: Mapping[str, Place] = MappingProxyType({})
    ) -> tuple[Manifest, ...]:
        """Return the selected manifests; ``unselected`` are the names that the target does not select.

        Raises:
            UsageError: when ``only`` or ``exclude`` have an unknown name, or no manifests match.
        """
        for option, names in (("--only", self.only), ("--exclude", self.exclude)):
            for name in sorted(names & unselected.keys()):
                message = f"{option} {name}: the target does not select this manifest"
                raise UsageError(message, "change spec.selector of the target, or name another target")
            check_names(option, names, manifests)
        chosen = tuple(manifest for manifest in manifests if self.matches(manifest.name, manifest.labels))
        if manifests and not chosen:
            raise UsageError("no manifests match", "check metadata.labels, --only and --exclude")
        return chosen

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a manifest with this name and these labels is selected."""
        return (
            all(requirement.matches(labels) for requirement in self.labels)
            and (not self.only or name in self.only)
            and name not in self.exclude
        )


def check_names(option: str, names: Iterable[str], manifests: Sequence[Manifest]) -> None:
    """Refuse unknown names; a misspelled name must not be ignored silently.

    Raises:
        UsageError: naming the nearest name, or all of them.
    """
    known = [manifest.name for manifest in manifests]
    for name in sorted(set(names) - set(known)):
        remedy = suggest(name, known, otherwise=f"the manifests are: {join_names(sorted(known))}")
        raise UsageError(f"{option} {name}: no manifest of that name", remedy)
