"""Differences between a manifest and a generation; only what is declared is compared."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.domain.identity import same_data, same_number
from reconciler.domain.model import UNKNOWN_DATA, Dataset, Manifest, Mark, RemoteModel, Sampling, Update
from reconciler.domain.plan import MARK_FIELD, FieldChange
from reconciler.planning.generations import ResolvedGeneration

_SAMPLING = {"temperature": "temperature", "topP": "top_p", "topK": "top_k"}
SOURCE_FIELD = "source"


def mutable_changes(
    manifest: Manifest, live: RemoteModel, mutable: frozenset[str], mark: Mark | None = None
) -> tuple[FieldChange, ...]:
    """The declared fields that drifted and can be patched (``mutable``), and the ownership mark.

    That is written where it is gone, and where ``mark``, the one to bear, names a claimed data set, and it does not.
    """
    sampling = _sampling(manifest, live) if "sampling" in mutable else ()
    owner = _mark(live, mark) if "description" in mutable else ()
    return (*(change for change in _texts(manifest, live) if change.field in mutable), *sampling, *owner)


def _texts(manifest: Manifest, live: RemoteModel) -> Iterator[FieldChange]:
    for name, declared, actual in (
        ("displayName", manifest.display_name, live.display_name),
        ("description", manifest.description, live.description),
    ):
        if declared is not None and declared != actual and name not in manifest.ignore_drift:
            yield FieldChange(name, actual, declared)


def _sampling(manifest: Manifest, live: RemoteModel) -> Iterator[FieldChange]:
    for wire, attribute in _SAMPLING.items():
        declared, actual = getattr(manifest.sampling, attribute), getattr(live.sampling, attribute)
        same = declared is None or (actual is not None and same_number(declared, actual))
        if not same and not manifest.ignore_drift & {"sampling", f"sampling.{wire}"}:
            yield FieldChange(f"sampling.{wire}", actual, declared)


def _mark(live: RemoteModel, mark: Mark | None) -> Iterator[FieldChange]:
    if live.mark is None:
        yield FieldChange(MARK_FIELD, "absent", "present")
    elif mark and live.mark.data == UNKNOWN_DATA != mark.data:
        yield FieldChange(MARK_FIELD, "of unknown data", "of the declared data set")


def update_of(manifest: Manifest, mark: Mark, live: RemoteModel, changes: tuple[FieldChange, ...]) -> Update:
    """The patch that undoes these changes, and nothing else."""
    fields = {change.field for change in changes}
    described = manifest.description if "description" in fields else live.description
    return Update(
        mark=mark,
        display_name=manifest.display_name if "displayName" in fields else None,
        description=described if fields & {"description", MARK_FIELD} else None,
        sampling=Sampling(
            **{
                attribute: getattr(manifest.sampling, attribute)
                for wire, attribute in _SAMPLING.items()
                if f"sampling.{wire}" in fields
            }
        ),
    )


def content_changes(manifest: Manifest, known: ResolvedGeneration) -> tuple[FieldChange, ...]:
    """The immutable inputs in which a manifest differs from a generation: why a new one is needed."""
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
