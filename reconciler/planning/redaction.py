"""Examples, prompts and answers kept out of whatever is told or recorded, where a target wants that."""

from __future__ import annotations

from dataclasses import replace

from reconciler.domain.checks import CheckReport
from reconciler.domain.lock import Lock, LockedModel
from reconciler.planning.dataset_diff import ExampleChanges
from reconciler.planning.history import Entry


def discreet_report(report: CheckReport) -> CheckReport:
    """How checks went, without what was asked and answered: the counts alone."""
    return replace(report, results=tuple(replace(one, misses=()) for one in report.results))


def discreet_lock(lock: Lock) -> Lock:
    """The lock without prompts and answers of failed checks; the same object where there are none."""
    models = {name: discreet_model(model) for name, model in lock.models.items()}
    same = all(models[name] is model for name, model in lock.models.items())
    return lock if same else replace(lock, models=models)


def discreet_model(model: LockedModel) -> LockedModel:
    """The model without them, as :func:`discreet_lock`."""
    if not any(one.checks and one.checks.misses for one in model.generations):
        return model
    cleared = (replace(one, checks=replace(one.checks, misses=())) if one.checks else one for one in model.generations)
    return replace(model, generations=tuple(cleared))


def discreet_entry(entry: Entry) -> Entry:
    """What changed since the generation before, with the counts of examples alone."""
    found = entry.changes.examples if entry.changes else None
    if entry.changes is None or found is None:
        return entry
    counts = ExampleChanges(found.added, found.removed, found.changed)
    return replace(entry, changes=replace(entry.changes, examples=counts))
