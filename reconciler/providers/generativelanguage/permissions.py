"""Access to the tuned models of the Generative Language API: permissions, and projects that may read."""

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
from reconciler.domain.text import sanitize
from reconciler.providers.generativelanguage.wire import READ_ACCESS_REMEDIES, WRITE_ACCESS_REMEDIES
from reconciler.providers.google.errors import read_name, read_text
from reconciler.providers.google.http import Client, HttpRequest, Json, list_all

_PAGE_SIZE = "1000"  # the documented maximum; a server may return fewer
_FIELDS = "nextPageToken,permissions(name,granteeType,emailAddress,role)"
_PROJECTS = "readerProjectNumbers"

# Permission.GranteeType and Role, by name and number: google/ai/generativelanguage/v1beta/permission.proto.
_KINDS: Mapping[object, GranteeKind] = MappingProxyType(
    {"USER": "user", 1: "user", "GROUP": "group", 2: "group", "EVERYONE": "everyone", 3: "everyone"}
)
_ROLES: Mapping[object, Role] = MappingProxyType(
    {"OWNER": "owner", 1: "owner", "WRITER": "writer", 2: "writer", "READER": "reader", 3: "reader"}
)


class PermissionClient:
    """Read and change the permissions of tuned models.

    Args:
        client: The client of the service.
        path: Returns the path of a resource by its name; raises ServiceError for a name outside the collection.
        projects: Whether a model also lists projects that may read it, as in v1beta.
    """

    def __init__(self, client: Client, path: Callable[[str], str], *, projects: bool) -> None:
        self._client = client
        self._path = path
        self._projects = projects

    async def read(self, remote: str) -> tuple[Permission, ...]:
        """Return every permission of a model; one of an unknown kind or role is omitted, and so never changed."""
        return (*await self._list(remote), *(await self._read_projects(remote) if self._projects else ()))

    async def _list(self, remote: str) -> tuple[Permission, ...]:
        params = {"pageSize": _PAGE_SIZE, "fields": _FIELDS}
        request = HttpRequest("GET", f"{self._path(remote)}/permissions", params, remedies=READ_ACCESS_REMEDIES)
        return await list_all(self._client, request, _read_page, lambda permission: permission.name)

    async def _read_projects(self, remote: str) -> tuple[Permission, ...]:
        request = HttpRequest("GET", self._path(remote), {"fields": _PROJECTS}, remedies=READ_ACCESS_REMEDIES)
        return await self._client.fetch(request, _read_projects)

    async def write(self, remote: str, live: tuple[Permission, ...], changes: Iterable[AccessChange]) -> None:
        """Make the changes, except those to owners; a change that was made before is not an error.

        Permissions are revoked first: a former user address may now belong to a group.
        """
        allowed = [change for change in changes if change.before is None or change.before.role != "owner"]
        for change in sorted(allowed, key=lambda change: change.role is not None):
            if change.grantee.kind != "project":
                await self._write(remote, change)
        projects = [change for change in allowed if change.grantee.kind == "project"]
        if projects:
            await self._write_projects(remote, apply_access_changes(live, projects))

    async def _write(self, remote: str, change: AccessChange) -> None:
        if change.before and change.role:
            path, body = self._path(change.before.name), {"role": change.role.upper()}
            await self._client.request(HttpRequest("PATCH", path, {"updateMask": "role"}, body, WRITE_ACCESS_REMEDIES))
        elif change.before:
            request = HttpRequest("DELETE", self._path(change.before.name), remedies=WRITE_ACCESS_REMEDIES)
            await self._client.find(request, dict)
        elif change.role:
            await self._grant(remote, change.grantee, change.role)

    async def _grant(self, remote: str, grantee: Grantee, role: Role) -> None:
        """Create a permission; change the role of one that another user or a lost request has created."""
        remedies = WRITE_ACCESS_REMEDIES | {
            "INVALID_ARGUMENT": f"fix {sanitize(str(grantee))} in spec.access of the manifest",
            "ALREADY_EXISTS": "run the command again",
        }
        body = _write_permission(grantee, role)
        try:
            request = HttpRequest("POST", f"{self._path(remote)}/permissions", body=body, remedies=remedies)
            await self._client.request(request)
        except ServiceError as error:
            if error.code != "ALREADY_EXISTS":
                raise
            existing = [permission for permission in await self._list(remote) if permission.grantee == grantee]
            if not existing:
                raise
            for change in access_changes([Grant(grantee, role)], existing):
                await self._write(remote, change)

    async def _write_projects(self, remote: str, permissions: Iterable[Permission]) -> None:
        """Replace the list of projects; the API cannot change a part of it."""
        projects = [permission.grantee.identifier for permission in permissions if permission.grantee.kind == "project"]
        request = HttpRequest(
            "PATCH", self._path(remote), {"updateMask": _PROJECTS}, {_PROJECTS: projects}, WRITE_ACCESS_REMEDIES
        )
        await self._client.request(request)


def _read_page(body: Json) -> tuple[tuple[Permission, ...], str]:
    permissions = map(_read_permission, body.get("permissions") or ())
    return tuple(permission for permission in permissions if permission), read_text(body.get("nextPageToken"))


def _read_permission(body: Json) -> Permission | None:
    """Return a permission, or ``None`` for one of an unknown kind or role."""
    name = read_name(body["name"])
    kind, role = _KINDS.get(body.get("granteeType")), _ROLES.get(body.get("role"))
    email = "" if kind == "everyone" else read_text(body.get("emailAddress")).lower()
    if kind is None or role is None or not (email or kind == "everyone"):
        return None
    return Permission(Grantee(kind, email), role, name)


def _write_permission(grantee: Grantee, role: Role) -> Json:
    address = {"emailAddress": grantee.identifier} if grantee.identifier else {}
    return {"granteeType": grantee.kind.upper(), **address, "role": role.upper()}


def _read_projects(body: Json) -> tuple[Permission, ...]:
    """Return the projects that may read; an invalid number is an error, because the list is written back whole."""
    return tuple(Permission(Grantee("project", str(int(number))), "reader") for number in body.get(_PROJECTS) or ())
