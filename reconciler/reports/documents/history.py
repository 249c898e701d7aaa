"""Build History documents: the generations of a manifest and what changed between them."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Capabilities, Dataset, Target
from reconciler.planning.dataset_diff import ExampleChanges
from reconciler.planning.history import Changes, HistoryEntry
from reconciler.reports.documents.envelope import Document, envelope, filled, number
from reconciler.reports.documents.plan import changed_document, example_document
from reconciler.state.lockfile import checks_json, source_json


@dataclass(frozen=True, slots=True)
class History:
    """What is told of a manifest ``name``; ``manifest`` is its file relative to the root. Entries are newest first."""

    name: str
    manifest: str
    entries: tuple[HistoryEntry, ...]


def history_document(
    history: History, target: Target, capabilities: Capabilities, lockfile: str, *, root: str = ""
) -> Document:
    """Every recorded generation of a manifest (schema: history); ``lockfile`` is its path as shown to the user."""
    return {
        **envelope("History", target, capabilities, root),
        "lockfile": lockfile,
        "name": history.name,
        "manifest": history.manifest,
        "generations": [_entry(entry) for entry in history.entries],
    }


def _entry(entry: HistoryEntry) -> Document:
    one = entry.generation
    shown = filled(
        {
            "key": one.key,
            "remote": one.remote,
            "state": one.state.value,
            "role": entry.role,
            "rejection": one.rejection,
            "origin": one.origin,
            "createTime": one.create_time,
            "completeTime": one.complete_time,
            "promoteTime": one.promote_time,
            "totalSteps": one.total_steps,
            "finalLoss": number(one.final_loss),
            "error": {"code": one.failure.code, "message": one.failure.message} if one.failure else None,
            "source": source_json(one.source),
            "hyperparameters": _hyperparameters(one),
            "dataset": _dataset(one.dataset),
            "preamble": one.preamble,
            "checks": checks_json(one.checks) if one.checks else None,
        }
    )
    return {**shown, "attempt": one.attempt, **({"changes": _changes(one, entry.changes)} if entry.changes else {})}


def _hyperparameters(one: LockedGeneration) -> Document:
    """Those that count: the effective ones, and the declared ones that the service has not told of."""
    return {**one.declared, **one.effective}


def _dataset(dataset: Dataset) -> Document:
    return filled(
        {
            "path": dataset.path,
            "digest": dataset.digest,
            "examples": dataset.examples or None,
            "generation": dataset.generation,
        }
    )


def _changes(one: LockedGeneration, changes: Changes) -> Document:
    since = changes.since
    return filled(
        {
            "since": since.key,
            "source": _both(source_json(since.source), source_json(one.source)) if changes.source else None,
            "hyperparameters": [
                filled({"name": change.name, "before": change.before, "after": change.after})
                for change in changes.hyperparameters
            ],
            "dataset": _data_changes(since.dataset, one.dataset, changes) if changes.dataset else None,
            "preamble": _both(since.preamble, one.preamble) if changes.preamble else None,
        }
    )


def _both(before: object, after: object) -> Document:
    return {"before": before, "after": after}


def _data_changes(before: Dataset, after: Dataset, changes: Changes) -> Document:
    there = dict(zip(("before", "after"), changes.available, strict=True))
    return filled(
        {
            **_both(_dataset(before), _dataset(after)),
            "examples": _example_changes(changes.examples) if changes.examples else None,
            "missing": [side for side, available in there.items() if not available],
        }
    )


def _example_changes(changes: ExampleChanges) -> Document:
    return {
        "added": changes.added,
        "removed": changes.removed,
        "changed": changes.changed,
        "samples": {
            "added": [example_document(one) for one in changes.some_added],
            "removed": [example_document(one) for one in changes.some_removed],
            "changed": [changed_document(one) for one in changes.some_changed],
        },
    }
