"""Draw the result of a run of apply, wait or prune: what it did with each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.domain.errors import ExitStatus
from reconciler.domain.target_option import for_target
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.result import SETTLED, HeldStage, ModelOutcome, Outcome, ResultReport
from reconciler.reports.text.check import passed_text
from reconciler.reports.text.format import (
    Layout,
    Role,
    billing_text,
    counted,
    dropped_text,
    elapsed,
    notices_text,
    steps_and_loss,
)

OUTCOMES: Final[Mapping[Outcome, tuple[str, Role]]] = {
    Outcome.READY: ("ready", "good"),
    Outcome.CHECKED: ("checked", "good"),
    Outcome.UPDATED: ("updated", "good"),
    Outcome.DELETED: ("deleted", "good"),
    Outcome.TRAINING: ("still training", "wait"),
    Outcome.FAILED: ("failed", "error"),
    Outcome.HELD: ("held", "hold"),
    Outcome.REFUSED: ("refused", "error"),
    Outcome.PENDING: ("not applied", "warning"),
    Outcome.IN_SYNC: ("in sync", "muted"),
    Outcome.ORPHANED: ("orphaned", "muted"),
}
"""Word and role of each outcome, in the order in which outcomes are counted."""
TRAINED: Final = frozenset({Outcome.READY, Outcome.CHECKED})
"""Outcomes of models with a ready generation."""
_TRAINS: Final = frozenset({Outcome.READY, Outcome.TRAINING, Outcome.FAILED})


def result_text(report: ResultReport, layout: Layout) -> str:
    """Return a result: a line for each model that changed, the totals of the run, and the notices."""
    shown = [model for model in report.models if model.state not in SETTLED]
    column = max((len(model.name) for model in shown), default=0)
    explained: dict[str, str] = {}
    lines = [line for model in shown for line in _model_lines(model, explained, column, layout)]
    if shown:
        lines += layout.sentences(None, result_summary(report), *next_steps(report))
    elif not report.unpublished:
        lines.append(layout.style("good", result_summary(report)))
    if report.unpublished:
        lines += layout.lines("Not published: ", report.unpublished, "error")
    return "\n".join(filter(None, [*lines, notices_text(report.notices, layout)]))


def prune_text(report: ResultReport, layout: Layout) -> str:
    """Return the result of prune: as :func:`result_text`, also without models."""
    if report.models:
        return result_text(report, layout)
    return "\n".join(filter(None, ["Nothing was deleted.", notices_text(report.notices, layout)]))


def _model_lines(model: ModelOutcome, explained: dict[str, str], column: int, layout: Layout) -> Iterator[str]:
    word, role = OUTCOMES[model.state]
    reason = f" ({model.reason})" if model.reason and model.state is Outcome.HELD else ""
    name = f"{terminal_safe(model.name):<{column}}"
    colored = f"{name}  {layout.style(role, word)}{reason}: "
    yield from layout.lines(f"{name}  {word}{reason}: ", outcome_details(model, explained), colored=colored)
    for held in model.held_stages:
        yield from layout.lines(f"  {held_in(held)} ({held.reason}): ", held.message, "error" if held.fails else "hold")
    if model.dropped_examples:
        yield from layout.lines("  warning: ", dropped_text(model.dropped_examples), "warning")


def held_in(held: HeldStage) -> str:
    """Return the words for a stage whose promotion is held."""
    return f"held in {terminal_safe(held.stage)}"


def outcome_details(model: ModelOutcome, explained: dict[str, str]) -> str:
    """Return the details of an outcome.

    ``explained`` maps messages of several lines to the first model with them: a later model refers to that one.
    """
    deleted = ", ".join(model.deleted)
    if model.state is Outcome.DELETED:
        return deleted
    details = _details(model, explained)
    return f"{details}; deleted: {deleted}" if deleted else details


def _details(model: ModelOutcome, explained: dict[str, str]) -> str:
    if model.state not in TRAINED:
        message = model.message or model.key or "no details"
        first = explained.setdefault(message, model.name) if "\n" in message else model.name
        return message if first == model.name else f"same as {first}"
    trained = steps_and_loss(model.steps, model.final_loss)
    details = f"{model.remote or model.key}{f' ({trained})' if trained else ''}"
    billed = billing_text(model.billing)
    details = f"{details}, {billed}" if billed else details
    details = f"{details}, {passed_text(model.checks)}" if model.checks else details
    return f"{details}; {model.message}" if model.message else details


def result_summary(report: ResultReport) -> str:
    """Return the totals of a result in one line: models of each outcome, requests and time."""
    summary = report.summary
    cost = f"{counted(report.requests, 'request')}, {elapsed(report.seconds)}"
    if summary.keys() <= SETTLED:
        in_sync = counted(summary.get(Outcome.IN_SYNC, 0), "model matches its manifest", "models match their manifests")
        return f"No changes. {in_sync}; {cost}."
    counts = ", ".join(f"{summary[state]} {word}" for state, (word, _) in OUTCOMES.items() if state in summary)
    held = Counter(held_in(stage) for model in report.models for stage in model.held_stages)
    stages = "".join(f"; {number} {words}" for words, number in held.items())
    simulated = " Training is simulated." if report.simulated and summary.keys() & _TRAINS else ""
    return f"Models: {counts}{stages}; {cost}.{simulated}"


def next_steps(report: ResultReport) -> Iterator[str]:
    """Yield how to continue after a run that was interrupted or did not wait for every training."""
    if report.exit_status is ExitStatus.INTERRUPTED:
        yield "Interrupted. The lockfile is valid, and the next run continues."
    if Outcome.TRAINING in report.summary:
        yield for_target("Training continues; run `reconcile wait` to wait for the result.", report.target.name)
