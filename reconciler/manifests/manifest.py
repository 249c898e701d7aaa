"""Read manifests from documents, with their ``access``, and check the references between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.access import EVERYONE, Grant, Grantee, GranteeKind
from reconciler.domain.errors import Place, Problem, Severity
from reconciler.domain.identity import canonical_value
from reconciler.domain.lock import format_time
from reconciler.domain.model import (
    MUTABLE_FIELDS,
    Capabilities,
    Dataset,
    FieldPlace,
    HyperparameterValue,
    Lifecycle,
    Manifest,
    Source,
    Suspension,
    with_value,
)
from reconciler.domain.text import invalid, shorten, suggest
from reconciler.manifests.checks import HeldOut, read_checks
from reconciler.manifests.datasets.declarations import (
    TRAINING,
    VALIDATION,
    LoadContext,
    Origin,
    Reading,
    read_training,
    read_validation,
)
from reconciler.manifests.datasets.validation import DatasetSource
from reconciler.manifests.discovery import TUNED_MODEL
from reconciler.manifests.provider_fields import (
    block_of,
    duration,
    hyperparameters,
    incapabilities,
    mapping,
    source,
    tuned_further,
)
from reconciler.manifests.schema_validation import explain, has_problem
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted

_PARENT_FIELD = "spec.source.tunedModel"


class FormerName(Struct, frozen=True):
    """A former name of the manifest that is now called ``manifest``, and where it is declared."""

    name: str
    manifest: str
    place: Place
    path: str


class Parent(Struct, frozen=True):
    """The name of the manifest whose model is tuned further, and where it is declared."""

    name: str
    place: Place


class ReferenceFault(Struct, frozen=True):
    """An error in a reference, and the names of the manifests that cannot be used because of it."""

    names: frozenset[str]
    problem: Problem


def former_names(document: YamlDocument, found: Iterable[Problem]) -> Iterator[FormerName]:
    """Yield the former names of a document, except those with a problem in ``found``."""
    metadata = mapping(document.value.get("metadata"))
    name, names = metadata.get("name"), metadata.get("formerly")
    problems = tuple(found)
    if not isinstance(name, str) or not isinstance(names, list):
        return
    for index, former in enumerate(names):
        path: FieldPath = ("metadata", "formerly", index)
        if isinstance(former, str) and not has_problem(dotted(path), problems):
            yield FormerName(former, name, document.place(path), dotted(path))


def renaming_faults(formers: Iterable[FormerName], known: Mapping[str, Place]) -> Iterator[ReferenceFault]:
    """Yield the errors in former names, given the places of the current names of all manifests."""
    first_use: dict[str, FormerName] = {}
    for former in formers:
        shown = f'"{shorten(former.name)}"'
        first = first_use.setdefault(former.name, former)
        if former.name == former.manifest:
            yield _former_fault(former, f"former name {shown} is the current name", "remove it")
        elif former.name in known:
            message = f"former name {shown} is used by another manifest, at {known[former.name]}"
            yield _former_fault(former, message, "delete that manifest if it was renamed, else remove this line")
        elif first.manifest != former.manifest:
            message = f'former name {shown} is also declared by "{shorten(first.manifest)}", at {first.place}'
            yield _former_fault(former, message, "keep it in the manifest that was renamed")


def _former_fault(former: FormerName, message: str, remedy: str) -> ReferenceFault:
    return ReferenceFault(frozenset({former.manifest}), Problem(former.place, former.path, message, remedy))


def lineage_faults(
    parents: Mapping[str, Parent],
    known: Collection[str],
    *,
    complete: bool,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[ReferenceFault]:
    """Yield the errors in these parents, by the name of the child; each cycle is reported once.

    ``known`` are the names of all manifests that were read, with or without errors. Unless the root was read
    ``complete``, a parent that is not among them may exist. ``renamed`` has the current names by former ones.
    """
    for cycle in cycles({name: parent.name for name, parent in parents.items()}):
        message = f"cycle of sources: {' → '.join((*cycle, cycle[0]))}"
        remedy = "set baseModel, or another source, in one of these manifests"
        problem = Problem(parents[cycle[0]].place, _PARENT_FIELD, message, remedy)
        yield ReferenceFault(frozenset(cycle), problem)
    for name, parent in sorted(parents.items()) if complete else ():
        if parent.name not in known:
            candidates = [candidate for candidate in known if candidate != name]
            yield ReferenceFault(frozenset({name}), _unknown_parent(parent, candidates, renamed.get(parent.name, "")))


def cycles(parents: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield the cycles among names from child to parent, each starting with its first name in the alphabet."""
    visited: set[str] = set()
    for start in sorted(parents):
        path: dict[str, None] = {}
        name = start
        while name in parents and name not in visited and name not in path:
            path[name] = None
            name = parents[name]
        if name in path:
            names = list(path)
            cycle = names[names.index(name) :]
            first = cycle.index(min(cycle))
            yield (*cycle[first:], *cycle[:first])
        visited.update(path)


