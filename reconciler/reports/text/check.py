"""Draw Check, Prompt and Export documents: results of checks, the answers of a model, and its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.domain.checks import CheckResult, CheckResults
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.check import CUT_SHORT, CheckedModel, CheckReport, ExportReport, PromptReport
from reconciler.reports.text.format import (
    Detail,
    Layout,
    Role,
    checkpoint_text,
    comparison_details,
    confidence,
    counted,
    percent,
    report_heading,
    value,
)

_SHOWN_MISSES: Final = 5
"""Misses of one check that the text shows; the document has them all."""
SEPARATOR: Final = "---"
NO_SERVING_GENERATION: Final = "no serving generation"
REGRESSED: Final = "the same checks passed last time"


def check_text(report: CheckReport, layout: Layout) -> str:
    """Return a Check report: a line for each model, with failed checks and evaluations below."""
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    for model in report.models:
        lines += _model_lines(model, layout)
    for name in report.unserved:
        lines.append(layout.style("muted", terminal_safe(f"{name}  not checked: {NO_SERVING_GENERATION}")))
    if not report.models and not report.unserved:
        lines.append("No manifest declares checks.")
    return "\n".join(lines)


def _model_lines(model: CheckedModel, layout: Layout) -> Iterator[str]:
    checks = model.checks
    if checks is None:
        yield from layout.lines(f"{model.name}  not checked: ", model.message, "error")
        return
    role: Role = "error" if checks.failed else "warning" if checks.warned else "good"
    verdict = layout.style(role, passed_text(checks))
    serving = "" if model.serving else " (not serving)"
    key = terminal_safe(model.key + checkpoint_text(checks.checkpoint))
    yield f"{terminal_safe(model.name)}  {verdict}: {key}{serving}"
    if model.regressed:
        yield layout.style("error", f"  {REGRESSED}")
    for result in checks.results:
        if not result.passed or result.interval:
            yield from _result_lines(result, layout)


def _result_lines(result: CheckResult, layout: Layout) -> Iterator[str]:
    yield from layout.lines(f"  {result.name}  ", score_text(result), result_role(result))
    misses = [] if result.passed else list(miss_texts(result))
    for miss in misses[:_SHOWN_MISSES]:
        yield from layout.lines("    ", miss)
    if len(misses) > _SHOWN_MISSES:
        yield layout.style("muted", f"    and {len(misses) - _SHOWN_MISSES} more; use --format json to see all")
    if result.different:
        yield layout.style("muted", f"    {different_summary(result)}")
        for row in list(different_texts(result))[:_SHOWN_MISSES]:
            yield from layout.lines("      ", row)


def result_role(result: CheckResult) -> Role:
    """Return the role of the result of a check."""
    return "good" if result.passed else "error" if result.holds else "warning"


def miss_texts(result: CheckResult) -> Iterator[str]:
    """Yield prompt, answer and problem of each wrong answer of a check."""
    for miss in result.misses:
        yield f"{value(miss.prompt)} → {value(miss.answer)}: {miss.reason}"


COMPARED_MODELS: Final[Mapping[str, str]] = {
    "base": "base",
    "serving": "serving",
    "generation": "this generation",
}
"""The models of a comparison, side by side in this order."""


def different_summary(result: CheckResult) -> str:
    """Return how many rows only some of the compared models answered correctly."""
    return counted(result.different, "row was", "rows were") + " answered correctly by some of the models only"


def different_texts(result: CheckResult) -> Iterator[str]:
    """Yield the prompt and the answers of the compared models, side by side, of each row that a report shows."""
    for row in result.rows:
        answers = (
            f"{COMPARED_MODELS[answer.model]} {value(answer.answer)} ({'correct' if answer.passed else 'wrong'})"
            for answer in row.answers
        )
        yield f"{value(row.prompt)} → {', '.join(answers)}"


def score_text(result: CheckResult) -> str:
    """Return how many answers of a check were correct; for an evaluation also its score and confidence."""
    interval = f"{100 * result.score:.1f} %, {confidence(result.interval, result.leaked)}" if result.interval else ""
    return "; ".join(filter(None, (_correct(result), interval, *comparison_details(result))))


def score_details(result: CheckResult) -> Iterator[str]:
    """Yield how many answers of a check were correct; for an evaluation also the interval and the comparisons."""
    yield _correct(result)
    if result.interval:
        yield confidence(result.interval, result.leaked)
    yield from comparison_details(result)


def _correct(result: CheckResult) -> str:
    correct = f"{result.passes} of {counted(result.answers, 'answer')} correct, {percent(result.minimum)} required"
    mean = f", mean score {result.mean_score:.2f}" if result.mean_score is not None else ""
    judge = f", judged by {result.judge}" if result.judge else ""
    return f"{correct}{mean}{judge}"


def passed_text(checks: CheckResults) -> str:
    """Return ``3 of 3 checks passed``, with the names of failed checks."""
    failed = [result.name for result in checks.results if result.holds]
    warned = [result.name for result in checks.results if not result.passed and not result.holds]
    names = [f"{word}: {', '.join(found)}" for word, found in (("failed", failed), ("warning", warned)) if found]
    suffix = f" ({'; '.join(names)})" if names else ""
    return f"{checks.passed} of {checks.total} checks passed{suffix}"


def prompt_text(report: PromptReport, _layout: Layout) -> str:
    """Return the answers of a Prompt report with a line of dashes between them, without empty answers."""
    texts = [answer.text for answer in report.candidates if answer.text]
    return f"\n{SEPARATOR}\n".join(map(_escape_lines, texts))


def _escape_lines(text: str) -> str:
    """Return the text with everything escaped that steers a terminal, apart from line breaks and tabs."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(terminal_safe, line.split("\t"))) for line in lines)


