"""Draw a History report: the generations of one manifest and what changed between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from reconciler.domain.checks import RecordedChecks, describe_candidates, describe_comparison
from reconciler.domain.lock import Decision
from reconciler.domain.model import REMOTE_SCHEME, Source
from reconciler.domain.target_option import for_target
from reconciler.reports.documents.envelope import display_path
from reconciler.reports.documents.history import (
    GenerationChanges,
    HistoryGeneration,
    HistoryReport,
    TrainingDataChange,
)
from reconciler.reports.text.format import (
    Detail,
    Layout,
    Role,
    billing_text,
    checkpoint_text,
    counted,
    dropped_text,
    minute,
    report_heading,
    share,
    signed_head,
    steps_and_loss,
    value,
)
from reconciler.reports.text.plan import change_counts, sample_text
from reconciler.reports.text.status import recorded_state, stages_text

_SIGNS: Final[Mapping[str, tuple[str, Role | None]]] = {
    "serving": (">", "promote"),
    "rejected": ("x", "error"),
    "held": ("!", "hold"),
    "": (" ", None),
}
NO_DECISIONS: Final = "No decision is recorded."
_USES: Final = {
    "serving": "serving in",
    "requested": "requested for",
    "previous": "previously in",
    "rejected": "rejected in",
}
_STAGE_WORDS: Final[Mapping[str, str]] = {"request": "for", "promote": "to"}
_UNAVAILABLE: Final[Mapping[tuple[str, ...], str]] = {
    ("before",): "the earlier data set is not available",
    ("after",): "this data set is not available",
    ("before", "after"): "neither data set is available",
}


def history_text(report: HistoryReport, layout: Layout) -> str:
    """Return a History report: the generations, newest first; a verbose layout includes changed examples."""
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    lines += layout.sentences(None, history_summary(report))
    for generation in report.generations:
        sign, role = _SIGNS[generation.role]
        lines += layout.lines(signed_head(sign, generation.key), generation_state(generation), role)
        lines += layout.details(generation_details(generation, verbose=layout.verbose))
    lines += layout.sentences(None, *(("Decisions, last first:",) if report.name and report.decisions else ()))
    for decision in report.decisions:
        model = "" if report.name else decision.model
        head = "  ".join(filter(None, (decision_time(decision), decision.action, model)))
        lines += layout.lines(f"  {head}  ", decision_text(decision))
    return "\n".join([*lines, *layout.sentences("muted", recorded_state(report.lockfile))])


def history_summary(report: HistoryReport) -> str:
    """Return the number of generations of a History report in one line."""
    if not report.name:
        return f"{counted(len(report.decisions), 'decision')}, last first." if report.decisions else NO_DECISIONS
    if not report.generations and report.decisions:
        return f"No generation of {report.name} is recorded."
    if not report.generations:
        return for_target(f"No generation of {report.name} is recorded; run reconcile apply first.")
    manifest = display_path(report.manifest, report.target.root)
    return f"{report.name} ({manifest}): {counted(len(report.generations), 'generation')}, newest first"


def decision_time(decision: Decision) -> str:
    """Return the time of a decision, with its seconds: several can be made in a minute."""
    return f"{decision.time[:10]} {decision.time[11:19]}"


def decision_text(decision: Decision) -> str:
    """Return the generations and the stage of a decision, by which user it was made, at which commit and why."""
    keys = " → ".join(filter(None, (decision.before, decision.generation)))
    stage = f"{_STAGE_WORDS.get(decision.action, 'in')} {decision.stage}" if decision.stage else ""
    actor = f"by {decision.actor}" if decision.actor else ""
    commit = f"at {decision.commit[:12]}" if decision.commit else ""
    return ": ".join(filter(None, (" ".join(filter(None, (keys, stage, actor, commit))), decision.reason)))


def generation_state(generation: HistoryGeneration) -> str:
    """Return the state of a generation of a History report in a few words."""
    if generation.stages:
        uses = [(word, stages_text(generation, use)) for use, word in _USES.items()]
        reason = f": {generation.rejection}" if generation.rejection else ""
        return ", ".join([generation.state, *(f"{word} {stages}" for word, stages in uses if stages)]) + reason
    if generation.role == "serving":
        since = f" since {minute(generation.promote_time)}" if generation.promote_time else ""
        return f"{generation.state}, serving{checkpoint_text(generation.checkpoint)}{since}"
    reason = {"rejected": generation.rejection, "held": "checks failed"}.get(generation.role, "")
    return ": ".join(filter(None, [", ".join(filter(None, [generation.state, generation.role])), reason]))


def generation_details(generation: HistoryGeneration, *, verbose: bool = False) -> Iterator[Detail]:
    """Yield label and text of each detail of a generation of a History report."""
    yield generation.origin, _origin(generation)
    trained = steps_and_loss(generation.total_steps, generation.final_loss)
    if trained:
        yield "training", trained
    if billed := billing_text(generation.billing):
        yield "cost", billed
    if generation.error:
        yield "error", generation.error.message or "the service reports no reason"
    if generation.dropped_examples:
        yield "warning", dropped_text(generation.dropped_examples)
    if generation.experiment_url:
        yield "experiment", generation.experiment_url
    if generation.checks:
        yield from _checks(generation.checks)
    if generation.changes:
        yield from _label("changed", _changes(generation.changes, verbose=verbose))
    else:
        yield from _label("inputs", _inputs(generation))


def _label(label: str, texts: Iterable[str]) -> Iterator[Detail]:
    for text in texts:
        yield label, text
        label = ""


def _origin(generation: HistoryGeneration) -> str:
    created = minute(generation.create_time) if generation.create_time else "at an unknown time"
    attempt = f", attempt {generation.attempt}" if generation.attempt else ""
    if not generation.promote_time or generation.role == "serving":
        return f"{created}{attempt}"
    promoted = f"last promoted{checkpoint_text(generation.checkpoint)} {minute(generation.promote_time)}"
    return f"{created}, {promoted}{attempt}"


def _checks(checks: RecordedChecks) -> Iterator[Detail]:
    scores = "".join(f"; {name} {share(score)}" for name, score in checks.scores.items())
    yield "checks", f"{checks.passed} of {checks.total} passed{scores}"
    if checks.candidates:
        yield "", describe_candidates(checks)
    for name, comparisons in checks.comparisons.items():
        for comparison in comparisons:
            yield "", f"{name}: {describe_comparison(checks.scores.get(name, 0), comparison)}"
    for miss in checks.misses:
        yield "", f"{miss.check}: {value(miss.prompt)} → {value(miss.answer)}"


def _inputs(generation: HistoryGeneration) -> Iterator[str]:
    yield _source(generation.source)
    dataset = generation.dataset
    examples = f", {counted(dataset.examples, 'example')}" if dataset.examples else ""
    yield f"data set {dataset.path or 'inline'}{examples}"
    numbers = [f"{name} {value(number)}" for name, number in sorted(generation.hyperparameters.items())]
    if numbers:
        yield ", ".join(numbers)


def _source(source: Source) -> str:
    if source.base_model:
        return f"base model {source.base_model}"
    checkpoint = f", checkpoint {source.checkpoint}" if source.checkpoint else ""
    return f"tuned model {source.key or source.remote}{checkpoint}"


def _changes(changes: GenerationChanges, *, verbose: bool) -> Iterator[str]:
    if changes.source:
        yield f"{_source(changes.source.before)} → {_source(changes.source.after)}"
    for change in changes.hyperparameters:
        yield f"{change.name} {value(change.before)} → {value(change.after)}"
    if changes.preamble:
        before, after = changes.preamble.before, changes.preamble.after
        yield f"preamble {value(before or None)} → {value(after or None)}"
    if changes.dataset:
        yield _data_change(changes.dataset, reordered=changes.preamble is None)
        if verbose and changes.dataset.examples:
            yield from (f"  {' '.join(sample_text(sample))}" for sample in changes.dataset.examples.samples)
    if changes == GenerationChanges(since=changes.since):
        yield "only the attempt: the same inputs were trained again"


def _data_change(data: TrainingDataChange, *, reordered: bool) -> str:
    before, after, found = data.before, data.after, data.examples
    name = " → ".join(dict.fromkeys(dataset.path or "inline" for dataset in (before, after)))
    if found and not (found.added or found.removed or found.changed):
        count = counted(after.examples, "example") if after.examples else "examples"
        return f"data set {name}: the same {count}{' in a different order' if reordered else ''}"
    return f"data set {name}: {_example_count(before.examples, after.examples)}; {_compared(data)}"


def _example_count(before: int, after: int) -> str:
    if not before or not after:
        return "changed"
    return counted(after, "example") if before == after else f"{before} → {counted(after, 'example')}"


def _compared(data: TrainingDataChange) -> str:
    if data.examples:
        return change_counts(data.examples.added, data.examples.removed, data.examples.changed)
    if any(dataset.path.startswith(REMOTE_SCHEME) for dataset in (data.before, data.after)):
        return "data in Cloud Storage is not compared"
    return f"examples not compared: {_UNAVAILABLE[data.missing]}"
