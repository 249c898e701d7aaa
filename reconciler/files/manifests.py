"""From documents to manifests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from reconciler.core.identity import canonical_number
from reconciler.core.model import Capabilities, Dataset, Lifecycle, Manifest, Sampling, Source
from reconciler.core.problems import Place, Problem
from reconciler.files.capable import incapabilities
from reconciler.files.dataset_sources import (
    TRAINING,
    VALIDATION,
    Origin,
    Reading,
    Surroundings,
    read_training,
    read_validation,
)
from reconciler.files.datasets import DatasetSource
from reconciler.files.documents import TUNED_MODEL
from reconciler.files.effective import base_model, block_of, hyperparameters, mapping
from reconciler.files.explain import explain
from reconciler.files.shorten import shortened
from reconciler.files.yaml import Document, dotted

Selected = Callable[[str, Mapping[str, str]], bool]
"""Whether a run is about the manifest of this name and with these labels."""
_TIMEOUT = re.compile(r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the examples of a manifest come from; ``None`` for those in Cloud Storage, and for those of no data set."""

    training: DatasetSource | None
    validation: DatasetSource | None


@dataclass(slots=True)
class Collection:
    """The manifests read so far, where their examples come from (by name), and everything that is wrong.

    Manifests that are not ``selected`` are read as if the service were unknown: it need not be able to train them.
    """

    surroundings: Surroundings
    selected: Selected
    manifests: list[Manifest] = field(default_factory=list)
    sources: dict[str, Sources] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _names: dict[str, Place] = field(default_factory=dict)

    def add(self, document: Document, origin: Origin) -> None:
        """Take up one TunedModel document: as a manifest if nothing is wrong with it, else as problems."""
        surroundings = self._surroundings_of(document)
        found = [*explain(document, TUNED_MODEL), *self._repeated_name(document)]
        if surroundings.capabilities:
            told = {problem.path for problem in found}
            unable = incapabilities(document, surroundings.capabilities)
            found += [problem for problem in unable if problem.path not in told]
        training = _training(document, origin, surroundings, found)
        validation = _validation(document, origin, surroundings, found)
        found += [*training.problems, *validation.problems]
        self.problems += found
        if training.dataset and not any(problem.severity == "error" for problem in found):
            declared = _manifest(document, origin, training.dataset, surroundings.capabilities)
            manifest = replace(declared, validation=validation.dataset)
            self.manifests.append(manifest)
            self.sources[manifest.name] = Sources(training.source, validation.source)

    def _surroundings_of(self, document: Document) -> Surroundings:
        metadata = mapping(document.value.get("metadata"))
        chosen = self.selected(str(metadata.get("name")), mapping(metadata.get("labels")))
        return self.surroundings if chosen else replace(self.surroundings, capabilities=None)

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


def _training(document: Document, origin: Origin, surroundings: Surroundings, found: Iterable[Problem]) -> Reading:
    spec = document.value.get("spec")
    if "dataset" not in mapping(spec) or _is_told(dotted(TRAINING), found):
        return Reading()
    return read_training(document, origin, surroundings)


def _validation(document: Document, origin: Origin, surroundings: Surroundings, found: Iterable[Problem]) -> Reading:
    able = surroundings.capabilities
    block = block_of(mapping(document.value.get("spec")), able)
    if able is None or VALIDATION not in block or _is_told(f"spec.{able.block}.{VALIDATION}", found):
        return Reading()
    return read_validation(document, able.block, origin, surroundings)


def _is_told(path: str, found: Iterable[Problem]) -> bool:
    """Whether the field at this path, or one in it, has a problem already."""
    return any(f"{problem.path}.".startswith((f"{path}.", f"{path}[")) for problem in found)


def _manifest(document: Document, origin: Origin, dataset: Dataset, capabilities: Capabilities | None) -> Manifest:
    metadata, spec = document.value["metadata"], document.value["spec"]
    declared = hyperparameters(spec, capabilities)[1]
    return Manifest(
        name=metadata["name"],
        file=origin.file,
        place=document.place(["metadata", "name"]),
        # Without a base model there is a source, which passes where no service is asked.
        source=Source(base_model(spec, capabilities) if "baseModel" in spec else ""),
        dataset=dataset,
        hyperparameters={name: canonical_number(value) for name, value in declared.items()},
        labels=metadata.get("labels", {}),
        display_name=spec.get("displayName"),
        description=spec.get("description"),
        preamble=spec["dataset"].get("preamble", ""),
        sampling=_sampling(spec.get("sampling", {})),
        lifecycle=_lifecycle(spec.get("lifecycle", {})),
        ignore_drift=frozenset(spec.get("ignoreDrift", ())),
        last_checkpoint_only=block_of(spec, capabilities).get("exportLastCheckpointOnly"),
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
