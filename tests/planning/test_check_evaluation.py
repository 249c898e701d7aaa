"""Whether answers pass, what a check makes of them, and what is kept of that."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import (
    Check,
    CheckResult,
    ComparedModel,
    Comparison,
    ComparisonRule,
    Evaluation,
    Expectation,
    ExpectationKind,
    Miss,
    RecordedChecks,
    RecordedComparison,
    RecordedMiss,
    Requirement,
    check_results,
    describe_comparison,
)
from reconciler.domain.model import Example
from reconciler.domain.ports import Answer, Reply
from reconciler.planning.check_evaluation import (
    OtherAnswers,
    Question,
    checks_digest,
    choose_best,
    compare,
    evaluate_check,
    paired_interval,
    question_count,
    questions,
    recorded_checks,
    verdicts,
    wilson_interval,
)
from reconciler.planning.check_metrics import grade
from support.cases import each_row

DATA = "sha256:" + "a" * 64
SMALL = Check("small", prompt="8", expect=(Expectation("equals", ("9",)),))
WORDS = Check(
    "words", prompt="IV", expect=(Expectation("oneOf", ("V", "five")),), candidates=3, min_pass=0.6, temperature=1
)
UNSEEN = Check("unseen", evaluation=Evaluation("held-out.csv", DATA, examples=200, minimum=0.8, sample=50, leaked=2))
UNSEEN_BY = UNSEEN.evaluation
assert UNSEEN_BY is not None
EXAMPLES = tuple(Example(f"in {at}", f"out {at}") for at in range(200))


def expecting(kind: ExpectationKind, *values: str, **fields: Any) -> Expectation:
    return Expectation(kind, values, **fields)


def passes(expectation: Expectation, text: str) -> bool:
    return not grade(expectation, text).reason


def misses(question: Question, answered: Reply) -> tuple[Miss | None, ...]:
    return tuple(verdict.miss for verdict in verdicts(question, answered))


def reply(*texts: str, blocked: str = "") -> Reply:
    return Reply(tuple(map(Answer, texts)), blocked)


def judge(check: Check, *answers: str) -> CheckResult:
    """How a check goes whose questions were answered like this."""
    examples = [Example(str(at), "right") for at in range(len(answers))]
    if check.evaluation:
        whole = replace(check, evaluation=replace(check.evaluation, examples=len(answers), sample=None))
        return evaluate_check(check, map(verdicts, questions(whole, examples), map(reply, answers)))
    (question,) = questions(check, ())
    return evaluate_check(check, [verdicts(question, reply(*answers))])


def test_digests_never_change() -> None:
    """A test that fails here has found a bug: checks would run again everywhere, with nothing changed."""
    small = '{"candidates":1,"expect":{"equals":["9"]},"minPass":1,"name":"small","prompt":"8"}'
    unseen = f'{{"data":"{DATA}","metric":"exactMatch","minimum":0.8,"name":"unseen","sample":50}}'
    words = (
        '{"candidates":3,"expect":{"oneOf":["V","five"]},"minPass":0.6,"name":"words","prompt":"IV","temperature":1}'
    )
    canonical = f'{{"checks":[{small},{unseen},{words}],"v":1}}'
    digest = checks_digest([SMALL, WORDS, UNSEEN])
    assert digest == f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
    assert digest == "sha256:129aac44bdae3f6ee07d05f6002724199fa774369413eca0a9a8d0262aba672f"


@each_row(
    "same",
    [
        (WORDS, SMALL, UNSEEN),
        (SMALL, replace(WORDS, expect=(expecting("oneOf", "five", "V"),)), UNSEEN),
        (SMALL, WORDS, replace(UNSEEN, evaluation=replace(UNSEEN_BY, path="moved.csv", examples=9, leaked=0))),
        (SMALL, replace(WORDS, temperature=1.0), UNSEEN),
    ],
    ids=["order", "order of values", "path, size and leakage", "spelling of a number"],
)
def test_what_decides_nothing_does_not_count(same: tuple[Check, ...]) -> None:
    assert checks_digest(same) == checks_digest([SMALL, WORDS, UNSEEN])


@each_row(
    "change",
    [
        {"name": "more"},
        {"prompt": "V"},
        {"expect": (expecting("oneOf", "V"),)},
        {"expect": (expecting("contains", "V", "five"),)},
        {"candidates": 4},
        {"min_pass": 0.5},
        {"temperature": 0.9},
        {"temperature": None},
        {"evaluation": UNSEEN_BY},
    ],
)
def test_what_decides_about_a_prompt_counts(change: dict[str, Any]) -> None:
    assert checks_digest([replace(WORDS, **change)]) != checks_digest([WORDS])


@each_row(
    "change",
    [
        {"digest": "sha256:" + "b" * 64},
        {"minimum": 0.9},
        {"sample": 51},
        {"sample": None},
        {"comparisons": (ComparisonRule("base", "better"),)},
    ],
)
def test_what_decides_about_an_evaluation_counts(change: dict[str, Any]) -> None:
    other = replace(UNSEEN, evaluation=replace(UNSEEN_BY, **change))
    assert checks_digest([other]) != checks_digest([UNSEEN])


def test_all_of_a_comparison_counts_in_the_digest() -> None:
    rules = [
        ComparisonRule(other, required, margin)
        for other in ("base", "serving")
        for required, margin in (("better", 0.0), ("noWorse", 0.0), ("noWorse", 0.02))
    ]
    checks = [replace(UNSEEN, evaluation=replace(UNSEEN_BY, comparisons=(rule,))) for rule in rules]
    assert len({checks_digest([check]) for check in checks}) == len(rules)


@each_row(
    ("expectation", "right", "wrong"),
    [
        (expecting("equals", "9"), [" 9\n", "9"], ["99", "nine", ""]),
        (expecting("equals", "a\nb\n"), ["a\r\nb", "a\rb\n"], ["a b"]),
        (expecting("oneOf", "V", "five"), ["five", " V"], ["Five", "V, five"]),
        (expecting("contains", "cat"), ["concatenate", "a cat."], ["Cat", "c a t"]),
        (expecting("matches", "^[0-9]+$"), ["10", " 10 "], ["ten", "10 or 11"]),
        (expecting("matches", "(?i)yes"), ["YES!", "well, yes"], ["no"]),
    ],
)
def test_each_kind_of_expectation(expectation: Expectation, right: list[str], wrong: list[str]) -> None:
    assert [text for text in right if not passes(expectation, text)] == []
    assert [text for text in wrong if passes(expectation, text)] == []


def test_half_of_a_surrogate_pair_is_a_wrong_character_and_no_error() -> None:
    assert passes(expecting("matches", r"^a.c$"), "a\ud800c")
    assert not passes(expecting("equals", "abc"), "a\ud800c")


def test_no_expression_hangs_a_run() -> None:
    began = time.process_time()
    assert not passes(expecting("matches", "(a+)+$"), "a" * 1_000_000 + "b")
    assert time.process_time() - began < 5


def test_what_is_no_expression_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"missing \): \("):
        passes(expecting("matches", "("), "x")


def test_a_prompt_is_one_question() -> None:
    assert list(questions(WORDS, ())) == [Question("IV", (expecting("oneOf", "V", "five"),), 3)]
    assert question_count(WORDS) == 1


def test_an_evaluation_asks_for_each_output_exactly() -> None:
    whole = replace(UNSEEN, evaluation=replace(UNSEEN_BY, sample=None))
    assert list(questions(whole, EXAMPLES)) == [
        Question(one.input, (expecting("equals", one.output),)) for one in EXAMPLES
    ]
    assert question_count(whole) == 200


def test_a_sample_is_the_same_everywhere() -> None:
    few = replace(UNSEEN, evaluation=replace(UNSEEN_BY, sample=5))
    assert [one.prompt for one in questions(few, EXAMPLES)] == ["in 118", "in 147", "in 177", "in 180", "in 185"]
    assert question_count(few) == 5


def test_other_data_have_another_sample() -> None:
    other = replace(UNSEEN, evaluation=replace(UNSEEN_BY, digest="sha256:" + "b" * 64))
    assert list(questions(other, EXAMPLES)) != list(questions(UNSEEN, EXAMPLES))


def test_a_sample_favours_no_part_of_the_data() -> None:
    drawn = [
        int(one.prompt.removeprefix("in "))
        for digit in "0123456789abcdef"
        for one in questions(replace(UNSEEN, evaluation=replace(UNSEEN_BY, digest="sha256:" + digit * 64)), EXAMPLES)
    ]
    quarters = [sum(at // 50 == quarter for at in drawn) for quarter in range(4)]
    assert sum(quarters) == 16 * 50
    assert all(150 < quarter < 250 for quarter in quarters), quarters


def test_the_data_set_is_read_to_its_end() -> None:
    """Only there does the reader know that it is the one that was validated."""
    read: list[Example] = []
    few = replace(UNSEEN, evaluation=replace(UNSEEN_BY, sample=1))
    list(questions(few, (read.append(one) or one for one in EXAMPLES)))
    assert len(read) == 200


def test_what_ends_the_lines_of_an_input_does_not_count() -> None:
    one = replace(UNSEEN, evaluation=replace(UNSEEN_BY, examples=1))
    assert next(questions(one, [Example("a\r\nb", "c")])).prompt == "a\nb"


@each_row(
    ("expectation", "why"),
    [
        (expecting("equals", "9"), "expected 9"),
        (expecting("oneOf", "V", "five"), "expected one of V, five"),
        (expecting("contains", "cat\ndog"), "does not contain cat dog"),
        (expecting("matches", "^[0-9]+$"), "does not match ^[0-9]+$"),
        (expecting("equals", "x" * 61), f"expected {'x' * 59}…"),
    ],
)
def test_a_miss_says_what_was_expected(expectation: Expectation, why: str) -> None:
    assert misses(Question("8", (expectation,)), reply(" ten\n")) == (Miss("8", "ten", why),)


@each_row(
    ("answer", "verdict"),
    [
        (Answer("9", "SAFETY"), Miss("8", "9", "blocked: SAFETY")),
        (Answer("", "RECITATION"), Miss("8", "", "blocked: RECITATION")),
        (Answer(" \n"), Miss("8", "", "the answer is empty")),
        (Answer("", "MAX_TOKENS"), Miss("8", "", "truncated: MAX_TOKENS")),
        (Answer("9 is the", "MAX_TOKENS"), Miss("8", "9 is the", "truncated: MAX_TOKENS")),
        (Answer("9", "MAX_TOKENS"), None),
    ],
)
def test_the_services_reason_is_told(answer: Answer, verdict: Miss | None) -> None:
    assert misses(Question("8", (expecting("equals", "9"),)), Reply((answer,))) == (verdict,)


def test_an_answer_that_a_service_leaves_empty_passes_nothing() -> None:
    assert misses(Question("8", (expecting("matches", ".*"),)), reply("")) == (Miss("8", "", "the answer is empty"),)


def test_a_blocked_prompt_misses_every_answer() -> None:
    question = Question("8", (expecting("equals", "9"),), 2)
    assert misses(question, reply(blocked="SAFETY")) == (Miss("8", "", "blocked: SAFETY"),) * 2
    assert misses(question, reply("9", "", blocked="OTHER")) == (None, Miss("8", "", "blocked: OTHER"))


def test_answers_that_do_not_come_are_misses_and_further_ones_are_left_aside() -> None:
    question = Question("8", (expecting("equals", "9"),), 2)
    assert misses(question, reply("9")) == (None, Miss("8", "", "no answer"))
    assert misses(question, reply("9", "9", "10")) == (None, None)


def test_an_answer_can_be_written_to_a_file() -> None:
    (miss,) = misses(Question("8", (expecting("equals", "9"),)), reply("\ud800"))
    assert miss == Miss("8", "?", "expected 9")


def test_a_prompt_passes_with_one_right_answer() -> None:
    assert judge(SMALL, "9") == CheckResult(name="small", passed=True, passes=1, answers=1, score=1, minimum=1.0)
    assert judge(SMALL, "10") == CheckResult(
        name="small", passed=False, passes=0, answers=1, score=0, minimum=1.0, misses=(Miss("8", "10", "expected 9"),)
    )


@each_row(
    ("right", "min_pass", "passed"),
    [
        (2, 0.67, False),
        (2, 2 / 3, True),
        (2, 0.66, True),
        (1, 0.34, False),
        (1, 0.33, True),
        (0, 0.0, True),
        (3, 1.0, True),
    ],
)
def test_the_share_is_compared_as_it_is(right: int, min_pass: float, passed: bool) -> None:  # noqa: FBT001 - a table
    result = judge(replace(WORDS, min_pass=min_pass), *["V"] * right, *["X"] * (3 - right))
    assert (result.passes, result.answers, result.passed) == (right, 3, passed)


@each_row("tenths", range(11))
def test_no_rounding_error_decides(tenths: int) -> None:
    check = replace(WORDS, candidates=10, min_pass=tenths * 0.1)
    assert judge(check, *["V"] * tenths, *["X"] * (10 - tenths)).passed


def test_an_evaluation_has_an_interval_and_tells_of_leakage() -> None:
    result = judge(UNSEEN, *["right"] * 46, *["wrong"] * 4)
    low, high = result.interval or (0, 0)
    assert (result.passed, result.score, result.minimum, result.leaked) == (True, 0.92, 0.8, 2)
    assert (round(low, 4), round(high, 4)) == (0.8116, 0.9685)
    assert [miss.prompt for miss in result.misses] == ["46", "47", "48", "49"]
    assert result.misses[0] == Miss("46", "wrong", "expected right")


def test_an_evaluation_below_its_minimum_fails() -> None:
    assert judge(UNSEEN, *["right"] * 40, *["wrong"] * 10).passed
    assert not judge(UNSEEN, *["right"] * 39, *["wrong"] * 11).passed


@each_row(
    ("right", "answers", "interval"),
    [
        (0, 0, (0.0, 1.0)),
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (1, 2, (0.0945, 0.9055)),
        (81, 263, (0.2553, 0.3662)),  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_interval_is_wilsons(right: int, answers: int, interval: tuple[float, float]) -> None:
    low, high = wilson_interval(right, answers)
    assert (round(low, 4), round(high, 4)) == interval


@each_row(
    ("table", "difference", "interval"),
    [
        # Cavo et al. (2012) in chapter 8 of M. W. Fagerland, S. Lydersen, P. Laake, "Statistical Analysis of
        # Contingency Tables" (2017), and in the tests of their R package contingencytables.
        ((59, 6, 16, 80), -0.0621, (-0.1186, -0.0046)),
        # D. G. Altman et al., "Statistics with Confidence" (2000), table 6.2.
        ((14, 5, 0, 22), 0.122, (0.0115, 0.2265)),
        # The others were computed with the formulas that the R packages contingencytables and biostatUZH have.
        ((1, 1, 7, 12), -0.2857, (-0.5069, -0.0256)),
        ((20, 12, 2, 16), 0.2, (0.0562, 0.3292)),
        ((36, 12, 2, 0), 0.2, (0.0569, 0.3404)),
        ((0, 7, 0, 3), 0.7, (0.2889, 0.8922)),
        ((0, 0, 0, 0), 0.0, (-1.0, 1.0)),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(
    table: tuple[int, int, int, int], difference: float, interval: tuple[float, float]
) -> None:
    both, better, worse, neither = table
    low, high = paired_interval(*table)
    assert (round(low, 4), round(high, 4)) == interval
    own = [True] * (both + better) + [False] * (worse + neither)
    other = [True] * both + [False] * better + [True] * worse + [False] * neither
    found = compare(ComparisonRule("base", "better"), own, OtherAnswers("models/x", other))
    assert (found.difference, found.interval, found.better, found.worse) == (difference, interval, better, worse)


@each_row(
    ("required", "margin", "better", "worse", "passed"),
    [
        ("better", 0, 7, 0, True),
        ("better", 0, 4, 0, True),
        ("better", 0, 3, 0, False),
        ("better", 0, 0, 0, False),
        ("better", 0, 0, 7, False),
        ("noWorse", 0, 0, 0, True),
        ("noWorse", 0, 1, 1, True),
        ("noWorse", 0, 0, 1, False),
        ("noWorse", 0.1, 0, 1, True),
        ("noWorse", 0.3, 0, 3, True),
        ("noWorse", 0.3, 0, 4, False),
    ],
)
def test_what_a_comparison_of_ten_rows_requires(
    required: Requirement,
    margin: float,
    better: int,
    worse: int,
    passed: bool,  # noqa: FBT001 - a table
) -> None:
    same = 10 - better - worse
    own, other = [*[True] * better, *[False] * (10 - better)], [*[False] * (better + same), *[True] * worse]
    found = compare(ComparisonRule("serving", required, margin), own, OtherAnswers("numbers-a", other))
    assert (found.passed, found.required, found.margin, found.model) == (passed, required, margin, "numbers-a")


def compared(*rules: ComparisonRule, answers: str, **others: OtherAnswers) -> CheckResult:
    """How a check goes that compares; an answer is r(ight), w(rong) or b(locked)."""
    evaluation = replace(UNSEEN_BY, examples=len(answers), sample=None, minimum=0, comparisons=rules)
    check = replace(UNSEEN, evaluation=evaluation)
    asked = questions(check, [Example(str(at), "right") for at in range(len(answers))])
    said = {"r": reply("right"), "w": reply("wrong"), "b": reply(blocked="SAFETY")}
    found = [verdicts(question, said[letter]) for question, letter in zip(asked, answers, strict=True)]
    models: dict[ComparedModel, OtherAnswers] = {"base": OtherAnswers(), "serving": OtherAnswers(), **others}
    return evaluate_check(check, found, models)


TAUGHT = ComparisonRule("base", "better")
KEPT = ComparisonRule("serving", "noWorse", 0.02)


def test_a_comparison_is_a_part_of_the_result_and_of_the_record() -> None:
    base = OtherAnswers("models/x", [False] * 10)
    result = compared(TAUGHT, answers="rrrrrrrbww", base=base)
    comparison = Comparison(
        other="base",
        model="models/x",
        score=0.0,
        difference=0.7,
        interval=(0.2889, 0.8922),
        required="better",
        margin=0,
        passed=True,
        better=7,
        worse=0,
    )
    assert (result.passed, result.comparisons, result.skipped) == (True, (comparison,), {})
    recorded = recorded_checks(check_results("sha256:1", (result,))).comparisons
    assert recorded == {
        "unseen": (
            RecordedComparison(
                other="base",
                model="models/x",
                score=0.0,
                difference=0.7,
                interval=(0.2889, 0.8922),
                required="better",
                margin=0,
                passed=True,
            ),
        )
    }
    assert describe_comparison(0.7, *recorded["unseen"]) == "base 0.00, tuned 0.70, difference 0.70 [0.29, 0.89]"


def test_a_check_fails_if_the_training_taught_nothing() -> None:
    same = OtherAnswers("models/x", [True] * 9 + [False])
    result = compared(TAUGHT, answers="rrrrrrrrrw", base=same)
    assert (result.score, result.passed) == (0.9, False)
    assert describe_comparison(result.score, *result.comparisons) == (
        "base 0.90, tuned 0.90, difference 0.00 [-0.28, 0.28], interval above 0 required"
    )


def test_a_check_fails_if_the_serving_generation_is_better() -> None:
    serving = OtherAnswers("numbers-a", [True] * 10)
    result = compared(KEPT, answers="rrrrrrrrrb", serving=serving)
    assert not result.passed
    assert describe_comparison(result.score, *result.comparisons).endswith(", at least -0.02 required")
    assert compared(KEPT, answers="r" * 10, serving=serving).passed


def test_a_skipped_comparison_fails_nothing() -> None:
    base = OtherAnswers("models/x", [False] * 10)
    result = compared(TAUGHT, KEPT, answers="r" * 10, base=base, serving=OtherAnswers(skipped="none"))
    assert (result.passed, result.skipped) == (True, {"serving": "none"})
    assert [comparison.other for comparison in result.comparisons] == ["base"]


def test_counts_scores_and_one_miss_a_failed_check_are_recorded() -> None:
    report = check_results(
        "sha256:1",
        (judge(SMALL, "9"), judge(WORDS, "V", "IV", "X"), judge(UNSEEN, "right", "right", "wrong")),
    )
    assert recorded_checks(report) == RecordedChecks(
        "sha256:1",
        passed=1,
        failed=2,
        scores={"unseen": 0.6667},
        misses=(RecordedMiss("words", "IV", "IV"), RecordedMiss("unseen", "2", "wrong")),
    )


def test_what_passed_leaves_no_miss_in_the_record() -> None:
    report = check_results("sha256:1", (judge(WORDS, "V", "V", "X"),))
    assert recorded_checks(report) == RecordedChecks("sha256:1", passed=1, failed=0)


def test_a_long_miss_is_recorded_on_one_line() -> None:
    long = CheckResult(
        name="a", passed=False, passes=0, answers=1, score=0, minimum=1, misses=(Miss("p\n" * 99, "x" * 99, ""),)
    )
    (miss,) = recorded_checks(check_results("", (long,))).misses
    assert miss == RecordedMiss("a", "p " * 39 + "p…", "x" * 79 + "…")


def test_where_there_is_no_answer_the_reason_stands() -> None:
    blocked = evaluate_check(SMALL, [verdicts(next(questions(SMALL, ())), reply(blocked="SAFETY"))])
    (miss,) = recorded_checks(check_results("", (blocked,))).misses
    assert miss == RecordedMiss("small", "8", "(blocked: SAFETY)")


def test_three_misses_are_enough() -> None:
    results = tuple(replace(judge(SMALL, "10"), name=name) for name in "abcdef")
    recorded = recorded_checks(check_results("", results))
    assert ([miss.check for miss in recorded.misses], recorded.failed) == (["a", "b", "c"], 6)


@each_row(
    ("scores", "best"),
    [
        ({"1": (1.0, 1.0), "2": (1.0, 1.0)}, "2"),
        ({"1": (1.0, 1.0), "2": (1.0, 0.9)}, "1"),
        ({"1": (0.4, 1.0), "2": (0.6, 0.6), "3": (0.4, 1.0)}, "2"),
        ({"1": (0.4, 1.0), "2": (0.4, 0.9)}, "1"),
        ({"1": (0.1, 0.1), "2": (0.2, 0.2), "3": (0.1, 0.2)}, "2"),
        ({"7": (0.0, 0.0)}, "7"),
    ],
)
def test_the_best_checkpoint_passes_most_checks_then_has_the_best_score_and_is_the_latest(
    scores: dict[str, tuple[float, ...]], best: str
) -> None:
    """A check passes with half of the answers."""
    digest = "sha256:" + "0" * 64
    reports = [
        check_results(
            digest,
            (
                CheckResult(name=str(number), passed=score >= 0.5, passes=0, answers=0, score=score, minimum=0.5)
                for number, score in enumerate(own)
            ),
        )
        for own in scores.values()
    ]
    chosen = choose_best(replace(report, checkpoint=name) for name, report in zip(scores, reports, strict=True))
    assert chosen.checkpoint == best
    assert [candidate.checkpoint for candidate in chosen.candidates] == list(scores)
    assert recorded_checks(chosen).candidates == chosen.candidates
