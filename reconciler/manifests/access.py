"""Read ``spec.access``: who is granted which role on a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from reconciler.domain.access import EVERYONE, Grant, Grantee, GranteeKind
from reconciler.domain.errors import Problem, Severity
from reconciler.manifests.datasets.declarations import LoadContext
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import has_problem
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted

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
