"""Remove examples, prompts and answers from reports and lockfiles if a target requires it."""

from __future__ import annotations

from dataclasses import replace

from reconciler.domain.checks import CheckReport
from reconciler.domain.lock import Lock, LockedModel
from reconciler.planning.dataset_diff import ExampleChanges
from reconciler.planning.history import HistoryEntry


def redact_report(report: CheckReport) -> CheckReport:
    """Return the results of checks without prompts and answers."""
    return replace(report, results=tuple(replace(result, misses=()) for result in report.results))


def redact_lock(lock: Lock) -> Lock:
    """Return the lockfile without prompts and answers of failed checks; the same object if it has none."""
    models = {name: redact_model(model) for name, model in lock.models.items()}
    same = all(models[name] is model for name, model in lock.models.items())
    return lock if same else replace(lock, models=models)


def redact_model(model: LockedModel) -> LockedModel:
    """Return the model without prompts and answers of failed checks; the same object if it has none."""
    for generation in model.generations:
        if generation.checks and generation.checks.misses:
            checks = replace(generation.checks, misses=())
            model = model.with_generation(replace(generation, checks=checks))
    return model


def redact_history(entry: HistoryEntry) -> HistoryEntry:
    """Return the entry of a history with the number of changed examples only."""
    found = entry.changes.examples if entry.changes else None
    if entry.changes is None or found is None:
        return entry
    counts = ExampleChanges(found.added, found.removed, found.changed)
    return replace(entry, changes=replace(entry.changes, examples=counts))
