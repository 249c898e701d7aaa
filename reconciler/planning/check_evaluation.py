"""Whether answers pass checks: pure, reproducible, and linear in the length of an answer."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

import rfc8785

from reconciler.domain.checks import (
    Check,
    CheckReport,
    CheckResult,
    Evaluation,
    Expectation,
    ExpectationKind,
    Miss,
    RecordedChecks,
    RecordedMiss,
)
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.inference import Answer, Reply
from reconciler.domain.model import Example
from reconciler.domain.text import shorten

_MOST_INSTRUCTIONS = 50_000
"""The largest program of an expression. The time of a search is at worst this, times the length of the text."""


class Expression(Protocol):
    """A compiled expression."""

    def search(self, text: str) -> object | None:
        """Something where the expression is found in the text, else ``None``; the text must have a form in UTF-8."""
        ...


class ExpressionError(ValueError):
    """The text is no regular expression of RE2, or one that takes too long; the message is the reason."""


@cache
def compiled(expression: str) -> Expression:
    """The expression, ready to be searched for; raises ExpressionError, with the library's own reason."""
    # Here, because most runs compare nothing with expressions.
    import re2  # type: ignore[import-untyped]  # the library has no types

    options = re2.Options()
    options.log_errors = False  # it would write to standard error itself
    try:
        found = re2.compile(expression, options)
    except re2.error as error:
        raise ExpressionError(_reason(error.args[0])) from None
    except UnicodeEncodeError:
        raise ExpressionError("half of a surrogate pair") from None
    if found.programsize > _MOST_INSTRUCTIONS:
        raise ExpressionError("pattern too large")
    searchable: Expression = found
    return searchable


def _reason(told: str | bytes) -> str:
    """What the library says; most of it as bytes."""
    return told.decode(errors="replace") if isinstance(told, bytes) else told


