"""Who may use the tuned models of the Generative Language API: permissions, and the numbers of whole projects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from reconciler.domain.access import (
    AccessChange,
    Grant,
    Grantee,
    GranteeKind,
    Permission,
    Role,
    access_changes,
    apply_access_changes,
)
from reconciler.domain.errors import ServiceError
from reconciler.providers.google.errors import clean
from reconciler.providers.google.http import Call, Client, Json
from reconciler.providers.google.proto_json import list_all, resource_name, text

_PAGE_SIZE = "1000"  # the documented maximum; a server may answer with less
_FIELDS = "nextPageToken,permissions(name,granteeType,emailAddress,role)"
_PROJECTS = "readerProjectNumbers"

# Permission.GranteeType and Role, by name and number: google/ai/generativelanguage/v1beta/permission.proto.
_KINDS: Mapping[object, GranteeKind] = MappingProxyType(
    {"USER": "user", 1: "user", "GROUP": "group", 2: "group", "EVERYONE": "everyone", 3: "everyone"}
)
_ROLES: Mapping[object, Role] = MappingProxyType(
    {"OWNER": "owner", 1: "owner", "WRITER": "writer", 2: "writer", "READER": "reader", 3: "reader"}
)

# What which role may do stands in the same file: a writer can edit and share.
_READ_REMEDIES = MappingProxyType(
    {
        "PERMISSION_DENIED": "log in as its owner, or ask the owner for writer or owner permission on the tuned model",
        "NOT_FOUND": "the model is gone: run `reconcile apply`",
    }
)
_WRITE_REMEDIES = _READ_REMEDIES | {
    "NOT_FOUND": "the model is gone, or somebody else changes who may use it: run `reconcile apply` again"
}


class Sharing:
    """What one client sees and changes of who may use tuned models.

    Args:
        client: What is asked.
        path: Makes the path of a resource from its name; raises ServiceError for a name that reaches elsewhere.
        projects: Whether a model also names projects all of which may read it, as v1beta has it.
    """

    def __init__(self, client: Client, path: Callable[[str], str], *, projects: bool) -> None:
        self._client = client
        self._path = path
        self._projects = projects

    async def read(self, remote: str) -> tuple[Permission, ...]:
        """Every permission of a model. One of a kind or role that nobody knows here is left out, and so left alone."""
        return (*await self._listed(remote), *(await self._readers(remote) if self._projects else ()))

    async def _listed(self, remote: str) -> tuple[Permission, ...]:
        params = {"pageSize": _PAGE_SIZE, "fields": _FIELDS}
        call = Call("GET", f"{self._path(remote)}/permissions", params, remedies=_READ_REMEDIES)
        return await list_all(self._client, call, _read_page, lambda permission: permission.name)

    async def _readers(self, remote: str) -> tuple[Permission, ...]:
        call = Call("GET", self._path(remote), {"fields": _PROJECTS}, remedies=_READ_REMEDIES)
        return self._client.decode(call, _read_projects, await self._client.request(call))

    async def write(self, remote: str, live: tuple[Permission, ...], changes: Iterable[AccessChange]) -> None:
        """Make the changes; each is told as done also when it was done before. What is the owner's stays so.

        What is revoked goes first: an address that was a user's may now be a group's.
        """
        wanted = [change for change in changes if change.before is None or change.before.role != "owner"]
        for change in sorted(wanted, key=lambda change: change.role is not None):
            if change.grantee.kind != "project":
                await self._write(remote, change)
        projects = [change for change in wanted if change.grantee.kind == "project"]
        if projects:
            await self._write_readers(remote, apply_access_changes(live, projects))

    async def _write(self, remote: str, change: AccessChange) -> None:
        if change.before and change.role:
            await self._set_role(change.before, change.role)
        elif change.before:
            await self._revoke(change.before)
        elif change.role:
            await self._grant(remote, change.grantee, change.role)

    async def _grant(self, remote: str, grantee: Grantee, role: Role) -> None:
        """Create a permission; one that is there after all, by somebody else or by a lost request, is set."""
        remedies = _WRITE_REMEDIES | {
            "INVALID_ARGUMENT": f"correct {clean(str(grantee))} in spec.access of the manifest",
            "ALREADY_EXISTS": "run the command again",
        }
        body = _write_permission(grantee, role)
        try:
            await self._client.request(Call("POST", f"{self._path(remote)}/permissions", body=body, remedies=remedies))
        except ServiceError as error:
            if error.code != "ALREADY_EXISTS":
                raise
            there = [one for one in await self._listed(remote) if one.grantee == grantee]
            if not there:
                raise
            for late in access_changes([Grant(grantee, role)], there):
                await self._write(remote, late)

    async def _set_role(self, permission: Permission, role: Role) -> None:
        body = {"role": role.upper()}
        path = self._path(permission.name)
        await self._client.request(Call("PATCH", path, {"updateMask": "role"}, body, _WRITE_REMEDIES))

    async def _revoke(self, permission: Permission) -> None:
        try:
            await self._client.request(Call("DELETE", self._path(permission.name), remedies=_WRITE_REMEDIES))
        except ServiceError as error:
            if error.code != "NOT_FOUND":
                raise

    async def _write_readers(self, remote: str, wanted: Iterable[Permission]) -> None:
        """The list of projects has no parts that could be changed alone."""
        body: Json = {_PROJECTS: [one.grantee.identifier for one in wanted if one.grantee.kind == "project"]}
        call = Call("PATCH", self._path(remote), {"updateMask": _PROJECTS}, body, _WRITE_REMEDIES)
        await self._client.request(call)


def _read_page(body: Json) -> tuple[tuple[Permission, ...], str]:
    found = map(_read_permission, body.get("permissions") or ())
    return tuple(permission for permission in found if permission), text(body.get("nextPageToken"))


def _read_permission(body: Json) -> Permission | None:
    """A permission, or ``None`` where it says nothing that is known here."""
    name = resource_name(body["name"])
    kind, role = _KINDS.get(body.get("granteeType")), _ROLES.get(body.get("role"))
    who = "" if kind == "everyone" else text(body.get("emailAddress")).lower()
    if kind is None or role is None or not (who or kind == "everyone"):
        return None
    return Permission(Grantee(kind, who), role, name)


def _write_permission(grantee: Grantee, role: Role) -> Json:
    address = {"emailAddress": grantee.identifier} if grantee.identifier else {}
    return {"granteeType": grantee.kind.upper(), **address, "role": role.upper()}


def _read_projects(body: Json) -> tuple[Permission, ...]:
    """The projects that may read; what is no number spoils the list, because the list is written back whole."""
    return tuple(Permission(Grantee("project", str(int(number))), "reader") for number in body.get(_PROJECTS) or ())
