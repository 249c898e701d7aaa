"""Build Check and Prompt documents: results of checks, and the answers of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from reconciler.domain.checks import CheckReport, CheckResult, Miss, RecordedChecks
from reconciler.domain.errors import AccessError, ExitStatus, ReconcileError
from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.model import Capabilities, Sampling, Target
from reconciler.reports.documents.envelope import Document, envelope, filled
from reconciler.state.lockfile import checks_json


@dataclass(frozen=True, slots=True)
class GenerationCheck:
    """A generation that was checked: ``before`` is how it did the last time, ``error`` why it could not be checked."""

    name: str
    key: str
    remote: str
    serves: bool
    before: RecordedChecks | None = None
    report: CheckReport | None = None
    error: ReconcileError | None = None

    def with_report(self, report: CheckReport) -> GenerationCheck:
        """The same with how it did."""
        return replace(self, report=report)

    def refused(self, error: ReconcileError) -> GenerationCheck:
        """The same with why it could not be checked."""
        return replace(self, error=error)

    @property
    def regressed(self) -> bool:
        """Whether it passed the very same checks the last time, and does not now."""
        then, now = self.before, self.report
        return bool(then and now and then.digest == now.digest and not then.failed and now.failed)

    @property
    def exit_status(self) -> ExitStatus:
        """What this one says to the caller."""
        if isinstance(self.error, AccessError):
            return ExitStatus.ACCESS
        failed = self.error or (self.report and self.report.failed)
        return ExitStatus.ERROR if failed else ExitStatus.OK


def check_document(
    examined: Iterable[GenerationCheck],
    unserved: Iterable[str],
    target: Target,
    capabilities: Capabilities,
    *,
    root: str = "",
) -> Document:
    """How generations did (schema: check); ``unserved`` have checks and nothing that serves."""
    ordered = sorted(examined, key=lambda one: one.name)
    return {
        **envelope("Check", target, capabilities, root),
        "exitStatus": int(max((one.exit_status for one in ordered), default=ExitStatus.OK)),
        "models": [_model(one) for one in ordered],
        "unserved": sorted(unserved),
    }


def _model(one: GenerationCheck) -> Document:
    shown = {"name": one.name, "key": one.key, "remote": one.remote, "serving": one.serves, "regressed": one.regressed}
    return shown | filled(
        {
            "before": checks_json(one.before) if one.before else None,
            "checks": checks_report(one.report) if one.report else None,
            "message": str(one.error or ""),
        }
    )


def checks_report(report: CheckReport) -> Document:
    """How checks went, whole: every prompt and answer that did not pass."""
    return {
        "digest": report.digest,
        "passed": report.passed,
        "failed": report.failed,
        "results": [_check_result(one) for one in report.results],
    }


def _check_result(one: CheckResult) -> Document:
    shown = {
        "name": one.name,
        "passed": one.passed,
        "passes": one.passes,
        "answers": one.answers,
        "score": round(one.score, 4),
        "minimum": one.minimum,
    }
    further = {
        "interval": [round(bound, 4) for bound in one.interval or ()],
        "leaked": one.leaked or None,
        "misses": [_miss(miss) for miss in one.misses],
    }
    return shown | filled(further)


def _miss(miss: Miss) -> Document:
    return {"prompt": miss.prompt, "answer": miss.answer, "why": miss.reason}


CUT_SHORT: Final = "MAX_TOKENS"


@dataclass(frozen=True, slots=True)
class SentPrompt:
    """Who was asked what: ``remote`` under its remote name, ``text`` after ``preamble``, as ``prompt`` says it all."""

    name: str
    key: str
    remote: str
    preamble: str
    text: str
    prompt: Prompt


def prompt_document(
    asked: SentPrompt, reply: Reply, target: Target, capabilities: Capabilities, *, root: str = ""
) -> Document:
    """A prompt and its answers (schema: prompt); where there is no answer, ``message`` says why."""
    answered = any(one.text for one in reply.answers)
    prompt = asked.prompt
    return {
        **envelope("Prompt", target, capabilities, root),
        "exitStatus": int(ExitStatus.OK if answered else ExitStatus.ERROR),
        "name": asked.name,
        "key": asked.key,
        "remote": asked.remote,
        "preamble": asked.preamble,
        "text": asked.text,
        "sampling": _sampling(prompt.sampling),
        **filled({"maxTokens": prompt.max_tokens}),
        "candidates": [{"text": one.text, **filled({"finish": one.finish})} for one in reply.answers],
        **filled({"blocked": reply.blocked, "message": "" if answered else _why(reply)}),
    }


def _sampling(sampling: Sampling) -> Document:
    return filled({"temperature": sampling.temperature, "topP": sampling.top_p, "topK": sampling.top_k})


def _why(reply: Reply) -> str:
    if reply.blocked:
        return f"the service blocked the prompt: {reply.blocked}"
    reasons = ", ".join(sorted({one.finish for one in reply.answers if one.finish}))
    said = (
        f"the service withheld the answer: {reasons}" if reasons else "the service gave an empty answer, and no reason"
    )
    return f"{said}; increase --max-tokens" if CUT_SHORT in reasons.split(", ") else said
