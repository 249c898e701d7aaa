"""Check reports: results of checks. Prompt reports: the answers of a model. Export reports: the files of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import Meta
from msgspec.structs import replace

from reconciler.domain.checks import CheckResults, RecordedChecks
from reconciler.domain.document import Key, ManifestName, NonEmpty, Record, Remote
from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import Sampling
from reconciler.domain.ports import Answer, Reply
from reconciler.reports.documents.envelope import TargetReport, TargetSummary


class CheckedModel(Record, frozen=True, kw_only=True):
    """The result of one generation."""

    name: ManifestName
    key: Key
    remote: NonEmpty
    """The remote name that prompts were sent to."""
    serving: bool
    """Whether it is the serving generation."""
    regressed: bool
    """Whether it failed checks that it passed the last time."""
    before: RecordedChecks | None = None
    """The previous result; omitted if it was never checked."""
    checks: CheckResults | None = None
    """The results of the checks that ran."""
    message: str = ""
    """The reason why it could not be checked."""

    def with_results(self, results: CheckResults) -> CheckedModel:
        """Return a copy with the results of the checks."""
        before = self.before
        judges = {result.name: result.judge for result in results.results if result.judge}
        comparable = before is not None and (before.digest, before.judges) == (results.digest, judges)
        passed_before = comparable and before is not None and not before.failed
        return replace(self, checks=results, regressed=passed_before and results.failed > 0)


class CheckReport(TargetReport, frozen=True, kw_only=True, tag="Check"):
    """The check results of generations: the output of `reconcile check --format json`."""

    exit_status: ExitStatus
    """The exit status of the command."""
    models: tuple[CheckedModel, ...]
    """Every generation to check, by manifest name."""
    unserved: tuple[NonEmpty, ...]
    """Manifests with checks and without a serving generation."""


def check_report(
    checked: Iterable[tuple[CheckedModel, ExitStatus]],
    unserved: Iterable[str],
    target: TargetSummary,
    *,
    simulated: bool,
) -> CheckReport:
    """Return the report of checked generations, each with the exit status of a command that checks only this one.

    ``unserved`` manifests have checks and no serving generation.
    """
    results = sorted(checked, key=lambda result: result[0].name)
    return CheckReport(
        simulated=simulated,
        target=target,
        exit_status=max((status for _, status in results), default=ExitStatus.OK),
        models=tuple(model for model, _ in results),
        unserved=tuple(sorted(unserved)),
    )


CUT_SHORT: Final = "MAX_TOKENS"


class PromptReport(TargetReport, frozen=True, kw_only=True, tag="Prompt"):
    """A prompt and its answers: the output of `reconcile prompt --format json`."""

    exit_status: ExitStatus
    """The exit status of the command: 0 if there is an answer, 1 if not."""
    name: ManifestName
    key: NonEmpty
    """The key of the generation that was prompted."""
    remote: Remote
    """The remote name that the prompt was sent to: the model or its endpoint."""
    preamble: str
    """The preamble of the generation, which precedes the text."""
    text: NonEmpty
    """The prompt, without the preamble."""
    sampling: Sampling
    """The sampling parameters; an omitted one is the default of the model or the service."""
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    """The maximum number of tokens of an answer."""
    candidates: tuple[Answer, ...]
    """The answers, in the service's order."""
    blocked: Annotated[str, Meta(examples=["SAFETY"])] = ""
    """The service's reason why there is no answer."""
    message: str = ""
    """Why there is no answer, as a sentence; omitted if there is one."""


def missing_answer(reply: Reply) -> str:
    """Return why there is no answer, as a sentence; empty if there is one."""
    if any(answer.text for answer in reply.answers):
        return ""
    if reply.blocked:
        return f"the service blocked the prompt: {reply.blocked}"
    reasons = ", ".join(sorted({answer.finish for answer in reply.answers if answer.finish}))
    problem = (
        f"the service withheld the answer: {reasons}"
        if reasons
        else "the answer is empty, and the service reports no reason"
    )
    return f"{problem}; increase --max-tokens" if CUT_SHORT in reasons.split(", ") else problem


class ExportReport(TargetReport, frozen=True, kw_only=True, tag="Export"):
    """The files of a generation: the output of `reconcile export` and `reconcile push` with `--format json`."""

    exit_status: ExitStatus
    """The exit status of the command: 1 if a check failed because of the merge."""
    command: Literal["export", "push"]
    """The command."""
    name: ManifestName
    key: Key
    """The key of the generation."""
    merged: bool
    """Whether the adapter was merged into its base model."""
    outcome: Literal["planned", "done", "unchanged", "held"]
    """The outcome: `planned` before approval, `unchanged` if the repository has these files, `held` if a failed check
    kept them from being pushed."""
    folder: str = ""
    """The folder that has the files."""
    repository: Annotated[str, Meta(examples=["acme/faq"])] = ""
    """The repository of the Hugging Face Hub."""
    private: bool | None = None
    """Whether the repository is private; omitted without one."""
    url: str = ""
    """The page of the repository."""
    commit: str = ""
    """The commit that has the files."""
    files: tuple[NonEmpty, ...] = ()
    """The names of the files."""
    before: CheckResults | None = None
    """The results of the checks of the generation, before the merge."""
    after: CheckResults | None = None
    """The results of the same checks of the merged model."""
    regressed: tuple[NonEmpty, ...] = ()
    """The checks that the generation passes, and the merged model fails."""
    notes: tuple[NonEmpty, ...] = ()
    """Notices for the reader."""


def regressed_checks(before: CheckResults, after: CheckResults) -> tuple[str, ...]:
    """Return the names of the checks that passed before and fail after."""
    passed = {result.name for result in before.results if result.passed}
    return tuple(result.name for result in after.results if result.name in passed and not result.passed)
