"""Data sets in Cloud Storage: resolve ``gs://`` paths to the versions that were found or recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from reconciler.domain.lock import Lock
from reconciler.domain.model import Dataset, Manifest


def remote_paths(manifests: Iterable[Manifest]) -> frozenset[str]:
    """Return the ``gs://`` paths of the training and validation data."""
    datasets = (dataset for manifest in manifests for dataset in (manifest.dataset, manifest.validation))
    return frozenset(dataset.path for dataset in datasets if dataset and dataset.is_remote)


def with_dataset_versions(
    manifests: Iterable[Manifest], found: Mapping[str, Dataset | str], lock: Lock
) -> tuple[Manifest, ...]:
    """Return the manifests with the data sets that were found, by path; a text is the reason why there is none.

    A data set that is missing or was not queried has its last recorded version, so that a deletion after the training
    requires no new one. Without a record it has no digest.
    """
    return tuple(_with_versions(manifest, found, lock) for manifest in manifests)


def missing_dataset_notices(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """Return a notice for each data set that is missing and has a recorded version."""
    return tuple(
        f"{manifest.name} is compared with its recorded data set: {manifest.dataset_error}"
        for manifest in manifests
        if manifest.dataset.digest and manifest.dataset_error
    )


def _with_versions(manifest: Manifest, found: Mapping[str, Dataset | str], lock: Lock) -> Manifest:
    dataset, error = _found(manifest.dataset, found)
    if not dataset.digest:
        dataset = _recorded(manifest, lock) or dataset
    changed = replace(manifest, dataset=dataset, dataset_error=error)
    if manifest.validation is None:
        return changed
    validation, error = _found(manifest.validation, found)
    return replace(changed, validation=validation, validation_error=error)


def _found(dataset: Dataset, found: Mapping[str, Dataset | str]) -> tuple[Dataset, str]:
    """Return the current version of a data set, or its path alone and the reason why there is none."""
    version = found.get(dataset.path, dataset) if dataset.is_remote else dataset
    return (Dataset("", dataset.path), version) if isinstance(version, str) else (version, "")


def _recorded(manifest: Manifest, lock: Lock) -> Dataset | None:
    """Return the recorded data set with this path: of the serving generation, or else of the newest."""
    for model in filter(None, map(lock.models.get, manifest.names)):
        for generation in (model.serving_generation, *model.generations):
            if generation and generation.dataset.path == manifest.dataset.path:
                return generation.dataset
    return None
