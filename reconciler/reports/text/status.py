"""Draw a Status report: a table of models, what is in progress or failed, and who has access."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.model import PHASES, State
from reconciler.domain.target_option import for_target
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.status import (
    AccessibleGeneration,
    AccessSummary,
    GenerationStatus,
    GenerationSummary,
    LiveGeneration,
    ModelStatus,
    SharedGeneration,
    StatusReport,
    TrainingProgress,
)
from reconciler.reports.text.format import (
    Layout,
    Role,
    checkpoint_text,
    counted,
    dropped_text,
    evaluations_text,
    loss,
    minute,
    report_heading,
    table,
)

_HEADINGS: Final = ("NAME", "SERVING", "STATE", "STEPS", "FINAL LOSS", "CHECKS", "SINCE")
_RIGHT: Final = frozenset({3, 4, 5})
_WORD_WIDTH: Final = 10
_UNFINISHED: Final = {
    State.FAILED: ("failed", "the service reports no reason"),
    State.CANCELLED: ("canceled", "canceled at the service"),
    State.INTENDED: ("intended", "a run requested this training and stopped; the next apply looks for the model first"),
    State.DELETING: (
        "deleting",
        "a run requested its deletion and stopped; run reconcile refresh to record the outcome",
    ),
}
"""States in which the newest generation has a line of its own: its word, and the text if the service has no reason."""


def status_text(report: StatusReport, layout: Layout) -> str:
    """Return a Status report as a table of models, with trainings and failures below each model."""
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    if report.models:
        lines += _model_lines(report.models, layout)
    else:
        lines.append("No models are recorded.")
    if report.access:
        lines += access_lines(report.access, layout)
    return "\n".join([*lines, *layout.sentences("muted", *origin_of(report))])


def origin_of(report: StatusReport) -> Iterator[str]:
    """Yield where the state in a Status report comes from, if not from the service."""
    if not report.verified:
        yield recorded_state(report.lockfile, "queried only for permissions" if report.access else "not queried")


def recorded_state(lockfile: str, queried: str = "not queried") -> str:
    """Return that a report has the recorded state, and for what the service was queried."""
    return f"Recorded state of {lockfile}; the service was {queried}."


def _model_lines(models: Sequence[ModelStatus], layout: Layout) -> Iterator[str]:
    """Yield a table of models; on a terminal that is too narrow, each name has a line and its values follow below."""
    heading, *rows = table([_HEADINGS, *map(_cells, models)], _RIGHT)
    fits = layout.width is None or max(map(len, (heading, *rows))) <= layout.width
    if fits:
        yield layout.style("heading", heading)
    for row, model in zip(rows, models, strict=True):
        yield from [row] if fits else _narrow_row(model, layout)
        for role, word, text in status_details(model):
            yield from layout.lines(f"  {word:<{_WORD_WIDTH}}", text, role)


def _narrow_row(model: ModelStatus, layout: Layout) -> Iterator[str]:
    name, serving, *cells = _cells(model)
    yield layout.style("heading", terminal_safe(name))
    values = [f"{label.lower()} {cell}" for label, cell in zip(_HEADINGS[2:], cells, strict=True) if cell != "-"]
    yield from layout.lines(f"  {'serving':<{_WORD_WIDTH}}", serving)
    yield from layout.lines(" " * (_WORD_WIDTH + 2), ", ".join(values))


def _cells(model: ModelStatus) -> tuple[str, ...]:
    shown = model.shown
    serving = model.serving.key + checkpoint_text(model.serving.checkpoint) if model.serving else "-"
    if shown is None:
        return (model.name, serving, *["-"] * (len(_HEADINGS) - 2))
    return (
        model.name,
        serving,
        shown.state,
        "-" if shown.total_steps is None else str(shown.total_steps),
        "-" if shown.final_loss is None else loss(shown.final_loss),
        passed_ratio(shown.checks) if shown.checks else "-",
        minute(model.since or "-"),
    )


def stages_text(generation: GenerationSummary, use: str) -> str:
    """Return the stages in which a generation has this use, with their times; empty if there are none."""
    return ", ".join(
        f"{found.stage}{f' since {minute(found.since)}' if found.since else ''}"
        for found in generation.stages
        if found.use == use
    )


def passed_ratio(checks: RecordedChecks) -> str:
    """Return how many of recorded checks passed: ``2/3``."""
    return f"{checks.passed}/{checks.total}"


def status_details(model: ModelStatus) -> Iterator[tuple[Role, str, str]]:
    """Yield role, word and text for each generation of a model that is training, failed or not promoted."""
    serving = {model.serving.key} if model.serving else set()
    serving |= {generation.key for generation in model.generations if stages_text(generation, "serving")}
    yield from _model_details(model)
    for generation in model.generations:
        yield from _stage_details(generation)
    for position, generation in enumerate(model.generations):
        key, state = generation.key, generation.state
        if state is State.CREATING:
            doing = training_text(generation)
            yield "wait", "training", f"{key}{', ' if generation.phase else ': '}{doing}" if doing else key
            yield from _experiment(generation)
        elif generation.undeployed and key in serving:
            yield (
                "error",
                "degraded",
                for_target(f"{key}: no endpoint has its model; run reconcile apply to deploy it again"),
            )
        elif state is State.ACTIVE and position == 0 and key not in serving:
            yield from _not_promoted(generation)
        elif state in _UNFINISHED and position == 0:
            word, unexplained = map(for_target, _UNFINISHED[state])
            message = generation.error.message if generation.error else ""
            yield "error", word, f"{key}: {message or unexplained}"
            yield from _experiment(generation)
        if generation.dropped_examples and (position == 0 or key in serving):
            yield "warning", "warning", f"{key}: {dropped_text(generation.dropped_examples)}"
        if generation.evaluations and (position == 0 or key in serving):
            yield "muted", "evaluated", f"{key}: by the service, {evaluations_text(generation.evaluations)}"


def _model_details(model: ModelStatus) -> Iterator[tuple[Role, str, str]]:
    if model.suspend:
        yield "hold", "suspended", f"nothing is changed{model.suspend}"
    if model.orphaned:
        remedy = for_target(
            f"run reconcile forget {model.name} to stop managing it, or reconcile prune --dry-run {model.name}"
        )
        yield "warning", "orphaned", f"no manifest declares it; {remedy} to see what prune would delete"


def _stage_details(generation: GenerationStatus) -> Iterator[tuple[Role, str, str]]:
    if stages := stages_text(generation, "serving"):
        yield "good", "serving", f"{generation.key} in {stages}"
    requested = [use for use in generation.stages if use.use == "requested"]
    if stages := ", ".join(use.stage for use in requested if not use.held):
        yield "wait", "requested", for_target(f"{generation.key} for {stages}; reconcile plan shows what it waits for")
    for use in requested:
        if use.held:
            yield "hold", "held", f"{generation.key} for {use.stage} ({use.held}): {use.message}"


def _experiment(generation: GenerationStatus) -> Iterator[tuple[Role, str, str]]:
    if generation.experiment_url:
        yield "muted", "experiment", generation.experiment_url


def _not_promoted(generation: GenerationStatus) -> Iterator[tuple[Role, str, str]]:
    """Yield why the newest generation is not serving although it is ready; nothing if it was serving before."""
    if generation.rejected:
        word, reason = "rejected", generation.rejection or "rolled back"
    elif generation.checks and generation.checks.failed:
        word, reason = "held", f"{passed_ratio(generation.checks)} checks passed"
    elif generation.promote_time:
        return
    else:
        word, reason = "ready", for_target("not serving; run reconcile plan to see why")
    yield "hold", word, f"{generation.key}: {reason}"


def training_text(generation: LiveGeneration) -> str:
    """Return what a training does and how far it is; empty if it is training, before the first step or epoch."""
    if generation.state is not State.CREATING:
        return ""
    return f"{PHASES.get(generation.phase, generation.phase)}{_progress(generation.progress)}".removeprefix(": ")


def _progress(progress: TrainingProgress | None) -> str:
    """Return the completed steps or epochs of a training with its loss; nothing before the first."""
    if progress is None:
        return ""
    steps, epoch = progress.completed_steps, progress.epoch
    percent = "" if progress.percent is None else f" ({progress.percent:.0f} %)"
    texts = []
    if steps or (steps is not None and progress.total_steps):
        texts.append(f"step {steps}{f'/{progress.total_steps}' if progress.total_steps else ''}{percent}")
    elif epoch is not None:
        texts.append(f"epoch {epoch}{f'/{progress.epochs}' if progress.epochs else ''}{percent}")
    if progress.loss is not None:
        texts.append(f"loss {loss(progress.loss)}")
    return f": {', '.join(texts)}" if texts else ""


def access_lines(access: AccessSummary, layout: Layout) -> Iterator[str]:
    """Yield the access of an address: certain access, access through groups, and missing models."""
    yield layout.style("heading", terminal_safe(f"{access_summary(access)}{':' if access.models else '.'}"))
    yield from _access_lines(access.models, "as", layout)
    if access.perhaps:
        yield from layout.sentences("heading", "Possible access; the service does not list the members:")
        yield from _access_lines(access.perhaps, "through", layout)
    for generation in access.gone:
        yield from layout.lines(
            "warning: ", for_target(f"{missing_access(generation)}; run reconcile apply"), "warning"
        )


def access_summary(access: AccessSummary) -> str:
    """Return how many models an address has access to."""
    reached = len(access.models) or "none"
    return f"{access.address} has access to {reached} of {counted(access.asked, 'ready model')}"


def missing_access(generation: SharedGeneration) -> str:
    """Return that no address has access to a generation that is missing at the service."""
    return f"{generation.key} no longer exists at the service, so no user has access to it"


def _access_lines(permissions: Iterable[AccessibleGeneration], preposition: str, layout: Layout) -> Iterator[str]:
    for permission in permissions:
        serving = " (serving)" if permission.serving else ""
        text = f"{permission.key}{serving}: {permission.role} {preposition} {permission.through}"
        yield from layout.lines(f"  {permission.name}  ", text)
