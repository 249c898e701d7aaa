"""Change documents: what was taken over, forgotten or stopped, for machines and for people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.domain.model import State
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.reports.documents.change import Change, change_document, change_text
from reconciler.reports.documents.plan_and_result import Document
from support.render_values import ACTIVE, KEY, LOCKFILE, REMOTE, SIMULATED, TARGET, held_to

TAKEN = Change(
    command="adopt",
    name="number-generator",
    outcome="done",
    lockfile=LOCKFILE,
    generations=(ACTIVE,),
    manifest="specs/number-generator.yaml",
    notes=("declare what it was trained on",),
    next=(Action("number-generator", "n.yaml", Kind.PROMOTE, Reason.READY, key=KEY),),
)


def drawn(change: Change) -> Document:
    return held_to("change", change_document(change, TARGET, SIMULATED, root="specs"))


def test_what_was_taken_over() -> None:
    assert change_text(drawn(TAKEN)) == (
        "Target default: embedded service (simulated training), scope demo\n"
        "number-generator: taken over, nothing was trained\n"
        f"  generation  {KEY} ACTIVE {REMOTE}\n"
        "  manifest    specs/number-generator.yaml\n"
        "  note        declare what it was trained on\n"
        f"  recorded    {LOCKFILE}\n"
        f"  next apply  lets {KEY} serve"
    )


@pytest.mark.parametrize(
    ("command", "outcome", "headline"),
    [
        ("forget", "planned", "number-generator: 2 generations would be managed no longer; nothing is deleted"),
        ("forget", "done", "number-generator: 2 generations managed no longer; nothing was deleted"),
        ("cancel", "planned", "number-generator: 2 trainings would be stopped"),
        ("cancel", "done", "number-generator: 2 trainings stopped"),
        ("cancel", "unchanged", "number-generator: nothing of it is in training; nothing was changed"),
    ],
)
def test_what_became_of_it_stands_first(command: str, outcome: str, headline: str) -> None:
    intended = replace(ACTIVE, remote="", state=State.INTENDED)
    change = Change(command, "number-generator", outcome, LOCKFILE, (ACTIVE, intended), published="serving.json")  # type: ignore[arg-type] # a table of texts
    lines = change_text(drawn(change)).splitlines()
    assert lines[1] == headline
    assert lines[3] == f"  generation  {KEY} INTENDED"
    assert ("  published   serving.json" in lines) is (outcome == "done")


def test_text_from_anywhere_is_made_safe_and_folded() -> None:
    lines = change_text(drawn(replace(TAKEN, notes=("a\x1b[31m " * 20,))), width=60).splitlines()
    assert not any("\x1b" in line for line in lines)
    assert all(len(line) <= 60 or KEY in line for line in lines[1:])
