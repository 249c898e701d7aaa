"""The line that tells how checks went."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, Miss, check_results
from reconciler.reports.text.format import checks_line
from support.cases import each_row
from support.render_values import CHECKS

SMALL, LARGE, ROMAN, UNSEEN = CHECKS.results
ALONE = replace(UNSEEN, leaked=0, comparisons=(), skipped={})
RELIANCE = "81 to 97 % with 95 % confidence"


def line(*results: CheckResult) -> str:
    return checks_line(check_results("sha256:1", results))


@each_row(
    ("results", "words"),
    [
        ([LARGE, LARGE], "checks passed: 2 of 2"),
        ([LARGE, ALONE], f"checks passed: 2 of 2: unseen (46 of 50 answers correct, {RELIANCE})"),
        (
            [UNSEEN],
            (
                "checks passed: 1 of 1: unseen "
                f"(46 of 50 answers correct, {RELIANCE}, 2 examples also in the training data; base 0.10, tuned 0.92,"
                " difference 0.82 [0.66, 0.89]; not compared with serving: no generation is serving)"
            ),
        ),
        ([LARGE, SMALL, UNSEEN], "checks failed: 1 of 3: small (expected 9, got 10)"),
        ([ROMAN], "checks failed: 1 of 1: roman (1 of 3 answers correct, 50 % required: blocked: SAFETY)"),
        (
            [replace(ALONE, passed=False, minimum=0.955), LARGE],
            f"checks failed: 1 of 2: unseen (46 of 50 answers correct, 95.5 % required, {RELIANCE})",
        ),
    ],
)
def test_it_says_what_failed_and_why(results: list[CheckResult], words: str) -> None:
    assert line(*results) == words


def test_it_stays_one_short_line() -> None:
    long = replace(SMALL, misses=(Miss("8", "many\nwords " * 99, "expected 9"),))
    told = line(*(replace(long, name=name) for name in "abcdef"))
    answer = ("many words " * 99)[:59] + "…"
    assert (
        told
        == "checks failed: 6 of 6: " + ", ".join(f"{name} (expected 9, got {answer})" for name in "abc") + " and 3 more"
    )