def _unknown_parent(parent: Parent, known: Collection[str], renamed: str) -> Problem:
    similar = f"did you mean {renamed}?" if renamed else suggest(parent.name, known)
    restore = "restore it, or set source: {remote: NAME} with the remote name from the lockfile"
    remedy = f"{similar} Otherwise {restore}" if similar else restore
    return Problem(parent.place, _PARENT_FIELD, f'no manifest is named "{shorten(parent.name)}"', remedy)


IsSelected = Callable[[str, Mapping[str, str]], bool]
"""Returns whether a run selects the manifest with this name and these labels."""


class Sources(Struct, frozen=True):
    """The sources of the examples of a manifest; ``None`` for data in Cloud Storage or without a data set.

    ``held_out`` has the data sets of checks, by the name of the check.
    """

    training: DatasetSource | None
    validation: DatasetSource | None
    held_out: Mapping[str, HeldOut]


class ManifestReader(Struct):
    """The manifests read so far, the sources of their examples by name, and all problems.

    ``unselected`` has the place of each present and former name of the manifests that the target does not select.
    Manifests that are not selected are read without the limits of the service and the target, because they need not be
    trainable there.
    """

    context: LoadContext
    is_selected: IsSelected
    manifests: list[Manifest] = []
    sources: dict[str, Sources] = {}
    problems: list[Problem] = []
    unselected: dict[str, Place] = {}
    _names: dict[str, Place] = {}
    _parents: dict[str, Parent] = {}
    _former_names: list[FormerName] = []

    def add(self, document: YamlDocument, origin: Origin, problems: Iterable[Problem] = ()) -> None:
        """Read a TunedModel document: as a manifest if it has no errors, else as problems.

        ``problems`` were found in it before.
        """
        context, known = self._context_of(document), list(problems)
        violations = [problem for problem in explain(document, TUNED_MODEL) if not has_problem(problem.path, known)]
        found = [*known, *violations, *self._duplicate_name(document)]
        if context.capabilities:
            reported = {problem.path for problem in found}
            unsupported = incapabilities(document, context.capabilities)
            found += [problem for problem in unsupported if problem.path not in reported]
        training = _training(document, origin, context, found)
        validation = _validation(document, origin, context, found)
        checks = read_checks(document, origin, context, training, found)
        access, access_problems = read_access(document, context, found)
        found += [*training.problems, *validation.problems, *checks.problems, *access_problems]
        found += _suspension_problems(document, found)
        self.problems += found
        self._add_parent(document, found)
        self._former_names += former_names(document, found)
        if training.dataset and not any(problem.severity == "error" for problem in found):
            # Also with the target's capabilities if the manifest is not selected, because base models are compared.
            tuned_from = source(document.value["spec"], self.context.capabilities)
            manifest = replace(
                _manifest(document, origin, tuned_from, training.dataset, context.capabilities),
                validation=validation.dataset,
                training_bytes=training.size,
                longest_example=training.longest,
                training_tokens=training.tokens,
                validation_bytes=validation.size,
                field_places=_field_places(document, self.context.capabilities),
                checks=checks.checks,
                access=access,
            )
            self.manifests.append(manifest)
            self.sources[manifest.name] = Sources(training.source, validation.source, checks.held_out)

    def skip(self, document: YamlDocument) -> None:
        """Note the names of a manifest that the target does not select; nothing else of it is read."""
        self.problems += self._duplicate_name(document)
        metadata = mapping(document.value.get("metadata"))
        formerly = metadata.get("formerly")
        for name in (metadata.get("name"), *(formerly if isinstance(formerly, list) else ())):
            if isinstance(name, str):
                self.unselected.setdefault(name, document.place(["metadata", "name"]))

    def _unselected_parents(self) -> Iterator[ReferenceFault]:
        for name, parent in sorted(self._parents.items()):
            if parent.name in self.unselected:
                message = f'the target does not select the manifest "{shorten(parent.name)}"'
                remedy = "change spec.selector of the target, or set source: {remote: NAME} with a remote name"
                yield ReferenceFault(frozenset({name}), Problem(parent.place, _PARENT_FIELD, message, remedy))

    def finish(self, *, complete: bool) -> None:
        """Check the references between all manifests; ``complete`` says whether the whole root was read."""
        renamed = {former.name: former.manifest for former in self._former_names}
        lineage = lineage_faults(self._parents, self._names, complete=complete, renamed=renamed)
        renaming = renaming_faults(self._former_names, self._names)
        for fault in (*lineage, *self._unselected_parents(), *renaming):
            self.problems.append(fault.problem)
            self.manifests = [manifest for manifest in self.manifests if manifest.name not in fault.names]

    def _add_parent(self, document: YamlDocument, found: Iterable[Problem]) -> None:
        spec, name = mapping(document.value.get("spec")), mapping(document.value.get("metadata")).get("name")
        parent = tuned_further(spec, self.context.capabilities).get("tunedModel")
        if isinstance(name, str) and isinstance(parent, str) and not has_problem("spec.source", found):
            self._parents.setdefault(name, Parent(parent, document.place(["spec", "source", "tunedModel"])))

    def _context_of(self, document: YamlDocument) -> LoadContext:
        metadata = mapping(document.value.get("metadata"))
        selected = self.is_selected(str(metadata.get("name")), mapping(metadata.get("labels")))
        return self.context if selected else replace(self.context, capabilities=None, public_access=True)

    def _duplicate_name(self, document: YamlDocument) -> Iterable[Problem]:
        name = mapping(document.value.get("metadata")).get("name")
        if not isinstance(name, str):
            return []
        path = ["metadata", "name"]
        place = document.place(path)
        first = self._names.setdefault(name, place)
        if first is place:
            return []
        message = f'duplicate name "{shorten(name)}" (first defined at {first})'
        return [Problem(place, dotted(path), message, "rename one of the manifests")]


