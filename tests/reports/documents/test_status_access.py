"""What somebody can reach, in the status document and its text."""

from __future__ import annotations

from textwrap import dedent

from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.access import EVERYONE, EffectiveAccess, Grantee, Permission
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.status import AccessReport, SharedGeneration, StatusReport, status_report
from reconciler.reports.text.format import ansi
from reconciler.reports.writer import render_text
from support.render_values import ACTIVE, LOCKFILE, SIMULATED, TARGET, held_to, some, uncoloured

ADA = "ada@example.com"
READS = Permission(Grantee("user", ADA), "reader")
ALL_READ = Permission(EVERYONE, "reader")
TEAM_WRITES = Permission(Grantee("group", "nlp@example.com"), "writer")
LOCK = Lock(models={"words": LockedModel("words.yaml", ACTIVE.key, generations=(ACTIVE,))})


def shared(name: str, *, serving: bool = True) -> SharedGeneration:
    return SharedGeneration(name, f"{name}-2222", f"tunedModels/{name}-2222", serving)


def status(*found: tuple[SharedGeneration, EffectiveAccess | None], address: str = ADA) -> StatusReport:
    return status_report(LOCK, TARGET, SIMULATED, LOCKFILE, reach=AccessReport(address, found))


def told(document: StatusReport) -> str:
    """The text below the table of models."""
    return "".join(f"{line}\n" for line in render_text(document).splitlines()[3:])


def test_what_is_sure_and_what_is_not() -> None:
    document = status(
        (shared("words"), EffectiveAccess(READS, (TEAM_WRITES,))),
        (shared("letters", serving=False), EffectiveAccess(ALL_READ, ())),
        (shared("digits"), EffectiveAccess(None, ())),
        (shared("gone"), None),
    )
    assert told(document) == dedent(
        """\
        ada@example.com has access to 2 of 3 ready models:
          words  words-2222 (serving): reader as user:ada@example.com
          letters  letters-2222: reader as everyone
        Possible access; the service does not list the members:
          words  words-2222 (serving): writer through group:nlp@example.com
        warning: gone-2222 no longer exists at the service, so no user has access to it; run reconcile apply
        Recorded state of specs/reconcile.lock.json; the service was queried only for permissions.
        """
    )
    assert held_to("status", document)["access"]["models"][1] == {
        "name": "letters",
        "key": "letters-2222",
        "remote": "tunedModels/letters-2222",
        "serving": False,
        "role": "reader",
        "through": "everyone",
    }


def test_who_can_reach_nothing() -> None:
    document = status((shared("words"), EffectiveAccess(None, ())))
    assert told(document).splitlines()[0] == "ada@example.com has access to none of 1 ready model."


def test_without_a_question_there_is_no_such_part() -> None:
    assert status_report(LOCK, TARGET, SIMULATED, LOCKFILE).access is None


permissions = st.builds(Permission, st.builds(Grantee, st.sampled_from(["user", "group"]), some), st.just("reader"))
found = st.lists(
    st.tuples(
        st.builds(SharedGeneration, some, some, some, st.booleans()),
        st.none() | st.builds(EffectiveAccess, st.none() | permissions, st.lists(permissions, max_size=2).map(tuple)),
    ),
    max_size=3,
)


@given(some, found)
def test_everything_can_be_drawn(address: str, found: list[tuple[SharedGeneration, EffectiveAccess | None]]) -> None:
    document = status(*found, address=address)
    held_to("status", document)
    text = render_text(document)
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []
    assert uncoloured(render_text(document, style=ansi)) == text
