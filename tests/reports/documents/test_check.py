"""How checked generations did, as a document and for people."""

from __future__ import annotations

from reconciler.domain.checks import CheckResult, Miss, RecordedChecks, check_report
from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.exit_status import ExitStatus
from reconciler.manifests.schema_validation import validator
from reconciler.reports.documents.check import GenerationCheck, check_document
from reconciler.reports.documents.envelope import Document
from reconciler.reports.writer import render_text
from support.render_values import REAL, TARGET

DIGEST, OTHER = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
SMALL = CheckResult(name="small", passed=True, passes=1, answers=1, score=1, minimum=1.0)
WRONG = CheckResult(
    name="wrong", passed=False, passes=1, answers=3, score=0.3333, minimum=0.5, misses=(Miss("8", "10", "expected 9"),)
)
UNSEEN = CheckResult(
    name="unseen", passed=True, passes=9, answers=10, score=0.9, minimum=0.8, interval=(0.596, 0.982), leaked=1
)
EXAMINED = GenerationCheck("numbers", "numbers-22222222", "tunedModels/numbers-22222222", serves=True)


def document(*examined: GenerationCheck, unserved: tuple[str, ...] = ()) -> Document:
    made = check_document(examined, unserved, TARGET, REAL)
    assert list(validator("Check").iter_errors(made)) == []
    return made


def text(*examined: GenerationCheck, unserved: tuple[str, ...] = ()) -> list[str]:
    return render_text(document(*examined, unserved=unserved)).splitlines()[1:]


def test_what_passed_is_a_line_and_evaluations_tell_how_sure_they_are() -> None:
    assert text(EXAMINED.with_report(check_report(DIGEST, (SMALL, UNSEEN)))) == [
        "numbers  2 of 2 checks passed: numbers-22222222",
        (
            "  unseen  9 of 10 answers correct, 80 % required; 90.0 %, 60 to 98 % with 95 % confidence,"
            " 1 example also in the training data"
        ),
    ]


def test_what_failed_shows_prompts_and_answers() -> None:
    made = EXAMINED.with_report(check_report(DIGEST, (SMALL, WRONG)))
    assert document(made)["exitStatus"] == ExitStatus.ERROR
    assert text(made) == [
        "numbers  1 of 2 checks passed (failed: wrong): numbers-22222222",
        "  wrong  1 of 3 answers correct, 50 % required",
        "    8 → 10: expected 9",
    ]


def test_wrong_answers_beyond_a_few_are_counted() -> None:
    many = CheckResult(name="many", passed=False, passes=0, answers=7, score=0, minimum=1.0, misses=WRONG.misses * 7)
    assert text(EXAMINED.with_report(check_report(DIGEST, (many,))))[-1] == (
        "    and 2 more; use --format json to see all"
    )


def test_what_used_to_pass_the_very_same_checks_is_told() -> None:
    report = check_report(DIGEST, (WRONG,))
    for before, regressed in (
        (RecordedChecks(DIGEST, 1, 0), True),
        (RecordedChecks(OTHER, 1, 0), False),
        (RecordedChecks(DIGEST, 0, 1), False),
        (None, False),
    ):
        made = GenerationCheck("numbers", "numbers-22222222", "r", serves=True, before=before).with_report(report)
        assert document(made)["models"][0]["regressed"] is regressed
        told = "  the same checks passed last time" in text(made)
        assert told is regressed


def test_what_could_not_be_checked_says_why_and_decides_the_exit_status() -> None:
    gone = EXAMINED.refused(ServiceError("it is\x1b gone", "run reconcile apply", code="NOT_FOUND"))
    shut = EXAMINED.refused(AccessError("you may not ask it"))
    assert text(gone) == [r"numbers  not checked: it is\x1b gone; run reconcile apply"]
    assert document(gone)["exitStatus"] == ExitStatus.ERROR
    assert document(gone, shut)["exitStatus"] == ExitStatus.ACCESS


def test_a_generation_that_does_not_serve_is_marked() -> None:
    other = GenerationCheck("numbers", "numbers-33333333", "r", serves=False).with_report(
        check_report(DIGEST, (SMALL,))
    )
    assert text(other) == ["numbers  1 of 1 checks passed: numbers-33333333 (not serving)"]


def test_what_serves_nothing_is_named_and_no_checks_are_told() -> None:
    assert text(unserved=("words",)) == ["words  not checked: no serving generation"]
    assert text() == ["No manifest declares checks."]
