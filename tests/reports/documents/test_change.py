"""Change documents: what was taken over, forgotten or stopped, for machines and for people."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.model import State
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.reports.documents.change import ChangeReport, changed_generations, next_actions
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import ACTIVE, KEY, LOCKFILE, REMOTE, SIMULATED, TARGET, held_to

TAKEN = ChangeReport(
    simulated=True,
    target=target_summary(TARGET, SIMULATED, "specs"),
    command="adopt",
    name="number-generator",
    outcome="done",
    lockfile=LOCKFILE,
    generations=changed_generations([ACTIVE]),
    manifest="specs/number-generator.yaml",
    notes=("declare what it was trained on",),
    next=next_actions([Action("number-generator", "n.yaml", Kind.PROMOTE, Reason.READY, key=KEY)], "number-generator"),
)


def drawn(report: ChangeReport, width: int | None = None) -> str:
    held_to("change", report)
    return render_text(report, width=width)


def test_what_was_taken_over() -> None:
    assert drawn(TAKEN) == (
        "Target default: embedded service (simulated training), scope demo\n"
        "number-generator: adopted; nothing was trained\n"
        f"  generation  {KEY} ACTIVE {REMOTE}\n"
        "  manifest    specs/number-generator.yaml\n"
        "  note        declare what it was trained on\n"
        f"  recorded    {LOCKFILE}\n"
        f"  next apply  promotes {KEY}"
    )


@each_row(
    ("command", "outcome", "headline"),
    [
        ("forget", "planned", "number-generator: 2 generations will no longer be managed; nothing is deleted"),
        ("forget", "done", "number-generator: 2 generations no longer managed; nothing was deleted"),
        ("cancel", "planned", "number-generator: 2 trainings will be canceled"),
        ("cancel", "done", "number-generator: 2 trainings canceled"),
        ("cancel", "unchanged", "number-generator: no training in progress; nothing was changed"),
    ],
)
def test_what_became_of_it_stands_first(command: str, outcome: str, headline: str) -> None:
    intended = replace(ACTIVE, remote="", state=State.INTENDED)
    change = replace(
        TAKEN,
        command=command,
        outcome=outcome,
        manifest="",
        generations=changed_generations([ACTIVE, intended]),
        published="serving.json",
    )
    lines = drawn(change).splitlines()
    assert lines[1] == headline
    assert lines[3] == f"  generation  {KEY} INTENDED"
    assert ("  published   serving.json" in lines) is (outcome == "done")


def test_text_from_anywhere_is_made_safe_and_folded() -> None:
    lines = drawn(replace(TAKEN, notes=("a\x1b[31m " * 20,)), width=60).splitlines()
    assert not any("\x1b" in line for line in lines)
    assert all(len(line) <= 60 or KEY in line for line in lines[1:])
