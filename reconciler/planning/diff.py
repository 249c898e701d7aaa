"""Differences between a manifest and a generation; only declared fields are compared."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.domain.identity import same_data, same_number
from reconciler.domain.model import (
    MUTABLE_FIELDS,
    UNKNOWN_DATA,
    Dataset,
    Manifest,
    Mark,
    RemoteModel,
    Update,
    with_value,
)
from reconciler.domain.plan import MARK_FIELD, FieldChange
from reconciler.planning.generations import ResolvedGeneration

SOURCE_FIELD = "source"


def mutable_changes(
    manifest: Manifest, live: RemoteModel, mutable: frozenset[str], mark: Mark | None = None
) -> tuple[FieldChange, ...]:
    """Return the declared mutable fields that differ from the live model, and a change of the ownership mark.

    ``mutable`` are the groups of fields that the service can patch. The mark is written if it is missing, or if
    ``mark`` has a claimed data set that the live one lacks.
    """
    changes = (
        FieldChange(mutable_field.name, mutable_field.value(live), mutable_field.value(manifest))
        for mutable_field in MUTABLE_FIELDS
        if mutable_field.group in mutable
        and not manifest.ignore_drift & {mutable_field.name, mutable_field.group}
        and not _is_same(mutable_field.value(manifest), mutable_field.value(live))
    )
    return (*changes, *(_mark(live, mark) if "description" in mutable else ()))


def _is_same(declared: object, actual: object) -> bool:
    if isinstance(declared, int | float) and isinstance(actual, int | float):
        return same_number(declared, actual)
    return declared is None or declared == actual


def _mark(live: RemoteModel, mark: Mark | None) -> Iterator[FieldChange]:
    if live.mark is None:
        yield FieldChange(MARK_FIELD, "absent", "present")
    elif mark and live.mark.data == UNKNOWN_DATA != mark.data:
        yield FieldChange(MARK_FIELD, "of unknown data", "of the declared data set")


def update_of(manifest: Manifest, mark: Mark, live: RemoteModel, changes: tuple[FieldChange, ...]) -> Update:
    """Return the patch that reverts these changes, and nothing else."""
    names = {change.field for change in changes}
    update = Update(mark=mark, description=live.description if MARK_FIELD in names else None)
    for mutable_field in MUTABLE_FIELDS:
        if mutable_field.name in names:
            update = with_value(update, mutable_field.attribute, mutable_field.value(manifest))
    return update


def content_changes(manifest: Manifest, known: ResolvedGeneration) -> tuple[FieldChange, ...]:
    """Return the identity fields in which a manifest differs from a generation."""
    return tuple(_content(manifest, known))


def _content(manifest: Manifest, known: ResolvedGeneration) -> Iterator[FieldChange]:
    if known.source and not known.source.is_same(manifest.source):
        yield FieldChange(_source_field(known, manifest), known.source.identity, manifest.source.identity)
    if not same_data(known.mark.data, manifest.dataset.digest):
        yield from _data(manifest.dataset, known)
    for name, declared in manifest.hyperparameters.items():
        effective = known.effective.get(name)
        if effective is None or not same_number(declared, effective):
            yield FieldChange(f"hyperparameters.{name}", effective, declared)


def _source_field(known: ResolvedGeneration, manifest: Manifest) -> str:
    both = known.source and known.source.base_model and manifest.source.base_model
    return "baseModel" if both else SOURCE_FIELD


def _data(declared: Dataset, known: ResolvedGeneration) -> Iterator[FieldChange]:
    recorded = known.locked.dataset if known.locked else None
    if recorded and recorded.path != declared.path:
        yield FieldChange("dataset.path", recorded.path or None, declared.path or None)
    if recorded and recorded.generation != declared.generation:
        yield FieldChange("dataset.generation", recorded.generation or None, declared.generation or None)
    if recorded and recorded.examples != declared.examples:
        yield FieldChange("dataset.examples", recorded.examples, declared.examples)
    yield FieldChange("dataset", known.mark.data, declared.digest)
