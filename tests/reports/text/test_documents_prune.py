"""Deletions as people and programs read them."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus, ReconcileError
from reconciler.domain.lock import Lock
from reconciler.domain.plan import Action, Deletion, KeptGeneration, Kind, Plan, Reason
from reconciler.planning.events import Deleted, Deleting, Promoted, Refused, Unserved
from reconciler.reports.documents.plan import PlanReport, plan_report
from reconciler.reports.documents.result import ModelOutcome, Outcome, Outcomes, ResultReport, result_report
from reconciler.reports.text.format import Layout, age
from reconciler.reports.text.progress import EventPhrases
from reconciler.reports.text.result import prune_text
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import LOCKFILE, SIMULATED, TARGET, held_to

RETIREMENT = Deletion(
    create_time="2026-01-01T09:12:00Z",
    age_seconds=(40 * 24 + 2) * 3600,
    served_from="2026-01-01T09:14:00Z",
    served_until="2026-01-20T16:02:00Z",
    examples=15,
)
DELETE = Action(
    name="words",
    file="words.yaml",
    kind=Kind.DELETE,
    reason=Reason.SUPERSEDED,
    key="words-22222222",
    remote="tunedModels/words-22222222",
    message="spec.lifecycle.retain keeps 2 ready generations, and others come first",
    deletion=RETIREMENT,
)
KEPT = KeptGeneration("words", "words-33333333", "tunedModels/words-33333333", "it is serving; it matches the manifest")


def planned(*actions: Action, kept: tuple[KeptGeneration, ...] = (KEPT,)) -> PlanReport:
    report = plan_report(Plan(actions, kept=kept), TARGET, SIMULATED, LOCKFILE, deletions_alone=True)
    held_to("plan", report)
    return report


def test_a_deletion_is_shown_with_age_service_and_what_it_frees() -> None:
    assert "\n".join(render_text(planned(DELETE)).splitlines()[1:]) == dedent(
        """\
        words.yaml
          - words                delete words-22222222
              why                spec.lifecycle.retain keeps 2 ready generations, and others come first
              remote name        tunedModels/words-22222222
              created            2026-01-01 09:12, 40 d ago
              served             from 2026-01-01 09:14 until 2026-01-20 16:02
              frees              the model that was trained on 15 examples
        Plan: 1 to delete."""
    )


@each_row(
    ("changes", "line"),
    [
        ({"served_from": "", "served_until": ""}, "served             no serving time is recorded"),
        ({"served_until": ""}, "served             from 2026-01-01 09:14"),
        ({"served_until": "", "serves": True}, "served             since 2026-01-01 09:14, still serving"),
        (
            {"served_from": "", "served_until": "", "serves": True},
            "served             since an unknown time, still serving",
        ),
        ({"create_time": "", "age_seconds": None}, "created            at an unknown time"),
        ({"examples": 0}, "frees              the model"),
        ({"examples": 0, "size": 12_000_000}, "frees              the model that was trained on 12 MB"),
        (
            {"checkpoints": 3},
            "frees              the model that was trained on 15 examples, and 3 checkpoints with endpoints",
        ),
    ],
)
def test_only_what_is_known_is_said(changes: dict[str, Any], line: str) -> None:
    action = replace(DELETE, deletion=replace(RETIREMENT, **changes))
    assert line in [text.strip() for text in render_text(planned(action)).splitlines()]


def test_why_the_others_stay_is_said_when_more_is_to_be_said() -> None:
    why = "words-33333333 of words is kept: it is serving; it matches the manifest"
    assert why not in render_text(planned(DELETE))
    assert why in render_text(planned(DELETE), verbose=True).splitlines()


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        ((), "Nothing to delete. 0 generations are kept."),
        ((KEPT,), "Nothing to delete. 1 generation is kept."),
    ],
)
def test_that_nothing_is_to_be_deleted_is_said(kept: tuple[KeptGeneration, ...], line: str) -> None:
    assert render_text(planned(kept=kept)).splitlines()[-1] == line


def test_ages_are_told_in_days_from_two_on() -> None:
    assert [age(hours * 3600) for hours in (1, 47, 48, 24 * 400)] == ["60 min", "47 h", "2 d", "400 d"]


def ended(*outcomes: ModelOutcome, notices: tuple[str, ...] = (), status: ExitStatus = ExitStatus.OK) -> ResultReport:
    report = result_report(
        plan=Plan((), notices),
        target=TARGET,
        capabilities=SIMULATED,
        outcomes=outcomes,
        requests=3,
        seconds=0.2,
        exit_status=status,
    )
    held_to("result", report)
    return report


def test_what_was_deleted_is_told_by_model() -> None:
    document = ended(
        ModelOutcome("words", Outcome.DELETED, deleted=("words-22222222", "words-33333333")),
        ModelOutcome("numbers", Outcome.REFUSED, message="It is in use", deleted=("numbers-22222222",)),
        notices=("words-44444444 stays: it serves",),
        status=ExitStatus.ERROR,
    )
    assert prune_text(document, Layout()).splitlines() == [
        "numbers  refused: It is in use; deleted: numbers-22222222",
        "words    deleted: words-22222222, words-33333333",
        "Models: 1 deleted, 1 refused; 3 requests, 0.2 s.",
        "Note: words-44444444 stays: it serves",
    ]
    assert prune_text(ended(), Layout()) == "Nothing was deleted."


def test_outcomes_gather_what_was_deleted_whatever_else_happened() -> None:
    outcomes = Outcomes(Lock)
    for key in ("words-22222222", "words-33333333"):
        outcomes(Deleted("words", key, f"tunedModels/{key}"))
    outcomes(Refused("words", ReconcileError("It is in use")))
    (told,) = outcomes.all()
    assert (told.state, told.deleted) == ("refused", ("words-22222222", "words-33333333"))
    outcomes(Deleted("words", "words-44444444", "tunedModels/words-44444444"))
    (told,) = outcomes.all()
    assert (told.state, told.deleted[-1]) == ("refused", "words-44444444")


def test_progress_says_what_goes() -> None:
    phrases = EventPhrases(simulated=False)
    assert phrases.describe(Unserved("words", "words-22222222")) == ("warning", "no longer serving: words-22222222")
    assert phrases.describe(Deleting("words", "words-22222222", "m")) == ("delete", "deleting: words-22222222")
    assert phrases.describe(Deleted("words", "words-22222222", "m")) is None
    assert phrases.describe(Promoted("words", "words-22222222", "m")) is None
