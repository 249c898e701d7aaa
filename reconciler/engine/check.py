"""Run the checks of a generation: send its prompts concurrently, and report the answers.

A check can compare the generation with another model, which answers the same rows.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import Check, CheckResults, ComparedModel, check_results
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import Example, Manifest, Sampling, State, Target
from reconciler.domain.ports import BasePrompts, Examples, Prompt, Provider
from reconciler.engine.observe import run_bounded
from reconciler.planning.check_evaluation import (
    OtherAnswers,
    Question,
    References,
    Verdict,
    checks_digest,
    evaluate_check,
    is_correct,
    longest_answer,
    question_count,
    questions,
    verdicts,
)
from reconciler.planning.events import Checked, Checking, EventSink
from reconciler.planning.hidden_examples import redact_report
from reconciler.planning.lineage import root_base_model


class CheckedGeneration(Struct, frozen=True):
    """A generation that is checked, or another model that it is compared with.

    Prompts are sent to ``remote``: the model, or its endpoint where the service has one. ``preamble`` is the one of
    the training. ``base_model`` is the one at the root of the lineage, empty if that is unknown. ``serving`` is the
    serving generation.
    """

    key: str
    remote: str
    preamble: str
    base_model: str = ""
    serving: CheckedGeneration | None = None


def checked_generation(recorded: LockedGeneration, serving: LockedGeneration | None, lock: Lock) -> CheckedGeneration:
    """Return what checks need of a recorded generation; one that serves and is not ready counts as missing."""
    ready = serving if serving and serving.state is State.ACTIVE else None
    return CheckedGeneration(
        recorded.key,
        recorded.resources.endpoint or recorded.remote,
        recorded.preamble,
        root_base_model(recorded.source, lock),
        checked_generation(ready, None, lock) if ready else None,
    )


class _Task(Struct, frozen=True):
    """A question and its position among the questions of its check."""

    check: Check
    position: int
    question: Question


class _Rows(Struct, frozen=True):
    """What the answers of another model depend on: the model, the rows, and the prompts."""

    remote: str
    preamble: str
    digest: str
    sample: int | None
    sampling: Sampling


_NO_SERVING = "no generation is serving"
_ITSELF = "it is the serving generation"


class Checker:
    """Sends the prompts of checks; the target's concurrency limits the requests of all manifests together.

    Models that generations are compared with answer the same rows only once.
    """

    def __init__(self, provider: Provider, examples: Examples, emit: EventSink, target: Target) -> None:
        """``examples`` reads held-out data sets when they are needed; ``emit`` receives progress events.

        Where the target does not show examples, reports contain only counts.
        """
        self._provider = provider
        self._examples = examples
        self._emit = emit
        self._concurrency = target.limits.concurrency
        self._semaphore = asyncio.Semaphore(self._concurrency)
        self._redact = not target.show_examples
        self._answered: dict[_Rows, bytes] = {}
        self._asking: defaultdict[_Rows, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check(self, manifest: Manifest, generation: CheckedGeneration) -> CheckResults:
        """Run every check of a manifest, emit the report, and return it; the first error ends all checks.

        Raises:
            ServiceError: the service refuses to answer, or cannot be reached.
            AccessError: the service denies access.
            ReconcileError: a held-out data set changed after it was validated, or the base model is unknown.
        """
        references = {
            check.name: {
                rule.other: self._other(check, generation, rule.other) for rule in check.evaluation.comparisons
            }
            for check in manifest.checks
            if check.evaluation
        }
        tally = _Tally(manifest, generation.key, self._emit, _prompts(manifest, references))
        await self._ask(generation, self._tasks(manifest, manifest.checks), self._own_sampling(manifest), tally.add)
        compared = {
            check.name: {
                name: await self._compared(manifest, check, other, tally)
                for name, other in references.get(check.name, {}).items()
            }
            for check in manifest.checks
        }
        report = tally.report(compared)
        report = redact_report(report) if self._redact else report
        self._emit(Checked(manifest.name, generation.key, report))
        return report

    async def _ask(
        self,
        model: CheckedGeneration,
        tasks: Iterator[_Task],
        sampling: Sampling,
        add: Callable[[_Task, tuple[Verdict, ...]], None],
    ) -> None:
        async def work(_: int) -> None:
            for task in tasks:  # shared by all workers, so that only running tasks are in memory
                prompt = _prompt(model, task, sampling)
                async with self._semaphore:
                    reply = await self._provider.infer(model.remote, prompt)
                add(task, verdicts(task.question, reply))

        await run_bounded(work, range(self._concurrency), self._concurrency)

    def _other(self, check: Check, generation: CheckedGeneration, other: ComparedModel) -> CheckedGeneration | str:
        """Return the model that a generation is compared with, or why it is not compared."""
        if other == "serving":
            if generation.serving is None:
                return _NO_SERVING
            return _ITSELF if generation.serving.key == generation.key else generation.serving
        if not generation.base_model or not isinstance(self._provider, BasePrompts):
            raise ReconcileError(
                f"{generation.key} cannot be compared with its base model in the check {check.name}: the lockfile does"
                " not have the whole lineage of its parents",
                "compare with the serving generation (serving: true), or remove the comparison",
            )
        remote = self._provider.base_remote(generation.base_model)
        return CheckedGeneration(remote, remote, generation.preamble)

    async def _compared(
        self, manifest: Manifest, check: Check, other: CheckedGeneration | str, tally: _Tally
    ) -> OtherAnswers:
        """Return the answers of another model, each of which is requested once in the life of this checker."""
        data = check.evaluation
        if isinstance(other, str) or data is None:
            return OtherAnswers(skipped=str(other))
        sampling = _with_temperature(manifest.sampling, check)
        rows = _Rows(other.remote, other.preamble, data.digest, data.sample, sampling)
        async with self._asking[rows]:
            if rows not in self._answered:
                correct = bytearray(question_count(check))

                def add(task: _Task, found: tuple[Verdict, ...]) -> None:
                    correct[task.position] = is_correct(found)
                    tally.advance()

                await self._ask(other, self._tasks(manifest, [check]), manifest.sampling, add)
                self._answered[rows] = bytes(correct)
            else:
                tally.advance(question_count(check))
        return OtherAnswers(other.key, [bool(row) for row in self._answered[rows]])

    def _tasks(self, manifest: Manifest, checks: Iterable[Check]) -> Iterator[_Task]:
        for check in checks:
            held_out: Iterable[Example] = self._examples.held_out(manifest, check) if check.evaluation else ()
            for position, question in enumerate(questions(check, held_out)):
                yield _Task(check, position, question)

    def _own_sampling(self, manifest: Manifest) -> Sampling:
        """Return the default sampling of a generation: its own, which some services do not store.

        Other models do not have it, and get it with every prompt.
        """
        return Sampling() if "sampling" in self._provider.capabilities.mutable else manifest.sampling


def _prompt(model: CheckedGeneration, task: _Task, sampling: Sampling) -> Prompt:
    return Prompt(
        text=model.preamble + task.question.prompt,
        sampling=_with_temperature(sampling, task.check),
        candidates=task.question.candidates,
        enough=longest_answer(task.question.expect),
    )


def _with_temperature(sampling: Sampling, check: Check) -> Sampling:
    return sampling if check.temperature is None else replace(sampling, temperature=check.temperature)


def _prompts(manifest: Manifest, references: Mapping[str, Mapping[ComparedModel, CheckedGeneration | str]]) -> int:
    """Return the number of prompts of all checks, to the generation and to the models that it is compared with."""
    models = {
        name: 1 + sum(not isinstance(other, str) for other in found.values()) for name, found in references.items()
    }
    return sum(question_count(check) * models.get(check.name, 1) for check in manifest.checks)


class _Tally:
    """The verdicts on the answers of one generation, in any order, and their progress events."""

    def __init__(self, manifest: Manifest, key: str, emit: EventSink, total: int) -> None:
        self._manifest = manifest
        self._key = key
        self._emit = emit
        self._total = total
        self._verdicts: dict[str, dict[int, tuple[Verdict, ...]]] = {check.name: {} for check in manifest.checks}
        self._done = 0
        self.advance(0)

    def add(self, task: _Task, found: tuple[Verdict, ...]) -> None:
        """Add the verdicts on the answers to one question."""
        self._verdicts[task.check.name][task.position] = found
        self.advance()

    def advance(self, answers: int = 1) -> None:
        """Count answers, and emit the progress."""
        self._done += answers
        checks = len(self._manifest.checks)
        self._emit(Checking(self._manifest.name, self._key, self._done, self._total, checks))

    def report(self, references: Mapping[str, References]) -> CheckResults:
        """Return the report, which does not depend on the order of the answers."""
        checks = self._manifest.checks
        results = (evaluate_check(check, self._of(check), references[check.name]) for check in checks)
        return check_results(checks_digest(checks), results)

    def _of(self, check: Check) -> Iterator[tuple[Verdict, ...]]:
        found = self._verdicts[check.name]
        return (found[position] for position in sorted(found))
