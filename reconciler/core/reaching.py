"""What somebody may do with a model, as far as its permissions tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from reconciler.core.access import EVERYONE, Permission, Role

_RANK: Final[dict[Role, int]] = {"reader": 1, "writer": 2, "owner": 3}
_UNKNOWABLE: Final = frozenset({"group", "project"})
"""Grantees whose members a service does not tell."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What an address may do with one model.

    ``certain`` is the permission that gives it most, ``None`` where none does. ``perhaps`` are those that would give it
    more, were it a member.
    """

    certain: Permission | None
    perhaps: tuple[Permission, ...]


def reached(permissions: Iterable[Permission], address: str) -> Reached:
    """What an e-mail address, in lower case, may do; of a group it is what all its members may."""
    everything = sorted(permissions, key=lambda one: (-_RANK[one.role], one.grantee == EVERYONE, one.grantee))
    certain = next((one for one in everything if _includes(one, address)), None)
    known = _RANK[certain.role] if certain else 0
    perhaps = tuple(
        one
        for one in everything
        if one.grantee.kind in _UNKNOWABLE and one.grantee.who != address and _RANK[one.role] > known
    )
    return Reached(certain, perhaps)


def _includes(permission: Permission, address: str) -> bool:
    return permission.grantee == EVERYONE or permission.grantee.who == address
