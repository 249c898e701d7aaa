"""Build History documents: the generations of a manifest and what changed between them."""

from __future__ import annotations

from msgspec import Struct

from reconciler.domain.document import builtins_of
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Capabilities, Dataset, Target
from reconciler.planning.dataset_diff import ExampleChanges
from reconciler.planning.history import Changes, HistoryEntry
from reconciler.reports.documents.envelope import Document, envelope, filled, number
from reconciler.reports.documents.plan import DataSample, changed_sample, example_sample


class History(Struct, frozen=True):
    """The generations of the manifest ``name``, newest first; ``manifest`` is its file relative to the root."""

    name: str
    manifest: str
    entries: tuple[HistoryEntry, ...]


def history_document(
    history: History, target: Target, capabilities: Capabilities, lockfile: str, *, root: str = ""
) -> Document:
    """Return a History document (schema: history); ``lockfile`` is its path as the user would write it."""
    return {
        **envelope("History", target, capabilities, root),
        "lockfile": lockfile,
        "name": history.name,
        "manifest": history.manifest,
        "generations": [_entry(recorded) for recorded in history.entries],
    }


def _entry(recorded: HistoryEntry) -> Document:
    generation = recorded.generation
    shown = filled(
        {
            "key": generation.key,
            "remote": generation.remote,
            "state": generation.state.value,
            "role": recorded.role,
            "rejection": generation.rejection,
            "origin": generation.origin,
            "createTime": generation.create_time,
            "completeTime": generation.complete_time,
            "promoteTime": generation.promote_time,
            "totalSteps": generation.total_steps,
            "finalLoss": number(generation.final_loss),
            "error": {"code": generation.failure.code, "message": generation.failure.message}
            if generation.failure
            else None,
            "source": builtins_of(generation.source.recorded),
            "hyperparameters": _hyperparameters(generation),
            "dataset": _dataset(generation.dataset),
            "preamble": generation.preamble,
            "checks": builtins_of(generation.checks) if generation.checks else None,
        }
    )
    return {
        **shown,
        "attempt": generation.attempt,
        **({"changes": _changes(generation, recorded.changes)} if recorded.changes else {}),
    }


def _hyperparameters(generation: LockedGeneration) -> Document:
    """Return the effective hyperparameters, and declared ones that the service does not report."""
    return {**generation.declared, **generation.effective}


def _dataset(dataset: Dataset) -> Document:
    return filled(
        {
            "path": dataset.path,
            "digest": dataset.digest,
            "examples": dataset.examples or None,
            "generation": dataset.generation,
        }
    )


def _changes(generation: LockedGeneration, changes: Changes) -> Document:
    since = changes.since
    return filled(
        {
            "since": since.key,
            "source": _both(builtins_of(since.source.recorded), builtins_of(generation.source.recorded))
            if changes.source
            else None,
            "hyperparameters": [
                filled({"name": change.name, "before": change.before, "after": change.after})
                for change in changes.hyperparameters
            ],
            "dataset": _data_changes(since.dataset, generation.dataset, changes) if changes.dataset else None,
            "preamble": _both(since.preamble, generation.preamble) if changes.preamble else None,
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
            "added": [_sample(example_sample("added", example)) for example in changes.some_added],
            "removed": [_sample(example_sample("removed", example)) for example in changes.some_removed],
            "changed": [_sample(changed_sample(example)) for example in changes.some_changed],
        },
    }


def _sample(sample: DataSample) -> Document:
    return {name: value for name, value in builtins_of(sample).items() if name != "change"}
