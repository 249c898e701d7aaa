from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response

from reconciler.domain.access import EVERYONE, AccessChange, Grantee, Permission
from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from support.cases import each_row
from support.google_clients import gemini, palm
from support.provider_samples import judge
from support.provider_service import Script, Time, error, provider_of, script

MODEL = "tunedModels/m"
PERMISSIONS = f"{MODEL}/permissions"
ADA, NLP, P123 = Grantee("user", "ada@example.com"), Grantee("group", "nlp@example.com"), Grantee("project", "123")
OWNER = {"name": f"{PERMISSIONS}/1", "granteeType": "USER", "emailAddress": "owner@example.com", "role": "OWNER"}
OWNED = Permission(Grantee("user", "owner@example.com"), "owner", f"{PERMISSIONS}/1")
READS = Permission(ADA, "reader", f"{PERMISSIONS}/2")

OK = JSONResponse({})
BUSY = error(503, "UNAVAILABLE", "busy")
GONE = error(404, "NOT_FOUND", "Requested entity was not found.")
TAKEN = error(409, "ALREADY_EXISTS", "It exists.")
UNSEEN = error(403, "PERMISSION_DENIED", "No.")


def shown(number: int = 2, kind: Any = "USER", who: Any = "ada@example.com", role: Any = "READER") -> dict[str, Any]:
    return {"name": f"{PERMISSIONS}/{number}", "granteeType": kind, "emailAddress": who, "role": role}


def listed(*permissions: dict[str, Any], **more: Any) -> Response:
    return JSONResponse({"permissions": list(permissions), **more})


def access(app: Script, version: str = "v1beta3", remote: str = MODEL) -> tuple[Permission, ...]:
    return asyncio.run(provider_of(app, Time(), version).access(remote))


def change(
    app: Script, *changes: AccessChange, live: Iterable[Permission] = (), version: str = "v1beta3", remote: str = MODEL
) -> list[str]:
    """The requests that make these changes."""
    asyncio.run(provider_of(app, Time(), version).set_access(remote, tuple(live), changes))
    return app.lines


def refused(app: Script, *changes: AccessChange) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        change(app, *changes)
    return caught.value


# reading


@each_row("integers", [False, True])
@each_row("api", [palm, gemini])
def test_permissions_are_read_as_the_protos_have_them(api: Any, integers: bool) -> None:  # noqa: FBT001 - a table's column
    kinds, roles = api.Permission.GranteeType, api.Permission.Role
    message = api.ListPermissionsResponse(
        permissions=[
            api.Permission(name="a", grantee_type=kinds.USER, email_address="owner@example.com", role=roles.OWNER),
            api.Permission(name="b", grantee_type=kinds.GROUP, email_address="NLP@Example.com", role=roles.WRITER),
            api.Permission(name="c", grantee_type=kinds.EVERYONE, role=roles.READER),
        ]
    )
    body = json.loads(api.ListPermissionsResponse.to_json(message, use_integers_for_enums=integers))
    assert access(script(JSONResponse(body))) == (
        Permission(Grantee("user", "owner@example.com"), "owner", "a"),
        Permission(NLP, "writer", "b"),
        Permission(EVERYONE, "reader", "c"),
    )


def test_permissions_come_in_pages() -> None:
    app = script(listed(OWNER, nextPageToken="t"), listed(shown()))
    assert access(app) == (OWNED, READS)
    asked = {"pageSize": "1000", "fields": "nextPageToken,permissions(name,granteeType,emailAddress,role)"}
    assert app.lines == [f"GET /v1beta3/{PERMISSIONS}"] * 2
    assert [seen.query for seen in app.seen] == [asked, {**asked, "pageToken": "t"}]


def test_pages_that_lead_nowhere_are_an_error() -> None:
    with pytest.raises(ServiceError, match="a list without end"):
        access(script(listed(OWNER, nextPageToken="t")))


@each_row(
    "unknown",
    [
        shown(kind="DOMAIN"),
        shown(kind=4),
        shown(kind=None),
        shown(role="COMMENTER"),
        shown(role=0),
        shown(role="ROLE_UNSPECIFIED"),
        shown(who=None),
        shown(who=""),
    ],
)
def test_permissions_of_unknown_kinds_are_omitted(unknown: dict[str, Any]) -> None:
    assert access(script(listed(OWNER, unknown))) == (OWNED,)


def test_nobody_is_an_empty_object() -> None:
    assert access(script(OK)) == ()


