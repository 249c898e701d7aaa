"""Draw a Status document: a table of models, what is in progress or failed, and who has access."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from reconciler.reports.documents.envelope import Document
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Layout, Role, counted, loss, minute
from reconciler.reports.text.plan import target_line

_HEADINGS: Final = ("NAME", "SERVING", "STATE", "STEPS", "FINAL LOSS", "CHECKS", "SINCE")
_RIGHT: Final = frozenset({3, 4, 5})
_WORD_WIDTH: Final = 10
_UNFINISHED: Final = {
    "FAILED": ("failed", "the service reports no reason"),
    "CANCELLED": ("canceled", "canceled at the service"),
    "INTENDED": ("intended", "a run requested this training and stopped; the next apply looks for the model first"),
}
"""States in which the newest generation has a line of its own: its word, and the text if the service has no reason."""


def status_text(document: Document, layout: Layout) -> str:
    """Return a Status document as a table of models, with trainings and failures below each model."""
    lines = [target_line(document, layout)]
    if document["models"]:
        lines += _model_lines(document["models"], layout)
    else:
        lines.append("No models are recorded.")
    if "access" in document:
        lines += access_lines(document["access"], layout)
    return "\n".join([*lines, *layout.sentences("muted", *origin_of(document))])


def origin_of(document: Document) -> Iterator[str]:
    """Yield where the state in a Status or History document comes from, if not from the service."""
    if not document.get("observed"):
        queried = "queried only for permissions" if "access" in document else "not queried"
        yield f"Recorded state of {document['lockfile']}; the service was {queried}."


def _model_lines(models: Sequence[Document], layout: Layout) -> Iterator[str]:
    """Yield a table of models; on a terminal that is too narrow, each name has a line and its values follow below."""
    heading, *rows = _table([_HEADINGS, *map(_cells, models)])
    fits = layout.width is None or max(map(len, (heading, *rows))) <= layout.width
    if fits:
        yield layout.style("heading", heading)
    for row, model in zip(rows, models, strict=True):
        yield from [row] if fits else _narrow_row(model, layout)
        for role, word, text in status_details(model):
            yield from layout.lines(f"  {word:<{_WORD_WIDTH}}", text, role)


def _narrow_row(model: Document, layout: Layout) -> Iterator[str]:
    name, serving, *cells = _cells(model)
    yield layout.style("heading", terminal_safe(name))
    values = [f"{label.lower()} {cell}" for label, cell in zip(_HEADINGS[2:], cells, strict=True) if cell != "-"]
    yield from layout.lines(f"  {'serving':<{_WORD_WIDTH}}", serving)
    yield from layout.lines(" " * (_WORD_WIDTH + 2), ", ".join(values))


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[terminal_safe(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if position in _RIGHT else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _cells(model: Document) -> tuple[str, ...]:
    shown = shown_generation(model)
    return (
        model["name"],
        model.get("serving", {}).get("key", "-"),
        shown.get("state", "-"),
        str(shown.get("totalSteps", "-")),
        loss(shown["finalLoss"]) if "finalLoss" in shown else "-",
        passed_ratio(shown["checks"]) if "checks" in shown else "-",
        minute(shown.get("completeTime") or shown.get("createTime", "-")),
    )


def passed_ratio(checks: Document) -> str:
    """Return how many of recorded checks passed: ``2/3``."""
    return f"{checks['passed']}/{checks['passed'] + checks['failed']}"


def shown_generation(model: Document) -> Document:
    """Return the generation that the line of a model shows: the serving one, or the newest if none is serving."""
    serving = model.get("serving", {}).get("key")
    generations: list[Document] = model["generations"]
    matching = (generation for generation in generations if generation["key"] == serving)
    return next(matching, generations[0] if generations else {})


def status_details(model: Document) -> Iterator[tuple[Role, str, str]]:
    """Yield role, word and text for each generation of a model that is training, failed or not promoted."""
    for position, generation in enumerate(model["generations"]):
        key, state = generation["key"], generation["state"]
        if state == "CREATING":
            phase = f", {generation['phase']}" if "phase" in generation else ""
            yield "wait", "training", key + phase + _progress(generation.get("progress"))
        elif state == "ACTIVE" and position == 0 and key != model.get("serving", {}).get("key"):
            yield from _not_promoted(generation)
        elif state in _UNFINISHED and position == 0:
            word, unexplained = _UNFINISHED[state]
            yield "error", word, f"{key}: {generation.get('error', {}).get('message') or unexplained}"


def _not_promoted(generation: Document) -> Iterator[tuple[Role, str, str]]:
    """Yield why the newest generation is not serving although it is ready; nothing if it was serving before."""
    if "rejected" in generation:
        word, reason = "rejected", generation.get("rejection", "rolled back")
    elif generation.get("checks", {}).get("failed"):
        word, reason = "held", f"{passed_ratio(generation['checks'])} checks passed"
    elif "promoteTime" in generation:
        return
    else:
        word, reason = "ready", "not serving; run reconcile plan to see why"
    yield "hold", word, f"{generation['key']}: {reason}"


def _progress(progress: Document | None) -> str:
    if not progress:
        return ""
    total = progress.get("totalSteps")
    if not total and not progress["completedSteps"]:
        return ""
    steps = f"step {progress['completedSteps']}" + (f"/{total} ({progress['percent']:.0f} %)" if total else "")
    return f": {steps}" + (f", loss {loss(progress['loss'])}" if "loss" in progress else "")


def access_lines(access: Document, layout: Layout) -> Iterator[str]:
    """Yield the part ``access`` of a Status document: certain access, access through groups, and missing models."""
    models, possible = access["models"], access["perhaps"]
    yield layout.style("heading", terminal_safe(f"{access_summary(access)}{':' if models else '.'}"))
    yield from _access_lines(models, "as", layout)
    if possible:
        yield from layout.sentences("heading", "Possible access; the service does not list the members:")
        yield from _access_lines(possible, "through", layout)
    for generation in access["gone"]:
        yield from layout.lines("warning: ", f"{missing_access(generation)}; run reconcile apply", "warning")


def access_summary(access: Document) -> str:
    """Return how many models an address has access to."""
    reached = len(access["models"]) or "none"
    return f"{access['address']} has access to {reached} of {counted(access['asked'], 'ready model')}"


def missing_access(generation: Document) -> str:
    """Return that no address has access to a generation that is missing at the service."""
    return f"{generation['key']} no longer exists at the service, so no user has access to it"


def _access_lines(permissions: Iterable[Document], preposition: str, layout: Layout) -> Iterator[str]:
    for permission in permissions:
        serving = " (serving)" if permission["serving"] else ""
        text = f"{permission['key']}{serving}: {permission['role']} {preposition} {permission['through']}"
        yield from layout.lines(f"  {permission['name']}  ", text)
