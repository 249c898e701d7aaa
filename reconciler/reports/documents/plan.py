"""Build Plan documents, with the changes of data sets where they were compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from msgspec.structs import asdict

from reconciler.domain.access import AccessChange
from reconciler.domain.document import builtins_of
from reconciler.domain.model import Capabilities, Conversation, Source, Target, TrainingExample
from reconciler.domain.plan import Action, Deletion, FieldChange, Kind, Plan, TrainingEstimate
from reconciler.planning.dataset_diff import ChangedExample, DatasetChange, DatasetChanges
from reconciler.reports.documents.envelope import Document, Places, envelope, filled, place_fields


def plan_document(
    plan: Plan,
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    root: str = "",
    places: Places = MappingProxyType({}),
    deletions_alone: bool = False,
) -> Document:
    """Return a Plan document (schema: plan); ``lockfile`` is its path as the user would write it.

    With ``deletions_alone`` the document has the reason why each other generation is kept.
    """
    whole = envelope("Plan", target, capabilities, root)
    return {
        **whole,
        "target": {**whole["target"], **_destinations(target)},
        "lockfile": lockfile,
        "changes": plan.changes,
        "summary": _summary(plan),
        "actions": [_action(action) | place_fields(action.name, places) for action in plan.actions],
        "notices": list(plan.notices),
        "unmanaged": plan.unmanaged,
        "candidates": plan.candidates,
        **({"kept": [asdict(generation) for generation in plan.kept]} if deletions_alone else {}),
    }


def _destinations(target: Target) -> Document:
    """Return where data and requests go and which service account is used: a pull request can change all of these."""
    return filled(
        {
            "endpoint": target.endpoint,
            "storageEndpoint": target.storage_endpoint,
            "bucket": target.bucket,
            "lock": target.lock,
            "serviceAccount": target.settings.get("serviceAccount"),
            "kmsKeyName": target.settings.get("kmsKeyName"),
            "publish": target.publish,
        }
    )


def _summary(plan: Plan) -> Document:
    counted = Counter(action.kind for action in plan.actions)
    return {
        **{kind.value: counted[kind] for kind in Kind},
        "failing": len(plan.failing),
        "steps": plan.steps,
        "estimated": any(action.training.estimated for action in plan.of_kind(Kind.CREATE) if action.training),
    }


def _action(action: Action) -> Document:
    return filled(
        {
            "name": action.name,
            "file": action.file,
            "action": action.kind.value,
            "reason": action.reason.value,
            "key": action.key,
            "remote": action.remote,
            "message": action.message,
            "attempt": action.attempt,
            "baseModel": action.source.base_model if action.source else None,
            "source": _source(action.source) if action.source else None,
            "after": action.after,
            "dataset": action.dataset.path if action.dataset else None,
            "dataGeneration": action.dataset.generation if action.dataset else None,
            "dataBytes": action.dataset.size or None if action.dataset else None,
            "validationDataset": action.validation,
            "hyperparameters": dict(action.hyperparameters),
            "training": _training(action.training) if action.training else None,
            "checks": action.checks or None,
            "changes": [*map(_change, action.changes), *map(_access_change, action.access)],
            "deletion": _deletion(action.deletion) if action.deletion else None,
        }
    )


def _deletion(deletion: Deletion) -> Document:
    return filled(
        {
            "createTime": deletion.create_time,
            "ageSeconds": round(deletion.age.total_seconds()) if deletion.age is not None else None,
            "servedFrom": deletion.served_from,
            "servedUntil": deletion.served_until,
            "serves": deletion.serves or None,
            "examples": deletion.examples or None,
            "bytes": deletion.size or None,
            "checkpoints": deletion.checkpoints or None,
        }
    )


def _training(training: TrainingEstimate) -> Document:
    return filled(
        {
            "examples": training.examples,
            "epochs": training.epochs,
            "batch": training.batch,
            "steps": training.steps,
            "estimated": training.estimated,
            "seconds": training.seconds,
        }
    )


def _change(change: FieldChange) -> Document:
    values = {"live": change.live, "declared": change.declared}
    return {"field": change.field, **{side: value for side, value in values.items() if value is not None}}


def _access_change(change: AccessChange) -> Document:
    values = {"live": change.before.role if change.before else None, "declared": change.role}
    return {"field": f"access.{change.grantee}", **{side: role for side, role in values.items() if role}}


def _source(source: Source) -> Document:
    """Return the parent of a child; a base model has a field of its own."""
    return {name: value for name, value in builtins_of(source.recorded).items() if name != "baseModel"}


_LONGEST: Final = 500
"""Characters of a sample's texts that a document keeps; an example may be as long as a book."""
_MOST_OUTPUTS: Final = 5
"""Outputs of one contradiction that a document keeps."""


def example_document(example: TrainingExample) -> Document:
    """Return an example: ``input`` and ``output``, or ``conversation``."""
    if isinstance(example, Conversation):
        return {"conversation": cut(example.line)}
    return {"input": cut(example.input), "output": cut(example.output)}


def changed_document(example: ChangedExample) -> Document:
    """Return an example whose output changed: ``input``, ``before`` and ``after``."""
    return {"input": cut(example.input), "before": cut(example.old), "after": cut(example.new)}


def cut(text: str) -> str:
    """Return the text, cut to the length that a document keeps."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def with_data_changes(document: Document, found: DatasetChanges) -> Document:
    """Return a Plan document with the changes of data sets; the reason for not comparing them is a notice."""
    return {
        **document,
        "notices": [*document["notices"], *filter(None, [found.note])],
        "base": filled({"ref": found.ref, "commit": found.commit}),
        "dataChanges": [_data_change(change) for change in found.changes],
    }


def _data_change(change: DatasetChange) -> Document:
    found = change.changes
    counts = {"added": found.added, "removed": found.removed, "changed": found.changed} if found else {}
    named = filled({"name": change.name, "use": change.use, "check": change.check, "path": change.path})
    further = filled(
        {
            "duplicates": change.duplicates.count or None,
            "contradictions": change.contradictions.count or None,
            "leaked": change.leaks.count or None,
            "samples": list(_samples(change)),
            "note": change.note,
        }
    )
    return named | counts | further


def _samples(change: DatasetChange) -> Iterator[Document]:
    if change.changes:
        yield from ({"change": "added", **example_document(example)} for example in change.changes.some_added)
        yield from ({"change": "removed", **example_document(example)} for example in change.changes.some_removed)
        yield from ({"change": "changed", **changed_document(example)} for example in change.changes.some_changed)
    yield from ({"change": "duplicate", **example_document(example)} for example in change.duplicates.samples)
    for contradiction in change.contradictions.samples:
        outputs = [cut(output) for output in contradiction.outputs[:_MOST_OUTPUTS]]
        yield {"change": "contradiction", "input": cut(contradiction.input), "outputs": outputs}
    yield from (
        {"change": "leaked", "check": example.check, "input": cut(example.input)} for example in change.leaks.samples
    )
