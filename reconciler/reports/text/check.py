"""Draw Check and Prompt documents: results of checks, and the answers of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from reconciler.reports.documents.check import CUT_SHORT
from reconciler.reports.documents.envelope import Document
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Layout, confidence, counted, percent, value
from reconciler.reports.text.plan import target_line

_SHOWN_MISSES: Final = 5
"""Misses of one check that the text shows; the document has them all."""
SEPARATOR: Final = "---"
NO_SERVING_GENERATION: Final = "no serving generation"
REGRESSED: Final = "the same checks passed last time"


def check_text(document: Document, layout: Layout) -> str:
    """Return a Check document: a line for each model, with failed checks and evaluations below."""
    lines = [target_line(document, layout)]
    for model in document["models"]:
        lines += _model_lines(model, layout)
    for name in document["unserved"]:
        lines.append(layout.style("muted", terminal_safe(f"{name}  not checked: {NO_SERVING_GENERATION}")))
    if not document["models"] and not document["unserved"]:
        lines.append("No manifest declares checks.")
    return "\n".join(lines)


def _model_lines(model: Document, layout: Layout) -> Iterator[str]:
    if "message" in model:
        yield from layout.lines(f"{model['name']}  not checked: ", model["message"], "error")
        return
    verdict = layout.style("error" if model["checks"]["failed"] else "good", passed_text(model["checks"]))
    serving = "" if model["serving"] else " (not serving)"
    yield f"{terminal_safe(model['name'])}  {verdict}: {terminal_safe(model['key'])}{serving}"
    if model["regressed"]:
        yield layout.style("error", f"  {REGRESSED}")
    for result in model["checks"]["results"]:
        if not result["passed"] or "interval" in result:
            yield from _result_lines(result, layout)


def _result_lines(result: Document, layout: Layout) -> Iterator[str]:
    yield from layout.lines(f"  {result['name']}  ", score_text(result), "good" if result["passed"] else "error")
    misses = [] if result["passed"] else list(miss_texts(result))
    for miss in misses[:_SHOWN_MISSES]:
        yield from layout.lines("    ", miss)
    if len(misses) > _SHOWN_MISSES:
        yield layout.style("muted", f"    and {len(misses) - _SHOWN_MISSES} more; use --format json to see all")


def miss_texts(result: Document) -> Iterator[str]:
    """Yield prompt, answer and problem of each wrong answer of a check."""
    for miss in result.get("misses", ()):
        yield f"{value(miss['prompt'])} → {value(miss['answer'])}: {miss['why']}"


def score_text(result: Document) -> str:
    """Return how many answers of a check were correct; for an evaluation also its score and confidence."""
    correct, *further = score_details(result)
    return "; ".join([correct, *(f"{100 * result['score']:.1f} %, {interval}" for interval in further)])


def score_details(result: Document) -> Iterator[str]:
    """Yield how many answers of a check were correct and required, and the confidence interval of an evaluation."""
    correct = f"{result['passes']} of {counted(result['answers'], 'answer')} correct"
    yield f"{correct}, {percent(result['minimum'])} required"
    if "interval" in result:
        yield confidence(result["interval"], result.get("leaked", 0))


def passed_text(checks: Document) -> str:
    """Return ``3 of 3 checks passed``, with the names of failed checks."""
    failed = [result["name"] for result in checks["results"] if not result["passed"]]
    names = f" (failed: {', '.join(failed)})" if failed else ""
    return f"{checks['passed']} of {checks['passed'] + checks['failed']} checks passed{names}"


def prompt_text(document: Document, _layout: Layout) -> str:
    """Return the answers of a Prompt document with a line of dashes between them, without empty answers."""
    texts = [candidate["text"] for candidate in document["candidates"] if candidate["text"]]
    return f"\n{SEPARATOR}\n".join(map(_escape_lines, texts))


def _escape_lines(text: str) -> str:
    """Return the text with everything escaped that steers a terminal, apart from line breaks and tabs."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(terminal_safe, line.split("\t"))) for line in lines)


def prompt_notes(document: Document) -> str:
    """Return notes about the answers of a Prompt document, a line each; often none."""
    return "\n".join(map(terminal_safe, _notes(document)))


def _notes(document: Document) -> Iterator[str]:
    if document["simulated"] and "message" not in document:
        yield "The answer is simulated: it is taken from the training examples."
    candidates = document["candidates"]
    for position, candidate in enumerate(candidates, 1):
        finish = candidate.get("finish", "")
        answer = f"answer {position}" if len(candidates) > 1 else "the answer"
        if candidate["text"] and finish == CUT_SHORT:
            yield f"note: {answer} is cut short: {finish}; increase --max-tokens"
        elif candidate["text"] and finish:
            yield f"note: {answer} ended early: {finish}"
        elif not candidate["text"] and "message" not in document:
            yield f"note: {answer} is empty: {finish or 'the service reports no reason'}"
