"""Run the checks of a generation: send its prompts concurrently, and report the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import Check, CheckResults, check_results
from reconciler.domain.model import Example, Manifest, Sampling, Target
from reconciler.domain.ports import Examples, Prompt, Provider
from reconciler.engine.observe import run_bounded
from reconciler.planning.check_evaluation import (
    Question,
    Verdict,
    checks_digest,
    evaluate_check,
    question_count,
    questions,
    verdicts,
)
from reconciler.planning.events import Checked, Checking, EventSink
from reconciler.planning.hidden_examples import redact_report


class CheckedGeneration(Struct, frozen=True):
    """The generation that is checked.

    Prompts are sent to ``remote``: the model, or its endpoint where the service has one. ``preamble`` is the one of
    the training.
    """

    key: str
    remote: str
    preamble: str


class _Task(Struct, frozen=True):
    """A question and its position among the questions of its check."""

    check: Check
    position: int
    question: Question


class Checker:
    """Sends the prompts of checks; the target's concurrency limits the requests of all manifests together."""

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

    async def check(self, manifest: Manifest, generation: CheckedGeneration) -> CheckResults:
        """Run every check of a manifest, emit the report, and return it; the first error ends all checks.

        Raises:
            ServiceError: the service refuses to answer, or cannot be reached.
            AccessError: the service denies access.
            ReconcileError: a held-out data set changed after it was validated.
        """
        tally = _Tally(manifest, generation.key, self._emit)
        tasks = self._tasks(manifest)

        async def work(_: int) -> None:
            for task in tasks:  # shared by all workers, so that only running tasks are in memory
                prompt = self._prompt(manifest, generation, task)
                async with self._semaphore:
                    reply = await self._provider.infer(generation.remote, prompt)
                tally.add(task, verdicts(task.question, reply))

        await run_bounded(work, range(self._concurrency), self._concurrency)
        report = redact_report(tally.report()) if self._redact else tally.report()
        self._emit(Checked(manifest.name, generation.key, report))
        return report

    def _tasks(self, manifest: Manifest) -> Iterator[_Task]:
        for check in manifest.checks:
            held_out: Iterable[Example] = self._examples.held_out(manifest, check) if check.evaluation else ()
            for position, question in enumerate(questions(check, held_out)):
                yield _Task(check, position, question)

    def _prompt(self, manifest: Manifest, generation: CheckedGeneration, task: _Task) -> Prompt:
        return Prompt(
            text=generation.preamble + task.question.prompt,
            sampling=self._sampling(manifest, task.check),
            candidates=task.question.candidates,
        )

    def _sampling(self, manifest: Manifest, check: Check) -> Sampling:
        """Return the sampling of a check; by default the model's own, which some services do not store."""
        stored = "sampling" in self._provider.capabilities.mutable
        default = Sampling() if stored else manifest.sampling
        return default if check.temperature is None else replace(default, temperature=check.temperature)


class _Tally:
    """The verdicts on the answers of one generation, in any order, and their progress events."""

    def __init__(self, manifest: Manifest, key: str, emit: EventSink) -> None:
        self._manifest = manifest
        self._key = key
        self._emit = emit
        self._total = sum(map(question_count, manifest.checks))
        self._verdicts: dict[str, dict[int, tuple[Verdict, ...]]] = {check.name: {} for check in manifest.checks}
        self._done = 0
        self._emit_progress()

    def add(self, task: _Task, found: tuple[Verdict, ...]) -> None:
        """Add the verdicts on the answers to one question."""
        self._verdicts[task.check.name][task.position] = found
        self._done += 1
        self._emit_progress()

    def report(self) -> CheckResults:
        """Return the report, which does not depend on the order of the answers."""
        checks = self._manifest.checks
        return check_results(checks_digest(checks), (evaluate_check(check, self._of(check)) for check in checks))

    def _of(self, check: Check) -> Iterator[tuple[Verdict, ...]]:
        found = self._verdicts[check.name]
        return (found[position] for position in sorted(found))

    def _emit_progress(self) -> None:
        checks = len(self._manifest.checks)
        self._emit(Checking(self._manifest.name, self._key, self._done, self._total, checks))
