"""From documents to manifests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from reconciler.core.identity import canonical_number
from reconciler.core.model import Capabilities, Dataset, Lifecycle, Manifest, Sampling, Source
from reconciler.core.problems import Place, Problem, ReconcileError
from reconciler.files import datasets
from reconciler.files.capable import incapabilities
from reconciler.files.dataset_formats import Fields
from reconciler.files.datasets import DatasetSource
from reconciler.files.documents import TUNED_MODEL
from reconciler.files.explain import explain
from reconciler.files.repository import find_file
from reconciler.files.shorten import shortened
from reconciler.files.yaml import Document, dotted

_MODELS = "models/"
_TIMEOUT = re.compile(r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a manifest is read in: the root, its repository (resolved), and the service, unless that is unknown."""

    root: Path
    repository: Path
    capabilities: Capabilities | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document comes from: its file relative to the root, and the folder that its paths are relative to."""

    file: str
    folder: Path


@dataclass(slots=True)
class Collection:
    """The manifests read so far, where their examples come from (by name), and everything that is wrong."""

    surroundings: Surroundings
    manifests: list[Manifest] = field(default_factory=list)
    sources: dict[str, DatasetSource] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _names: dict[str, Place] = field(default_factory=dict)

    def add(self, document: Document, origin: Origin) -> None:
        """Take up one TunedModel document: as a manifest if nothing is wrong with it, else as problems."""
        found = [*explain(document, TUNED_MODEL), *self._repeated_name(document)]
        if self.surroundings.capabilities:
            found += incapabilities(document, self.surroundings.capabilities)
        source, dataset = self._dataset(document, origin, found)
        errors = any(problem.severity == "error" for problem in found)
        self.problems += found
        if source and dataset and not errors:
            manifest = _manifest(document, origin, dataset)
            self.manifests.append(manifest)
            self.sources[manifest.name] = source

    def _repeated_name(self, document: Document) -> Iterable[Problem]:
        metadata = document.value.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str):
            return []
        path = ["metadata", "name"]
        place = document.place(path)
        first = self._names.setdefault(name, place)
        if first is place:
            return []
        message = f"{shortened(name)} is the name of another manifest, at {first}"
        return [Problem(place, dotted(path), message, "rename one of them")]

    def _dataset(
        self, document: Document, origin: Origin, found: list[Problem]
    ) -> tuple[DatasetSource | None, Dataset | None]:
        """The data set of a document, checked; what is wrong with it joins ``found``."""
        spec = document.value.get("spec")
        readable = isinstance(spec, dict) and "dataset" in spec
        if not readable or any(problem.path.startswith("spec.dataset") for problem in found):
            return None, None
        try:
            source = self._source(document, origin)
        except ReconcileError as error:
            path = ["spec", "dataset", "path"]
            found.append(Problem(document.place(path), dotted(path), error.message, error.remedy))
            return None, None
        checked = datasets.check(source, self.surroundings.capabilities)
        found += checked.problems
        return source, checked.dataset

    def _source(self, document: Document, origin: Origin) -> DatasetSource:
        declared = document.value["spec"]["dataset"]
        place = document.place(["spec", "dataset"], key=True)
        preamble = declared.get("preamble", "")
        if "examples" in declared:
            return DatasetSource("", place, preamble, partial(datasets.inline_entries, document))
        named = declared["path"]
        file = find_file(named, origin.folder, self.surroundings.repository)
        datasets.require_format(file)
        fields = Fields(declared.get("inputField", "text_input"), declared.get("outputField", "output"))
        shown = os.path.normpath(Path(document.file).parent / named)
        relative = Path(os.path.relpath(origin.folder / named, self.surroundings.root)).as_posix()
        return DatasetSource(relative, place, preamble, partial(datasets.file_entries, file, shown, fields))


def _manifest(document: Document, origin: Origin, dataset: Dataset) -> Manifest:
    metadata, spec = document.value["metadata"], document.value["spec"]
    return Manifest(
        name=metadata["name"],
        file=origin.file,
        place=document.place(["metadata", "name"]),
        source=Source(base_model=_MODELS + spec["baseModel"].removeprefix(_MODELS)),
        dataset=dataset,
        hyperparameters={name: canonical_number(value) for name, value in spec.get("hyperparameters", {}).items()},
        labels=metadata.get("labels", {}),
        display_name=spec.get("displayName"),
        description=spec.get("description"),
        preamble=spec["dataset"].get("preamble", ""),
        sampling=_sampling(spec.get("sampling", {})),
        checks=len(spec.get("checks", ())),
        lifecycle=_lifecycle(spec.get("lifecycle", {})),
        ignore_drift=frozenset(spec.get("ignoreDrift", ())),
    )


def _sampling(declared: dict[str, Any]) -> Sampling:
    top_k = declared.get("topK")
    return Sampling(declared.get("temperature"), declared.get("topP"), None if top_k is None else int(top_k))


def _lifecycle(declared: dict[str, Any]) -> Lifecycle:
    return Lifecycle(
        protect=declared.get("protect", False),
        suspend=declared.get("suspend", False),
        retain=int(declared.get("retain", 2)),
        timeout=_duration(declared.get("timeout")),
        on_failed_checks=declared.get("onFailedChecks", "hold"),
    )


def _duration(text: str | None) -> timedelta | None:
    found = _TIMEOUT.fullmatch(text or "")
    return timedelta(**{unit: int(count) for unit, count in found.groupdict("0").items()}) if found and text else None
