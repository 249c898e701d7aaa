"""What a refresh made of the lockfile, as people read it."""

from __future__ import annotations

from hypothesis import given
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import State
from reconciler.reports.documents.change import RefreshReport, refreshed_models
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.text.format import ansi
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import ACTIVE, KEY, LOCKFILE, REMOTE, SIMULATED, TARGET, held_to, locks

OTHER = replace(ACTIVE, key="number-generator-22222222", remote="tunedModels/other")
BEFORE = Lock(
    models={
        "number-generator": LockedModel("n.yaml", KEY, generations=(replace(ACTIVE, state=State.CREATING), OTHER)),
        "words": LockedModel("words.yaml"),
    }
)
AFTER = Lock(
    models={
        "letters": LockedModel("letters.yaml", generations=(replace(ACTIVE, key="letters-33333333"),)),
        "number-generator": LockedModel(
            "moved.yaml", KEY, protect=True, generations=(ACTIVE, replace(OTHER, final_loss=1.5, operation=None))
        ),
    }
)
TOLD = RefreshReport(
    simulated=True,
    target=target_summary(TARGET, SIMULATED, ""),
    lockfile=LOCKFILE,
    exit_status=ExitStatus.OK,
    changed=True,
    written=True,
    merged=False,
    models=refreshed_models(BEFORE, AFTER),
    notices=("something is worth knowing",),
)
HEAD = "Target default: embedded service (simulated training), scope demo\n"


def test_what_is_different_is_told_model_by_model() -> None:
    assert held_to("refresh", TOLD)["models"][1]["generations"] == [
        {"key": KEY, "change": "changed", "before": "CREATING", "state": "ACTIVE", "remote": REMOTE},
        {
            "key": OTHER.key,
            "change": "changed",
            "state": "ACTIVE",
            "remote": "tunedModels/other",
            "fields": ["finalLoss", "operation"],
        },
    ]
    assert render_text(TOLD) == (
        f"{HEAD}{LOCKFILE} was written: 3 models changed\n"
        "  + letters\n"
        "      + letters-33333333  ACTIVE\n"
        "  ~ number-generator  manifest, protect\n"
        f"      ~ {KEY}  CREATING → ACTIVE\n"
        "      ~ number-generator-22222222  ACTIVE: finalLoss, operation\n"
        "  - words\n"
        "note: something is worth knowing"
    )


def test_a_generation_that_is_recorded_no_longer() -> None:
    after = Lock(models={"number-generator": LockedModel("n.yaml", KEY, generations=(ACTIVE,))})
    report = replace(TOLD, models=refreshed_models(BEFORE, after))
    gone = held_to("refresh", report)["models"][0]["generations"][1]
    assert gone == {"key": OTHER.key, "change": "removed", "before": "ACTIVE", "remote": "tunedModels/other"}
    assert "- number-generator-22222222  no longer recorded" in render_text(report)


@each_row(
    ("changed", "written", "merged", "told"),
    [
        (False, False, False, "matches the manifests and live state; nothing to write"),
        (True, False, False, "would be written: 3 models changed"),
        (True, True, True, f" was merged; run git add {LOCKFILE}. 3 models changed since the merge."),
        (True, False, True, " would be merged. 3 models changed since the merge."),
    ],
)
def test_what_became_of_the_file(*, changed: bool, written: bool, merged: bool, told: str) -> None:
    lines = render_text(replace(TOLD, changed=changed, written=written, merged=merged)).splitlines()
    assert f"{lines[1]}" in {f"{LOCKFILE} {told}", f"{LOCKFILE}{told}"}


def test_it_fits_a_narrow_terminal_and_hostile_text_steers_nothing() -> None:
    hostile = replace(TOLD, notices=("a\x1b[31m " + "word " * 30,), lockfile="\x1b[2Jx", merged=True)
    text = render_text(hostile, width=70)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 70


def test_colour_is_no_news() -> None:
    coloured = render_text(TOLD, style=ansi)
    assert "\x1b[32m+\x1b[0m letters" in coloured
    assert "note" in coloured


@given(locks, locks)
def test_every_document_obeys_its_schema_and_can_be_drawn(before: Lock, after: Lock) -> None:
    told = replace(TOLD, models=refreshed_models(before, after), changed=before != after, written=False)
    held_to("refresh", told)
    assert {model.name for model in told.models} == {
        name for name in before.models.keys() | after.models.keys() if before.models.get(name) != after.models.get(name)
    }
    assert render_text(told, width=40).startswith("Target default")
