"""What an address may do with a model."""

from __future__ import annotations

from reconciler.domain.access import (
    EVERYONE,
    AccessChange,
    EffectiveAccess,
    Grantee,
    Permission,
    apply_access_changes,
    effective_access,
)
from support.cases import each_row

ADA, TEAM = "ada@example.com", "nlp@example.com"
OWNS = Permission(Grantee("user", "owner@example.com"), "owner")
READS = Permission(Grantee("user", ADA), "reader")
WRITES = Permission(Grantee("user", ADA), "writer")
ALL_READ = Permission(EVERYONE, "reader")
TEAM_READS = Permission(Grantee("group", TEAM), "reader")
TEAM_WRITES = Permission(Grantee("group", TEAM), "writer")
PROJECT = Permission(Grantee("project", "123"), "reader")


@each_row(
    ("permissions", "certain", "perhaps"),
    [
        ([], None, ()),
        ([OWNS], None, ()),
        ([OWNS, READS], READS, ()),
        ([ALL_READ, READS], READS, ()),
        ([ALL_READ, WRITES], WRITES, ()),
        ([OWNS, ALL_READ], ALL_READ, ()),
        ([TEAM_READS, PROJECT], None, (TEAM_READS, PROJECT)),
        ([TEAM_READS, READS], READS, ()),
        ([TEAM_WRITES, READS, PROJECT], READS, (TEAM_WRITES,)),
        ([TEAM_WRITES, WRITES], WRITES, ()),
    ],
)
def test_the_most_is_told_and_what_might_be_more(
    permissions: list[Permission], certain: Permission | None, perhaps: tuple[Permission, ...]
) -> None:
    assert effective_access(permissions, ADA) == EffectiveAccess(certain, perhaps)
    assert effective_access(reversed(permissions), ADA) == EffectiveAccess(certain, perhaps)


def test_an_owner_reaches_most() -> None:
    assert effective_access([ALL_READ, OWNS], "owner@example.com") == EffectiveAccess(OWNS, ())


def test_a_groups_address_is_what_its_members_may() -> None:
    assert effective_access([TEAM_WRITES, ALL_READ], TEAM) == EffectiveAccess(TEAM_WRITES, ())


def test_changes_are_applied_to_what_they_name_alone() -> None:
    ada, team = Grantee("user", "ada@example.com"), Grantee("group", "team@example.com")
    live = (Permission(EVERYONE, "reader", "p/1"), Permission(ada, "reader", "p/2"))
    changes = (
        AccessChange(ada, live[1], "writer"),
        AccessChange(team, None, "reader"),
        AccessChange(EVERYONE, live[0], None),
    )
    assert apply_access_changes(live, changes) == (Permission(ada, "writer", "p/2"), Permission(team, "reader", ""))
