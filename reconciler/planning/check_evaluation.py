"""Evaluate the answers of checks; the time is linear in the length of an answer."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from math import fsum, sqrt
from types import MappingProxyType
from typing import Any, Final

import rfc8785
from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import (
    Check,
    CheckpointScore,
    CheckResult,
    CheckResults,
    ComparedAnswer,
    ComparedModel,
    Comparison,
    ComparisonRule,
    DifferentRow,
    Evaluation,
    Expectation,
    Judge,
    Miss,
    RecordedChecks,
    RecordedComparison,
    RecordedMiss,
)
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.model import Example
from reconciler.domain.ports import Answer, Reply
from reconciler.domain.text import shorten
from reconciler.planning.check_judge import JUDGE_VERSION, too_long_to_judge
from reconciler.planning.check_metrics import Grade, grade, plain

_VERSION: Final = 1
_TRUNCATED: Final = "MAX_TOKENS"
_CONFIDENCE: Final = 0.95
_TOLERANCE: Final = 1e-9
"""How far a share may be below the minimum: more than a rounding error, less than one answer."""
_SCORE_DIGITS: Final = 4
_RECORDED_MISSES: Final = 3
_RECORDED_CHARACTERS: Final = 80
_GRADED: Final = frozenset({"similar", "bleu", "chrf", "llm-rubric"})
_RUBRIC: Final = "llm-rubric"
DEFAULT_RUBRIC: Final = 'The answer has the same meaning as "expected".'
COMPARABLE_ROWS: Final = 1000
"""The rows of a data set whose answers are kept for a report that shows models side by side."""
_SHOWN_ROWS: Final = 20
_SHOWN_CHARACTERS: Final = 500


class OtherAnswers(Struct, frozen=True):
    """The answers of a model that a generation is compared with: whether each is correct, in the order of the rows.

    ``model`` is the remote name of a base model or the key of a generation. With a reason in ``skipped`` the model was
    not asked. ``mean_score`` is that of a graded check, and ``answers`` has those of the first rows.
    """

    model: str = ""
    correct: Sequence[int] = ()
    skipped: str = ""
    mean_score: float | None = None
    answers: Mapping[int, str] = MappingProxyType({})


class Question(Struct, frozen=True):
    """One prompt of a check, without preamble, and what is expected of its ``candidates`` answers.

    With a ``threshold``, the weighted mean of the scores of an answer decides. ``reference`` is a correct answer for a
    judge.
    """

    prompt: str
    expect: tuple[Expectation, ...]
    candidates: int = 1
    threshold: float | None = None
    reference: str = ""


class Verdict(Struct, frozen=True):
    """The evaluation of one answer: its score from 0 to 1, and why it fails, or ``None`` if it passes."""

    score: float
    miss: Miss | None = None
    answer: str = ""


class ShownAnswer(Struct, frozen=True):
    """What a report can show of a question: the prompt and one answer, shortened."""

    prompt: str
    answer: str


Grades = Mapping[tuple[str, Expectation], Grade]
"""The grades that a judge gave to plain answers."""


def checks_digest(checks: Iterable[Check]) -> str:
    """Return the ``sha256:`` digest of everything that affects the results, as RFC 8785 canonical JSON.

    The order of checks and the path, size and leaks of a data set do not affect it. Fields that are not declared are
    absent, so that new fields do not change digests.
    """
    contents = [_content(check) for check in sorted(checks, key=lambda check: check.name)]
    return f"sha256:{hashlib.sha256(rfc8785.dumps({'v': _VERSION, 'checks': contents})).hexdigest()}"


def _content(check: Check) -> dict[str, Any]:
    content: dict[str, Any] = {"name": check.name, "temperature": check.temperature}
    if check.evaluation:
        data = check.evaluation
        content |= {"data": data.digest, "metric": data.metric, "minimum": data.minimum, "sample": data.sample}
        content |= {"threshold": data.threshold, "rubric": data.rubric or None}
        content |= _comparisons(data.comparisons)
    else:
        content |= {"prompt": check.prompt, "candidates": check.candidates, "minPass": check.min_pass}
        content |= _expected(check.expect) | {"threshold": check.threshold}
    content |= {
        "repeat": check.repeat if check.repeat > 1 else None,
        "severity": check.severity if check.severity != "error" else None,
        "judge": _judge(check.judge) if check.judge and rubrics(check) else None,
    }
    return {name: value for name, value in content.items() if value is not None}


def _expected(expectations: Sequence[Expectation]) -> dict[str, Any]:
    """Return the form of ``expect`` for one expectation without options, also if ``assert`` declares it."""
    if len(expectations) == 1 and expectations[0] == Expectation(expectations[0].kind, expectations[0].values):
        return {"expect": {expectations[0].kind: sorted(set(expectations[0].values))}}
    return {"assert": [_assertion(expectation) for expectation in expectations]} if expectations else {}


def _assertion(expectation: Expectation) -> dict[str, Any]:
    content = {
        "type": expectation.kind,
        "values": sorted(set(expectation.values)),
        "threshold": expectation.threshold,
        "not": expectation.negated or None,
        "weight": None if expectation.weight == 1 else expectation.weight,
    }
    return {name: value for name, value in content.items() if value is not None}


def _judge(judge: Judge) -> dict[str, Any]:
    content = {"model": judge.model, "endpoint": judge.endpoint, "prompt": judge.prompt}
    named = {name: value for name, value in content.items() if value}
    return named | {"temperature": judge.temperature, "v": JUDGE_VERSION}


def _comparisons(rules: Iterable[ComparisonRule]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for rule in rules:
        content.setdefault(rule.required, {})[rule.other] = rule.margin
    return content


def questions(check: Check, held_out: Iterable[Example]) -> Iterator[Question]:
    """Return the questions of a check; ``held_out`` has the examples of its evaluation and is read as a stream.

    A sample depends only on the data and its size: it is the same in every run and on every machine, a larger sample
    contains it, and it has the order of the data set.
    """
    if check.evaluation:
        chosen = _chosen(check.evaluation)
        for index, example in enumerate(held_out):
            if index in chosen:
                yield _row(check.evaluation, example)
    elif check.expect:
        yield Question(check.prompt, check.expect, check.candidates, check.threshold)


def _row(data: Evaluation, example: Example) -> Question:
    prompt, values = normalize_newlines(example.input), (example.output,)
    if data.metric == "exactMatch":
        return Question(prompt, (Expectation("equals", values),))
    if data.metric == _RUBRIC:
        rubric = Expectation(_RUBRIC, (data.rubric or DEFAULT_RUBRIC,), data.threshold)
        return Question(prompt, (rubric,), reference=example.output)
    return Question(prompt, (Expectation(data.metric, values, data.threshold),))


def rubrics(check: Check) -> int:
    """Return how many rubrics a judge evaluates each answer by."""
    if check.evaluation:
        return int(check.evaluation.metric == _RUBRIC)
    return sum(expectation.kind == _RUBRIC for expectation in check.expect)


def is_graded(check: Check) -> bool:
    """Return whether the answers have scores between 0 and 1."""
    if check.evaluation:
        return check.evaluation.metric != "exactMatch"
    return check.threshold is not None or any(expectation.kind in _GRADED for expectation in check.expect)


def prompts_for(check: Check, models: int) -> int:
    """Return how many prompts a check sends at most to that many models and to its judge."""
    return question_count(check) * check.repeat * models * (1 + check.candidates * rubrics(check))


def most_prompts(checks: Iterable[Check]) -> int:
    """Return how many prompts checks send at most, also to the models that they compare with and to judges."""
    return sum(
        prompts_for(check, 1 + len({rule.other for rule in check.evaluation.comparisons} if check.evaluation else ()))
        for check in checks
    )


def longest_answer(question: Question) -> int | None:
    """Return the bytes of the longest answer that can pass; ``None`` if an answer of any length can."""
    if question.threshold is not None:
        return None
    exact = [
        max(len(text.encode(errors="replace")) for text in expectation.values)
        for expectation in question.expect
        if expectation.kind in {"equals", "oneOf"} and not expectation.negated and expectation.weight
    ]
    return min(exact, default=None)


def question_count(check: Check) -> int:
    """Return the number of questions of a check."""
    data = check.evaluation
    if data is None:
        return 1
    return data.examples if data.sample is None else min(data.sample, data.examples)


def _chosen(evaluation: Evaluation) -> Container[int]:
    """Return the indices of the sampled examples: the first ones in the order of their digests."""
    everything, sample = range(evaluation.examples), evaluation.sample
    if sample is None or sample >= evaluation.examples:
        return everything

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{evaluation.digest}:{index}".encode()).digest()

    return frozenset(heapq.nsmallest(sample, everything, key=rank))


def rubrics_to_judge(question: Question, answer: Answer) -> tuple[Expectation, ...]:
    """Return the rubrics that a judge must evaluate an answer by: none if it fails without them."""
    text = plain(answer.text)
    if not text or answer.finish not in {"", _TRUNCATED} or too_long_to_judge(text):
        return ()
    plainly = [expectation for expectation in question.expect if expectation.kind != _RUBRIC and expectation.weight]
    if question.threshold is None and any(grade(expectation, text).reason for expectation in plainly):
        return ()
    return tuple(expectation for expectation in question.expect if expectation.kind == _RUBRIC and expectation.weight)


def verdicts(question: Question, reply: Reply, judged: Grades = MappingProxyType({})) -> tuple[Verdict, ...]:
    """Return a verdict for each requested answer; a missing answer fails.

    ``judged`` has the grades for the :func:`rubrics_to_judge` of each answer.
    """
    answers = reply.answers[: question.candidates]
    given = (_evaluate(question, answer, reply.blocked, judged) for answer in answers)
    reason = f"blocked: {reply.blocked}" if reply.blocked else "no answer"
    absent = Verdict(0.0, Miss(question.prompt, "", reason))
    return (*given, *[absent] * (question.candidates - len(answers)))


def _evaluate(question: Question, answer: Answer, blocked: str, judged: Grades) -> Verdict:
    """Return the verdict on an answer; a blocked answer fails even if it has text."""
    text = plain(answer.text)
    if answer.finish not in {"", _TRUNCATED}:
        return Verdict(0.0, Miss(question.prompt, text, f"blocked: {answer.finish}"), text)
    score, reason = _combined(question, text, judged) if text else (0.0, "the answer is empty")
    if reason and answer.finish:
        reason = f"truncated: {answer.finish}"
    elif not text and blocked:
        reason = f"blocked: {blocked}"
    return Verdict(score, Miss(question.prompt, text, reason) if reason else None, text)


def _combined(question: Question, text: str, judged: Grades) -> tuple[float, str]:
    """Return the weighted mean of the scores of an answer, and why it fails, empty if it passes."""
    counted = sorted(
        filter(lambda expectation: expectation.weight, question.expect),
        key=lambda expectation: expectation.kind == _RUBRIC,
    )
    weighted = [(_grade(expectation, text, judged), expectation.weight) for expectation in counted]
    score = fsum(graded.score * weight for graded, weight in weighted) / fsum(weight for _, weight in weighted)
    reason = next((graded.reason for graded, _ in weighted if graded.reason), "")
    if question.threshold is None:
        return score, reason
    if score >= question.threshold - _TOLERANCE:
        return score, ""
    return score, f"score {score:.2f}, {question.threshold:.4g} required: {reason or 'no expectation fails'}"


def _grade(expectation: Expectation, text: str, judged: Grades) -> Grade:
    if expectation.kind != _RUBRIC:
        return grade(expectation, text)
    reason = too_long_to_judge(text) or "not judged, because the answer fails without it"
    return judged.get((text, expectation), Grade(0.0, reason))


References = Mapping[ComparedModel, OtherAnswers]
"""The answers of each model that a check compares with."""


def is_correct(found: Iterable[Verdict]) -> bool:
    """Return whether all answers to a question pass."""
    return all(verdict.miss is None for verdict in found)


def shown_answer(question: Question, found: Sequence[Verdict]) -> ShownAnswer:
    """Return the first wrong answer to a question, or the first answer, for a report."""
    verdict = next((verdict for verdict in found if verdict.miss), found[0])
    text = verdict.answer or (f"({verdict.miss.reason})" if verdict.miss else "")
    return ShownAnswer(_cut(question.prompt), _cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def mean_score(check: Check, scores: Iterable[float]) -> float | None:
    """Return the mean of the scores of a graded check, which does not depend on their order; else ``None``."""
    found = list(scores) if is_graded(check) else []
    return round(fsum(found) / len(found), _SCORE_DIGITS) if found else None


def evaluate_check(
    check: Check,
    found: Iterable[tuple[Verdict, ...]],
    references: References = MappingProxyType({}),
    shown: Mapping[int, ShownAnswer] = MappingProxyType({}),
    judge: str = "",
) -> CheckResult:
    """Return the result of a check from the verdicts on its questions, in their order.

    The share of correct answers is not rounded: 2 of 3 do not reach a ``minPass`` of 0.67. A row of an evaluation
    counts once, however often it is repeated, because repeated answers are not independent. ``shown`` has answers to
    the first questions, and ``judge`` is the version of the model that judged.
    """
    rows = list(found)
    correct = list(map(is_correct, rows))
    evaluation = check.evaluation
    counted = [_first_miss(row) for row in rows] if evaluation else [verdict for row in rows for verdict in row]
    misses = tuple(verdict.miss for verdict in counted if verdict.miss is not None)
    answers, right = len(counted), len(counted) - len(misses)
    minimum = evaluation.minimum if evaluation else check.min_pass
    low, high = wilson_interval(right, answers) if evaluation else (0.0, 1.0)
    compared = [(rule, references[rule.other]) for rule in evaluation.comparisons] if evaluation else []
    comparisons = tuple(compare(rule, correct, other) for rule, other in compared if not other.skipped)
    different = list(_different_rows(correct, [(rule.other, other) for rule, other in compared if not other.skipped]))
    return CheckResult(
        name=check.name,
        passed=right >= (minimum - _TOLERANCE) * answers and all(comparison.passed for comparison in comparisons),
        passes=right,
        answers=answers,
        score=round(right / answers, _SCORE_DIGITS) if answers else 0.0,
        minimum=minimum,
        severity=check.severity,
        mean_score=mean_score(check, (verdict.score for row in rows for verdict in row)),
        interval=_rounded(low, high) if evaluation else None,
        leaked=evaluation.leaked if evaluation else 0,
        comparisons=comparisons,
        skipped={rule.other: other.skipped for rule, other in compared if other.skipped},
        misses=misses,
        different=len(different),
        rows=tuple(
            DifferentRow(shown[at].prompt, (*answers_of, ComparedAnswer("generation", shown[at].answer, correct[at])))
            for at, answers_of in different
            if at in shown
        )[:_SHOWN_ROWS],
        judge=judge,
    )


def _first_miss(row: Sequence[Verdict]) -> Verdict:
    return next((verdict for verdict in row if verdict.miss), row[0])


def _different_rows(
    correct: Sequence[bool], compared: Sequence[tuple[ComparedModel, OtherAnswers]]
) -> Iterator[tuple[int, tuple[ComparedAnswer, ...]]]:
    """Yield the positions of the rows that only some of the models answered correctly, with the others' answers."""
    for at, own in enumerate(correct):
        if any(bool(other.correct[at]) != own for _, other in compared):
            yield (
                at,
                tuple(
                    ComparedAnswer(name, other.answers.get(at, ""), bool(other.correct[at])) for name, other in compared
                ),
            )


