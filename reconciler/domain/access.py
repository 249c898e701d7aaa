"""Who may use a model: what is declared, what a service shows, and what turns the one into the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["reader", "writer", "owner"]
GranteeKind = Literal["user", "group", "everyone", "project"]


@dataclass(frozen=True, slots=True, order=True)
class Grantee:
    """Somebody: ``who`` is an e-mail address in lower case, the number of a project, or empty for everyone."""

    kind: GranteeKind
    identifier: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.identifier}" if self.identifier else self.kind


EVERYONE = Grantee("everyone")


@dataclass(frozen=True, slots=True)
class Grant:
    """A declared permission: ``reader`` or ``writer``; what is the owner's is never declared."""

    grantee: Grantee
    role: Role


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission as a service shows it; ``name`` is its resource name, empty for a project's."""

    grantee: Grantee
    role: Role
    name: str = ""


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What is to be done about one grantee: ``before`` is what there is, ``role`` what there should be."""

    grantee: Grantee
    before: Permission | None
    role: Role | None


def access_changes(declared: Iterable[Grant], live: Iterable[Permission]) -> tuple[AccessChange, ...]:
    """What makes the live permissions the declared ones, by grantee. The owner's is nobody's to change."""
    return tuple(sorted(_iterate_changes(declared, live), key=lambda change: change.grantee))


def apply_access_changes(live: Iterable[Permission], changes: Iterable[AccessChange]) -> tuple[Permission, ...]:
    """The permissions after these changes; those that are new have no name yet."""
    done = {change.grantee: change for change in changes}
    kept = tuple(one for one in live if one.grantee not in done)
    names = {grantee: change.before.name if change.before else "" for grantee, change in done.items()}
    set_now = (Permission(one.grantee, one.role, names[one.grantee]) for one in done.values() if one.role)
    return (*kept, *set_now)


def _iterate_changes(declared: Iterable[Grant], live: Iterable[Permission]) -> Iterator[AccessChange]:
    wanted = {grant.grantee: grant.role for grant in declared}
    there = {permission.grantee: permission for permission in live}
    for grantee in wanted.keys() | there.keys():
        before, role = there.get(grantee), wanted.get(grantee)
        if (before is None or before.role not in {"owner", role}) and (before or role):
            yield AccessChange(grantee, before, role)


_RANK: Final[dict[Role, int]] = {"reader": 1, "writer": 2, "owner": 3}
_UNKNOWABLE: Final = frozenset({"group", "project"})
"""Grantees whose members a service does not tell."""


@dataclass(frozen=True, slots=True)
class EffectiveAccess:
    """What an address may do with one model.

    ``certain`` is the permission that gives it most, ``None`` where none does. ``perhaps`` are those that would give it
    more, were it a member.
    """

    certain: Permission | None
    perhaps: tuple[Permission, ...]


def effective_access(permissions: Iterable[Permission], address: str) -> EffectiveAccess:
    """What an e-mail address, in lower case, may do; of a group it is what all its members may."""
    everything = sorted(permissions, key=lambda one: (-_RANK[one.role], one.grantee == EVERYONE, one.grantee))
    certain = next((one for one in everything if _includes(one, address)), None)
    known = _RANK[certain.role] if certain else 0
    perhaps = tuple(
        one
        for one in everything
        if one.grantee.kind in _UNKNOWABLE and one.grantee.identifier != address and _RANK[one.role] > known
    )
    return EffectiveAccess(certain, perhaps)


def _includes(permission: Permission, address: str) -> bool:
    return permission.grantee == EVERYONE or permission.grantee.identifier == address