def _training(document: YamlDocument, origin: Origin, context: LoadContext, found: Iterable[Problem]) -> Reading:
    spec = document.value.get("spec")
    if "dataset" not in mapping(spec) or has_problem(dotted(TRAINING), found):
        return Reading()
    return read_training(document, origin, context)


def _validation(document: YamlDocument, origin: Origin, context: LoadContext, found: Iterable[Problem]) -> Reading:
    service = context.capabilities
    block = block_of(mapping(document.value.get("spec")), service)
    if service is None or VALIDATION not in block or has_problem(f"spec.{service.block}.{VALIDATION}", found):
        return Reading()
    return read_validation(document, service.block, origin, context)


def _manifest(
    document: YamlDocument, origin: Origin, tuned_from: Source, dataset: Dataset, capabilities: Capabilities | None
) -> Manifest:
    metadata, spec = document.value["metadata"], document.value["spec"]
    declared, block = hyperparameters(spec, capabilities)[1], block_of(spec, capabilities)
    content_fields, settings_fields = (
        (capabilities.content_fields, capabilities.settings_fields) if capabilities else ((), ())
    )
    declared = {**declared, **{name: block[name] for name in content_fields if name in block}}
    manifest = Manifest(
        name=metadata["name"],
        file=origin.file,
        place=document.place(["metadata", "name"]),
        source=tuned_from,
        dataset=dataset,
        hyperparameters={name: _value(value) for name, value in declared.items()},
        labels=mapping(metadata.get("labels")),
        preamble=spec["dataset"].get("preamble", ""),
        lifecycle=_lifecycle(spec.get("lifecycle", {})),
        ignore_drift=frozenset(spec.get("ignoreDrift", ())),
        last_checkpoint_only=block.get("exportLastCheckpointOnly"),
        settings={name: block[name] for name in settings_fields if name in block},
        serve=str(mapping(spec.get("serve")).get("checkpoint", "")),
        formerly=tuple(metadata.get("formerly", ())),
        adopted=spec.get("adopted", ""),
    )
    for mutable_field in MUTABLE_FIELDS:
        value = reduce(lambda node, name: node.get(name, {}), mutable_field.name.split("."), spec)
        if value != {}:
            value = int(value) if mutable_field.is_integer else value
            manifest = with_value(manifest, mutable_field.attribute, value)
    return manifest