def compare(rule: ComparisonRule, correct: Sequence[bool], other: OtherAnswers) -> Comparison:
    """Compare the answers of a generation with those of another model to the same rows.

    The difference and the bounds of the interval are not rounded before they are compared.
    """
    pairs = Counter(zip(correct, other.correct, strict=True))
    both, better, worse = pairs[True, True], pairs[True, False], pairs[False, True]
    rows = pairs.total()
    low, high = paired_interval(both, better, worse, pairs[False, False])
    passed = low > 0 if rule.required == "better" else better - worse >= -(rule.margin + _TOLERANCE) * rows
    return Comparison(
        other=rule.other,
        model=other.model,
        score=round((both + worse) / rows, _SCORE_DIGITS) if rows else 0.0,
        difference=round((better - worse) / rows, _SCORE_DIGITS) if rows else 0.0,
        interval=_rounded(low, high),
        mean_score=other.mean_score,
        passed=passed,
        required=rule.required,
        margin=rule.margin,
        better=better,
        worse=worse,
    )


def _rounded(low: float, high: float) -> tuple[float, float]:
    return round(low, _SCORE_DIGITS), round(high, _SCORE_DIGITS)


def wilson_interval(right: int, answers: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share by Wilson's score, which is valid for few answers, 0 and 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). A
    rounding error cannot exclude the share itself.
    """
    from statistics import NormalDist

    if not answers:
        return 0.0, 1.0
    share, z = right / answers, NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
    shrunk = z * z / answers
    middle = share + shrunk / 2
    reach = z * ((share * (1 - share) + shrunk / 4) / answers) ** 0.5
    low, high = (middle - reach) / (1 + shrunk), (middle + reach) / (1 + shrunk)
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def paired_interval(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of the difference of two shares that were measured on the same rows.

    ``first`` and ``second`` count the rows that only the first or only the second model answered correctly. The method
    combines the Wilson intervals of both shares and the correlation of the answers; it is valid for few rows, and for
    shares of 0 and 1.

    Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17 (1998), 2635-2650, method 10.
    """
    rows = both + first + second + neither
    if not rows:
        return -1.0, 1.0
    one, other = (both + first) / rows, (both + second) / rows
    one_low, one_high = wilson_interval(both + first, rows)
    other_low, other_high = wilson_interval(both + second, rows)
    correlation = _correlation(both, first, second, neither)

    def reach(of_one: float, of_other: float) -> float:
        return sqrt(max(0.0, of_one**2 - 2 * correlation * of_one * of_other + of_other**2))

    low = one - other - reach(one - one_low, other_high - other)
    high = one - other + reach(one_high - one, other - other_low)
    return max(-1.0, low), min(1.0, high)


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """Return the phi coefficient with the continuity correction of method 10; 0 where an outcome never occurs."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    product: float = both * neither - first * second
    if product > 0:
        product = max(0.0, product - (both + first + second + neither) / 2)
    return product / sqrt(margins) if margins else 0.0


def choose_best(reports: Iterable[CheckResults]) -> CheckResults:
    """Return the report of the best checkpoint, with the scores of all; the reports are in the order of the training.

    A checkpoint that passes all checks is better than others. Then the number of passed checks counts, and then the
    mean score. Of equally good checkpoints, the latest is the best.
    """
    ordered = tuple(reports)
    scores = tuple(
        CheckpointScore(
            checkpoint=report.checkpoint, passed=report.passed, failed=report.failed, score=_mean_score(report)
        )
        for report in ordered
    )
    ranks = [(not score.failed, score.passed, score.score, position) for position, score in enumerate(scores)]
    return replace(ordered[ranks.index(max(ranks))], candidates=scores)


def _mean_score(report: CheckResults) -> float:
    results = report.results
    scores = [result.score if result.mean_score is None else result.mean_score for result in results]
    return round(fsum(scores) / len(scores), _SCORE_DIGITS) if scores else 0.0


def recorded_checks(report: CheckResults) -> RecordedChecks:
    """Return the part of a report for the lockfile: counts, scores, and one miss of each of the first failed checks."""
    failures = [result for result in report.results if result.holds and result.misses]
    return RecordedChecks(
        digest=report.digest,
        passed=report.passed,
        failed=report.failed,
        warned=report.warned,
        judges={result.name: result.judge for result in report.results if result.judge},
        scores={result.name: result.score for result in report.results if result.interval},
        comparisons={
            result.name: tuple(map(_recorded_comparison, result.comparisons))
            for result in report.results
            if result.comparisons
        },
        misses=tuple(_recorded(result.name, result.misses[0]) for result in failures[:_RECORDED_MISSES]),
        checkpoint=report.checkpoint,
        candidates=report.candidates,
    )


def _recorded_comparison(comparison: Comparison) -> RecordedComparison:
    return RecordedComparison(**{name: getattr(comparison, name) for name in RecordedComparison.__struct_fields__})


def _recorded(check: str, miss: Miss) -> RecordedMiss:
    """Return the miss for the lockfile, with the reason in place of a missing answer."""
    answer = miss.answer or f"({miss.reason})"
    return RecordedMiss(check, shorten(miss.prompt, _RECORDED_CHARACTERS), shorten(answer, _RECORDED_CHARACTERS))
