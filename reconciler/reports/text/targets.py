"""Draw Targets reports as a table, and the reports of a command on several targets one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from reconciler.domain.document import Document
from reconciler.domain.errors import ExitStatus
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names, terminal_safe
from reconciler.reports.documents.envelope import target_of
from reconciler.reports.documents.targets import (
    WORST_FIRST,
    CombinedReport,
    ListedModel,
    ListedTarget,
    ModelCounts,
    TargetCondition,
    TargetsReport,
)
from reconciler.reports.text.doctor import problem_text
from reconciler.reports.text.format import Layout, Role, counted, minute, table

STATES: Final[Mapping[TargetCondition, tuple[str, Role]]] = {
    "invalid": ("invalid", "error"),
    "failed": ("failed", "error"),
    "held": ("held", "hold"),
    "pending": ("pending", "update"),
    "training": ("training", "wait"),
    "unknown": ("unknown", "muted"),
    "inSync": ("in sync", "good"),
}
"""The word and the color of each state of a target, the most severe first."""
MODEL_WORDS: Final[Mapping[str, str]] = {"in_sync": "in sync", "unselected": "not selected", "orphaned": "orphaned"}
_HEADINGS: Final = ("TARGET", "STATE", "PROVIDER", "PROJECT", "LOCATION", "STAGES", "MODELS", "LAST CHANGE", "FILE")


def targets_text(report: TargetsReport, layout: Layout) -> str:
    """Return a Targets report: a row for each target, then its problems and the models that are not in sync."""
    cells = [_HEADINGS, *map(_cells, report.targets)]
    used = [column for column in range(len(_HEADINGS)) if any(row[column] for row in cells[1:])]
    heading, *rows = table([[row[column] or "-" for column in used] for row in cells])
    lines = [layout.style("heading", heading)]
    for target, row in zip(report.targets, rows, strict=True):
        word, role = STATES[target.state]
        head = f"{target.name:<{len(row) - len(row[len(target.name) :].lstrip())}}"
        lines.append(row.replace(f"{head}{word}", f"{head}{layout.style(role, word)}", 1))
        for text in target_details(target, verbose=layout.verbose):
            lines += layout.lines("  ", text)
    return "\n".join([*lines, *layout.sentences("heading", targets_summary(report))])


def _cells(target: ListedTarget) -> tuple[str, ...]:
    return (
        target.name,
        STATES[target.state][0],
        target.provider,
        target.project,
        target.location,
        ", ".join(target.stages),
        counts_text(target.counts) if target.counts else "",
        minute(target.last_change),
        target.file,
    )


def counts_text(counts: ModelCounts) -> str:
    """Return the number of models in each state that occurs, and how many are serving."""
    states = {
        MODEL_WORDS.get(state, state): getattr(counts, state)
        for state in ModelCounts.__struct_fields__
        if state != "serving"
    }
    parts = [f"{number} {word}" for word, number in states.items() if number]
    return ", ".join([*parts, f"{counts.serving} serving"]) if parts else "none"


def target_details(target: ListedTarget, *, verbose: bool = False) -> Iterator[str]:
    """Yield the errors of a target, and its models that need attention; if ``verbose`` also warnings and all models."""
    for problem in target.problems:
        if problem.severity == "warning" and not verbose:
            continue
        place = f"{problem.file}:{problem.line}:{problem.column}: " if problem.file else ""
        path = f"{problem.path}: " if problem.path else ""
        warning = "warning: " if problem.severity == "warning" else ""
        yield f"{place}{warning}{path}{problem_text(problem)}"
    for model in target.models:
        if verbose or model.state not in {"inSync", "unselected"}:
            yield f"{model.name}: {model_text(model)}"
    if target.state == "unknown":
        yield f"{target.lockfile} is not read; {for_target('run reconcile status', target.name)}"


def model_text(model: ListedModel) -> str:
    """Return the state of a model with its reason."""
    word = {"inSync": "in sync", "unselected": "not selected"}.get(model.state, model.state)
    return f"{word} ({model.reason})" if model.reason else word


def targets_summary(report: TargetsReport) -> str:
    """Return how many targets are in each state."""
    states = [target.state for target in report.targets]
    parts = [f"{states.count(state)} {word}" for state, (word, _) in STATES.items() if state in states]
    return f"{counted(len(states), 'target')}: {', '.join(parts)}."


def combined_text(report: CombinedReport, layout: Layout, draw: Callable[[Document, Layout], str]) -> str:
    """Return the report of each target under a heading, and which targets need attention; ``draw`` draws a report."""
    parts = []
    for result in report.reports:
        # The reports of a target begin with a heading of their own.
        title = f"Model {result.model}:" if result.model else f"Target {result.target}:"
        named = layout.style("heading", terminal_safe(title))
        heading = [] if target_of(result.report) else [named]
        parts.append("\n".join([*heading, draw(result.report, layout)]))
    return "\n\n".join([*parts, "\n".join(layout.sentences("heading", combined_summary(report)))])


_OUTCOMES: Final[Mapping[ExitStatus, str]] = {
    ExitStatus.OK: "succeeded",
    ExitStatus.CHANGES: "with changes",
    ExitStatus.STILL_TRAINING: "still training",
    ExitStatus.ACCESS: "without access",
    ExitStatus.ERROR: "failed",
    ExitStatus.USAGE: "failed",
    ExitStatus.INTERRUPTED: "interrupted",
}


def combined_summary(report: CombinedReport) -> str:
    """Return how many targets or models have each exit status, the most severe first, with the names not done."""
    parts = []
    for status in WORST_FIRST:
        names = [result.model or result.target for result in report.reports if result.exit_status is status]
        if names:
            word = "with drift" if (report.command, status) == ("drift", ExitStatus.CHANGES) else _OUTCOMES[status]
            which = f" ({join_names(names)})" if status is not ExitStatus.OK else ""
            parts.append(f"{len(names)} {word}{which}")
    noun = "model" if any(result.model for result in report.reports) else "target"
    return f"{counted(len(report.reports), noun)}: {', '.join(parts)}."
