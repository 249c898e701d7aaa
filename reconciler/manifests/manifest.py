"""From documents to manifests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import reduce
from typing import Any

from reconciler.domain.errors import Place, Problem
from reconciler.domain.identity import canonical_number
from reconciler.domain.model import (
    MUTABLE_FIELDS,
    Capabilities,
    Dataset,
    Lifecycle,
    Manifest,
    Source,
    with_value,
)
from reconciler.domain.text import shorten
from reconciler.manifests.access import read_access
from reconciler.manifests.checks import read_checks
from reconciler.manifests.datasets.declarations import (
    TRAINING,
    VALIDATION,
    LoadContext,
    Origin,
    Reading,
    read_training,
    read_validation,
)
from reconciler.manifests.datasets.held_out import HeldOut
from reconciler.manifests.datasets.validation import DatasetSource
from reconciler.manifests.discovery import TUNED_MODEL
from reconciler.manifests.provider_fields import (
    block_of,
    hyperparameters,
    incapabilities,
    mapping,
    source,
    tuned_further,
)
from reconciler.manifests.references import Former, Parent, former_names, lineage_faults, renaming_faults
from reconciler.manifests.schema_validation import explain, is_told
from reconciler.manifests.yaml_parser import Document, dotted

Selected = Callable[[str, Mapping[str, str]], bool]
"""Whether a run is about the manifest of this name and with these labels."""
_TIMEOUT = re.compile(r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the examples of a manifest come from; ``None`` for those in Cloud Storage, and for those of no data set.

    ``held_out`` are the data sets of its checks, by the names of these.
    """

    training: DatasetSource | None
    validation: DatasetSource | None
    held_out: Mapping[str, HeldOut]


@dataclass(slots=True)
class Collection:
    """The manifests read so far, where their examples come from (by name), and everything that is wrong.

    Manifests that are not ``selected`` are read as if the service were unknown, and everything allowed: it need not be
    able to train them.
    """

    surroundings: LoadContext
    selected: Selected
    manifests: list[Manifest] = field(default_factory=list)
    sources: dict[str, Sources] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _names: dict[str, Place] = field(default_factory=dict)
    _parents: dict[str, Parent] = field(default_factory=dict)
    _formers: list[Former] = field(default_factory=list)

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
        checks = read_checks(document, origin, surroundings, training, found)
        access, misgranted = read_access(document, surroundings, found)
        found += [*training.problems, *validation.problems, *checks.problems, *misgranted]
        self.problems += found
        self._note_parent(document, found)
        self._formers += former_names(document, found)
        if training.dataset and not any(problem.severity == "error" for problem in found):
            # By the target's service even where no service is asked: all of the manifests are one family.
            tuned_from = source(document.value["spec"], self.surroundings.capabilities)
            manifest = replace(
                _manifest(document, origin, tuned_from, training.dataset, surroundings.capabilities),
                validation=validation.dataset,
                checks=checks.checks,
                access=access,
            )
            self.manifests.append(manifest)
            self.sources[manifest.name] = Sources(training.source, validation.source, checks.held_out)

    def finish(self, *, complete: bool) -> None:
        """Hold the manifests to one another, once all are there; ``complete`` says that there are no more elsewhere."""
        renamed = {former.name: former.manifest for former in self._formers}
        lineage = lineage_faults(self._parents, self._names, complete=complete, renamed=renamed)
        for fault in (*lineage, *renaming_faults(self._formers, self._names)):
            self.problems.append(fault.problem)
            self.manifests = [manifest for manifest in self.manifests if manifest.name not in fault.names]

    def _note_parent(self, document: Document, found: Iterable[Problem]) -> None:
        spec, name = mapping(document.value.get("spec")), mapping(document.value.get("metadata")).get("name")
        parent = tuned_further(spec, self.surroundings.capabilities).get("tunedModel")
        if isinstance(name, str) and isinstance(parent, str) and not is_told("spec.source", found):
            self._parents.setdefault(name, Parent(parent, document.place(["spec", "source", "tunedModel"])))

    def _surroundings_of(self, document: Document) -> LoadContext:
        metadata = mapping(document.value.get("metadata"))
        chosen = self.selected(str(metadata.get("name")), mapping(metadata.get("labels")))
        return self.surroundings if chosen else replace(self.surroundings, capabilities=None, public_access=True)

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
        message = f"{shorten(name)} is the name of another manifest, at {first}"
        return [Problem(place, dotted(path), message, "rename one of them")]


def _training(document: Document, origin: Origin, surroundings: LoadContext, found: Iterable[Problem]) -> Reading:
    spec = document.value.get("spec")
    if "dataset" not in mapping(spec) or is_told(dotted(TRAINING), found):
        return Reading()
    return read_training(document, origin, surroundings)


def _validation(document: Document, origin: Origin, surroundings: LoadContext, found: Iterable[Problem]) -> Reading:
    able = surroundings.capabilities
    block = block_of(mapping(document.value.get("spec")), able)
    if able is None or VALIDATION not in block or is_told(f"spec.{able.block}.{VALIDATION}", found):
        return Reading()
    return read_validation(document, able.block, origin, surroundings)


def _manifest(
    document: Document, origin: Origin, tuned_from: Source, dataset: Dataset, capabilities: Capabilities | None
) -> Manifest:
    metadata, spec = document.value["metadata"], document.value["spec"]
    declared = hyperparameters(spec, capabilities)[1]
    manifest = Manifest(
        name=metadata["name"],
        file=origin.file,
        place=document.place(["metadata", "name"]),
        source=tuned_from,
        dataset=dataset,
        hyperparameters={name: canonical_number(value) for name, value in declared.items()},
        labels=metadata.get("labels", {}),
        preamble=spec["dataset"].get("preamble", ""),
        lifecycle=_lifecycle(spec.get("lifecycle", {})),
        ignore_drift=frozenset(spec.get("ignoreDrift", ())),
        last_checkpoint_only=block_of(spec, capabilities).get("exportLastCheckpointOnly"),
        formerly=tuple(metadata.get("formerly", ())),
    )
    for mutable_field in MUTABLE_FIELDS:
        value = reduce(lambda node, name: node.get(name, {}), mutable_field.name.split("."), spec)
        if value != {}:
            value = int(value) if mutable_field.is_integer else value
            manifest = with_value(manifest, mutable_field.attribute, value)
    return manifest


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
