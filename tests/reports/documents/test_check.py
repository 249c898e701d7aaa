"""How checked generations did, as a document and for people."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, Miss, RecordedChecks, check_results
from reconciler.domain.errors import ExitStatus
from reconciler.reports.documents.check import CheckedModel, CheckReport, check_report
from reconciler.reports.documents.envelope import target_summary
from reconciler.reports.writer import render_text
from support.render_values import REAL, TARGET, held_to

DIGEST, OTHER = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
SMALL = CheckResult(name="small", passed=True, passes=1, answers=1, score=1, minimum=1.0)
WRONG = CheckResult(
    name="wrong", passed=False, passes=1, answers=3, score=0.3333, minimum=0.5, misses=(Miss("8", "10", "expected 9"),)
)
UNSEEN = CheckResult(
    name="unseen", passed=True, passes=9, answers=10, score=0.9, minimum=0.8, interval=(0.596, 0.982), leaked=1
)
EXAMINED = CheckedModel(
    name="numbers", key="numbers-22222222", remote="tunedModels/numbers-22222222", serving=True, regressed=False
)


def report(*examined: CheckedModel, unserved: tuple[str, ...] = ()) -> CheckReport:
    pairs = ((model, ExitStatus.OK) for model in examined)
    made = check_report(pairs, unserved, target_summary(TARGET, REAL, ""), simulated=False)
    held_to("check", made)
    return made


def text(*examined: CheckedModel, unserved: tuple[str, ...] = ()) -> list[str]:
    return render_text(report(*examined, unserved=unserved)).splitlines()[1:]


def test_what_passed_is_a_line_and_evaluations_tell_how_sure_they_are() -> None:
    assert text(EXAMINED.with_results(check_results(DIGEST, (SMALL, UNSEEN)))) == [
        "numbers  2 of 2 checks passed: numbers-22222222",
        (
            "  unseen  9 of 10 answers correct, 80 % required; 90.0 %, 60 to 98 % with 95 % confidence,"
            " 1 example also in the training data"
        ),
    ]


def test_what_failed_shows_prompts_and_answers() -> None:
    made = EXAMINED.with_results(check_results(DIGEST, (SMALL, WRONG)))
    assert text(made) == [
        "numbers  1 of 2 checks passed (failed: wrong): numbers-22222222",
        "  wrong  1 of 3 answers correct, 50 % required",
        "    8 → 10: expected 9",
    ]


def test_wrong_answers_beyond_a_few_are_counted() -> None:
    many = CheckResult(name="many", passed=False, passes=0, answers=7, score=0, minimum=1.0, misses=WRONG.misses * 7)
    assert text(EXAMINED.with_results(check_results(DIGEST, (many,))))[-1] == (
        "    and 2 more; use --format json to see all"
    )


def test_what_used_to_pass_the_very_same_checks_is_told() -> None:
    results = check_results(DIGEST, (WRONG,))
    for before, regressed in (
        (RecordedChecks(DIGEST, 1, 0), True),
        (RecordedChecks(OTHER, 1, 0), False),
        (RecordedChecks(DIGEST, 0, 1), False),
        (None, False),
    ):
        made = replace(EXAMINED, before=before).with_results(results)
        assert made.regressed is regressed
        told = "  the same checks passed last time" in text(made)
        assert told is regressed


def test_what_could_not_be_checked_says_why() -> None:
    gone = replace(EXAMINED, message="it is\x1b gone; run reconcile apply")
    assert text(gone) == [r"numbers  not checked: it is\x1b gone; run reconcile apply"]


def test_the_worst_generation_decides_the_exit_status() -> None:
    target = target_summary(TARGET, REAL, "")
    checked = [(EXAMINED, status) for status in (ExitStatus.ERROR, ExitStatus.ACCESS, ExitStatus.OK)]
    assert check_report(checked, (), target, simulated=False).exit_status is ExitStatus.ACCESS
    assert check_report((), ("words",), target, simulated=False).exit_status is ExitStatus.OK


def test_a_generation_that_does_not_serve_is_marked() -> None:
    other = replace(EXAMINED, key="numbers-33333333", serving=False).with_results(check_results(DIGEST, (SMALL,)))
    assert text(other) == ["numbers  1 of 1 checks passed: numbers-33333333 (not serving)"]


def test_what_serves_nothing_is_named_and_no_checks_are_told() -> None:
    assert text(unserved=("words",)) == ["words  not checked: no serving generation"]
    assert text() == ["No manifest declares checks."]
