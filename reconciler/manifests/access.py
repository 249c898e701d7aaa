"""Who may use a model, as a manifest declares it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.domain.access import EVERYONE, Grant, Grantee, GranteeKind
from reconciler.domain.errors import Problem, Severity
from reconciler.manifests.datasets.declarations import LoadContext
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import is_told
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted

ACCESS = "access"
"""The field of a manifest's spec."""
PROJECT_ACCESS = "projectAccess"
"""The feature of a service that lets whole projects read a model."""
_GRANTEES: Mapping[str, GranteeKind] = {
    "user": "user",
    "group": "group",
    "everyone": "everyone",
    "projectNumber": "project",
}
"""The fields that say who is meant."""

Finding = tuple[FieldPath, str, str, Severity]
"""The path of a field, from the grant on; what is wrong with it; what to do; and how bad that is."""


@dataclass(frozen=True, slots=True)
class _Declared:
    """One grant as it stands in a document."""

    path: FieldPath
    field: str
    grant: Grant


def read_access(
    document: Document, surroundings: LoadContext, found: Sequence[Problem]
) -> tuple[tuple[Grant, ...] | None, tuple[Problem, ...]]:
    """The grants that fit their schema, as ``found`` tells, and what is wrong; ``None`` where none are declared."""
    declared, field = mapping(document.value.get("spec")).get(ACCESS), dotted(["spec", ACCESS])
    if not isinstance(declared, list) or any(problem.path == field for problem in found):
        return None, ()
    grants = list(_readable(declared, found))
    problems = [*_repeated(document, grants)]
    for one in grants:
        for rule in _RULES:
            for path, message, remedy, severity in rule(one.grant, surroundings):
                where = [*one.path, *path]
                problems.append(Problem(document.place(where), dotted(where), message, remedy, severity))
    return tuple(one.grant for one in grants), tuple(problems)


def _readable(declared: Sequence[Mapping[str, Any]], found: Sequence[Problem]) -> Iterator[_Declared]:
    for index, value in enumerate(declared):
        path: FieldPath = ["spec", ACCESS, index]
        if not is_told(dotted(path), found):
            field = next(name for name in _GRANTEES if name in value)
            grantee = EVERYONE if value[field] is True else Grantee(_GRANTEES[field], value[field].lower())
            yield _Declared(path, field, Grant(grantee, value["role"]))


def _repeated(document: Document, grants: Sequence[_Declared]) -> Iterator[Problem]:
    first: dict[Grantee, _Declared] = {}
    for one in grants:
        before = first.setdefault(one.grant.grantee, one)
        if before is not one:
            path = [*one.path, one.field]
            place = document.place([*before.path, before.field], key=True)
            message = f"{one.grant.grantee} has a role already, at {place}"
            yield Problem(document.place(path, key=True), dotted(path), message, "keep one of them")


def _project(grant: Grant, surroundings: LoadContext) -> Iterator[Finding]:
    able = surroundings.capabilities
    if grant.grantee.kind != "project":
        return
    if able and PROJECT_ACCESS not in able.features:
        message = f"is not supported with {able.label}, which shares with no whole projects"
        yield ["projectNumber"], message, "delete it, or set apiVersion: v1beta in the target", "error"
    elif grant.role != "reader":
        yield ["role"], "a project may be a reader alone", "write reader", "error"


def _everyone(grant: Grant, surroundings: LoadContext) -> Iterator[Finding]:
    if grant.grantee != EVERYONE:
        return
    if not surroundings.public_access:
        message = "the target forbids models that everyone may use, by policy.publicAccess"
        yield ["everyone"], message, "name users and groups", "error"
    elif grant.role == "reader":
        yield ["everyone"], "everyone may use the model", "name users and groups if that is not meant", "warning"
    else:
        yield ["everyone"], "everyone may change the model and share it", "write role: reader", "warning"


_RULES: tuple[Callable[[Grant, LoadContext], Iterator[Finding]], ...] = (_project, _everyone)
