"""Read and validate a target file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.checks import read_judge
from reconciler.domain.endpoints import is_host, is_loopback
from reconciler.domain.errors import InvalidInput, Place, Problem, ReconcileError, UsageError
from reconciler.domain.lock import OWNER_FIELDS
from reconciler.domain.model import REMOTE_SCHEME, Limits, Target
from reconciler.domain.money import parse_money
from reconciler.domain.text import invalid, shorten
from reconciler.manifests.discovery import (
    ALL_TARGETS,
    DEFAULT,
    EMBEDDED,
    STDIN,
    TARGET,
    Root,
    absolute,
    find_root,
    given_paths,
    header_problems,
    read,
    require_existing,
    target_file_name,
    target_files,
    target_name,
)
from reconciler.manifests.overlay import OVERLAY_FIELDS, Overlay, overlay_problems, read_overlay
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import Finding, explain, target_schema
from reconciler.manifests.stages import read_stages, stage_faults
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted
from reconciler.paths import find_writable, repository_of, require_inside
from reconciler.providers.registry import provider_spec, recorded_spec
from reconciler.providers.spec import ProviderSpec

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_ALLOWED = re.compile(r"RECONCILE_VAR_[A-Za-z0-9_]+")


def expand(document: YamlDocument, environ: Mapping[str, str]) -> tuple[YamlDocument, list[Problem]]:
    """Return the document with variables replaced by their values, and a problem for each that cannot be replaced."""
    expansion = _Expansion(document, environ)
    return replace(document, value=expansion.value(document.value, [])), expansion.problems


class _Expansion(Struct, frozen=True):
    document: YamlDocument
    environ: Mapping[str, str]
    problems: list[Problem] = []

    def value(self, value: Any, path: FieldPath) -> Any:
        if list(path[:1]) == ["spec"] and path[1:] and path[1] in OVERLAY_FIELDS:
            return value  # what manifests declare does not depend on the environment
        if isinstance(value, dict):
            return {name: self.value(part, [*path, name]) for name, part in value.items()}
        return self._text(value, path) if isinstance(value, str) else value

    def _text(self, text: str, path: FieldPath) -> str:
        for name in dict.fromkeys(_REFERENCE.findall(text)):
            if not _ALLOWED.fullmatch(name):
                remedy = "use a variable whose name starts with RECONCILE_VAR_, or write the value out"
                self._report(path, f"unsupported variable ${{{shorten(name)}}}", remedy)
            elif name not in self.environ:
                self._report(path, f"variable {shorten(name)} is not set", "set it, or write the value out")
        return _REFERENCE.sub(
            lambda found: self.environ.get(found[1], found[0]) if _is_allowed(found) else found[0], text
        )

    def _report(self, path: FieldPath, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.document.place(path), dotted(path), message, remedy))


def _is_allowed(found: re.Match[str]) -> bool:
    return _ALLOWED.fullmatch(found[1]) is not None


FieldFinding = tuple[str, str]
"""The message and the remedy."""

# The same pattern as for spec.lock in the schema.
_OBJECT = re.compile(
    r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._=+-]*)*/[A-Za-z0-9_][A-Za-z0-9._=+-]*\.json"
)
_LOCKFILE = re.compile(r"reconcile(\.[^.]+)?\.lock\.json")
_RESERVED_DIRECTORIES = frozenset({".git", ".reconcile"})
_OWN_NAME = "use another name, such as serving.json"


def publish_faults(publish: Any, lock: Any, folder: Path) -> Iterator[FieldFinding]:
    """Yield all errors in a ``publish`` of a target file in this directory; the values may violate their schema."""
    if not isinstance(publish, str) or not publish:
        return
    if publish.startswith(REMOTE_SCHEME):
        yield from _object_faults(publish, lock)
    else:
        yield from _file_faults(publish, folder)


def _object_faults(publish: str, lock: Any) -> Iterator[FieldFinding]:
    if not _OBJECT.fullmatch(publish):
        yield "invalid address of a JSON object in Cloud Storage", "set gs://BUCKET/NAME.json, or the path of a file"
    elif publish == lock:
        yield "same object as spec.lock", _OWN_NAME


def _file_faults(publish: str, folder: Path) -> Iterator[FieldFinding]:
    shown, repository = shorten(publish), repository_of(folder)
    try:
        path = find_writable(publish, folder, repository)
    except ReconcileError as error:
        yield error.message, error.remedy
        return
    if path.suffix != ".json":
        yield f"{shown}: expected a file name that ends in .json", "set NAME.json"
    elif _RESERVED_DIRECTORIES.intersection(path.relative_to(repository).parts):
        yield f"{shown}: directory is reserved for git or reconcile", "set a path outside of it"
    elif _LOCKFILE.fullmatch(path.name):
        yield f"{shown}: file name is reserved for lockfiles", _OWN_NAME


_LIMITS = {
    "maxCreates": "max_creates",
    "maxSteps": "max_steps",
    "maxDeletePercent": "max_delete_percent",
    "maxDeletes": "max_deletes",
    "concurrency": "concurrency",
    "requestsPerMinute": "requests_per_minute",
}


def _limits(declared: Mapping[str, Any]) -> Limits:
    numbers = {_LIMITS[name]: int(value) for name, value in declared.items() if name in _LIMITS}
    cost = declared.get("maxCost")
    return Limits(**numbers, max_cost=None if cost is None else parse_money(cost))


_TEXTS = {
    "project": "project",
    "location": "location",
    "servingLocation": "serving_location",
    "apiVersion": "api_version",
    "endpoint": "endpoint",
    "bucket": "bucket",
    "lock": "lock",
    "models": "models",
}


class ProjectRoot(Struct, frozen=True):
    """The root of the paths of a command, with its target and lockfile; no manifests are read for it.

    ``target`` is ``None`` if its file has errors. ``problems`` are those of the target and of paths in other roots;
    ``paths`` are the paths in this root. ``overlay`` has what the target changes in manifests.
    """

    folder: Path
    file: Path | None
    repository: Path
    lockfile: Path
    target: Target | None
    paths: tuple[str, ...]
    problems: tuple[Problem, ...]
    overlay: Overlay


def read_root(
    paths: Sequence[str],
    target: str | None,
    cwd: Path,
    environ: Mapping[str, str],
    *,
    installed: bool = True,
    stdin_folder: Path | None = None,
) -> ProjectRoot:
    """Read the root of these paths; the default is ``specs`` if it exists, else the working directory.

    Unless the provider must be ``installed``, the settings of one that is not are not checked. The root of standard
    input is that of ``stdin_folder``, by default ``cwd``.

    Raises:
        UsageError: if a path or the target does not exist.
        ReconcileError: if the lockfile is a link out of the repository.
    """
    given = given_paths(paths, cwd)
    require_existing(given, cwd)
    name = target or DEFAULT
    start = {STDIN: stdin_folder or cwd}
    root = find_root(given[0], name, start.get(given[0], cwd))
    repository = repository_of(root.folder)
    lockfile = (root.folder / target_file_name(name)).with_suffix(".lock.json")
    require_inside(lockfile, repository)
    found = read_target(root, _shown(root.file, given[0], cwd), environ, installed=installed)
    inside = tuple(path for path in given if path == given[0] or _belongs(path, root, name, start.get(path, cwd)))
    others = [_other_root(path, given[0], root) for path in given if path not in inside]
    return ProjectRoot(
        folder=root.folder,
        file=root.file,
        repository=repository,
        lockfile=lockfile,
        target=found.target,
        paths=inside,
        problems=(*found.problems, *others),
        overlay=found.overlay,
    )


def _shown(file: Path | None, given: str, cwd: Path) -> str:
    if file is None:
        return ""
    return str(file) if Path(given).is_absolute() else os.path.relpath(file, cwd)


def _other_root(path: str, first: str, root: Root) -> Problem:
    message = f"not in the root of {first}, {root.folder}"
    return Problem(Place(path), "", message, "run the command once for each root")


def _belongs(path: str, root: Root, name: str, cwd: Path) -> bool:
    if root.file is None:
        return path == STDIN or absolute(path, cwd).is_relative_to(root.folder)
    try:
        return find_root(path, name, cwd) == root
    except UsageError:
        return False


class ReadTarget(Struct, frozen=True):
    """A target, its problems and its overlay; the target is ``None`` if its file has errors."""

    target: Target | None
    problems: tuple[Problem, ...]
    overlay: Overlay


def read_target(root: Root, shown: str, environ: Mapping[str, str], *, installed: bool = True) -> ReadTarget:
    """Read the target of a root; ``shown`` is the file's path in messages, ``environ`` has the variables it may use.

    Unless the provider must be ``installed``, the settings of one that is not are not checked.
    """
    if root.file is None:
        return ReadTarget(
            Target(name=EMBEDDED, file="the built-in target", provider=EMBEDDED, scope="local"), (), Overlay()
        )
    document, problems = _document(root.file, shown)
    if document is None:
        return ReadTarget(None, tuple(problems), Overlay(valid=False))
    document, unset = expand(document, environ)
    provider, unknown = _provider_of(document, provider_spec if installed else recorded_spec)
    schema = target_schema(provider) if provider else None
    violations = explain(document, TARGET, schema)
    if unknown:  # the settings of a provider that is not installed are not read
        violations = [problem for problem in violations if problem.path != f"spec.{_spec(document)['provider']}"]
    rules = [*_rule_problems(document, root.file, provider), *_catalog_problems(document, root.file)]
    for found in (unset, unknown, overlay_problems(document), violations, rules):
        reported = {problem.path for problem in problems}
        problems += [problem for problem in found if problem.path not in reported]
    overlay = read_overlay(document, problems)
    stages, stage_problems = read_stages(document, problems)
    problems += stage_problems
    if provider is None or problems:
        return ReadTarget(None, tuple(problems), overlay)
    others = tuple(_target_conflicts(document, root.file, environ))
    return ReadTarget(replace(_target(document), stages=stages), others, overlay)


def _provider_of(
    document: YamlDocument, spec_of: Callable[[str], ProviderSpec]
) -> tuple[ProviderSpec | None, list[Problem]]:
    """Return the provider that a target names; without it, an error unless the schema finds one."""
    name = _spec(document).get("provider")
    if not isinstance(name, str):
        return None, []
    try:
        return spec_of(name), []
    except ReconcileError as error:
        path = ["spec", "provider"]
        return None, [Problem(document.place(path), dotted(path), error.message, error.remedy)]


def _rule_problems(document: YamlDocument, file: Path, provider: ProviderSpec | None) -> list[Problem]:
    """Return the errors that a schema cannot express; the document may violate its schema."""
    found = [finding for rule in _RULES for finding in rule(document, file)]
    if provider:
        found += _provider_findings(_spec(document), file, provider)
    return [Problem(document.place(path), dotted(path), message, remedy) for path, message, remedy in found]


def _catalog_problems(document: YamlDocument, file: Path) -> Iterator[Problem]:
    """Yield the errors in the catalog of base models that a target names, which is a file of the repository."""
    declared = _spec(document).get("models")
    if not isinstance(declared, str) or not declared:
        return
    from reconciler.providers.catalog import extended

    try:
        extended(ModelCatalog(), declared, file.parent, document.file)
    except InvalidInput as error:
        yield from error.problems
    except ReconcileError as error:
        path = ["spec", "models"]
        yield Problem(document.place(path), dotted(path), error.message, error.remedy)


def _provider_findings(spec: Mapping[str, Any], file: Path, provider: ProviderSpec) -> Iterator[Finding]:
    for field, remedy in provider.required_fields.items():
        if field not in spec:
            yield ["spec", field], f"missing field that provider {provider.name} requires", remedy
    for field, reason in provider.unused_fields.items():
        if field in spec:
            yield ["spec", field], f"not supported by provider {provider.name}: {reason}", "remove it"
    for path, message, remedy in provider.check_target(spec, file.parent):
        yield list(path), message, remedy


def _document(file: Path, shown: str) -> tuple[YamlDocument | None, list[Problem]]:
    parsed = read(file, shown, repository_of(file.parent))
    problems = list(parsed.problems)
    if not problems and not parsed.documents:
        problems.append(
            Problem(Place(shown), "", "contains no Target", "add one, or delete the file and run `reconcile init`")
        )
    for document in parsed.documents[1:]:
        message = "unexpected document: expected only the Target in this file"
        problems.append(Problem(document.place([]), "", message, "move this document to another file"))
    first = parsed.documents[0] if parsed.documents else None
    if first and (invalid_header := header_problems(first)):
        return None, problems + invalid_header
    if first and first.value["kind"] != TARGET:
        message = invalid(first.value["kind"], f"{TARGET} in a target file")
        return None, [*problems, Problem(first.place(["kind"]), "kind", message, "rename the file")]
    return first, problems


def _name(document: YamlDocument, file: Path) -> Iterator[Finding]:
    expected, name = target_name(file), mapping(document.value.get("metadata")).get("name")
    if isinstance(name, str) and name != expected:
        message = invalid(name, f"{expected}, as in the name of the file")
        yield ["metadata", "name"], message, f"set {expected}, or rename the file"
    elif name == ALL_TARGETS:
        message = f'reserved name "{ALL_TARGETS}": --target {ALL_TARGETS} selects every target'
        yield ["metadata", "name"], message, "rename the target and its file"


def _spec(document: YamlDocument) -> Mapping[str, Any]:
    return mapping(document.value.get("spec"))


def _endpoints(document: YamlDocument, _file: Path) -> Iterator[Finding]:
    for field in ("endpoint", "storageEndpoint"):
        endpoint = _spec(document).get(field)
        if isinstance(endpoint, str) and not _is_safe(endpoint):
            remedy = "set https://HOST, or http:// with a loopback address, without a path"
            yield ["spec", field], "unsupported address", remedy


def _is_safe(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return False
    bare = parts.username is None and parts.password is None and not (parts.path.strip("/") or "?" in endpoint)
    plain = endpoint.isascii() and endpoint.isprintable() and is_host(parts.netloc) and "#" not in endpoint
    return bare and plain and bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def _publish(document: YamlDocument, file: Path) -> Iterator[Finding]:
    lock = _spec(document).get("lock")
    for path, publish in _pointers(_spec(document)).items():
        for message, remedy in publish_faults(publish, lock, file.parent):
            yield ["spec", *path], message, remedy


def _stages(document: YamlDocument, file: Path) -> Iterator[Finding]:
    yield from stage_faults(_spec(document), file.parent)


def _target(document: YamlDocument) -> Target:
    spec: Mapping[str, Any] = document.value["spec"]
    policy = spec.get("policy", {})
    return Target(
        name=document.value["metadata"]["name"],
        file=document.file,
        provider=spec["provider"],
        scope=spec["scope"],
        limits=_limits(spec.get("limits", {})),
        storage_endpoint=_storage_endpoint(spec),
        publish=spec.get("publish", ""),
        public_access=policy.get("publicAccess", "allow") == "allow",
        show_examples=policy.get("showExamples", True),
        judge=read_judge(spec.get("judge")),
        settings=spec.get(spec["provider"], {}),
        **{_TEXTS[name]: spec[name].rstrip("/") for name in _TEXTS if name in spec},
    )


def _storage_endpoint(spec: Mapping[str, Any]) -> str:
    """Return the declared address, or that of the service if it is a loopback: an emulator serves both."""
    endpoint: str = spec.get("endpoint", "")
    default = endpoint if is_loopback(urlsplit(endpoint).hostname or "") else ""
    return str(spec.get("storageEndpoint", default)).rstrip("/")


def _target_conflicts(document: YamlDocument, file: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a problem for each other target of the root with the same models, lockfile or pointer."""
    for other_file in target_files(file.parent):
        if other_file.name == file.name:
            continue
        other, problems = _document(other_file, other_file.name)
        if other is None or problems:
            continue
        spec = expand(other, environ)[0].value.get("spec")
        if not isinstance(spec, dict):
            continue
        for field, message, remedy in conflicts(_spec(document), spec, file.parent):
            path = ["spec", *field]
            yield Problem(document.place(path), dotted(path), f"the target in {other_file.name} {message}", remedy)


