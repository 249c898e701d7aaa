"""What a target file says."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reconciler.domain.errors import Place, Problem, ReconcileError
from reconciler.domain.lock import OWNER_FIELDS
from reconciler.domain.model import REMOTE_SCHEME, Limits, Target
from reconciler.domain.text import shorten
from reconciler.manifests.discovery import EMBEDDED, TARGET, Root, misfits, read, target_files, target_name
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import Finding, explain, target_validator
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted
from reconciler.paths import find_place, repository_of
from reconciler.providers.registry import provider_spec
from reconciler.providers.spec import ProviderSpec

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_ALLOWED = re.compile(r"RECONCILE_VAR_[A-Za-z0-9_]+")


def expand(document: Document, environ: Mapping[str, str]) -> tuple[Document, list[Problem]]:
    """The document with its references replaced, and a problem for each that cannot be."""
    expansion = _Expansion(document, environ)
    return replace(document, value=expansion.value(document.value, [])), expansion.problems


@dataclass(frozen=True, slots=True)
class _Expansion:
    document: Document
    environ: Mapping[str, str]
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def value(self, value: Any, path: FieldPath) -> Any:
        if isinstance(value, dict):
            return {name: self.value(part, [*path, name]) for name, part in value.items()}
        return self._text(value, path) if isinstance(value, str) else value

    def _text(self, text: str, path: FieldPath) -> str:
        for name in dict.fromkeys(_REFERENCE.findall(text)):
            if not _ALLOWED.fullmatch(name):
                remedy = "name a variable RECONCILE_VAR_…, or write the value out"
                self._report(path, f"${{{shorten(name)}}} is not expanded", remedy)
            elif name not in self.environ:
                self._report(path, f"the variable {shorten(name)} is not set", "set it, or write the value out")
        return _REFERENCE.sub(
            lambda found: self.environ.get(found[1], found[0]) if _is_allowed(found) else found[0], text
        )

    def _report(self, path: FieldPath, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.document.place(path), dotted(path), message, remedy))


def _is_allowed(found: re.Match[str]) -> bool:
    return _ALLOWED.fullmatch(found[1]) is not None


FieldFinding = tuple[str, str]
"""What is wrong, and what to do."""

# As that of a lockfile in a bucket, in the schema.
_OBJECT = re.compile(
    r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._=+-]*)*/[A-Za-z0-9_][A-Za-z0-9._=+-]*\.json"
)
_LOCKFILE = re.compile(r"reconcile(\.[^.]+)?\.lock\.json")
_OTHERS_FOLDERS = frozenset({".git", ".reconcile"})
_OWN_NAME = "give it a name of its own, as in serving.json"


def publish_faults(spec: Mapping[str, Any], folder: Path) -> Iterator[FieldFinding]:
    """Everything that is wrong with ``publish`` in a target file in this folder; the spec may break its schema."""
    publish = spec.get("publish")
    if not isinstance(publish, str) or not publish:
        return
    if publish.startswith(REMOTE_SCHEME):
        yield from _object_faults(publish, spec)
    else:
        yield from _file_faults(publish, folder)


def _object_faults(publish: str, spec: Mapping[str, Any]) -> Iterator[FieldFinding]:
    if not _OBJECT.fullmatch(publish):
        yield "is no address of a JSON object in Cloud Storage", "write gs://BUCKET/NAME.json, or the path of a file"
    elif publish == spec.get("lock"):
        yield "is the lockfile of this target", _OWN_NAME


def _file_faults(publish: str, folder: Path) -> Iterator[FieldFinding]:
    shown, repository = shorten(publish), repository_of(folder)
    try:
        path = find_place(publish, folder, repository)
    except ReconcileError as error:
        yield error.message, error.remedy
        return
    if path.suffix != ".json":
        yield f"{shown} is not named like the JSON file that it becomes", "write NAME.json"
    elif _OTHERS_FOLDERS.intersection(path.relative_to(repository).parts):
        yield f"{shown} is in a folder of git or of reconcile itself", "write it elsewhere"
    elif _LOCKFILE.fullmatch(path.name):
        yield f"{shown} is the name of a lockfile", _OWN_NAME


_LIMITS = {
    "maxCreates": "max_creates",
    "maxSteps": "max_steps",
    "maxDeletePercent": "max_delete_percent",
    "concurrency": "concurrency",
    "requestsPerMinute": "requests_per_minute",
}


_TEXTS = {
    "project": "project",
    "location": "location",
    "apiVersion": "api_version",
    "endpoint": "endpoint",
    "bucket": "bucket",
    "lock": "lock",
}


@dataclass(frozen=True, slots=True)
class ReadTarget:
    """A target and what is wrong with it; there is no target when something is wrong with its file."""

    target: Target | None
    problems: tuple[Problem, ...]


def read_target(root: Root, shown: str, environ: Mapping[str, str]) -> ReadTarget:
    """The target of a root; ``shown`` is its file's name in places, ``environ`` holds the variables it may name."""
    if root.file is None:
        return ReadTarget(Target(name=EMBEDDED, file="the built-in target", provider=EMBEDDED, scope="local"), ())
    document, problems = _document(root.file, shown)
    if document is None:
        return ReadTarget(None, tuple(problems))
    document, unset = expand(document, environ)
    provider, unknown = _provider_of(document)
    schema = target_validator(provider) if provider else None
    for found in (unset, unknown, explain(document, TARGET, schema), _against_the_rules(document, root.file, provider)):
        reported = {problem.path for problem in problems}
        problems += [problem for problem in found if problem.path not in reported]
    if provider is None or problems:
        return ReadTarget(None, tuple(problems))
    return ReadTarget(_target(document), tuple(_rivals(document, root.file, environ)))


