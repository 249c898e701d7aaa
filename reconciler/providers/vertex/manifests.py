"""What a manifest declares for Vertex AI: the faults that depend on its base model, its method and the target.

What the service documents today and may change is a warning, and where results are written is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from reconciler.domain.model import FieldFault, Target
from reconciler.domain.text import invalid, join_names, suggest
from reconciler.providers.vertex.locations import GLOBAL

OPEN_MODEL: Final = r"(?!models/)[a-z0-9][a-z0-9_-]*/[A-Za-z0-9][A-Za-z0-9._-]*(?:@[A-Za-z0-9][A-Za-z0-9._-]*)?"
"""The name of an open model, as in ``qwen/qwen3@qwen3-8b`` or ``google/gemma-3-27b-it``."""
HYPERPARAMETERS: Final = frozenset(
    {"epochCount", "learningRateMultiplier", "adapterSize", "beta", "batchSize", "learningRate"}
)
CONTENT_FIELDS: Final = ("tuningMode", "customBaseModel")
SETTINGS_FIELDS: Final = ("outputUri", "evaluationConfig")
OUTPUT_BUCKETS: Final = "outputBuckets"
"""The setting of a target with the buckets that results may be written to, besides that of its data sets."""
_OPEN_HYPERPARAMETERS: Final = ("batchSize", "learningRate")
_PREFERENCE: Final = "preference"
_EVALUATION_FIELDS: Final = (
    *("metrics", "outputConfig", "autoraterConfig", "inferenceGenerationConfig", "datasetCustomMetrics"),
)
_BLOCK: Final = ("spec", "vertex")
_ADDRESS: Final = r"(?i:gs|bq)://"
_RESOURCE: Final = re.compile(r"(?:\S*/)?projects/(?P<project>[^/\s]+)/\S*")
FieldPath = tuple[str, ...]
"""The names from a block, or from the top of the document, to a field."""


def is_open(base_model: str) -> bool:
    """Return whether a base model is an open one, whose weights are written to Cloud Storage."""
    return re.fullmatch(OPEN_MODEL, base_model) is not None


class SpecCheck(Struct, frozen=True):
    """Returns the faults of a manifest's ``spec`` for a target; the spec may violate its schema."""

    target: Target

    def __call__(self, spec: Mapping[str, Any]) -> Iterator[FieldFault]:
        """Yield the faults."""
        return _faults(self.target, spec)


def _faults(target: Target, spec: Mapping[str, Any]) -> Iterator[FieldFault]:
    block = _mapping(spec.get("vertex"))
    base_model = str(block.get("baseModel") or spec.get("baseModel") or "")
    yield from _hyperparameters(spec, block, base_model)
    yield from _outputs(target, block)
    if "evaluationConfig" in block:
        yield from _evaluation(_mapping(block["evaluationConfig"]))
        yield from _other_projects(target, block["evaluationConfig"])
    if is_open(base_model):
        yield from _open_model(spec, block, base_model)
    elif base_model:
        yield from _closed_model(block, base_model)
    if target.location == GLOBAL and "kmsKeyName" in target.settings:
        message = "the location global supports no KMS keys (spec.vertex.kmsKeyName of the target)"
        yield FieldFault(
            _base_path(block), message, "remove kmsKeyName from the target, or set a region in spec.location", "warning"
        )


def _hyperparameters(spec: Mapping[str, Any], block: Mapping[str, Any], base_model: str) -> Iterator[FieldFault]:
    own = "hyperparameters" in block
    declared = _mapping(block.get("hyperparameters") if own else spec.get("hyperparameters"))
    path = (*_BLOCK, "hyperparameters") if own else ("spec", "hyperparameters")
    supported = HYPERPARAMETERS - {"beta"} - set(() if is_open(base_model) else _OPEN_HYPERPARAMETERS)
    others = "" if own else "set spec.vertex.hyperparameters, which replaces these, to some of {}"
    remedy = (others or "remove it, or use one of {}").format(", ".join(sorted(supported)))
    for name in _OPEN_HYPERPARAMETERS:
        if name in declared and name not in supported:
            yield FieldFault((*path, name), "hyperparameter not supported by Vertex AI for this base model", remedy)
    if "beta" in declared and spec.get("method") != _PREFERENCE:
        message = "only the method preference has beta"
        yield FieldFault((*path, "beta"), message, "remove it, or set spec.method to preference")


def _outputs(target: Target, block: Mapping[str, Any]) -> Iterator[FieldFault]:
    """Yield an error for each address that is not in a bucket of the target: results are what a training is worth."""
    buckets = output_buckets(target)
    for path, address in output_addresses(block):
        if _bucket_of(address) not in buckets:
            message = f"{address} is not in a bucket that results may be written to: {join_names(buckets)}"
            remedy = f"use one of these, or add the bucket to spec.vertex.{OUTPUT_BUCKETS} of the target"
            yield FieldFault((*_BLOCK, *path), message, remedy)


