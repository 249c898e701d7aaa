from __future__ import annotations

from typing import Any

import pytest

from reconciler.emulator.generativelanguage.permissions import OWNER
from reconciler.emulator.service import Page, read_page
from support.cases import each_row
from support.emulator_world import World

MODEL = "/v1beta3/tunedModels/m"
PERMISSIONS = f"{MODEL}/permissions"
READER = {"granteeType": "GROUP", "emailAddress": "nlp@example.com", "role": "READER"}
EVERYONE = {"granteeType": "EVERYONE", "role": "READER"}


@pytest.fixture
def world() -> World:
    world = World()
    world.create()
    return world


def listed(world: World) -> list[dict[str, Any]]:
    permissions: list[dict[str, Any]] = world.ok("GET", PERMISSIONS)["permissions"]
    return permissions


def roles(world: World) -> dict[str, str]:
    return {permission.get("emailAddress", "*"): permission["role"] for permission in listed(world)}


def share(world: World, permission: dict[str, Any]) -> str:
    return str(world.ok("POST", PERMISSIONS, permission)["name"])


def test_whoever_creates_a_model_owns_it(world: World) -> None:
    (owner,) = listed(world)
    assert owner == {"name": owner["name"], "granteeType": "USER", "emailAddress": OWNER, "role": "OWNER"}
    assert owner["name"].startswith("tunedModels/m/permissions/")


@pytest.mark.parametrize(
    "permission", [READER, EVERYONE, {"grantee_type": 1, "email_address": "A.b+c@mail.Example.com", "role": 2}]
)
def test_a_model_is_shared(world: World, permission: dict[str, Any]) -> None:
    created = world.ok("POST", PERMISSIONS, permission)
    assert listed(world)[1:] == [created]
    assert world.ok("GET", f"/v1beta3/{created['name']}") == created
    assert (created["granteeType"], created["role"]) in {
        ("GROUP", "READER"),
        ("EVERYONE", "READER"),
        ("USER", "WRITER"),
    }


def test_everyone_has_no_address(world: World) -> None:
    assert "emailAddress" not in world.ok("POST", PERMISSIONS, {**EVERYONE, "emailAddress": ""})
    assert "emailAddress" not in listed(world)[1]


def test_permissions_come_in_pages(world: World) -> None:
    for number in range(11):
        share(world, {**READER, "emailAddress": f"{number}@example.com"})
    first = world.ok("GET", PERMISSIONS)
    second = world.ok("GET", PERMISSIONS, pageToken=first["nextPageToken"])
    assert (len(first["permissions"]), len(second["permissions"])) == (10, 2)
    assert "nextPageToken" not in second
    assert second["permissions"][-1]["emailAddress"] == "10@example.com"


