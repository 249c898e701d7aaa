"""Remove examples, prompts and answers from reports and lockfiles if a target requires it."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.checks import CheckResults
from reconciler.domain.lock import Lock, LockedModel
from reconciler.planning.dataset_diff import ExampleChanges
from reconciler.planning.history import HistoryEntry


def redact_report(report: CheckResults) -> CheckResults:
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


def redact_history(generation: HistoryEntry) -> HistoryEntry:
    """Return a generation of a history with the numbers of changed examples only."""
    changes = generation.changes
    if changes is None or changes.examples is None:
        return generation
    counts = ExampleChanges(changes.examples.added, changes.examples.removed, changes.examples.changed)
    return replace(generation, changes=replace(changes, examples=counts))
