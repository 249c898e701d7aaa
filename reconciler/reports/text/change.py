"""Draw Change, Serving, Resolve and Refresh reports: what a command changed in the lockfile or looked up there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from reconciler.domain.plan import Kind
from reconciler.domain.target_option import for_target
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.change import (
    ChangeReport,
    ModelChange,
    NextAction,
    RefreshedGeneration,
    RefreshReport,
    ResolveReport,
    ServingReport,
)
from reconciler.reports.text.format import Detail, Layout, Role, counted, report_heading

_LABEL_WIDTH: Final = 12
_SUMMARIES: Final[Mapping[tuple[str, str], tuple[Role, str]]] = {
    ("adopt", "done"): ("good", "adopted; nothing was trained"),
    ("forget", "planned"): ("warning", "{generations} will no longer be managed; nothing is deleted"),
    ("forget", "done"): ("good", "{generations} no longer managed; nothing was deleted"),
    ("cancel", "planned"): ("warning", "{trainings} will be canceled"),
    ("cancel", "done"): ("good", "{trainings} canceled"),
    ("adopt", "unchanged"): ("muted", "already adopted; nothing was changed"),
    ("promote", "done"): ("good", "promotion requested; merge the lockfile, and the next apply carries it out"),
    ("promote", "unchanged"): ("muted", "nothing to request; nothing was changed"),
    ("cancel", "unchanged"): ("muted", "no training in progress; nothing was changed"),
}
"""Role and text of each command and outcome of a Change report."""
_NEXT_ACTIONS: Final[Mapping[str, str]] = {
    Kind.CREATE: "trains {key}",
    Kind.UPDATE: "updates {key}",
    Kind.WAIT: "waits for {key}, which is training",
    Kind.ADOPT: "adopts {key}",
    Kind.CHECK: "checks {key}",
    Kind.PROMOTE: "promotes {key}",
    Kind.DELETE: "cancels {key}",
    Kind.HOLD: "holds the manifest ({reason})",
}


def change_text(report: ChangeReport, layout: Layout) -> str:
    """Return a Change report: what was or will be changed, the generations, and what the next apply does."""
    role, summary = _SUMMARIES[report.command, report.outcome]
    if report.stage:
        dropped = "was dropped" if report.outcome == "done" else "will be dropped"
        summary = f"the record of the stage {report.stage} {dropped}; the model stays managed"
    count = len(report.generations)
    counts = {"generations": counted(count, "generation"), "trainings": counted(count, "training")}
    details = [
        ("generation", " ".join(filter(None, (generation.key, generation.state, generation.remote))))
        for generation in report.generations
    ]
    if report.manifest:
        details.append(("manifest", report.manifest))
    details += [("note", note) for note in report.notes]
    details += _recorded(report, changed=report.outcome == "done")
    text = _summary_with_details(report, role, summary.format(**counts), details, layout)
    return "\n".join([text, *(_other(report, other, layout) for other in report.others)])


def _other(report: ChangeReport, other: ModelChange, layout: Layout) -> str:
    """Return the part about another model, without the heading, which all have in common."""
    values = {field: getattr(other, field) for field in other.__struct_fields__}
    text = change_text(replace(report, others=(), **values), layout)
    return text.partition("\n")[2]


def serving_text(report: ServingReport, layout: Layout) -> str:
    """Return a Serving report: the serving generation, rejected generations, and what the next apply does."""
    key = report.serving.key
    stage = f" in {report.stage}" if report.stage else ""
    summary = f"{key} is now serving{stage}" if report.changed else f"{key} is already serving; nothing was changed"
    if report.changed and report.before:
        summary += f" instead of {report.before}"
    details = [("checkpoint", report.serving.checkpoint)] if report.serving.checkpoint else []
    details.append(("remote", report.serving.remote))
    details += [("warning", report.warning)] if report.warning else []
    details += [
        (
            "note",
            for_target(
                f"{report.before} is still serving in {stage}; see reconcile rollback {report.name} --stage {stage}"
            ),
        )
        for stage in report.still_serving
    ]
    details += [("rejected", ": ".join(filter(None, (rejected.key, rejected.reason)))) for rejected in report.rejected]
    details += _recorded(report, changed=report.changed)
    return _summary_with_details(report, "good", summary, details, layout)


def _recorded(report: ChangeReport | ServingReport, *, changed: bool) -> Iterator[Detail]:
    if changed:
        yield "recorded", report.lockfile
        if report.published:
            yield "published", report.published
    for action in report.next:
        yield "next apply", _next_action(action)


def _next_action(action: NextAction) -> str:
    phrase = _NEXT_ACTIONS.get(action.action, "makes no change")
    phrase = phrase.format(key=action.key or "the model", reason=action.reason)
    return ": ".join(filter(None, (action.name, phrase, action.message)))


def _summary_with_details(
    report: ChangeReport | ServingReport, role: Role, summary: str, details: list[Detail], layout: Layout
) -> str:
    heading = report_heading(report.target, layout, simulated=report.simulated)
    lines = [heading, layout.style(role, terminal_safe(f"{report.name}: {summary}"))]
    return "\n".join([*lines, *layout.details(details, indent=2, columns=_LABEL_WIDTH)])


def resolve_text(report: ResolveReport, _layout: Layout, *, bare: bool = False) -> str:
    """Return a Resolve report: a line with name and remote name for each model; ``bare`` omits the names."""
    column = max((len(model.name) for model in report.models), default=0)
    lines = (model.remote if bare else f"{model.name:<{column}}  {model.remote}" for model in report.models)
    return "\n".join(map(terminal_safe, lines))


_CHANGES: Final[Mapping[str, tuple[str, Role]]] = {
    "added": ("+", "create"),
    "changed": ("~", "update"),
    "removed": ("-", "delete"),
}


def refresh_text(report: RefreshReport, layout: Layout) -> str:
    """Return a Refresh report: whether the lockfile was written, and a line for each changed model and generation."""
    role: Role = "heading" if report.changed else "good"
    heading = report_heading(report.target, layout, simulated=report.simulated)
    lines = [heading, *layout.sentences(role, _refresh_summary(report))]
    for indent, change, name, text in _refreshed(report):
        symbol, color = _CHANGES[change]
        head = f" {terminal_safe(name)}{'  ' if text else ''}"
        lines += layout.lines(f"{indent}{symbol}{head}", text, colored=f"{indent}{layout.style(color, symbol)}{head}")
    for notice in report.notices:
        lines += layout.lines("note: ", notice, "warning")
    return "\n".join(lines)


def _refresh_summary(report: RefreshReport) -> str:
    file, count = report.lockfile, counted(len(report.models), "model")
    if not report.changed:
        return f"{file} matches the manifests and live state; nothing to write"
    if not report.merged:
        return f"{file} {'was' if report.written else 'would be'} written: {count} changed"
    merged = f"was merged; run git add {file}" if report.written else "would be merged"
    return f"{file} {merged}. {count} changed since the merge."


def _refreshed(report: RefreshReport) -> Iterator[tuple[str, str, str, str]]:
    """Yield indent, change, name and details for each model and generation."""
    for model in report.models:
        yield "  ", model.change, model.name, ", ".join(model.fields)
        for generation in model.generations:
            yield "      ", generation.change, generation.key, _refreshed_generation(generation)


def _refreshed_generation(generation: RefreshedGeneration) -> str:
    if generation.change == "removed":
        return "no longer recorded"
    states = " → ".join(filter(None, (generation.before, generation.state)))
    return ": ".join(filter(None, [states, ", ".join(generation.fields)]))