@pytest.mark.parametrize(("size", "pages"), [(0, [3]), (1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (5000, [3])])
def test_pages_are_of_the_size_that_is_asked_for(world: World, size: int, pages: list[int]) -> None:
    share(world, READER)
    share(world, EVERYONE)
    seen, token = [], ""
    while not seen or token:
        page = world.ok("GET", PERMISSIONS, pageSize=size, pageToken=token)
        seen.append(len(page["permissions"]))
        token = page.get("nextPageToken", "")
    assert seen == pages


def test_a_page_has_at_most_a_thousand() -> None:
    assert read_page({"pageSize": 1000}) == read_page({"pageSize": 1001}) == Page(0, 1000)


def test_a_negative_page_is_refused(world: World) -> None:
    assert world.refused("GET", PERMISSIONS, pageSize=-1) == (
        400,
        "INVALID_ARGUMENT",
        "* ListRequest.page_size: must not be negative, but is -1",
    )


def test_permissions_belong_to_their_model(world: World) -> None:
    name = share(world, READER)
    world.create("other")
    assert len(world.ok("GET", "/v1beta3/tunedModels/other/permissions")["permissions"]) == 1
    elsewhere = name.replace("/m/", "/other/")
    assert world.refused("GET", f"/v1beta3/{elsewhere}") == (
        404,
        "NOT_FOUND",
        f"Requested entity was not found: {elsewhere}",
    )


def test_enums_are_integers_for_who_asks(world: World) -> None:
    numbers = "$alt=json;enum-encoding=int"
    (owner,) = world.ok("GET", f"{PERMISSIONS}?{numbers}")["permissions"]
    assert (owner["granteeType"], owner["role"]) == (1, 1)
    everyone = world.ok("POST", f"{PERMISSIONS}?{numbers}", {"granteeType": 3, "role": 3})
    assert (everyone["granteeType"], everyone["role"], "emailAddress" in everyone) == (3, 3, False)
    changed = world.ok("PATCH", f"/v1beta3/{everyone['name']}?{numbers}&updateMask=role", {**everyone, "role": 2})
    assert changed == {**everyone, "role": 2}
    assert world.ok("GET", f"/v1beta3/{everyone['name']}") == {
        "name": everyone["name"],
        "granteeType": "EVERYONE",
        "role": "WRITER",
    }


@each_row(
    ("permission", "message"),
    [
        ({}, "role: is required"),
        ({"role": "READER"}, "grantee_type: is required"),
        ({"role": 0, "granteeType": "EVERYONE"}, "role: is required"),
        ({**READER, "role": "OWNER"}, "role: OWNER is given by transferOwnership only"),
        ({**READER, "emailAddress": None}, 'email_address: must be an email address for GROUP, but is ""'),
        ({**READER, "emailAddress": "nlp"}, 'email_address: must be an email address for GROUP, but is "nlp"'),
        ({**EVERYONE, "emailAddress": "a@example.com"}, "email_address: must not be set for EVERYONE"),
    ],
)
def test_a_bad_permission_is_refused(world: World, permission: dict[str, Any], message: str) -> None:
    status, code, told = world.refused("POST", PERMISSIONS, permission)
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert told.splitlines()[0] == f"* CreatePermissionRequest.permission.{message}"
    assert len(listed(world)) == 1


@each_row(
    "address",
    [
        "a@b",
        "a@b@example.com",
        "a b@example.com",
        " a@example.com",
        "a@example.com\n",
        "a,b@example.com",
        "a..b@example.com",
        ".a@example.com",
        "@example.com",
        "a@",
        "a@-example.com",
        "a@example..com",
        "Ada <a@example.com>",
        "\u017f@example.com",
        f"{'a' * 250}@example.com",
    ],
)
@each_row("grantee", ["USER", "GROUP"])
def test_a_malformed_address_is_refused(world: World, grantee: str, address: str) -> None:
    described = f'must be an email address for {grantee}, but is "{address[:100]}"'
    permission = {"granteeType": grantee, "emailAddress": address, "role": "READER"}
    assert world.refused("POST", PERMISSIONS, permission) == (
        400,
        "INVALID_ARGUMENT",
        f"* CreatePermissionRequest.permission.email_address: {described}",
    )
    status, code, message = world.refused("POST", f"{MODEL}:transferOwnership", {"emailAddress": address})
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert message.startswith("* TransferOwnershipRequest.email_address: must be an email address")
    assert roles(world) == {OWNER: "OWNER"}


@pytest.mark.parametrize(
    "address", ["a@example.com", "O'Neil+x_y-z@a.b-c.Example.COM", "svc@project-1.iam.gserviceaccount.com", "1@2.de"]
)
def test_a_good_address_is_kept_as_it_was_sent(world: World, address: str) -> None:
    share(world, {**READER, "emailAddress": address})
    assert roles(world)[address] == "READER"


def test_an_address_is_the_same_however_it_is_written(world: World) -> None:
    share(world, READER)
    assert world.refused("POST", PERMISSIONS, {**READER, "emailAddress": "NLP@Example.com"}) == (
        409,
        "ALREADY_EXISTS",
        "tunedModels/m already has a permission for NLP@Example.com.",
    )
    share(world, {**READER, "granteeType": "USER"})
    world.ok("POST", f"{MODEL}:transferOwnership", {"emailAddress": "NLP@example.com"})
    kinds = [(each["granteeType"], each["emailAddress"], each["role"]) for each in listed(world)]
    assert kinds == [
        ("USER", OWNER, "WRITER"),
        ("GROUP", "nlp@example.com", "READER"),
        ("USER", "NLP@example.com", "OWNER"),
    ]


@pytest.mark.parametrize(("permission", "who"), [(READER, "nlp@example.com"), (EVERYONE, "everyone")])
def test_a_grantee_has_one_permission(world: World, permission: dict[str, Any], who: str) -> None:
    share(world, permission)
    assert world.refused("POST", PERMISSIONS, {**permission, "role": "WRITER"}) == (
        409,
        "ALREADY_EXISTS",
        f"tunedModels/m already has a permission for {who}.",
    )


def test_a_role_is_changed_and_nothing_else(world: World) -> None:
    name = share(world, READER)
    sent = {"role": "WRITER", "emailAddress": "other@example.com", "granteeType": 3}
    changed = world.ok("PATCH", f"/v1beta3/{name}", sent, updateMask="role")
    assert changed == {**READER, "name": name, "role": "WRITER"}
    assert world.ok("GET", f"/v1beta3/{name}") == changed


@pytest.mark.parametrize(
    ("mask", "body", "message"),
    [
        ("", {"role": "WRITER"}, "update_mask: is required"),
        ("emailAddress", {"role": "WRITER"}, 'update_mask: may only name role, but is "emailAddress"'),
        ("grantee_type", {"role": "WRITER"}, 'update_mask: may only name role, but is "grantee_type"'),
        ("*", {"role": "WRITER"}, 'update_mask: may only name role, but is "*"'),
        ("role,grantee_type", {"role": "WRITER"}, 'update_mask: may only name role, but is "role,grantee_type"'),
        ("role", {}, "permission.role: is required"),
        ("role", {"role": "OWNER"}, "permission.role: OWNER is given by transferOwnership only"),
    ],
)
def test_a_bad_change_is_refused(world: World, mask: str, body: dict[str, Any], message: str) -> None:
    name = share(world, READER)
    refused = world.refused("PATCH", f"/v1beta3/{name}", body, updateMask=mask)
    assert refused == (400, "INVALID_ARGUMENT", f"* UpdatePermissionRequest.{message}")
    assert roles(world)["nlp@example.com"] == "READER"


@pytest.mark.parametrize(("method", "query"), [("PATCH", {"updateMask": "role"}), ("DELETE", {})])
def test_an_owner_is_only_changed_by_transfer(world: World, method: str, query: dict[str, str]) -> None:
    name = listed(world)[0]["name"]
    body = {"role": "READER"} if method == "PATCH" else None
    assert world.refused(method, f"/v1beta3/{name}", body, **query) == (
        400,
        "FAILED_PRECONDITION",
        f"{name} is the owner's; use transferOwnership to change the owner.",
    )


def test_a_permission_is_withdrawn(world: World) -> None:
    name = share(world, EVERYONE)
    assert world.ok("DELETE", f"/v1beta3/{name}") == {}
    assert roles(world) == {OWNER: "OWNER"}
    assert world.refused("DELETE", f"/v1beta3/{name}")[:2] == (404, "NOT_FOUND")


@pytest.mark.parametrize("known", [True, False])
def test_ownership_is_transferred_and_the_owner_becomes_a_writer(world: World, known: bool) -> None:  # noqa: FBT001 - a row of the table
    if known:
        share(world, {"granteeType": "USER", "emailAddress": "heir@example.com", "role": "READER"})
    assert world.ok("POST", f"{MODEL}:transferOwnership", {"email_address": "heir@example.com"}) == {}
    assert roles(world) == {OWNER: "WRITER", "heir@example.com": "OWNER"}


def test_a_transfer_to_the_owner_changes_nothing(world: World) -> None:
    world.ok("POST", f"{MODEL}:transferOwnership", {"emailAddress": OWNER})
    assert roles(world) == {OWNER: "OWNER"}


def test_a_transfer_needs_an_address(world: World) -> None:
    assert world.refused("POST", f"{MODEL}:transferOwnership", {}) == (
        400,
        "INVALID_ARGUMENT",
        '* TransferOwnershipRequest.email_address: must be an email address, but is ""',
    )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "permissions", None),
        ("POST", "permissions", READER),
        ("GET", "permissions/1", None),
        ("DELETE", "permissions/1", None),
    ],
)
def test_a_model_that_is_not_there_has_no_permissions(
    world: World, method: str, path: str, body: dict[str, Any] | None
) -> None:
    assert world.refused(method, f"/v1beta3/tunedModels/x/{path}", body) == (
        404,
        "NOT_FOUND",
        "Tuned model tunedModels/x does not exist.",
    )


def test_a_deleted_model_leaves_no_permissions_to_its_successor(world: World) -> None:
    share(world, READER)
    world.ok("DELETE", MODEL)
    world.create()
    assert roles(world) == {OWNER: "OWNER"}