def prompt_notes(report: PromptReport) -> str:
    """Return notes about the answers of a Prompt report, a line each; often none."""
    return "\n".join(map(terminal_safe, _notes(report)))


def _notes(report: PromptReport) -> Iterator[str]:
    if report.message:
        return
    if report.simulated:
        yield "The answer is simulated: it is taken from the training examples."
    for position, answer in enumerate(report.candidates, 1):
        subject = f"answer {position}" if len(report.candidates) > 1 else "the answer"
        if not answer.text:
            yield f"note: {subject} is empty: {answer.finish or 'the service reports no reason'}"
        elif answer.finish == CUT_SHORT:
            yield f"note: {subject} is cut short: {answer.finish}; increase --max-tokens"
        elif answer.finish:
            yield f"note: {subject} ended early: {answer.finish}"


_EXPORTS: Final[Mapping[tuple[str, str], tuple[Role, str]]] = {
    ("export", "done"): ("good", "{key} was exported to {folder}"),
    ("push", "planned"): ("warning", "{key} will be pushed to {url}, which is {visibility}"),
    ("push", "done"): ("good", "{key} was pushed to {url}"),
    ("push", "unchanged"): ("muted", "{url} has {key} already; nothing was pushed"),
    ("push", "held"): ("error", "{key} was not pushed to {url}: a check fails after the merge"),
}
"""Role and text of each command and outcome of an Export report."""


def export_text(report: ExportReport, layout: Layout) -> str:
    """Return an Export report: where the files are, and the checks before and after a merge."""
    role, text = _EXPORTS[report.command, report.outcome]
    visibility = "private" if report.private else "public"
    summary = text.format(key=report.key, folder=report.folder, url=report.url, visibility=visibility)
    merged = ", merged into its base model" if report.merged else ""
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    lines.append(layout.style(role, terminal_safe(f"{report.name}: {summary}{merged}")))
    lines += layout.details(list(_export_details(report)), indent=2, columns=_EXPORT_COLUMNS)
    kept = "; the folder is kept" if report.folder else ""
    for name in report.regressed:
        lines += layout.lines("  ", f"the check {name} passes before the merge, and fails after it{kept}", "error")
    return "\n".join(lines)


_EXPORT_COLUMNS: Final = 10


def _export_details(report: ExportReport) -> Iterator[Detail]:
    if report.commit:
        yield "commit", report.commit
    if report.files:
        yield "files", ", ".join(report.files)
    after = {result.name: result for result in report.after.results} if report.after else {}
    for result in report.before.results if report.before else ():
        shares = f"{_share(result)} before the merge, {_share(after[result.name])} after it"
        yield "check", f"{result.name}: {shares}"
    for note in report.notes:
        yield "note", note


def _share(result: CheckResult) -> str:
    verdict = "passed" if result.passed else "failed"
    return f"{result.passes} of {result.answers} correct ({verdict})"
