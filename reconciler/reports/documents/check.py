"""Build Check and Prompt documents: results of checks, and the answers of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import CheckReport, CheckResult, Miss, RecordedChecks
from reconciler.domain.document import builtins_of
from reconciler.domain.errors import AccessError, ReconcileError
from reconciler.domain.exit_status import ExitStatus
from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.model import Capabilities, Sampling, Target
from reconciler.reports.documents.envelope import Document, envelope, filled


class GenerationCheck(Struct, frozen=True):
    """A checked generation; ``before`` are its previous results, ``error`` is the reason why it was not checked."""

    name: str
    key: str
    remote: str
    serves: bool
    before: RecordedChecks | None = None
    report: CheckReport | None = None
    error: ReconcileError | None = None

    def with_report(self, report: CheckReport) -> GenerationCheck:
        """Return a copy with the results."""
        return replace(self, report=report)

    def refused(self, error: ReconcileError) -> GenerationCheck:
        """Return a copy with the error."""
        return replace(self, error=error)

    @property
    def regressed(self) -> bool:
        """Whether the same checks passed the last time and fail now."""
        then, now = self.before, self.report
        return bool(then and now and then.digest == now.digest and not then.failed and now.failed)

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of a command that checks only this generation."""
        if isinstance(self.error, AccessError):
            return ExitStatus.ACCESS
        failed = self.error or (self.report and self.report.failed)
        return ExitStatus.ERROR if failed else ExitStatus.OK


def check_document(
    checked: Iterable[GenerationCheck],
    unserved: Iterable[str],
    target: Target,
    capabilities: Capabilities,
    *,
    root: str = "",
) -> Document:
    """Return a Check document (schema: check); ``unserved`` manifests have checks and no serving generation."""
    ordered = sorted(checked, key=lambda check: check.name)
    return {
        **envelope("Check", target, capabilities, root),
        "exitStatus": int(max((check.exit_status for check in ordered), default=ExitStatus.OK)),
        "models": [_model(check) for check in ordered],
        "unserved": sorted(unserved),
    }


def _model(check: GenerationCheck) -> Document:
    shown = {
        "name": check.name,
        "key": check.key,
        "remote": check.remote,
        "serving": check.serves,
        "regressed": check.regressed,
    }
    return shown | filled(
        {
            "before": builtins_of(check.before) if check.before else None,
            "checks": checks_report(check.report) if check.report else None,
            "message": str(check.error or ""),
        }
    )


def checks_report(report: CheckReport) -> Document:
    """Return the results of checks with every wrong answer."""
    return {
        "digest": report.digest,
        "passed": report.passed,
        "failed": report.failed,
        "results": [_check_result(result) for result in report.results],
    }


def _check_result(result: CheckResult) -> Document:
    shown = {
        "name": result.name,
        "passed": result.passed,
        "passes": result.passes,
        "answers": result.answers,
        "score": round(result.score, 4),
        "minimum": result.minimum,
    }
    further = {
        "interval": [round(bound, 4) for bound in result.interval or ()],
        "leaked": result.leaked or None,
        "misses": [_miss(miss) for miss in result.misses],
    }
    return shown | filled(further)


def _miss(miss: Miss) -> Document:
    return {"prompt": miss.prompt, "answer": miss.answer, "why": miss.reason}


CUT_SHORT: Final = "MAX_TOKENS"


class SentPrompt(Struct, frozen=True):
    """A prompt as it was sent: ``text`` is the user's, ``prompt`` has the preamble and the settings, too."""

    name: str
    key: str
    remote: str
    preamble: str
    text: str
    prompt: Prompt


def prompt_document(
    sent: SentPrompt, reply: Reply, target: Target, capabilities: Capabilities, *, root: str = ""
) -> Document:
    """Return a Prompt document (schema: prompt); ``message`` is the reason if there is no answer."""
    answered = any(answer.text for answer in reply.answers)
    prompt = sent.prompt
    return {
        **envelope("Prompt", target, capabilities, root),
        "exitStatus": int(ExitStatus.OK if answered else ExitStatus.ERROR),
        "name": sent.name,
        "key": sent.key,
        "remote": sent.remote,
        "preamble": sent.preamble,
        "text": sent.text,
        "sampling": _sampling(prompt.sampling),
        **filled({"maxTokens": prompt.max_tokens}),
        "candidates": [{"text": answer.text, **filled({"finish": answer.finish})} for answer in reply.answers],
        **filled({"blocked": reply.blocked, "message": "" if answered else _missing_answer(reply)}),
    }


def _sampling(sampling: Sampling) -> Document:
    return filled({"temperature": sampling.temperature, "topP": sampling.top_p, "topK": sampling.top_k})


def _missing_answer(reply: Reply) -> str:
    if reply.blocked:
        return f"the service blocked the prompt: {reply.blocked}"
    reasons = ", ".join(sorted({answer.finish for answer in reply.answers if answer.finish}))
    problem = (
        f"the service withheld the answer: {reasons}"
        if reasons
        else "the answer is empty, and the service reports no reason"
    )
    return f"{problem}; increase --max-tokens" if CUT_SHORT in reasons.split(", ") else problem
