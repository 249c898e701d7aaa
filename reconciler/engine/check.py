"""Running the checks of a generation: many prompts side by side, and one report."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from reconciler.domain.checks import Check, CheckReport
from reconciler.domain.inference import Prompt
from reconciler.domain.model import Example, Manifest, Sampling, Target
from reconciler.domain.ports import Examples, Provider
from reconciler.engine.observe import bounded
from reconciler.planning.check_evaluation import (
    Question,
    Verdict,
    checks_digest,
    judged,
    question_count,
    questions,
    verdicts,
)
from reconciler.planning.events import Checked, Checking, EventSink
from reconciler.planning.redaction import redact_report


@dataclass(frozen=True, slots=True)
class Subject:
    """The generation that is checked.

    Prompts are put to ``remote``: the model, or the endpoint that serves it where a service has such. ``preamble`` is
    the one that the generation was trained with.
    """

    key: str
    remote: str
    preamble: str


@dataclass(frozen=True, slots=True)
class _Task:
    """A question, and where its verdicts go: ``at`` counts the questions of its check."""

    check: Check
    at: int
    question: Question


class Checker:
    """Puts the questions of checks to models, with at most so many under way at once over all manifests together."""

    def __init__(self, provider: Provider, examples: Examples, emit: EventSink, target: Target) -> None:
        """``examples`` reads held-out data sets when they are asked about; ``emit`` is told of the progress.

        Of a ``target`` that shows no examples, reports hold the counts alone.
        """
        self._provider = provider
        self._examples = examples
        self._emit = emit
        self._concurrency = target.limits.concurrency
        self._gate = asyncio.Semaphore(self._concurrency)
        self._discreet = not target.show_examples

    async def check(self, manifest: Manifest, subject: Subject) -> CheckReport:
        """Run every check of a manifest; an error ends them all, and then there is no report.

        Raises:
            ServiceError: the service refuses to answer, or cannot be reached.
            AccessError: it does not let us in.
            ReconcileError: a held-out data set is not what was validated.
        """
        tally = _Tally(manifest, subject.key, self._emit)
        tasks = self._tasks(manifest)

        async def work(_: int) -> None:
            for task in tasks:  # drawn by all workers, so that never more are in memory than are under way
                prompt = self._prompt(manifest, subject, task)
                async with self._gate:
                    reply = await self._provider.infer(subject.remote, prompt)
                tally.add(task, verdicts(task.question, reply))

        await bounded(work, range(self._concurrency), self._concurrency)
        report = redact_report(tally.report()) if self._discreet else tally.report()
        self._emit(Checked(manifest.name, subject.key, report))
        return report

    def _tasks(self, manifest: Manifest) -> Iterator[_Task]:
        for check in manifest.checks:
            held_out: Iterable[Example] = self._examples.held_out(manifest, check) if check.evaluation else ()
            for at, question in enumerate(questions(check, held_out)):
                yield _Task(check, at, question)

    def _prompt(self, manifest: Manifest, subject: Subject, task: _Task) -> Prompt:
        return Prompt(
            text=subject.preamble + task.question.prompt,
            sampling=self._sampling(manifest, task.check),
            candidates=task.question.candidates,
        )

    def _sampling(self, manifest: Manifest, check: Check) -> Sampling:
        """What the check says; the rest is the model's own, or declared where the service keeps none with the model."""
        keeps = "sampling" in self._provider.capabilities.mutable
        rest = Sampling() if keeps else manifest.sampling
        return rest if check.temperature is None else replace(rest, temperature=check.temperature)


class _Tally:
    """The verdicts on one generation as they come in, in whatever order."""

    def __init__(self, manifest: Manifest, key: str, emit: EventSink) -> None:
        self._manifest = manifest
        self._key = key
        self._emit = emit
        self._total = sum(map(question_count, manifest.checks))
        self._found: dict[str, dict[int, tuple[Verdict, ...]]] = {check.name: {} for check in manifest.checks}
        self._done = 0
        self._tell()

    def add(self, task: _Task, found: tuple[Verdict, ...]) -> None:
        """Take up the verdicts on one question."""
        self._found[task.check.name][task.at] = found
        self._done += 1
        self._tell()

    def report(self) -> CheckReport:
        """How the checks went; the same for the same answers, in whatever order they came."""
        checks = self._manifest.checks
        return CheckReport(checks_digest(checks), tuple(judged(check, self._of(check)) for check in checks))

    def _of(self, check: Check) -> Iterator[tuple[Verdict, ...]]:
        found = self._found[check.name]
        return (found[at] for at in sorted(found))

    def _tell(self) -> None:
        name, checks = self._manifest.name, len(self._manifest.checks)
        self._emit(Checking(name, self._key, self._done, self._total, checks))
