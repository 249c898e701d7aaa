"""Checks as values: what a manifest expects of a model's answers, and how the answers of a generation did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ExpectationKind = Literal["equals", "contains", "matches", "oneOf"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an answer must be, white space at its ends aside.

    ``equals`` and ``oneOf`` compare with the whole of each value, ``contains`` looks for the value, ``matches`` for the
    regular expression (in RE2's syntax, https://github.com/google/re2/wiki/Syntax). All kinds but ``oneOf`` have one
    value.
    """

    kind: ExpectationKind
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A held-out data set that a model is measured on.

    ``path`` is relative to the root, ``digest`` that of its examples without a preamble, ``examples`` their number.
    ``minimum`` is the least share of right answers, ``sample`` how many examples are asked at most (``None``: all).
    ``leaked`` counts the examples whose inputs stand in the training data too; it decides nothing.
    """

    path: str
    digest: str
    examples: int
    minimum: float
    metric: Literal["exactMatch"] = "exactMatch"
    sample: int | None = None
    leaked: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """One check: a ``prompt`` and what is expected of the answers (``expect``), or an ``evaluation``.

    ``prompt`` bears no preamble. Of ``candidates`` answers the share ``min_pass`` must pass. ``temperature`` stands in
    place of the model's own where it is set.
    """

    name: str
    prompt: str = ""
    expect: Expectation | None = None
    candidates: int = 1
    min_pass: float = 1.0
    temperature: float | None = None
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True)
class Miss:
    """An answer that does not pass: what was asked (without preamble), what came back, and why that is not enough."""

    prompt: str
    answer: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check went: ``passes`` of ``answers`` answers were right, where the share ``minimum`` was needed.

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
        """The share of right answers, from 0 to 1."""
        return self.passes / self.answers if self.answers else 0.0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """How all checks of a manifest went with one generation; ``digest`` is that of the checks."""

    digest: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> int:
        """How many checks passed."""
        return sum(one.passed for one in self.results)

    @property
    def failed(self) -> int:
        """How many checks did not."""
        return len(self.results) - self.passed


@dataclass(frozen=True, slots=True)
class RecordedMiss:
    """A failed check as the lockfile keeps it: its name, and one prompt and answer, cut short."""

    check: str
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class RecordedChecks:
    """What a lockfile keeps of a :class:`CheckReport`; ``scores`` are those of evaluations, by the check's name."""

    digest: str
    passed: int
    failed: int
    scores: Mapping[str, float] = field(default_factory=dict)
    misses: tuple[RecordedMiss, ...] = ()
