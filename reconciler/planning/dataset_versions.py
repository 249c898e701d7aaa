"""Data sets in Cloud Storage: a manifest names an address, a generation is trained on what stood there at the time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.domain.lock import Lock
from reconciler.domain.model import Dataset, Manifest


def addresses(manifests: Iterable[Manifest]) -> frozenset[str]:
    """The ``gs://`` addresses that these manifests name, for training and for validation."""
    return frozenset(one.path for manifest in manifests for one in _datasets(manifest) if one.is_remote)


def pinned(manifests: Iterable[Manifest], found: Mapping[str, Dataset], lock: Lock) -> tuple[Manifest, ...]:
    """The manifests with the data sets as they were found.

    What is gone, or was not looked at, counts as it was last recorded: a data set that is deleted after the training
    asks for no new one. Without a record it has no digest, and its ``error`` says why.
    """
    return tuple(_pinned(manifest, found, lock) for manifest in manifests)


def loss_notices(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """Sentences about data sets that are gone while what was trained on them goes on counting."""
    return tuple(
        f"{manifest.name} still counts as trained on the recorded data: {manifest.dataset.error}"
        for manifest in manifests
        if manifest.dataset.digest and manifest.dataset.error
    )


def _datasets(manifest: Manifest) -> Iterator[Dataset]:
    yield manifest.dataset
    if manifest.validation:
        yield manifest.validation


def _pinned(manifest: Manifest, found: Mapping[str, Dataset], lock: Lock) -> Manifest:
    dataset = _found(manifest.dataset, found)
    if not dataset.digest:
        recorded = _recorded(manifest, lock)
        dataset = replace(recorded, error=dataset.error) if recorded else dataset
    validation = manifest.validation and _found(manifest.validation, found)
    return replace(manifest, dataset=dataset, validation=validation)


def _found(dataset: Dataset, found: Mapping[str, Dataset]) -> Dataset:
    return found.get(dataset.path, dataset) if dataset.is_remote else dataset


def _recorded(manifest: Manifest, lock: Lock) -> Dataset | None:
    """The data set at that address as a generation was trained on it: the serving one, or else the newest."""
    for name in manifest.names:
        model = lock.models.get(name)
        serving = model.generation(model.serving) if model else None
        candidates = [*([serving] if serving else []), *(model.generations if model else ())]
        found = next((one.dataset for one in candidates if one.dataset.path == manifest.dataset.path), None)
        if found:
            return found
    return None
