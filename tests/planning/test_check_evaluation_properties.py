"""What holds for every check, whatever is answered."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.checks import Check, ComparisonRule, Evaluation, Expectation, Miss, check_results
from reconciler.domain.model import Example
from reconciler.domain.ports import Answer, Reply
from reconciler.planning.check_evaluation import (
    Verdict,
    checks_digest,
    evaluate_check,
    paired_interval,
    question_count,
    questions,
    recorded_checks,
    verdicts,
    wilson_interval,
)
from support.core_strategies import digests, names, texts

shares = st.floats(0, 1)
expectations = st.builds(
    Expectation,
    st.sampled_from(["equals", "contains", "oneOf"]),
    st.lists(texts(min_size=1), min_size=1, max_size=3).map(tuple),
    negated=st.booleans(),
    weight=st.sampled_from([1.0, 0.5]),
)
evaluations = st.builds(
    Evaluation,
    path=texts(),
    digest=digests(),
    examples=st.integers(1, 60),
    minimum=shares,
    sample=st.none() | st.integers(1, 80),
    leaked=st.integers(0, 60),
)
prompt_checks = st.builds(
    Check,
    names(),
    prompt=texts(min_size=1),
    expect=st.lists(expectations, min_size=1, max_size=2).map(tuple),
    threshold=st.none() | st.floats(0.1, 1),
    repeat=st.integers(1, 2),
    severity=st.sampled_from(["error", "warn"]),
    candidates=st.integers(1, 9),
    min_pass=shares,
    temperature=st.none() | st.floats(0, 2),
)
rules = st.builds(ComparisonRule, st.just("base"), st.just("better")) | st.builds(
    ComparisonRule, st.sampled_from(["base", "serving"]), st.just("noWorse"), shares
)
compared = st.builds(lambda evaluation, rule: replace(evaluation, comparisons=(rule,)), evaluations, rules) | st.builds(
    Evaluation, st.just("a.csv"), digests(), st.just(1), st.just(0.5)
)
compared_checks = st.builds(Check, names(), evaluation=compared)
evaluation_checks = st.builds(Check, names(), evaluation=evaluations)
all_checks = prompt_checks | evaluation_checks
answers = st.builds(Answer, st.text(st.characters()), st.sampled_from(["", "", "MAX_TOKENS", "SAFETY"]))
replies = st.builds(Reply, st.lists(answers, max_size=4).map(tuple), st.sampled_from(["", "SAFETY"]))
verdicts_of_one = st.builds(Verdict, shares, st.none() | st.builds(Miss, texts(), texts(), texts(min_size=1)))


def held_out(check: Check) -> list[Example]:
    count = check.evaluation.examples if check.evaluation else 0
    return [Example(f"in {at}", f"out {at}") for at in range(count)]


@given(st.lists(all_checks, max_size=4, unique_by=lambda one: one.name), st.data())
def test_a_digest_depends_on_no_path_and_no_order(checks: list[Check], data: st.DataObject) -> None:
    moved = [
        replace(one, evaluation=replace(one.evaluation, path=data.draw(texts()), leaked=0)) if one.evaluation else one
        for one in data.draw(st.permutations(checks))
    ]
    assert checks_digest(moved) == checks_digest(checks)


@given(all_checks | compared_checks, all_checks | compared_checks)
def test_checks_that_differ_in_what_they_ask_have_two_digests(one: Check, other: Check) -> None:
    def asked(check: Check) -> Check:
        ordered = tuple(replace(one, values=tuple(sorted(set(one.values)))) for one in check.expect)
        bare = check.evaluation and replace(check.evaluation, path="", examples=1, leaked=0)
        return replace(check, expect=ordered, evaluation=bare)

    assert (checks_digest([one]) == checks_digest([other])) == (asked(one) == asked(other))


@given(all_checks)
def test_as_many_questions_are_asked_as_were_announced(check: Check) -> None:
    asked = list(questions(check, held_out(check)))
    assert len(asked) == question_count(check)
    assert asked == list(questions(check, held_out(check)))


@given(evaluation_checks, st.integers(1, 80))
def test_a_sample_keeps_the_order_and_a_larger_one_contains_it(check: Check, sample: int) -> None:
    assert check.evaluation
    few = replace(check, evaluation=replace(check.evaluation, sample=sample))
    more = replace(check, evaluation=replace(check.evaluation, sample=sample + 1))
    smaller, larger = (list(questions(one, held_out(check))) for one in (few, more))
    order = [one.input for one in held_out(check)]
    assert [one.prompt for one in smaller] == sorted((one.prompt for one in smaller), key=order.index)
    assert {one.prompt for one in smaller} <= {one.prompt for one in larger}


@given(prompt_checks, replies)
def test_there_is_a_verdict_for_each_answer_that_was_asked_for(check: Check, reply: Reply) -> None:
    (question,) = questions(check, ())
    found = verdicts(question, reply)
    assert len(found) == check.candidates
    for miss in (verdict.miss for verdict in found if verdict.miss):
        assert miss.reason
        assert miss.answer.encode().decode() == miss.answer


@given(all_checks, st.lists(verdicts_of_one, min_size=1, max_size=20), st.data())
def test_one_right_answer_more_never_makes_it_worse(check: Check, found: list[Verdict], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(found) - 1))
    before = evaluate_check(check, [tuple(found)])
    after = evaluate_check(check, [(*found[:at], Verdict(1.0), *found[at + 1 :])])
    assert after.score >= before.score
    assert after.passed >= before.passed


@given(all_checks, st.lists(st.lists(verdicts_of_one, min_size=1, max_size=4).map(tuple), max_size=8))
def test_right_answers_and_misses_are_all_answers(check: Check, found: list[tuple[Verdict, ...]]) -> None:
    result = evaluate_check(check, found)
    assert result.passes + len(result.misses) == result.answers
    assert result.answers == (len(found) if check.evaluation else sum(map(len, found)))
    assert result.passed or result.score < result.minimum
    assert (result.interval is None) == (check.evaluation is None)


counts = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).map(sorted)


@given(counts)
def test_an_interval_contains_the_share_and_lies_between_0_and_1(count: list[int]) -> None:
    right, asked = count
    low, high = wilson_interval(right, asked)
    assert 0 <= low <= (right / asked if asked else 0.5) <= high <= 1
    assert low < high


@given(counts, st.integers(2, 50))
def test_an_interval_shrinks_with_the_number_of_answers(count: list[int], times: int) -> None:
    right, asked = count
    assume(asked)
    low, high = wilson_interval(right, asked)
    closer_low, closer_high = wilson_interval(times * right, times * asked)
    assert closer_high - closer_low < high - low


@given(counts)
def test_the_interval_of_the_wrong_ones_mirrors_that_of_the_right_ones(count: list[int]) -> None:
    right, asked = count
    low, high = wilson_interval(right, asked)
    mirrored_low, mirrored_high = wilson_interval(asked - right, asked)
    assert abs(low + mirrored_high - 1) < 1e-9
    assert abs(high + mirrored_low - 1) < 1e-9


@given(st.lists(st.tuples(all_checks, st.lists(verdicts_of_one, min_size=1, max_size=5).map(tuple)), max_size=6))
def test_what_is_recorded_is_bounded(ran: list[tuple[Check, tuple[Verdict, ...]]]) -> None:
    report = check_results("sha256:1", tuple(evaluate_check(check, [found]) for check, found in ran))
    recorded = recorded_checks(report)
    assert recorded.total == len(ran)
    assert len(recorded.misses) == min(3, recorded.failed)
    assert all(len(text) <= 80 for miss in recorded.misses for text in (miss.prompt, miss.answer))
    assert all("\n" not in text for miss in recorded.misses for text in (miss.prompt, miss.answer))
    assert set(recorded.scores) == {check.name for check, _ in ran if check.evaluation}
    assert all(score == round(score, 4) for score in recorded.scores.values())


tables = st.tuples(*[st.integers(0, 30) | st.integers(0, 10**6)] * 4)


@given(tables)
def test_an_interval_of_a_difference_contains_it_and_lies_between_minus_1_and_1(table: tuple[int, ...]) -> None:
    both, first, second, neither = table
    low, high = paired_interval(both, first, second, neither)
    rows = sum(table)
    assert -1 <= low < high <= 1
    assert low <= ((first - second) / rows if rows else 0) <= high


@given(tables)
def test_an_interval_of_a_difference_is_antisymmetric(table: tuple[int, ...]) -> None:
    both, first, second, neither = table
    low, high = paired_interval(both, first, second, neither)
    other_low, other_high = paired_interval(both, second, first, neither)
    assert abs(low + other_high) < 1e-12
    assert abs(high + other_low) < 1e-12


@given(st.integers(0, 10**4), st.integers(0, 10**4))
def test_without_a_row_that_differs_no_difference_is_shown(both: int, neither: int) -> None:
    low, high = paired_interval(both, 0, 0, neither)
    assert abs(low + high) < 1e-12
    assert low < 0 < high


@given(st.integers(1, 10**4))
def test_models_that_differ_in_every_row_are_told_apart(rows: int) -> None:
    low, high = paired_interval(0, rows, 0, 0)
    assert (low > 0, high) == (rows > 1, 1.0)
