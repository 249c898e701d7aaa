"""Evaluate the answers of checks; the time is linear in the length of an answer."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cache
from math import sqrt
from types import MappingProxyType
from typing import Any, Final, Protocol

import rfc8785
from msgspec import Struct

from reconciler.domain.checks import (
    Check,
    CheckResult,
    CheckResults,
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
)
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.model import Example
from reconciler.domain.ports import Answer, Reply
from reconciler.domain.text import shorten

_MOST_INSTRUCTIONS = 50_000
"""The largest program of an expression; a search takes at most this many steps for each character of the text."""


class Expression(Protocol):
    """A compiled expression."""

    def search(self, text: str) -> object | None:
        """Return a match or ``None``; the text must be valid UTF-8."""
        ...


class ExpressionError(ValueError):
    """The text is not a valid RE2 expression, or one that is too large; the message is the reason."""


@cache
def compile_expression(expression: str) -> Expression:
    """Return the compiled expression.

    Raises:
        ExpressionError: with the reason of the library.
    """
    # Imported here because most runs use no expressions.
    import re2  # type: ignore[import-untyped]  # the library has no types

    options = re2.Options()
    options.log_errors = False  # the library would write to standard error
    try:
        found = re2.compile(expression, options)
    except re2.error as error:
        reason: str | bytes = error.args[0]
        raise ExpressionError(reason.decode(errors="replace") if isinstance(reason, bytes) else reason) from None
    except UnicodeEncodeError:
        raise ExpressionError("unpaired surrogate") from None
    if found.programsize > _MOST_INSTRUCTIONS:
        raise ExpressionError("pattern too large")
    searchable: Expression = found
    return searchable


_VERSION: Final = 1
_TRUNCATED: Final = "MAX_TOKENS"
_CONFIDENCE: Final = 0.95
_TOLERANCE: Final = 1e-9
"""How far a share may be below the minimum: more than a rounding error, less than one answer."""
_SCORE_DIGITS: Final = 4
_RECORDED_MISSES: Final = 3
_RECORDED_CHARACTERS: Final = 80
_QUOTED_CHARACTERS: Final = 60


class OtherAnswers(Struct, frozen=True):
    """The answers of a model that a generation is compared with: whether each is correct, in the order of the rows.

    ``model`` is the remote name of a base model or the key of a generation. With a reason in ``skipped`` the model was
    not asked.
    """

    model: str = ""
    correct: Sequence[bool] = ()
    skipped: str = ""


class Question(Struct, frozen=True):
    """One prompt of a check, without preamble, and the expectation for its ``candidates`` answers."""

    prompt: str
    expect: Expectation
    candidates: int = 1


Verdict = Miss | None
"""The reason why an answer fails, or ``None`` if it passes."""


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
        content |= _comparisons(data.comparisons)
    else:
        expect = {check.expect.kind: sorted(set(check.expect.values))} if check.expect else None
        content |= {"prompt": check.prompt, "expect": expect, "candidates": check.candidates, "minPass": check.min_pass}
    return {name: value for name, value in content.items() if value is not None}


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
                yield Question(
                    normalize_newlines(example.input), Expectation("equals", (example.output,)), check.candidates
                )
    elif check.expect:
        yield Question(check.prompt, check.expect, check.candidates)


def longest_answer(expect: Expectation) -> int | None:
    """Return the bytes of the longest answer that can pass; ``None`` if an answer of any length can."""
    if expect.kind not in {"equals", "oneOf"}:
        return None
    return max(len(text.encode(errors="replace")) for text in expect.values)


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


def passes(expectation: Expectation, text: str) -> bool:
    """Return whether an answer is as expected, without regard to surrounding whitespace and line endings.

    Raises:
        ExpressionError: if an expression is invalid, which validation prevents.
    """
    test, answer = _TESTS[expectation.kind], _plain(text)
    return any(test(answer, normalize_newlines(value)) for value in expectation.values)


def _plain(text: str) -> str:
    """Return the text with LF line endings, and without surrounding whitespace and unpaired surrogates.

    JSON can contain unpaired surrogates; RE2 and files cannot.
    """
    return normalize_newlines(text).strip().encode(errors="replace").decode()


def _equals(answer: str, value: str) -> bool:
    return answer == value.strip()


def _contains(answer: str, value: str) -> bool:
    return value in answer


def _matches(answer: str, value: str) -> bool:
    return compile_expression(value).search(answer) is not None


_TESTS: Final[Mapping[ExpectationKind, Callable[[str, str], bool]]] = {
    "equals": _equals,
    "oneOf": _equals,
    "contains": _contains,
    "matches": _matches,
}
_WANTED: Final[Mapping[ExpectationKind, str]] = {
    "equals": "expected",
    "oneOf": "expected one of",
    "contains": "does not contain",
    "matches": "does not match",
}


def verdicts(question: Question, reply: Reply) -> tuple[Verdict, ...]:
    """Return a verdict for each requested answer; a missing answer fails."""
    answers = reply.answers[: question.candidates]
    given = (_evaluate(question, answer, reply.blocked) for answer in answers)
    absent = Miss(question.prompt, "", f"blocked: {reply.blocked}" if reply.blocked else "no answer")
    return (*given, *[absent] * (question.candidates - len(answers)))


def _evaluate(question: Question, answer: Answer, blocked: str) -> Verdict:
    text = _plain(answer.text)
    reason = _failure(question.expect, text, answer.finish, blocked)
    return Miss(question.prompt, text, reason) if reason else None


def _failure(expect: Expectation, text: str, finish: str, blocked: str) -> str:
    """Return why an answer fails, empty if it passes; a blocked answer fails even if it has text."""
    if finish not in {"", _TRUNCATED}:
        return f"blocked: {finish}"
    if text and passes(expect, text):
        return ""
    if finish:
        return f"truncated: {finish}"
    if not text:
        return f"blocked: {blocked}" if blocked else "the answer is empty"
    return f"{_WANTED[expect.kind]} {shorten(', '.join(expect.values), _QUOTED_CHARACTERS)}"


References = Mapping[ComparedModel, OtherAnswers]
"""The answers of each model that a check compares with."""


def is_correct(found: Iterable[Verdict]) -> bool:
    """Return whether all answers to a question pass."""
    return all(verdict is None for verdict in found)


def evaluate_check(
    check: Check, found: Iterable[tuple[Verdict, ...]], references: References = MappingProxyType({})
) -> CheckResult:
    """Return the result of a check from the verdicts on its questions, in their order.

    The share of correct answers is not rounded: 2 of 3 do not reach a ``minPass`` of 0.67.
    """
    rows = list(found)
    all_verdicts = [verdict for question in rows for verdict in question]
    misses = tuple(verdict for verdict in all_verdicts if verdict is not None)
    answers, right = len(all_verdicts), len(all_verdicts) - len(misses)
    evaluation = check.evaluation
    minimum = evaluation.minimum if evaluation else check.min_pass
    low, high = wilson_interval(right, answers) if evaluation else (0.0, 1.0)
    correct = list(map(is_correct, rows))
    compared = [(rule, references[rule.other]) for rule in evaluation.comparisons] if evaluation else []
    comparisons = tuple(compare(rule, correct, other) for rule, other in compared if not other.skipped)
    return CheckResult(
        name=check.name,
        passed=right >= (minimum - _TOLERANCE) * answers and all(comparison.passed for comparison in comparisons),
        passes=right,
        answers=answers,
        score=round(right / answers, _SCORE_DIGITS) if answers else 0.0,
        minimum=minimum,
        interval=_rounded(low, high) if evaluation else None,
        leaked=evaluation.leaked if evaluation else 0,
        comparisons=comparisons,
        skipped={rule.other: other.skipped for rule, other in compared if other.skipped},
        misses=misses,
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


def recorded_checks(report: CheckResults) -> RecordedChecks:
    """Return the part of a report for the lockfile: counts, scores, and one miss of each of the first failed checks."""
    failures = [result for result in report.results if not result.passed and result.misses]
    return RecordedChecks(
        digest=report.digest,
        passed=report.passed,
        failed=report.failed,
        scores={result.name: result.score for result in report.results if result.interval},
        comparisons={
            result.name: tuple(map(_recorded_comparison, result.comparisons))
            for result in report.results
            if result.comparisons
        },
        misses=tuple(_recorded(result.name, result.misses[0]) for result in failures[:_RECORDED_MISSES]),
    )


def _recorded_comparison(comparison: Comparison) -> RecordedComparison:
    return RecordedComparison(**{name: getattr(comparison, name) for name in RecordedComparison.__struct_fields__})


def _recorded(check: str, miss: Miss) -> RecordedMiss:
    """Return the miss for the lockfile, with the reason in place of a missing answer."""
    answer = miss.answer or f"({miss.reason})"
    return RecordedMiss(check, shorten(miss.prompt, _RECORDED_CHARACTERS), shorten(answer, _RECORDED_CHARACTERS))
