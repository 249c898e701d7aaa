"""Build Plan documents, with the changes of data sets where they were compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from types import MappingProxyType
from typing import Final

from reconciler.domain.access import AccessChange
from reconciler.domain.model import Capabilities, Conversation, Source, Target, TrainingExample
from reconciler.domain.plan import Action, Deletion, FieldChange, Kind, Plan, TrainingEstimate
from reconciler.planning.dataset_diff import ChangedExample, DatasetChange, DatasetChanges
from reconciler.reports.documents.envelope import Document, Places, envelope, filled, place_fields
from reconciler.state.lockfile import source_json


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
    """A plan; ``lockfile`` is the lockfile's path as shown to the user (schema: plan).

    One of ``deletions_alone`` says of everything else why it is kept.
    """
    whole = envelope("Plan", target, capabilities, root)
    return {
        **whole,
        "target": {**whole["target"], **_reach(target)},
        "lockfile": lockfile,
        "changes": plan.changes,
        "summary": _summary(plan),
        "actions": [_action(action) | place_fields(action.name, places) for action in plan.actions],
        "notices": list(plan.notices),
        "unmanaged": plan.unmanaged,
        "candidates": plan.candidates,
        **({"kept": [asdict(one) for one in plan.kept]} if deletions_alone else {}),
    }


def _reach(target: Target) -> Document:
    """Where data and requests go and as whom trainings run: a pull request can change all of it."""
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
        "estimated": any(one.training.estimated for one in plan.of_kind(Kind.CREATE) if one.training),
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
    """What a child is tuned from; of a base model there is a field of its own."""
    return {name: value for name, value in source_json(source).items() if name != "baseModel"}


_LONGEST: Final = 500
"""Characters of a sample's texts that a document keeps; an example may be as long as a book."""
_MOST_OUTPUTS: Final = 5
"""Outputs of one contradiction that a document keeps."""


def example_document(one: TrainingExample) -> Document:
    """An example: ``input`` and ``output``, or ``conversation``."""
    if isinstance(one, Conversation):
        return {"conversation": cut(one.line)}
    return {"input": cut(one.input), "output": cut(one.output)}


def changed_document(one: ChangedExample) -> Document:
    """An example that has another output: ``input``, ``before`` and ``after``."""
    return {"input": cut(one.input), "before": cut(one.old), "after": cut(one.new)}


def cut(text: str) -> str:
    """The text, as far as a document keeps it."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def with_data_changes(document: Document, found: DatasetChanges) -> Document:
    """A Plan document with what became of the data sets; why nothing could be compared is one of its notices."""
    return {
        **document,
        "notices": [*document["notices"], *filter(None, [found.note])],
        "base": filled({"ref": found.ref, "commit": found.commit}),
        "dataChanges": [_data_change(one) for one in found.changes],
    }


def _data_change(one: DatasetChange) -> Document:
    found = one.changes
    counts = {"added": found.added, "removed": found.removed, "changed": found.changed} if found else {}
    named = filled({"name": one.name, "use": one.use, "check": one.check, "path": one.path})
    further = filled(
        {
            "duplicates": one.duplicates.count or None,
            "contradictions": one.contradictions.count or None,
            "leaked": one.leaks.count or None,
            "samples": list(_samples(one)),
            "note": one.note,
        }
    )
    return named | counts | further


def _samples(one: DatasetChange) -> Iterator[Document]:
    if one.changes:
        yield from ({"change": "added", **example_document(each)} for each in one.changes.some_added)
        yield from ({"change": "removed", **example_document(each)} for each in one.changes.some_removed)
        yield from ({"change": "changed", **changed_document(each)} for each in one.changes.some_changed)
    yield from ({"change": "duplicate", **example_document(each)} for each in one.duplicates.samples)
    for contradiction in one.contradictions.samples:
        outputs = [cut(output) for output in contradiction.outputs[:_MOST_OUTPUTS]]
        yield {"change": "contradiction", "input": cut(contradiction.input), "outputs": outputs}
    yield from ({"change": "leaked", "check": each.check, "input": cut(each.input)} for each in one.leaks.samples)
