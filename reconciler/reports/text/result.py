"""Draw a Result document: what a run of apply, wait or prune did with each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import convert

from reconciler.domain.checks import CheckResults
from reconciler.domain.exit_status import ExitStatus
from reconciler.reports.documents.envelope import Document
from reconciler.reports.text.check import passed_text
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Layout, Role, counted, elapsed, steps_and_loss
from reconciler.reports.text.plan import notices_text

OUTCOMES: Final[Mapping[str, tuple[str, Role]]] = {
    "ready": ("ready", "good"),
    "checked": ("checked", "good"),
    "updated": ("updated", "good"),
    "deleted": ("deleted", "good"),
    "training": ("still training", "wait"),
    "failed": ("failed", "error"),
    "held": ("held", "hold"),
    "refused": ("refused", "error"),
    "pending": ("not applied", "warning"),
    "inSync": ("in sync", "muted"),
    "orphaned": ("no longer declared", "muted"),
}
"""Word and role of each outcome, in the order in which outcomes are counted."""
_UNCHANGED: Final = frozenset({"inSync", "orphaned"})
_TRAINED: Final = frozenset({"ready", "training", "failed"})


def result_text(document: Document, layout: Layout) -> str:
    """Return a Result document: a line for each model that changed, and the totals of the run."""
    shown = [model for model in document["models"] if model["state"] not in _UNCHANGED]
    column = max((len(model["name"]) for model in shown), default=0)
    explained: dict[str, str] = {}
    lines = [line for model in shown for line in _model_lines(model, explained, column, layout)]
    if shown:
        lines += layout.sentences(None, result_summary(document), *next_steps(document))
    elif "unpublished" not in document:
        lines.append(layout.style("good", result_summary(document)))
    if "unpublished" in document:
        lines += layout.lines("Not published: ", document["unpublished"], "error")
    return "\n".join(lines)


def prune_text(document: Document, layout: Layout) -> str:
    """Return a Result document of prune: deleted models, and the notices."""
    lines = result_text(document, layout) if document["models"] else "Nothing was deleted."
    return "\n".join(filter(None, [lines, notices_text(document["notices"], layout)]))


def _model_lines(model: Document, explained: dict[str, str], column: int, layout: Layout) -> Iterator[str]:
    word, role = OUTCOMES[model["state"]]
    reason = f" ({model['reason']})" if "reason" in model and model["state"] == "held" else ""
    name = f"{terminal_safe(model['name']):<{column}}"
    colored = f"{name}  {layout.style(role, word)}{reason}: "
    return layout.lines(f"{name}  {word}{reason}: ", outcome_details(model, explained), colored=colored)


def outcome_details(model: Document, explained: dict[str, str]) -> str:
    """Return the details of an outcome.

    ``explained`` maps messages of several lines to the first model with them: a later model refers to that one.
    """
    deleted = ", ".join(model.get("deleted", ()))
    if model["state"] == "deleted":
        return deleted
    details = _details(model, explained)
    return f"{details}; deleted: {deleted}" if deleted else details


def _details(model: Document, explained: dict[str, str]) -> str:
    if model["state"] not in {"ready", "checked"}:
        message = str(model.get("message") or model.get("key") or "no details")
        first = explained.setdefault(message, model["name"]) if "\n" in message else model["name"]
        return message if first == model["name"] else f"same as {first}"
    trained = steps_and_loss(model.get("steps"), model.get("finalLoss"))
    details = f"{model.get('remote') or model.get('key', '')}{f' ({trained})' if trained else ''}"
    return f"{details}, {passed_text(convert(model['checks'], CheckResults))}" if "checks" in model else details


def result_summary(document: Document) -> str:
    """Return the totals of a Result document in one line: models of each outcome, requests and time."""
    summary = document["summary"]
    cost = f"{counted(document['requests'], 'request')}, {elapsed(document['seconds'])}"
    if summary.keys() <= _UNCHANGED:
        in_sync = counted(summary.get("inSync", 0), "model matches its manifest", "models match their manifests")
        return f"No changes. {in_sync}; {cost}."
    counts = ", ".join(f"{summary[state]} {word}" for state, (word, _) in OUTCOMES.items() if state in summary)
    trained = any(model["state"] in _TRAINED for model in document["models"])
    simulated = " Training is simulated." if document["simulated"] and trained else ""
    return f"Models: {counts}; {cost}.{simulated}"


def next_steps(document: Document) -> Iterator[str]:
    """Yield how to continue after a run that was interrupted or did not wait for every training."""
    if document["exitStatus"] == ExitStatus.INTERRUPTED:
        yield "Interrupted. The lockfile is valid, and the next run continues."
    if "training" in document["summary"]:
        name = document["target"]["name"]
        target = "" if name == "default" else f" --target {name}"
        yield f"Training continues; run `reconcile wait{target}` to wait for the result."
