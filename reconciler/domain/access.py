"""Permissions of models: declared grants, live permissions, and the changes between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from msgspec import Struct

Role = Literal["reader", "writer", "owner"]
GranteeKind = Literal["user", "group", "everyone", "project"]


class Grantee(Struct, frozen=True, order=True):
    """A grantee; ``identifier`` is an email address in lower case, a project number, or empty for everyone."""

    kind: GranteeKind
    identifier: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.identifier}" if self.identifier else self.kind


EVERYONE = Grantee("everyone")


class Grant(Struct, frozen=True):
    """A declared permission: ``reader`` or ``writer``; the owner's is never declared."""

    grantee: Grantee
    role: Role


class Permission(Struct, frozen=True):
    """A live permission; ``name`` is its resource name, empty for a project's."""

    grantee: Grantee
    role: Role
    name: str = ""


class AccessChange(Struct, frozen=True):
    """A change for one grantee: ``before`` is the live permission, ``role`` the desired role."""

    grantee: Grantee
    before: Permission | None
    role: Role | None


def access_changes(declared: Iterable[Grant], live: Iterable[Permission]) -> tuple[AccessChange, ...]:
    """Return the changes that turn live permissions into the declared ones, by grantee, except for the owner."""
    return tuple(sorted(_iterate_changes(declared, live), key=lambda change: change.grantee))


def apply_access_changes(live: Iterable[Permission], changes: Iterable[AccessChange]) -> tuple[Permission, ...]:
    """Return the permissions after these changes; new ones have no name yet."""
    done = {change.grantee: change for change in changes}
    kept = tuple(permission for permission in live if permission.grantee not in done)
    names = {grantee: change.before.name if change.before else "" for grantee, change in done.items()}
    set_now = (
        Permission(change.grantee, change.role, names[change.grantee]) for change in done.values() if change.role
    )
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
"""Grantees whose members a service does not return."""


class EffectiveAccess(Struct, frozen=True):
    """What an address may do with one model.

    ``certain`` is the strongest permission that applies, or ``None``. ``perhaps`` are stronger permissions of groups
    and projects that the address may be a member of.
    """

    certain: Permission | None
    perhaps: tuple[Permission, ...]


def effective_access(permissions: Iterable[Permission], address: str) -> EffectiveAccess:
    """Return what an email address, in lower case, may do; for a group, what all its members may do."""
    strongest_first = sorted(permissions, key=lambda held: (-_RANK[held.role], held.grantee == EVERYONE, held.grantee))
    certain = next((permission for permission in strongest_first if _includes(permission, address)), None)
    known = _RANK[certain.role] if certain else 0
    perhaps = tuple(
        permission
        for permission in strongest_first
        if permission.grantee.kind in _UNKNOWABLE
        and permission.grantee.identifier != address
        and _RANK[permission.role] > known
    )
    return EffectiveAccess(certain, perhaps)


def _includes(permission: Permission, address: str) -> bool:
    return permission.grantee == EVERYONE or permission.grantee.identifier == address