def test_projects_that_may_read_are_reported_where_there_are_such() -> None:
    numbers = gemini.TunedModel.to_json(gemini.TunedModel(reader_project_numbers=[123, 2**60]))
    app = script(listed(OWNER), Response(numbers, media_type="application/json"))
    assert access(app, "v1beta") == (
        OWNED,
        Permission(P123, "reader"),
        Permission(Grantee("project", str(2**60)), "reader"),
    )
    assert app.lines == [f"GET /v1beta/{PERMISSIONS}", f"GET /v1beta/{MODEL}"]
    assert app.seen[1].query == {"fields": "readerProjectNumbers"}


@each_row("numbers", [["x"], [None], 5, [{}], ["NaN"], [float("inf")]])
def test_a_project_that_is_no_number_spoils_the_list_that_would_be_written_back(numbers: Any) -> None:
    body = Response(json.dumps({"readerProjectNumbers": numbers}), media_type="application/json")
    with pytest.raises(ServiceError, match=f"^GET /v1beta/{MODEL} returned a body of another shape"):
        access(script(listed(OWNER), body), "v1beta")


@each_row(
    ("answer", "remedy"),
    [
        (GONE, "run `reconcile apply`: the model no longer exists"),
        (UNSEEN, "log in as its owner, or ask the owner for writer or owner permission on the tuned model"),
    ],
)
@each_row("before", [[], [listed(OWNER)]])
def test_what_cannot_be_read_is_reported(answer: Response, remedy: str, before: list[Response]) -> None:
    with pytest.raises(ReconcileError) as caught:
        access(script(*before, answer), "v1beta")
    assert isinstance(caught.value, AccessError if answer is UNSEEN else ServiceError)
    assert caught.value.message.startswith(f"GET /v1beta/{MODEL if before else PERMISSIONS} failed with 40")
    assert caught.value.remedy == remedy


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
permissions = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b"]) | json_values},
    optional={
        "granteeType": st.sampled_from(["USER", "EVERYONE"]) | json_values,
        "emailAddress": json_values,
        "role": st.sampled_from(["READER", "OWNER"]) | json_values,
    },
)


@given(st.lists(permissions, max_size=3) | json_values)
def test_any_body_is_a_valid_permission_or_a_service_error(body: Any) -> None:
    app = script(Response(json.dumps({"permissions": body}), media_type="application/json"))
    try:
        found = access(app)
    except ServiceError as caught:
        assert "returned a body of another shape" in caught.message  # noqa: PT017 - either outcome is right
        return
    assert all(
        (permission.grantee.identifier != "") == (permission.grantee.kind != "everyone") and permission.name
        for permission in found
    )
    assert all((permission.grantee.identifier + permission.name).encode() or True for permission in found)


@each_row("name", ["", "models/x", "tunedModels/../x"])
def test_a_name_cannot_reach_out_of_the_tuned_models(name: str) -> None:
    app = script(OK)
    for act in (lambda: access(app, remote=name), lambda: change(app, AccessChange(ADA, None, "reader"), remote=name)):
        with pytest.raises(ServiceError, match="expected a name that begins with tunedModels/; fix the lockfile"):
            act()
    assert app.seen == []


# changing


@each_row("version", ["v1beta3", "v1beta"])
@each_row(
    ("grantee", "body"),
    [
        (ADA, {"granteeType": "USER", "emailAddress": "ada@example.com", "role": "READER"}),
        (NLP, {"granteeType": "GROUP", "emailAddress": "nlp@example.com", "role": "READER"}),
        (EVERYONE, {"granteeType": "EVERYONE", "role": "READER"}),
    ],
)
def test_a_permission_is_created(version: str, grantee: Grantee, body: dict[str, Any]) -> None:
    app = script(JSONResponse(shown()))
    assert change(app, AccessChange(grantee, None, "reader"), version=version) == [f"POST /{version}/{PERMISSIONS}"]
    assert app.seen[0].json() == body
    assert judge(app.seen, version) == 1


@pytest.mark.parametrize("version", ["v1beta3", "v1beta"])
def test_a_role_is_changed_by_a_patch_of_it_alone(version: str) -> None:
    app = script(JSONResponse(shown(role="WRITER")))
    lines = change(app, AccessChange(ADA, READS, "writer"), live=[OWNED, READS], version=version)
    assert lines == [f"PATCH /{version}/{PERMISSIONS}/2"]
    assert (app.seen[0].query, app.seen[0].json()) == ({"updateMask": "role"}, {"role": "WRITER"})
    assert judge(app.seen, version) == 1