def _other_projects(target: Target, config: Any) -> Iterator[FieldFault]:
    """Yield an error for each resource of another project: a judge there would get the examples."""
    for path, text in _scalars(config, (*_BLOCK, "evaluationConfig")):
        match = _RESOURCE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match and match["project"] != target.project:
            message = f"{text} is not in the project {target.project} of the target"
            yield FieldFault(path, message, f"use a resource of this project: projects/{target.project}/...")


def _evaluation(config: Mapping[str, Any]) -> Iterator[FieldFault]:
    """Yield what does not fit the service's message EvaluationConfig: it is sent unchanged, so most are warnings."""
    path = (*_BLOCK, "evaluationConfig")
    metrics = config.get("metrics")
    if "metrics" in config and not (isinstance(metrics, list) and all(isinstance(metric, dict) for metric in metrics)):
        message = invalid(metrics, "a list of objects", "metrics")
        yield FieldFault((*path, "metrics"), message, "write [{rougeSpec: {rougeType: rougeLsum}}]")
    elif not metrics:
        message = "no metrics, which the service requires"
        yield FieldFault((*path, "metrics"), message, "add them, or remove evaluationConfig", "warning")
    for place, value in _scalars(config, path):
        if isinstance(value, float) and not math.isfinite(value):
            yield FieldFault(place, f"{value} is not a number in JSON", "write a finite number")
    destination = _mapping(_mapping(config.get("outputConfig")).get("gcsDestination"))
    if "outputUriPrefix" not in destination:
        message = "no folder for the results, which the service requires"
        remedy = "add outputConfig: {gcsDestination: {outputUriPrefix: gs://BUCKET/FOLDER}}"
        yield FieldFault((*path, "outputConfig"), message, remedy, "warning")
    for name in config:
        if name not in _EVALUATION_FIELDS:
            remedy = suggest(name, _EVALUATION_FIELDS, otherwise="remove it, unless the service supports it")
            yield FieldFault((*path, name), "unknown field of an evaluation", remedy, "warning")


def output_buckets(target: Target) -> tuple[str, ...]:
    """Return the buckets that results may be written to, as ``gs://BUCKET``."""
    allowed = (target.bucket, *target.settings.get(OUTPUT_BUCKETS, ()))
    return tuple(dict.fromkeys(_bucket_of(address) for address in allowed if address))


def weights_pattern(target: Target) -> str:
    """Return a pattern of the folders that the weights of a target's open models are written to."""
    return rf"(?:{'|'.join(map(re.escape, output_buckets(target)))})/(?!\.{{1,2}}/)[^\x00-\x1f]+"


def output_addresses(settings: Mapping[str, Any]) -> Iterator[tuple[FieldPath, str]]:
    """Yield the addresses that results can be written to, with the path of each in the block.

    These are all addresses in an evaluation: the service also reads the names of fields in snake case, and new fields.
    """
    if isinstance(settings.get("outputUri"), str):
        yield ("outputUri",), settings["outputUri"]
    for path, text in _scalars(settings.get("evaluationConfig"), ("evaluationConfig",)):
        if isinstance(text, str) and re.match(_ADDRESS, text.strip()):
            yield path, text


def _scalars(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, Any]]:
    """Yield all texts and numbers in a value; those in a list have the path of the list."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _scalars(part, (*path, str(name)))
    elif isinstance(value, list):
        for part in value:
            yield from _scalars(part, path)
    else:
        yield path, value


def _bucket_of(address: str) -> str:
    return "/".join(address.split("/", 3)[:3])


def _open_model(spec: Mapping[str, Any], block: Mapping[str, Any], base_model: str) -> Iterator[FieldFault]:
    if "outputUri" not in block:
        message = f"missing outputUri, where the weights that are tuned from {base_model} are written"
        yield FieldFault((*_BLOCK, "outputUri"), message, "add spec.vertex.outputUri: gs://BUCKET/FOLDER")
    if spec.get("serve"):
        message = "an open model is not deployed after its training, so no checkpoint of it can serve"
        yield FieldFault(("spec", "serve"), message, "remove it")
    if spec.get("checks"):
        message = "an open model is not deployed after its training, so its checks get no answers"
        yield FieldFault(("spec", "checks"), message, "remove them, and evaluate the weights elsewhere", "warning")
    if spec.get("method") == _PREFERENCE and "tuningMode" in block:
        message = "tuningMode is not documented for the method preference, and is not sent"
        yield FieldFault((*_BLOCK, "tuningMode"), message, "remove it", "warning")


def _closed_model(block: Mapping[str, Any], base_model: str) -> Iterator[FieldFault]:
    for name in (*CONTENT_FIELDS, "outputUri"):
        if name in block:
            message = f"{name} is documented for open models only, unlike {base_model}"
            yield FieldFault((*_BLOCK, name), message, "remove it, unless the service supports it", "warning")


def _base_path(block: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_BLOCK, "baseModel") if "baseModel" in block else ("spec", "baseModel")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
