"""Checks as values: what a manifest expects of answers, and the results of a generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct, convert, field

from reconciler.domain.document import Count, Difference, Digest, NonEmpty, Record, Share

ExpectationKind = Literal[
    "equals",
    "oneOf",
    "contains",
    "icontains",
    "contains-all",
    "icontains-all",
    "starts-with",
    "ends-with",
    "matches",
    "json-schema",
    "similar",
    "bleu",
    "chrf",
    "llm-rubric",
]
Severity = Literal["error", "warn"]


class Expectation(Struct, frozen=True):
    """An expected answer, or one assertion about it; whitespace at both ends is ignored.

    An answer passes if it is as expected for one of the ``values``, or for all of them with ``contains-all``.
    ``matches`` has a regular expression in RE2's syntax (https://github.com/google/re2/wiki/Syntax), ``json-schema`` a
    JSON Schema as canonical JSON, ``llm-rubric`` a requirement that a judge evaluates. The graded kinds give a score
    from 0 to 1, of which ``threshold`` is required; of a judge it is optional. ``negated`` reverses the result.
    ``weight`` is the share of the score of an answer.
    """

    kind: ExpectationKind
    values: tuple[str, ...]
    threshold: float | None = None
    negated: bool = False
    weight: float = 1.0


class Judge(Struct, frozen=True):
    """The model that evaluates answers by a rubric: a base model, or an ``endpoint`` of the service.

    ``prompt`` replaces the first sentence of its prompts if it is not empty.
    """

    model: str = ""
    endpoint: str = ""
    prompt: str = ""
    temperature: float = 0.0


def read_judge(declared: Mapping[str, Any] | None) -> Judge | None:
    """Return a declared judge, which fits its schema; ``None`` without one."""
    return convert(declared, Judge) if declared else None


ComparedModel = Literal["base", "serving"]
"""The base model at the root of the lineage, or the serving generation."""
Requirement = Literal["better", "noWorse"]


class ComparisonRule(Struct, frozen=True):
    """What an evaluation requires in comparison with another model, which answers the same rows.

    ``better`` requires that the confidence interval of the difference is above 0, ``noWorse`` that the difference is at
    least ``-margin``.
    """

    other: ComparedModel
    required: Requirement
    margin: float = 0.0


Metric = Literal["exactMatch", "similar", "bleu", "chrf", "llm-rubric"]


class Evaluation(Struct, frozen=True):
    """A held-out data set that a model is evaluated on.

    ``path`` is relative to the root, ``digest`` that of its examples without a preamble, ``examples`` their number.
    ``minimum`` is the least share of correct answers, ``sample`` the largest number of prompts (``None``: all).
    ``leaked`` counts examples whose inputs are also in the training data, for information only. ``comparisons`` has at
    most one rule for each other model. An answer to a row is correct if its score by the ``metric`` is at least
    ``threshold``; ``rubric`` is the requirement of ``llm-rubric``.
    """

    path: str
    digest: str
    examples: int
    minimum: float
    metric: Metric = "exactMatch"
    threshold: float | None = None
    rubric: str = ""
    sample: int | None = None
    leaked: int = 0
    comparisons: tuple[ComparisonRule, ...] = ()


class Check(Struct, frozen=True):
    """One check: a ``prompt`` and what is expected of the answer (``expect``), or an ``evaluation``.

    ``prompt`` has no preamble. It is sent ``repeat`` times, each time for ``candidates`` answers, of which the share
    ``min_pass`` must pass. An answer passes if it is as all of ``expect`` require, or with a ``threshold``, if the
    weighted mean of its scores is at least that. A row of an evaluation is correct if each of its ``repeat`` answers
    is. ``temperature`` replaces the model's own if it is set. A failed check with the severity ``warn`` holds nothing.
    ``judge`` evaluates the answers if a rubric is expected. ``stage`` is the stage of the target that declares the
    check, empty for one of a manifest.
    """

    name: str
    prompt: str = ""
    expect: tuple[Expectation, ...] = ()
    candidates: int = 1
    min_pass: float = 1.0
    temperature: float | None = None
    evaluation: Evaluation | None = None
    threshold: float | None = None
    repeat: int = 1
    severity: Severity = "error"
    judge: Judge | None = None
    stage: str = ""

    def compares_with(self, other: ComparedModel) -> bool:
        """Whether the check compares generations with that model."""
        return self.evaluation is not None and any(rule.other == other for rule in self.evaluation.comparisons)


class Miss(Record, frozen=True):
    """One incorrect answer."""

    prompt: str
    """The prompt, without the preamble."""
    answer: str
    """The answer."""
    reason: str = field(name="why")
    """The reason why the check failed."""


class ComparedAnswer(Record, frozen=True):
    """The answer of one model to a row that the models of a comparison answered differently."""

    model: Literal["generation", "base", "serving"]
    """The model: the checked generation, the base model, or the serving generation."""
    answer: str
    """The answer, or in parentheses the reason why there is none; at most 500 characters."""
    passed: bool
    """Whether it is correct."""


class DifferentRow(Record, frozen=True):
    """A row that only some of the models of a comparison answered correctly."""

    prompt: str
    """The prompt, without the preamble; at most 500 characters."""
    answers: tuple[ComparedAnswer, ...]
    """The answer of each model."""


class RecordedComparison(Record, frozen=True, kw_only=True):
    """How a generation compares with another model on a held-out data set, as the lockfile records it."""

    other: ComparedModel = field(name="with")
    """The other model: the base model, or the serving generation."""
    model: NonEmpty
    """The remote name of the base model, or the key of the serving generation."""
    score: Share
    """The share of correct answers of the other model."""
    difference: Difference
    """The score of the generation minus that of the other model."""
    interval: tuple[Difference, Difference]
    """The 95 % confidence interval of the difference (Newcombe's hybrid score method for paired proportions)."""
    required: Requirement
    """`better`: the interval must be above 0. `noWorse`: the difference must be at least -margin."""
    margin: Share
    """How much worse the generation may be; 0 with `better`."""
    passed: bool
    """Whether the generation is as good as required."""


class Comparison(RecordedComparison, frozen=True, kw_only=True):
    """How a generation compares with another model on a held-out data set."""

    better: Count
    """The number of rows that only the generation answered correctly."""
    worse: Count
    """The number of rows that only the other model answered correctly."""
    mean_score: Share | None = None
    """The mean of the scores of the other model, by a graded metric."""


class CheckResult(Record, frozen=True, kw_only=True):
    """The result of one check."""

    name: NonEmpty
    """The name of the check."""
    passed: bool
    """Whether enough answers were correct, and no comparison failed."""
    passes: Count
    """The number of correct answers."""
    answers: Count
    """The number of requested answers."""
    score: Share
    """The share of correct answers."""
    minimum: Share
    """The required share of correct answers."""
    severity: Severity = "error"
    """With `warn`, a failure does not hold a promotion."""
    mean_score: Share | None = None
    """The mean of the scores of all answers, by a graded metric."""
    interval: tuple[Share, Share] | None = None
    """The 95 % confidence interval (Wilson) of the score of an evaluation."""
    leaked: Count = 0
    """The number of held-out examples whose inputs are also in the training data."""
    comparisons: tuple[Comparison, ...] = ()
    """The comparisons with other models on the same rows."""
    skipped: Mapping[ComparedModel, str] = {}
    """The models that it was not compared with, each with the reason."""
    misses: tuple[Miss, ...] = ()
    """Every incorrect answer; of a row of a data set, the first."""
    different: Count = 0
    """The number of rows that only some of the compared models answered correctly."""
    rows: tuple[DifferentRow, ...] = ()
    """The first of these rows, at most 20."""
    judge: str = ""
    """The model that judged the answers, with its version if the service returns it."""

    @property
    def holds(self) -> bool:
        """Whether it failed, and its failure holds a promotion."""
        return not self.passed and self.severity == "error"


class CheckpointScore(Record, frozen=True, kw_only=True):
    """The results of one of several checkpoints."""

    checkpoint: NonEmpty
    """The ID of the checkpoint."""
    passed: Count
    """The number of checks that passed."""
    failed: Count
    """The number of checks that failed."""
    score: Share
    """The mean score of the checks: the share of correct answers, or the score of a graded metric."""


class CheckResults(Record, frozen=True):
    """The results of the checks that ran."""

    digest: Digest
    """The digest of the checks."""
    passed: Count
    """The number of checks that passed."""
    failed: Count
    """The number of checks that failed, without those of the severity `warn`."""
    results: tuple[CheckResult, ...]
    """Each check, in the order of the manifest."""
    warned: Count = 0
    """The number of checks of the severity `warn` that failed."""
    checkpoint: str = ""
    """The ID of the checkpoint that was checked; omitted for the default one."""
    candidates: tuple[CheckpointScore, ...] = ()
    """All checkpoints that were checked to find the best one, in the order of the training."""

    @property
    def total(self) -> int:
        """The number of checks that ran."""
        return len(self.results)


def check_results(digest: str, results: Iterable[CheckResult]) -> CheckResults:
    """Return the results of all checks of a manifest for one generation; ``digest`` is that of the checks."""
    ran = tuple(results)
    passed = sum(result.passed for result in ran)
    warned = sum(not result.passed and result.severity == "warn" for result in ran)
    return CheckResults(digest, passed, len(ran) - passed - warned, ran, warned)


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
    """The number of checks that failed, without those of the severity `warn`."""
    scores: Mapping[str, Share] = {}
    """The share of correct answers on held-out data sets, by check name."""
    misses: tuple[RecordedMiss, ...] = field(default=(), name="failures")
    """The first failed checks, each with a prompt and an answer, shortened."""
    comparisons: Mapping[str, tuple[RecordedComparison, ...]] = {}
    """The comparisons with other models on held-out data sets, by check name."""
    warned: Count = 0
    """The number of checks of the severity `warn` that failed."""
    judges: Mapping[str, NonEmpty] = {}
    """The models that judged answers, with their versions if the service returns them, by check name."""
    checkpoint: str = ""
    """The ID of the checkpoint that was checked; omitted for the default one."""
    candidates: tuple[CheckpointScore, ...] = ()
    """All checkpoints that were checked to find the best one, in the order of the training."""

    @property
    def total(self) -> int:
        """The number of checks that ran."""
        return self.passed + self.failed + self.warned


def describe_comparison(score: float, comparison: RecordedComparison) -> str:
    """Return ``base 0.00, tuned 0.70, difference 0.70 [0.29, 0.89]``; ``score`` is that of the generation.

    If the comparison failed, what is required follows.
    """
    own = "tuned" if comparison.other == "base" else "this generation"
    scores = f"{comparison.other} {comparison.score:.2f}, {own} {score:.2f}"
    low, high = comparison.interval
    difference = f"difference {comparison.difference:z.2f} [{low:z.2f}, {high:z.2f}]"
    limit = "interval above 0" if comparison.required == "better" else f"at least {-comparison.margin:z.4g}"
    return ", ".join((scores, difference, *(() if comparison.passed else (f"{limit} required",))))


def describe_candidates(checks: RecordedChecks | CheckResults) -> str:
    """Return which checkpoint is the best, and the results of all; empty if only one was checked."""
    scores = (
        f"{known.checkpoint}: {known.passed} of {checks.total} checks, score {known.score:.2f}"
        for known in checks.candidates
    )
    return f"checkpoint {checks.checkpoint} is the best ({'; '.join(scores)})" if checks.candidates else ""