def _field_places(document: YamlDocument, capabilities: Capabilities | None) -> dict[str, FieldPlace]:
    """Return the places of the effective fields that a catalog of base models restricts."""
    spec = document.value["spec"]
    block, (path, declared) = block_of(spec, capabilities), hyperparameters(spec, capabilities)
    own: FieldPath = ("spec", capabilities.block) if capabilities else ("spec",)
    paths: dict[str, FieldPath] = {
        "baseModel": (*own, "baseModel") if "baseModel" in block else ("spec", "baseModel"),
        **{name: (*path, name) for name in declared},
        "dataset": TRAINING,
        VALIDATION: (*own, VALIDATION),
    }
    return {
        name: FieldPlace(document.place(path, key=True), dotted(path))
        for name, path in paths.items()
        if path[-1] in reduce(lambda node, step: mapping(node.get(step)), path[:-1], document.value)
    }


def _value(declared: Any) -> HyperparameterValue:
    """Return a declared hyperparameter; lists and truth values are texts, so that each value is one word."""
    if isinstance(declared, bool):
        return "true" if declared else "false"
    return canonical_value(",".join(declared) if isinstance(declared, list) else declared)


def _lifecycle(declared: dict[str, Any]) -> Lifecycle:
    return Lifecycle(
        protect=declared.get("protect", False),
        suspend=_suspension(declared.get("suspend")),
        retain=int(declared.get("retain", 2)),
        timeout=duration(declared.get("timeout")),
        on_failed_checks=declared.get("onFailedChecks", "hold"),
    )


def _suspension(declared: Any) -> Suspension | None:
    if not isinstance(declared, dict):
        return Suspension() if declared else None
    until = declared.get("until")
    return Suspension(format_time(_moment(until)) if until else "", declared.get("reason", ""))


def _moment(text: str) -> datetime:
    """Return a date, which is its beginning in UTC, or an RFC 3339 time; ``ValueError`` if there is none such."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _suspension_problems(document: YamlDocument, found: Sequence[Problem]) -> Iterator[Problem]:
    """Yield the problem of an end that has the form of a date and does not exist."""
    path: FieldPath = ("spec", "lifecycle", "suspend", "until")
    suspend = mapping(mapping(mapping(document.value.get("spec")).get("lifecycle")).get("suspend"))
    until = suspend.get("until")
    if not isinstance(until, str) or has_problem(dotted(path), found):
        return
    try:
        _moment(until)
    except ValueError:
        message = invalid(until, "a date or a time that exists")
        yield Problem(document.place(path), dotted(path), message, "fix the day, the month or the time")


ACCESS = "access"
"""The field of a manifest's spec."""
PROJECT_ACCESS = "projectAccess"
"""The feature of a service that grants access to projects."""
_GRANTEES: Mapping[str, GranteeKind] = {
    "user": "user",
    "group": "group",
    "everyone": "everyone",
    "projectNumber": "project",
}
"""The kind of grantee by the field that names it."""

