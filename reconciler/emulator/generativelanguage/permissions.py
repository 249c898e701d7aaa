"""Permissions of tuned models. The embedded service does not enforce them: every caller is the owner."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.emulator.errors import ApiError, Code, JsonObject, Violation, invalid, not_found
from reconciler.emulator.service import ApiCall, Service, next_page, read_page

OWNER = "owner@example.com"
"""The owner of every new model: the embedded service has no users."""
_ATOM, _LABEL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(rf"(?=.{{1,254}}\Z){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})+", re.ASCII | re.IGNORECASE)
"""The addresses of RFC 5321 that accounts and groups have: no quoted parts, and a domain of at least two labels."""


def grant_ownership(service: Service, model: int, name: str) -> None:
    """Add the owner's permission to a new model."""
    _add(service, model, name, {"granteeType": "USER", "emailAddress": OWNER, "role": "OWNER"})


def _add(service: Service, model: int, name: str, permission: JsonObject) -> JsonObject:
    grantee = permission.get("emailAddress", "").lower()
    document = {"name": f"{name}/permissions/{service.random.getrandbits(60)}", **permission}
    if not service.store.add_permission(model, f"{permission['granteeType']}:{grantee}", document):
        who = permission.get("emailAddress", "everyone")
        raise ApiError(Code.ALREADY_EXISTS, f"{name} already has a permission for {who}.")
    return document


def list_permissions(service: Service, call: ApiCall) -> JsonObject:
    """Return a page of the permissions of a model."""
    wanted = read_page(call.query)
    found = service.store.permissions(service.store.model(call.model).seq, wanted.after, wanted.size + 1)
    shown = found[: wanted.size]
    token = next_page(shown[-1][0]) if len(found) > wanted.size else ""
    return {"permissions": [permission for _, permission in shown], "nextPageToken": token}


def create_permission(service: Service, call: ApiCall) -> JsonObject:
    """Share a model with a user, a group or everyone."""
    violations = _violations(call.body)
    if violations:
        raise invalid("CreatePermissionRequest.permission", violations)
    with service.store.transaction():
        given = {name: value for name, value in call.body.items() if value}  # everyone has no address, not an empty one
        return _add(service, service.store.model(call.model).seq, call.model, given)


def _violations(permission: Mapping[str, Any]) -> list[Violation]:
    grantee, address = permission.get("granteeType"), permission.get("emailAddress", "")
    violations = _role_violations(permission)
    if grantee is None:
        violations.append(Violation("grantee_type", "is required"))
    elif grantee == "EVERYONE" and address:
        violations.append(Violation("email_address", "must not be set for EVERYONE"))
    elif grantee != "EVERYONE" and not _ADDRESS.fullmatch(address):
        described = f'must be an email address for {grantee}, but is "{address[:100]}"'
        violations.append(Violation("email_address", described))
    return violations


def _role_violations(permission: Mapping[str, Any]) -> list[Violation]:
    role = permission.get("role")
    if role is None:
        return [Violation("role", "is required")]
    return [Violation("role", "OWNER is given by transferOwnership only")] if role == "OWNER" else []


def get_permission(service: Service, call: ApiCall) -> JsonObject:
    """Return one permission."""
    return _find(service, call)[1]


def _find(service: Service, call: ApiCall) -> tuple[int, JsonObject]:
    name = f"{call.model}/permissions/{call.path['permission']}"
    permissions = service.store.permissions(service.store.model(call.model).seq)
    found = next(((seq, permission) for seq, permission in permissions if permission["name"] == name), None)
    if found is None:
        raise not_found(name)
    return found


def update_permission(service: Service, call: ApiCall) -> JsonObject:
    """Change the role, the only mutable field."""
    mask = [path.strip() for path in call.query.get("updateMask", "").split(",")]
    wrong = "is required" if mask == [""] else f'may only name role, but is "{",".join(mask)}"'
    violations = [] if mask == ["role"] else [Violation("update_mask", wrong)]
    violations += [
        Violation(f"permission.{violation.field}", violation.description) for violation in _role_violations(call.body)
    ]
    if violations:
        raise invalid("UpdatePermissionRequest", violations)
    with service.store.transaction():
        seq, permission = _mutable(service, call)
        changed = {**permission, "role": call.body["role"]}
        service.store.update_permission(seq, changed)
    return changed


def _mutable(service: Service, call: ApiCall) -> tuple[int, JsonObject]:
    seq, permission = _find(service, call)
    if permission["role"] == "OWNER":
        raise ApiError(
            Code.FAILED_PRECONDITION, f"{permission['name']} is the owner's; use transferOwnership to change the owner."
        )
    return seq, permission


def delete_permission(service: Service, call: ApiCall) -> JsonObject:
    """Revoke a permission."""
    with service.store.transaction():
        service.store.delete_permission(_mutable(service, call)[0])
    return {}


def transfer_ownership(service: Service, call: ApiCall) -> JsonObject:
    """Make another user the owner; the previous owner becomes a writer."""
    address = call.body.get("emailAddress", "")
    if not _ADDRESS.fullmatch(address):
        described = f'must be an email address, but is "{address[:100]}"'
        raise invalid("TransferOwnershipRequest", [Violation("email_address", described)])
    with service.store.transaction():
        model = service.store.model(call.model).seq
        new_owner = {"granteeType": "USER", "emailAddress": address}
        for seq, permission in service.store.permissions(model):
            if permission["role"] == "OWNER":
                service.store.update_permission(seq, {**permission, "role": "WRITER"})
            if permission["granteeType"] == "USER" and permission["emailAddress"].lower() == address.lower():
                service.store.delete_permission(seq)
        _add(service, model, call.model, {**new_owner, "role": "OWNER"})
    return {}