_VERSION: Final = 1
_CUT_SHORT: Final = "MAX_TOKENS"
_CONFIDENCE: Final = 0.95
_TOLERANCE: Final = 1e-9
"""What a share may fall short of the minimum by: the error of a division, and no answer's worth."""
_SCORE_DIGITS: Final = 4
_RECORDED_MISSES: Final = 3
_RECORDED_CHARACTERS: Final = 80
_QUOTED_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt of a check, without preamble, and what each of its ``candidates`` answers is held to."""

    prompt: str
    expect: Expectation
    candidates: int = 1


Verdict = Miss | None
"""What is wrong with an answer; ``None`` where it passes."""


def checks_digest(checks: Iterable[Check]) -> str:
    """The ``sha256:`` digest of all that decides about these checks, as RFC 8785 canonical JSON.

    Their order, the path of a data set, its size and what of it has leaked decide nothing. What is not declared is
    absent, so that digests stay as they are when checks learn more.
    """
    contents = [_content(check) for check in sorted(checks, key=lambda check: check.name)]
    return f"sha256:{hashlib.sha256(rfc8785.dumps({'v': _VERSION, 'checks': contents})).hexdigest()}"


def _content(check: Check) -> dict[str, Any]:
    asked = _evaluation_content(check.evaluation) if check.evaluation else _prompt_content(check)
    return _declared({"name": check.name, "temperature": check.temperature, **asked})


def _prompt_content(check: Check) -> dict[str, Any]:
    expect = {check.expect.kind: sorted(set(check.expect.values))} if check.expect else None
    return {"prompt": check.prompt, "expect": expect, "candidates": check.candidates, "minPass": check.min_pass}


def _evaluation_content(one: Evaluation) -> dict[str, Any]:
    return {"data": one.digest, "metric": one.metric, "minimum": one.minimum, "sample": one.sample}


def _declared(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not None}


def questions(check: Check, held_out: Iterable[Example]) -> Iterator[Question]:
    """What a check asks; ``held_out`` are the examples of its evaluation, read to their end and never kept.

    A sample depends on the data and its size alone: it is the same in every run, on every machine, and each larger
    one contains it. It keeps the order of the data set.
    """
    if check.evaluation:
        chosen = _chosen(check.evaluation)
        for at, example in enumerate(held_out):
            if at in chosen:
                yield Question(
                    normalize_newlines(example.input), Expectation("equals", (example.output,)), check.candidates
                )
    elif check.expect:
        yield Question(check.prompt, check.expect, check.candidates)


def question_count(check: Check) -> int:
    """How many questions a check asks."""
    one = check.evaluation
    if one is None:
        return 1
    return one.examples if one.sample is None else min(one.sample, one.examples)


def _chosen(evaluation: Evaluation) -> Container[int]:
    """The indices of the examples that are asked: the first ones in the order of their digests."""
    everything, sample = range(evaluation.examples), evaluation.sample
    if sample is None or sample >= evaluation.examples:
        return everything

    def rank(at: int) -> bytes:
        return hashlib.sha256(f"{evaluation.digest}:{at}".encode()).digest()

    return frozenset(heapq.nsmallest(sample, everything, key=rank))


def passes(expectation: Expectation, text: str) -> bool:
    """Whether an answer is what is expected; white space at its ends does not count, nor what ends its lines.

    Raises:
        ExpressionError: what should match is no regular expression; validation lets none through.
    """
    test, answer = _TESTS[expectation.kind], _plain(text)
    return any(test(answer, normalize_newlines(value)) for value in expectation.values)


def _plain(text: str) -> str:
    """The text without white space at its ends, each line ended by LF, and without halves of surrogate pairs.

    JSON can spell such halves; neither RE2 nor a file takes them.
    """
    return normalize_newlines(text).strip().encode(errors="replace").decode()


def _equals(answer: str, value: str) -> bool:
    return answer == value.strip()


def _contains(answer: str, value: str) -> bool:
    return value in answer


def _matches(answer: str, value: str) -> bool:
    return compiled(value).search(answer) is not None


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
    """A verdict for each answer that was asked for; one that did not come is a miss too."""
    answers = reply.answers[: question.candidates]
    given = (_verdict(question, answer, reply.blocked) for answer in answers)
    absent = Miss(question.prompt, "", f"blocked: {reply.blocked}" if reply.blocked else "no answer came")
    return (*given, *[absent] * (question.candidates - len(answers)))


def _verdict(question: Question, answer: Answer, blocked: str) -> Verdict:
    text = _plain(answer.text)
    why = _why(question.expect, text, answer.finish, blocked)
    return Miss(question.prompt, text, why) if why else None


def _why(expect: Expectation, text: str, finish: str, blocked: str) -> str:
    """Why an answer does not pass, empty where it does; one that was withheld never does, whatever is left of it."""
    if finish not in {"", _CUT_SHORT}:
        return f"blocked: {finish}"
    if text and passes(expect, text):
        return ""
    if finish:
        return f"cut short: {finish}"
    if not text:
        return f"blocked: {blocked}" if blocked else "the answer is empty"
    return f"{_WANTED[expect.kind]} {shorten(', '.join(expect.values), _QUOTED_CHARACTERS)}"


def judged(check: Check, found: Iterable[tuple[Verdict, ...]]) -> CheckResult:
    """How a check went, from the verdicts on its questions in their order.

    The share of right answers is compared as it is, not rounded: 2 of 3 do not reach a ``minPass`` of 0.67.
    """
    all_verdicts = [verdict for one in found for verdict in one]
    misses = tuple(verdict for verdict in all_verdicts if verdict is not None)
    answers, right = len(all_verdicts), len(all_verdicts) - len(misses)
    evaluation = check.evaluation
    minimum = evaluation.minimum if evaluation else check.min_pass
    return CheckResult(
        name=check.name,
        passed=right >= (minimum - _TOLERANCE) * answers,
        passes=right,
        answers=answers,
        minimum=minimum,
        misses=misses,
        interval=wilson_interval(right, answers) if evaluation else None,
        leaked=evaluation.leaked if evaluation else 0,
    )


def wilson_interval(right: int, answers: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share by Wilson's score, which holds for few answers and at 0 and 1 too.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). The
    ends are kept beside the share, which they may miss by a rounding error where all answers agree.
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


def recorded_checks(report: CheckReport) -> RecordedChecks:
    """What a lockfile keeps of a report: counts, scores of evaluations, and a miss each of the first failed checks."""
    failures = [one for one in report.results if not one.passed and one.misses]
    return RecordedChecks(
        digest=report.digest,
        passed=report.passed,
        failed=report.failed,
        scores={one.name: round(one.score, _SCORE_DIGITS) for one in report.results if one.interval},
        misses=tuple(_recorded(one.name, one.misses[0]) for one in failures[:_RECORDED_MISSES]),
    )


def _recorded(check: str, miss: Miss) -> RecordedMiss:
    """Where there is no answer, the reason stands in its place."""
    answer = miss.answer or f"({miss.reason})"
    return RecordedMiss(check, shorten(miss.prompt, _RECORDED_CHARACTERS), shorten(answer, _RECORDED_CHARACTERS))
