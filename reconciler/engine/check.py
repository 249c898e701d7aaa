"""Run the checks of a generation: send its prompts concurrently, and report the answers.

A check can compare the generation with another model, which answers the same rows.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import Check, CheckResults, ComparedModel, Expectation, Judge, check_results
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import Example, Manifest, Sampling, State, Target
from reconciler.domain.ports import BasePrompts, Examples, Prompt, Provider, Reply
from reconciler.engine.observe import run_bounded
from reconciler.planning.check_evaluation import (
    COMPARABLE_ROWS,
    OtherAnswers,
    Question,
    References,
    ShownAnswer,
    Verdict,
    checks_digest,
    choose_best,
    evaluate_check,
    is_correct,
    longest_answer,
    mean_score,
    prompts_for,
    question_count,
    questions,
    rubrics,
    rubrics_to_judge,
    shown_answer,
    verdicts,
)
from reconciler.planning.check_judge import Judged, judge_prompt, read_verdict
from reconciler.planning.check_metrics import Grade, plain
from reconciler.planning.events import Checked, Checking, EventSink
from reconciler.planning.hidden_examples import redact_report
from reconciler.planning.lineage import root_base_model


class CheckedGeneration(Struct, frozen=True):
    """A generation that is checked, or another model that it is compared with.

    Prompts are sent to ``remote``: the model, or its endpoint where the service has one. ``preamble`` is the one of
    the training. ``base_model`` is the one at the root of the lineage, empty if that is unknown. ``serving`` is the
    serving generation. ``checkpoint`` is the ID of the checkpoint that is checked, empty for the default one.
    """

    key: str
    remote: str
    preamble: str
    base_model: str = ""
    serving: CheckedGeneration | None = None
    checkpoint: str = ""


def checked_generation(recorded: LockedGeneration, serving: LockedGeneration | None, lock: Lock) -> CheckedGeneration:
    """Return what checks need of a recorded generation; one that serves and is not ready counts as missing."""
    ready = serving if serving and serving.state is State.ACTIVE else None
    return CheckedGeneration(
        recorded.key,
        recorded.address,
        recorded.preamble,
        root_base_model(recorded.source, lock),
        checked_generation(ready, None, lock) if ready else None,
        recorded.checkpoint,
    )


_References = Mapping[str, Mapping[ComparedModel, CheckedGeneration | str]]
"""The models that each check compares with, or why there is no comparison."""


class _Task(Struct, frozen=True):
    """A question and its position among the questions of its check."""

    check: Check
    position: int
    question: Question


class _Rows(Struct, frozen=True):
    """What the verdicts on another model depend on: the model, the rows, the prompts, and how they are evaluated."""

    remote: str
    preamble: str
    digest: str
    sample: int | None
    sampling: Sampling
    repeat: int
    metric: tuple[str, float | None, str]
    judge: Judge | None


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
        self._answered: dict[_Rows, OtherAnswers] = {}
        self._judges: dict[Judge, str] = {}
        self._asking: defaultdict[_Rows, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check(
        self,
        manifest: Manifest,
        generation: CheckedGeneration,
        *further: CheckedGeneration,
        search: bool = False,
        stage: str = "",
    ) -> CheckResults:
        """Run every check of a manifest, emit the report, and return it; the first error ends all checks.

        The checks include those of a ``stage`` after the first one, if it is set.

        With ``search``, all of these are checkpoints of one generation, and the report is that of the best one.

        Raises:
            ServiceError: the service refuses to answer, or cannot be reached.
            AccessError: the service denies access.
            ReconcileError: a held-out data set changed after it was validated, or the base model is unknown.
        """
        candidates = (generation, *further)
        references = [self._references(manifest, candidate) for candidate in candidates]
        prompts = [_prompts(manifest, compared) for compared in references]
        reports = []
        for position, candidate in enumerate(candidates):
            tally = _Tally(manifest, candidate.key, self._emit, sum(prompts), sum(prompts[:position]))
            report = await self._report(manifest, candidate, references[position], tally)
            reports.append(replace(report, checkpoint=candidate.checkpoint))
        report = choose_best(reports) if search else reports[0]
        report = redact_report(report) if self._redact else report
        self._emit(Checked(manifest.name, generation.key, report, stage))
        return report

    def _references(self, manifest: Manifest, generation: CheckedGeneration) -> _References:
        return {
            check.name: {
                rule.other: self._other(check, generation, rule.other) for rule in check.evaluation.comparisons
            }
            for check in manifest.checks
            if check.evaluation
        }

    async def _report(
        self, manifest: Manifest, generation: CheckedGeneration, references: _References, tally: _Tally
    ) -> CheckResults:
        await self._ask(generation, self._tasks(manifest, manifest.checks), self._own_sampling(manifest), tally.add)
        compared = {
            check.name: {
                name: await self._compared(manifest, check, other, tally)
                for name, other in references.get(check.name, {}).items()
            }
            for check in manifest.checks
        }
        return tally.report(compared, self._judges)

    async def _verdicts(self, task: _Task, model: CheckedGeneration, prompt: Prompt) -> tuple[Verdict, ...]:
        """Return the verdicts on all answers to a question, which is sent as often as the check repeats it."""

        async def ask(_: int) -> tuple[Verdict, ...]:
            reply = await self._infer(model.remote, prompt)
            grades: dict[tuple[str, Expectation], Grade] = {}
            for answer in reply.answers[: task.question.candidates]:
                for rubric in rubrics_to_judge(task.question, answer):
                    judged = plain(answer.text), rubric
                    if judged not in grades:
                        grades[judged] = await self._judge(task, *judged)
            return verdicts(task.question, reply, grades)

        repeated = await run_bounded(ask, range(task.check.repeat), self._concurrency)
        return tuple(verdict for found in repeated for verdict in found)

    async def _infer(self, remote: str, prompt: Prompt) -> Reply:
        async with self._semaphore:
            return await self._provider.infer(remote, prompt)

    async def _judge(self, task: _Task, answer: str, rubric: Expectation) -> Grade:
        """Return the grade by a judge, whose version must not change while this checker lives."""
        judge, question = task.check.judge, task.question
        if judge is None:
            raise AssertionError("validation requires a judge for each rubric")
        prompt = judge_prompt(judge, rubric.values[0], Judged(question.prompt, answer, question.reference))
        reply = await self._infer(self._judge_remote(judge, task.check), prompt)
        name = judge.model or judge.endpoint
        version = f"{name} ({reply.model_version})" if reply.model_version not in {"", name} else name
        if self._judges.setdefault(judge, version) != version:
            raise ReconcileError(
                f"the judge of the check {task.check.name} changed during the run from {self._judges[judge]} to"
                f" {version}, so that its scores are not comparable",
                "run the command again",
            )
        return read_verdict(reply, judge, task.check.name, rubric)

    def _judge_remote(self, judge: Judge, check: Check) -> str:
        if judge.endpoint:
            return judge.endpoint
        if not isinstance(self._provider, BasePrompts):
            raise ReconcileError(
                f"the judge of the check {check.name} is a base model, and the service cannot send prompts to one",
                "set judge.endpoint",
            )
        return self._provider.base_remote(judge.model)

    async def _ask(
        self,
        model: CheckedGeneration,
        tasks: Iterator[_Task],
        sampling: Sampling,
        add: Callable[[_Task, tuple[Verdict, ...]], None],
    ) -> None:
        async def work(_: int) -> None:
            for task in tasks:  # shared by all workers, so that only running tasks are in memory
                add(task, await self._verdicts(task, model, _prompt(model, task, sampling)))

        await run_bounded(work, range(self._concurrency), self._concurrency)

    def _other(self, check: Check, generation: CheckedGeneration, other: ComparedModel) -> CheckedGeneration | str:
        """Return the model that a generation is compared with, or why it is not compared."""
        if other == "serving":
            if generation.serving is None:
                return _NO_SERVING
            serving = generation.serving
            same = (serving.key, serving.checkpoint) == (generation.key, generation.checkpoint)
            return _ITSELF if same else serving
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
        metric = data.metric, data.threshold, data.rubric
        rows = _Rows(
            other.remote, other.preamble, data.digest, data.sample, sampling, check.repeat, metric, check.judge
        )
        async with self._asking[rows]:
            if rows not in self._answered:
                self._answered[rows] = await self._other_answers(manifest, check, other, tally)
            else:
                tally.advance(prompts_for(check, 1))
        return replace(self._answered[rows], model=other.key)

    async def _other_answers(
        self, manifest: Manifest, check: Check, other: CheckedGeneration, tally: _Tally
    ) -> OtherAnswers:
        """Return the answers of another model, in one byte a row and its score, besides the first rows."""
        correct, shown = bytearray(question_count(check)), dict[int, str]()
        scores = array("d", bytes(8 * len(correct)))

        def add(task: _Task, found: tuple[Verdict, ...]) -> None:
            correct[task.position] = is_correct(found)
            scores[task.position] = sum(verdict.score for verdict in found) / len(found)
            if task.position < COMPARABLE_ROWS:
                shown[task.position] = shown_answer(task.question, found).answer
            tally.advance(prompts_for(check, 1) // len(correct))

        await self._ask(other, self._tasks(manifest, [check]), manifest.sampling, add)
        return OtherAnswers(other.key, bytes(correct), mean_score=mean_score(check, scores), answers=shown)

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
        enough=longest_answer(task.question),
    )


def _with_temperature(sampling: Sampling, check: Check) -> Sampling:
    return sampling if check.temperature is None else replace(sampling, temperature=check.temperature)


def _prompts(manifest: Manifest, references: _References) -> int:
    """Return the number of prompts of all checks, to the generation and to the models that it is compared with."""
    models = {
        name: 1 + sum(not isinstance(other, str) for other in found.values()) for name, found in references.items()
    }
    return sum(prompts_for(check, models.get(check.name, 1)) for check in manifest.checks)


class _Tally:
    """The verdicts on the answers of one generation, in any order, and their progress events."""

    def __init__(self, manifest: Manifest, key: str, emit: EventSink, total: int, done: int) -> None:
        self._manifest = manifest
        self._key = key
        self._emit = emit
        self._total = total
        self._verdicts: dict[str, dict[int, tuple[Verdict, ...]]] = {check.name: {} for check in manifest.checks}
        self._shown: dict[str, dict[int, ShownAnswer]] = {check.name: {} for check in manifest.checks}
        self._done = done
        self.advance(0)

    def add(self, task: _Task, found: tuple[Verdict, ...]) -> None:
        """Add the verdicts on the answers to one question."""
        compared = task.check.evaluation and task.check.evaluation.comparisons
        if compared and task.position < COMPARABLE_ROWS:
            self._shown[task.check.name][task.position] = shown_answer(task.question, found)
        self._verdicts[task.check.name][task.position] = tuple(replace(verdict, answer="") for verdict in found)
        self.advance(prompts_for(task.check, 1) // question_count(task.check))

    def advance(self, prompts: int) -> None:
        """Count prompts, and emit the progress."""
        self._done += prompts
        checks = len(self._manifest.checks)
        self._emit(Checking(self._manifest.name, self._key, self._done, self._total, checks))

    def report(self, references: Mapping[str, References], judges: Mapping[Judge, str]) -> CheckResults:
        """Return the report, which does not depend on the order of the answers."""
        checks = self._manifest.checks
        results = (
            evaluate_check(
                check,
                self._of(check),
                references[check.name],
                self._shown[check.name],
                judges.get(check.judge, "") if check.judge and rubrics(check) else "",
            )
            for check in checks
        )
        return check_results(checks_digest(checks), results)

    def _of(self, check: Check) -> Iterator[tuple[Verdict, ...]]:
        found = self._verdicts[check.name]
        return (found[position] for position in sorted(found))
