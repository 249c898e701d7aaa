"""Checks as values: what a manifest expects of answers, and the results of a generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

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


class Miss(Struct, frozen=True):
    """A wrong answer: the prompt (without preamble), the answer, and the reason why it is wrong."""

    prompt: str
    answer: str
    reason: str


class CheckResult(Struct, frozen=True):
    """The result of one check: ``passes`` of ``answers`` were correct, and the share ``minimum`` was required.

    ``interval`` is the 95 % confidence interval of the share, known for evaluations. ``leaked`` is the evaluation's.
    """

    name: str
    passed: bool
    passes: int
    answers: int
    minimum: float
    misses: tuple[Miss, ...] = ()
    interval: tuple[float, float] | None = None
    leaked: int = 0

    @property
    def score(self) -> float:
        """The share of correct answers, from 0 to 1."""
        return self.passes / self.answers if self.answers else 0.0


class CheckReport(Struct, frozen=True):
    """The results of all checks of a manifest for one generation; ``digest`` is that of the checks."""

    digest: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> int:
        """The number of passed checks."""
        return sum(result.passed for result in self.results)

    @property
    def failed(self) -> int:
        """The number of failed checks."""
        return len(self.results) - self.passed


class RecordedMiss(Struct, frozen=True):
    """A failed check in the lockfile: its name, one prompt and one answer, shortened."""

    check: str
    prompt: str
    answer: str


class RecordedChecks(Struct, frozen=True):
    """A :class:`CheckReport` in the lockfile; ``scores`` are those of evaluations, by check name."""

    digest: str
    passed: int
    failed: int
    scores: Mapping[str, float] = {}
    misses: tuple[RecordedMiss, ...] = ()