GrantFinding = tuple[FieldPath, str, str, Severity]
"""The path of a field in the grant, the message, the remedy and the severity."""


class _DeclaredGrant(Struct, frozen=True):
    path: FieldPath
    field: str
    grant: Grant


def read_access(
    document: YamlDocument, context: LoadContext, found: Sequence[Problem]
) -> tuple[tuple[Grant, ...] | None, tuple[Problem, ...]]:
    """Return the grants without a problem in ``found``, and their own problems; ``None`` if none are declared."""
    declared, field = mapping(document.value.get("spec")).get(ACCESS), dotted(["spec", ACCESS])
    if not isinstance(declared, list) or any(problem.path == field for problem in found):
        return None, ()
    grants = list(_valid_grants(declared, found))
    problems = [*_duplicate_grantees(document, grants)]
    for declaration in grants:
        for rule in _RULES:
            for path, message, remedy, severity in rule(declaration.grant, context):
                full_path = [*declaration.path, *path]
                problems.append(Problem(document.place(full_path), dotted(full_path), message, remedy, severity))
    return tuple(declaration.grant for declaration in grants), tuple(problems)


def _valid_grants(declared: Sequence[Mapping[str, Any]], found: Sequence[Problem]) -> Iterator[_DeclaredGrant]:
    for index, value in enumerate(declared):
        path: FieldPath = ["spec", ACCESS, index]
        if not has_problem(dotted(path), found):
            field = next(name for name in _GRANTEES if name in value)
            grantee = EVERYONE if value[field] is True else Grantee(_GRANTEES[field], value[field].lower())
            yield _DeclaredGrant(path, field, Grant(grantee, value["role"]))


def _duplicate_grantees(document: YamlDocument, grants: Sequence[_DeclaredGrant]) -> Iterator[Problem]:
    first_grants: dict[Grantee, _DeclaredGrant] = {}
    for declaration in grants:
        grantee = declaration.grant.grantee
        first = first_grants.setdefault(grantee, declaration)
        if first is not declaration:
            path = [*declaration.path, declaration.field]
            place = document.place([*first.path, first.field], key=True)
            message = f"duplicate grant to {grantee} (first defined at {place})"
            yield Problem(document.place(path, key=True), dotted(path), message, "keep one of them")


def _project(grant: Grant, context: LoadContext) -> Iterator[GrantFinding]:
    service = context.capabilities
    if grant.grantee.kind != "project":
        return
    if service and PROJECT_ACCESS not in service.features:
        message = f"access for projects is not supported by {service.label}"
        yield ["projectNumber"], message, "remove it, or set apiVersion: v1beta in the target", "error"
    elif grant.role != "reader":
        yield ["role"], f'invalid role "{grant.role}" for a project: expected reader', "set reader", "error"


def _everyone(grant: Grant, context: LoadContext) -> Iterator[GrantFinding]:
    if grant.grantee != EVERYONE:
        return
    if not context.public_access:
        message = "the target forbids access for everyone (policy.publicAccess)"
        yield ["everyone"], message, "grant the role to users or groups", "error"
    elif grant.role == "reader":
        remedy = "grant the role to users or groups if this is not intended"
        yield ["everyone"], "everyone can use the model", remedy, "warning"
    else:
        yield ["everyone"], "everyone can change and share the model", "set role: reader", "warning"


_RULES: tuple[Callable[[Grant, LoadContext], Iterator[GrantFinding]], ...] = (_project, _everyone)