_RULES: tuple[Callable[[YamlDocument, Path], Iterator[Finding]], ...] = (
    _name,
    _endpoints,
    _publish,
    _stages,
)


def conflicts(spec: Mapping[str, Any], other: Mapping[str, Any], directory: Path) -> Iterator[Finding]:
    """Yield the path in the spec, the message and the remedy of each conflict with another target, valid or not."""
    lock, other_lock = spec.get("lock"), other.get("lock")
    pointers, other_pointers = _real_destinations(spec, directory), _real_destinations(other, directory)
    if all(spec.get(name) == other.get(name) for name in OWNER_FIELDS):
        yield ["scope"], "has the same provider, project, location and scope", "set a different scope in each target"
    if lock and lock == other_lock:
        yield ["lock"], "has the same lockfile", "set a different lockfile in each target"
    if lock and lock in other_pointers.values():
        yield ["lock"], "publishes its pointer to this path", _DIFFERENT_PATHS
    for path, publish in pointers.items():
        if publish and publish in other_pointers.values():
            yield path, "publishes its pointer to this path too", _DIFFERENT_PATHS
        if publish and publish == other_lock:
            yield path, "has its lockfile at this path", _DIFFERENT_PATHS


_DIFFERENT_PATHS = "set a different path in each target"


def _real_destinations(spec: Mapping[str, Any], directory: Path) -> dict[tuple[str | int, ...], str]:
    """Return the real path or the gs:// address of each pointer, empty if missing or invalid, by its path."""
    found = {path: publish_destination(value, directory) for path, value in _pointers(spec).items()}
    return {
        path: value if value.startswith(REMOTE_SCHEME) else value and os.path.realpath(value)
        for path, value in found.items()
    }


def _pointers(spec: Mapping[str, Any]) -> dict[tuple[str | int, ...], Any]:
    """Return what is declared as the destination of each pointer by its path in a spec, which may be invalid."""
    stages = spec.get("stages")
    listed = enumerate(stages if isinstance(stages, list) else [])
    return {("publish",): spec.get("publish")} | {
        ("stages", index, "publish"): mapping(stage).get("publish") for index, stage in listed
    }


def publish_destination(publish: Any, directory: Path) -> str:
    """Return the absolute path or the gs:// address of a published pointer; empty if missing or invalid."""
    if not isinstance(publish, str) or not publish or "\0" in publish:
        return ""
    return publish if publish.startswith(REMOTE_SCHEME) else str(directory / publish)