@each_row("answers", [[OK], [GONE], [BUSY, GONE]])
def test_a_permission_is_revoked_also_when_it_is_gone_already(answers: list[Response]) -> None:
    lines = change(script(*answers), AccessChange(ADA, READS, None), live=[OWNED, READS])
    assert set(lines) == {f"DELETE /v1beta3/{PERMISSIONS}/2"}


def test_what_is_revoked_goes_first() -> None:
    group = Grantee("group", ADA.identifier)
    lines = change(script(OK), AccessChange(group, None, "reader"), AccessChange(ADA, READS, None), live=[READS])
    assert lines == [f"DELETE /v1beta3/{PERMISSIONS}/2", f"POST /v1beta3/{PERMISSIONS}"]


@pytest.mark.parametrize("role", [None, "reader"])
def test_what_is_the_owners_is_never_touched(role: Any) -> None:
    assert change(script(OK), AccessChange(OWNED.grantee, OWNED, role), live=[OWNED]) == []


@each_row("answers", [[TAKEN], [BUSY, TAKEN]])
@each_row(
    ("there", "more"),
    [
        (shown(), []),
        (shown(who="Ada@Example.com"), []),
        (shown(role="OWNER"), []),
        (shown(role="WRITER"), [f"PATCH /v1beta3/{PERMISSIONS}/2"]),
    ],
)
def test_a_permission_that_another_user_created_gets_the_declared_role(
    answers: list[Response], there: dict[str, Any], more: list[str]
) -> None:
    lines = change(script(*answers, listed(OWNER, there), OK), AccessChange(ADA, None, "reader"))
    posts = [f"POST /v1beta3/{PERMISSIONS}"] * len(answers)
    assert lines == [*posts, f"GET /v1beta3/{PERMISSIONS}", *more]


def test_an_existing_permission_that_is_not_listed_is_reported() -> None:
    assert str(refused(script(TAKEN, listed(OWNER, shown(role="LATER"))), AccessChange(ADA, None, "reader"))) == (
        f"POST /v1beta3/{PERMISSIONS} failed with 409 ALREADY_EXISTS: It exists; run the command again"
    )


def test_an_address_that_the_service_refuses_is_named() -> None:
    app = script(error(400, "INVALID_ARGUMENT", "It is no account."))
    assert str(refused(app, AccessChange(ADA, None, "reader"))) == (
        f"POST /v1beta3/{PERMISSIONS} failed with 400 INVALID_ARGUMENT: It is no account;"
        " fix user:ada@example.com in spec.access of the manifest"
    )


@each_row(
    "made", [AccessChange(ADA, None, "reader"), AccessChange(ADA, READS, "writer"), AccessChange(ADA, READS, None)]
)
def test_a_change_that_is_not_allowed_names_the_permission_that_it_takes(made: AccessChange) -> None:
    caught = refused(script(UNSEEN), made)
    assert isinstance(caught, AccessError)
    assert caught.remedy == "log in as its owner, or ask the owner for writer or owner permission on the tuned model"


@pytest.mark.parametrize("made", [AccessChange(ADA, None, "reader"), AccessChange(ADA, READS, "writer")])
def test_a_change_of_what_is_gone_is_reported(made: AccessChange) -> None:
    told = refused(script(GONE), made)
    assert (
        told.remedy
        == "run `reconcile apply` again: the model no longer exists, or another user is changing its permissions"
    )


# projects


def test_the_projects_are_written_as_one_list() -> None:
    kept, left = (Permission(Grantee("project", number), "reader") for number in ("5", "123"))
    new = AccessChange(Grantee("project", "9"), None, "reader")
    app = script(OK)
    lines = change(app, new, AccessChange(P123, left, None), live=[OWNED, kept, left], version="v1beta")
    assert lines == [f"PATCH /v1beta/{MODEL}"]
    assert app.seen[0].query == {"updateMask": "readerProjectNumbers"}
    assert app.seen[0].json() == {"readerProjectNumbers": ["5", "9"]}
    assert judge(app.seen, "v1beta") == 1


def test_the_last_project_leaves_an_empty_list() -> None:
    app = script(OK)
    change(
        app, AccessChange(P123, Permission(P123, "reader"), None), live=[Permission(P123, "reader")], version="v1beta"
    )
    assert app.seen[0].json() == {"readerProjectNumbers": []}