def _provider_of(document: Document) -> tuple[ProviderSpec | None, list[Problem]]:
    """Return the provider that a target names; without it, an error unless the schema finds one."""
    name = _spec(document).get("provider")
    if not isinstance(name, str):
        return None, []
    try:
        return provider_spec(name), []
    except ReconcileError as error:
        path = ["spec", "provider"]
        return None, [Problem(document.place(path), dotted(path), error.message, error.remedy)]


def _against_the_rules(document: Document, file: Path, provider: ProviderSpec | None) -> list[Problem]:
    """What no schema can say; the document may break its schema."""
    found = [finding for rule in _RULES for finding in rule(document, file)]
    if provider:
        found += _provider_findings(_spec(document), file, provider)
    return [Problem(document.place(path), dotted(path), message, remedy) for path, message, remedy in found]


def _provider_findings(spec: Mapping[str, Any], file: Path, provider: ProviderSpec) -> Iterator[Finding]:
    for field, remedy in provider.required_fields.items():
        if field not in spec:
            yield ["spec", field], f"is missing, which provider {provider.name} needs", remedy
    for field, reason in provider.unused_fields.items():
        if field in spec:
            yield ["spec", field], f"means nothing with provider {provider.name}: {reason}", "delete it"
    for path, message, remedy in provider.check_target(spec, file.parent):
        yield list(path), message, remedy


def _document(file: Path, shown: str) -> tuple[Document | None, list[Problem]]:
    parsed = read(file, shown, repository_of(file.parent))
    problems = list(parsed.problems)
    if not problems and not parsed.documents:
        problems.append(Problem(Place(shown), "", "holds no Target", "write one, or run `reconcile init` elsewhere"))
    for document in parsed.documents[1:]:
        message = "a target file holds one document, the Target"
        problems.append(Problem(document.place([]), "", message, "move this one to a file of its own"))
    first = parsed.documents[0] if parsed.documents else None
    if first and (wrong := misfits(first)):
        return None, problems + wrong
    if first and first.value["kind"] != TARGET:
        message = f"is {first.value['kind']}, where a target file holds a Target"
        return None, [*problems, Problem(first.place(["kind"]), "kind", message, "rename the file")]
    return first, problems


def _name(document: Document, file: Path) -> Iterator[Finding]:
    wanted, name = target_name(file), mapping(document.value.get("metadata")).get("name")
    if isinstance(name, str) and name != wanted:
        message = f"is {name}, where the file's name makes it {wanted}"
        yield ["metadata", "name"], message, f"write {wanted}, or rename the file"


def _spec(document: Document) -> Mapping[str, Any]:
    return mapping(document.value.get("spec"))


