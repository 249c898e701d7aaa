"""Checks as values: what a manifest expects of answers, and the results of a generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct, field

from reconciler.domain.document import Count, Digest, NonEmpty, Record, Share

ExpectationKind = Literal["equals", "contains", "matches", "oneOf"]


class Expectation(Struct, frozen=True):
    """An expected answer; whitespace at both ends is ignored.

    ``equals`` and ``oneOf`` compare with the whole of each value, ``contains`` looks for the value, ``matches`` for the
    regular expression (in RE2's syntax, https://github.com/google/re2/wiki/Syntax). Only ``oneOf`` has several values.
    """

    kind: ExpectationKind
    values: tuple[str, ...]


class Evaluation(Struct, frozen=True):
    """A held-out data set that a model is evaluated on.

    ``path`` is relative to the root, ``digest`` that of its examples without a preamble, ``examples`` their number.
    ``minimum`` is the least share of correct answers, ``sample`` the largest number of prompts (``None``: all).
    ``leaked`` counts examples whose inputs are also in the training data, for information only.
    """

    path: str
    digest: str
    examples: int
    minimum: float
    metric: Literal["exactMatch"] = "exactMatch"
    sample: int | None = None
    leaked: int = 0


class Check(Struct, frozen=True):
    """One check: a ``prompt`` and the expected answer (``expect``), or an ``evaluation``.

    ``prompt`` has no preamble. Of ``candidates`` answers the share ``min_pass`` must pass. ``temperature`` replaces the
    model's own if it is set.
    """

    name: str
    prompt: str = ""
    expect: Expectation | None = None
    candidates: int = 1
    min_pass: float = 1.0
    temperature: float | None = None
    evaluation: Evaluation | None = None


class Miss(Record, frozen=True):
    """One incorrect answer."""

    prompt: str
    """The prompt, without the preamble."""
    answer: str
    """The answer."""
    reason: str = field(name="why")
    """The reason why the check failed."""


class CheckResult(Record, frozen=True, kw_only=True):
    """The result of one check."""

    name: NonEmpty
    """The name of the check."""
    passed: bool
    """Whether enough answers were correct."""
    passes: Count
    """The number of correct answers."""
    answers: Count
    """The number of requested answers."""
    score: Share
    """The share of correct answers."""
    minimum: Share
    """The required share of correct answers."""
    interval: tuple[Share, Share] | None = None
    """The 95 % confidence interval (Wilson) of the score of an evaluation."""
    leaked: Count = 0
    """The number of held-out examples whose inputs are also in the training data."""
    misses: tuple[Miss, ...] = ()
    """Every incorrect answer."""


class CheckResults(Record, frozen=True):
    """The results of the checks that ran."""

    digest: Digest
    """The digest of the checks."""
    passed: Count
    """The number of checks that passed."""
    failed: Count
    """The number of checks that failed."""
    results: tuple[CheckResult, ...]
    """Each check, in the order of the manifest."""


def check_results(digest: str, results: Iterable[CheckResult]) -> CheckResults:
    """Return the results of all checks of a manifest for one generation; ``digest`` is that of the checks."""
    ran = tuple(results)
    passed = sum(result.passed for result in ran)
    return CheckResults(digest, passed, len(ran) - passed, ran)


class RecordedMiss(Record, frozen=True):
    """One failed check."""

    check: NonEmpty
    """The name of the check."""
    prompt: str
    """The prompt, without the preamble."""
    answer: str
    """The answer, or the reason why there is none."""


class RecordedChecks(Record, frozen=True):
    """The result of the checks of a generation, as the lockfile records it."""

    digest: Digest
    """The digest of the checks."""
    passed: Count
    """The number of checks that passed."""
    failed: Count
    """The number of checks that failed."""
    scores: Mapping[str, Share] = {}
    """The share of correct answers on held-out data sets, by check name."""
    misses: tuple[RecordedMiss, ...] = field(default=(), name="failures")
    """The first failed checks, each with a prompt and an answer, shortened."""
