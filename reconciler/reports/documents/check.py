"""How generations did when they were checked, as a versioned document and as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from reconciler.domain.checks import CheckReport, RecordedChecks
from reconciler.domain.errors import AccessError, ExitStatus, ReconcileError
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.plan_and_result import Document, checks_report, envelope, filled
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, counted, plain, told, value
from reconciler.reports.text.plan import target_line
from reconciler.state.lockfile import checks_json

_SHOWN_MISSES: Final = 5
"""Wrong answers of one check that the text shows; the document has them all."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A generation that was checked: ``before`` is how it did the last time, ``error`` why it could not be checked."""

    name: str
    key: str
    remote: str
    serves: bool
    before: RecordedChecks | None = None
    report: CheckReport | None = None
    error: ReconcileError | None = None

    def with_report(self, report: CheckReport) -> Examined:
        """The same with how it did."""
        return replace(self, report=report)

    def refused(self, error: ReconcileError) -> Examined:
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
    examined: Iterable[Examined],
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


def _model(one: Examined) -> Document:
    shown = {"name": one.name, "key": one.key, "remote": one.remote, "serving": one.serves, "regressed": one.regressed}
    return shown | filled(
        {
            "before": checks_json(one.before) if one.before else None,
            "checks": checks_report(one.report) if one.report else None,
            "message": str(one.error or ""),
        }
    )


def check_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Check document: a line a model, and under it what was wrong."""
    lines = [target_line(document, style, width)]
    for model in document["models"]:
        lines += _model_lines(model, width, style)
    lines += [style("muted", f"{terminal_safe(name)}  not checked: nothing serves it") for name in document["unserved"]]
    if not document["models"] and not document["unserved"]:
        lines.append("No manifest declares checks.")
    return "\n".join(lines)


def _model_lines(model: Document, width: int | None, style: Style) -> Iterator[str]:
    name = terminal_safe(model["name"])
    if "message" in model:
        yield from (
            style("error", head) + line for head, line in told(f"{name}  not checked: ", model["message"], width)
        )
        return
    role: Role = "error" if model["checks"]["failed"] else "good"
    kind = "" if model["serving"] else " (does not serve)"
    words = passed_text(model["checks"])
    yield f"{name}  {style(role, words)}: {terminal_safe(model['key'])}{kind}"
    if model["regressed"]:
        yield style("error", "  it used to pass these very checks, and does not any more")
    for one in model["checks"]["results"]:
        yield from _result_lines(one, width, style)


def _result_lines(one: Document, width: int | None, style: Style) -> Iterator[str]:
    if one["passed"] and "interval" not in one:
        return
    role: Role = "good" if one["passed"] else "error"
    yield from (
        style(role, head) + line for head, line in told(f"  {terminal_safe(one['name'])}  ", score_text(one), width)
    )
    if one["passed"]:
        return
    misses = one.get("misses", [])
    for miss in misses[:_SHOWN_MISSES]:
        text = f"{value(miss['prompt'])} → {value(miss['answer'])}: {miss['why']}"
        yield from (style("muted", head) + line for head, line in told("    ", text, width))
    if len(misses) > _SHOWN_MISSES:
        yield style("muted", f"    and {len(misses) - _SHOWN_MISSES} more; --format json shows them all")


def score_text(one: Document) -> str:
    """How many answers of a check were right, how many were needed, and how far that can be relied on."""
    right = f"{one['passes']} of {counted(one['answers'], 'answer')} right, {100 * one['minimum']:.4g} % needed"
    if "interval" not in one:
        return right
    low, high = one["interval"]
    leaked = f"; {counted(one['leaked'], 'example')} known from the training" if "leaked" in one else ""
    return f"{right}; {100 * one['score']:.1f} %, {100 * low:.0f} to {100 * high:.0f} % with 95 % confidence{leaked}"


def passed_text(checks: Document) -> str:
    """``3 of 3 checks passed``, with the names of those that did not."""
    failed = [one["name"] for one in checks["results"] if not one["passed"]]
    names = f" (failed: {', '.join(failed)})" if failed else ""
    return f"{checks['passed']} of {checks['passed'] + checks['failed']} checks passed{names}"