def _endpoints(document: Document, _file: Path) -> Iterator[Finding]:
    for field in ("endpoint", "storageEndpoint"):
        endpoint = _spec(document).get(field)
        if isinstance(endpoint, str) and not _is_safe(endpoint):
            yield (
                ["spec", field],
                "is no address that may be used",
                "use https://HOST, or http:// on a loopback address, and nothing after it",
            )


def _is_safe(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        return False
    bare = parts.username is None and parts.password is None and not (parts.path.strip("/") or "?" in endpoint)
    plain = endpoint.isascii() and endpoint.isprintable() and " " not in endpoint and "#" not in endpoint
    return (
        bare and plain and bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _publish(document: Document, file: Path) -> Iterator[Finding]:
    for message, remedy in publish_faults(_spec(document), file.parent):
        yield ["spec", "publish"], message, remedy


def _target(document: Document) -> Target:
    spec: Mapping[str, Any] = document.value["spec"]
    policy = spec.get("policy", {})
    return Target(
        name=document.value["metadata"]["name"],
        file=document.file,
        provider=spec["provider"],
        scope=spec["scope"],
        limits=Limits(**{_LIMITS[name]: int(value) for name, value in spec.get("limits", {}).items()}),
        storage_endpoint=_storage_endpoint(spec),
        publish=spec.get("publish", ""),
        public_access=policy.get("publicAccess", "allow") == "allow",
        show_examples=policy.get("showExamples", True),
        settings=spec.get(spec["provider"], {}),
        **{_TEXTS[name]: spec[name].rstrip("/") for name in _TEXTS if name in spec},
    )


def _storage_endpoint(spec: Mapping[str, Any]) -> str:
    """What is declared, or the service's own address on a loopback: an emulator of one is one of the other."""
    endpoint: str = spec.get("endpoint", "")
    default = endpoint if _is_loopback(urlsplit(endpoint).hostname or "") else ""
    return str(spec.get("storageEndpoint", default)).rstrip("/")


def _rivals(document: Document, file: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Other targets of the root for the same models, or that keep records in the same place: they would contradict."""
    ours: Mapping[str, Any] = document.value["spec"]
    for other in target_files(file.parent):
        if other.name == file.name:
            continue
        rival, problems = _document(other, other.name)
        if rival is None or problems:
            continue
        spec = expand(rival, environ)[0].value.get("spec")
        if not isinstance(spec, dict):
            continue
        for field, does, remedy in rivalries(ours, spec, file.parent):
            path = ["spec", field]
            yield Problem(document.place(path), dotted(path), f"the target in {other.name} {does}", remedy)


_RULES: tuple[Callable[[Document, Path], Iterator[Finding]], ...] = (
    _name,
    _endpoints,
    _publish,
)


def rivalries(ours: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str, str]]:
    """The field of our spec, what the other target does about the same thing, and what to do; theirs may be wrong."""
    lock, their_lock = ours.get("lock"), theirs.get("lock")
    publish, they_publish = _real_destination(ours, folder), _real_destination(theirs, folder)
    if all(ours.get(name) == theirs.get(name) for name in OWNER_FIELDS):
        yield "scope", "has the same provider, project, location and scope", "give each a scope of its own"
    if lock and lock == their_lock:
        yield "lock", "has the same lockfile", "give each a lockfile of its own"
    if lock and lock == they_publish:
        yield "lock", "publishes what serves there", "give each a name of its own"
    if publish and publish == they_publish:
        yield "publish", "publishes what serves there too", "give each a name of its own"
    if publish and publish == their_lock:
        yield "publish", "keeps its lockfile there", "give each a name of its own"


def _real_destination(spec: Mapping[str, Any], folder: Path) -> str:
    publish = published_at(spec, folder)
    return publish if publish.startswith(REMOTE_SCHEME) else publish and os.path.realpath(publish)


def published_at(spec: Mapping[str, Any], folder: Path) -> str:
    """The absolute path of the file, or the address of the object; empty where there is none. The spec may be wrong."""
    publish = spec.get("publish")
    if not isinstance(publish, str) or not publish or "\0" in publish:
        return ""
    return publish if publish.startswith(REMOTE_SCHEME) else str(folder / publish)
