"""Fields of a manifest that depend on the provider, and the errors where the provider does not support them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from reconciler.domain.errors import Problem
from reconciler.domain.model import BEST, LAST, Capabilities, Source
from reconciler.domain.text import exceeds_limit, invalid, shorten
from reconciler.manifests.schema_validation import Finding
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted

_MODELS = "models/"
"""The prefix that the schema allows for base models, and that the Generative Language API requires."""


def block_of(spec: Mapping[str, Any], capabilities: Capabilities | None) -> Mapping[str, Any]:
    """Return the provider's block of the spec; empty if there is none."""
    return mapping(spec.get(capabilities.block)) if capabilities and capabilities.block else {}


def hyperparameters(spec: Mapping[str, Any], capabilities: Capabilities | None) -> tuple[FieldPath, Mapping[str, Any]]:
    """Return the path and the effective hyperparameters: those of the provider's block replace all common ones."""
    block = block_of(spec, capabilities)
    if capabilities and "hyperparameters" in block:
        return ("spec", capabilities.block, "hyperparameters"), mapping(block["hyperparameters"])
    return ("spec", "hyperparameters"), mapping(spec.get("hyperparameters"))


def source(spec: Mapping[str, Any], capabilities: Capabilities | None) -> Source:
    """Return what the model is tuned from."""
    further = tuned_further(spec, capabilities)
    if further:
        return Source(
            tuned_model=further.get("tunedModel", ""),
            remote=further.get("remote", ""),
            checkpoint=str(further.get("checkpoint", "")),
        )
    return Source(_base_model(spec, capabilities))


def tuned_further(spec: Mapping[str, Any], capabilities: Capabilities | None) -> Mapping[str, Any]:
    """Return ``spec.source``; empty if it is missing, or replaced by a base model in the provider's block."""
    return {} if "baseModel" in block_of(spec, capabilities) else mapping(spec.get("source"))


def _base_model(spec: Mapping[str, Any], capabilities: Capabilities | None) -> str:
    """Return the base model by its full name; that of the provider's own block takes precedence."""
    return full_base_model(str(block_of(spec, capabilities).get("baseModel") or spec["baseModel"]), capabilities)


def full_base_model(named: str, capabilities: Capabilities | None) -> str:
    """Return the full name of a base model, which a manifest can abbreviate."""
    prefix = capabilities.base_model_prefix if capabilities else _MODELS
    return prefix + named.removeprefix(prefix)


def has_foreign_base_model(spec: Mapping[str, Any], capabilities: Capabilities) -> bool:
    """Return whether the effective base model has a name of the Generative Language API, on another service."""
    if capabilities.base_model_prefix == _MODELS or "baseModel" in block_of(spec, capabilities):
        return False
    common = spec.get("baseModel")
    return isinstance(common, str) and common.startswith(_MODELS)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


_DURATION = re.compile(r"(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?")


def duration(text: str | None) -> timedelta | None:
    """Return a duration in hours, minutes and seconds that fits its schema, as in 1h30m; ``None`` without one."""
    found = _DURATION.fullmatch(text or "")
    return timedelta(**{unit: int(count) for unit, count in found.groupdict("0").items()}) if found and text else None


PREFERENCE_METHOD = "preference"
"""A value of ``method``, and the feature that a service must have for it."""
CHECKPOINTS = "checkpoints"
"""The feature of a service whose models have checkpoints with endpoints of their own."""
_FEATURES = {"access": "access", "source": "lineage"}
"""Optional fields of a spec, and the feature that a service must have for each."""

Rule = Callable[[Mapping[str, Any], Capabilities], Iterator[Finding]]


def incapabilities(document: YamlDocument, capabilities: Capabilities) -> list[Problem]:
    """Return the errors for all fields that the service does not support; the document may have other errors."""
    spec = mapping(document.value.get("spec"))
    problems = [
        Problem(document.place(path, key=True), dotted(path), message, remedy)
        for rule in _RULES
        for path, message, remedy in rule(spec, capabilities)
    ]
    faults = capabilities.check_spec(spec) if capabilities.check_spec else ()
    return problems + [
        Problem(document.place(fault.path, key=True), dotted(fault.path), fault.message, fault.remedy, fault.severity)
        for fault in faults
    ]


def _hyperparameters(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    path, declared = hyperparameters(spec, capabilities)
    supported = ", ".join(sorted(capabilities.hyperparameters))
    for name in declared:
        if name not in capabilities.hyperparameters:
            remedy = f"remove it, or use one of {supported}"
            if capabilities.block and path == ("spec", "hyperparameters"):
                block = f"spec.{capabilities.block}.hyperparameters"
                remedy = f"set {block}, which replaces these, to some of {supported}"
            yield [*path, name], f"hyperparameter not supported by {capabilities.label}", remedy


def _base_model_problems(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    if has_foreign_base_model(spec, capabilities):
        message = f"{shorten(spec['baseModel'])} is a base model of the Generative Language API"
        example = capabilities.base_model_example
        block = capabilities.block
        remedy = (
            f"add spec.{block}.baseModel for {capabilities.label}, such as {example}" if block else f"set {example}"
        )
        yield ["spec", "baseModel"], message, remedy
        return
    own = block_of(spec, capabilities).get("baseModel")
    path = ["spec", capabilities.block, "baseModel"] if own else ["spec", "baseModel"]
    name = own or spec.get("baseModel")
    for message, remedy in base_model_faults(name, capabilities) if isinstance(name, str) else ():
        yield path, message, remedy


def base_model_faults(name: str, capabilities: Capabilities) -> Iterator[tuple[str, str]]:
    """Yield the message and the remedy if the service has no base model with a name of this form."""
    if not re.fullmatch(capabilities.base_model_pattern, name.removeprefix(capabilities.base_model_prefix)):
        yield _base_model_fault(name, capabilities)


def _base_model_fault(name: str, capabilities: Capabilities) -> tuple[str, str]:
    for pattern, (message, remedy) in capabilities.base_model_hints.items():
        found = re.fullmatch(pattern, name)
        if found:
            return message.format(found[1]), remedy.format(found[1])
    example = capabilities.base_model_example
    return (
        invalid(name, f"the name of a base model of {capabilities.label}"),
        f"write it as {example}; a model that is already tuned goes under spec.source",
    )


def _features(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    replaced = {"source"} if "baseModel" in block_of(spec, capabilities) else set()
    for field, feature in _FEATURES.items():
        if field in spec and field not in replaced and feature not in capabilities.features:
            remedy = capabilities.remedies.get(field, "remove it")
            yield ["spec", field], f"not supported by {capabilities.label}", remedy
    unable = "lineage" in capabilities.features and CHECKPOINTS not in capabilities.features
    if unable and "checkpoint" in tuned_further(spec, capabilities):
        message = f"checkpoints are not supported by {capabilities.label}"
        yield ["spec", "source", "checkpoint"], message, "remove it: the whole model is tuned further"
    if spec.get("method") == PREFERENCE_METHOD and PREFERENCE_METHOD not in capabilities.features:
        remedy = "set it to supervised, which trains on the chosen answers, or use another target"
        yield ["spec", "method"], f"preference tuning is not supported by {capabilities.label}", remedy


def _serve(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    serve = mapping(spec.get("serve")).get("checkpoint")
    path: FieldPath = ["spec", "serve", "checkpoint"]
    if serve is None:
        return
    if CHECKPOINTS not in capabilities.features:
        message = f"checkpoints are not supported by {capabilities.label}"
        yield path, message, "remove spec.serve: the model serves as its training left it"
        return
    if isinstance(serve, str) and serve not in {BEST, LAST} and serve.lower() in {BEST, LAST}:
        yield path, f'unknown checkpoint "{serve}"', f"did you mean {serve.lower()}?"
    field = "exportLastCheckpointOnly"
    if block_of(spec, capabilities).get(field) is True and serve != LAST:
        message = f"spec.{capabilities.block}.{field} keeps only the last checkpoint"
        yield path, message, f"set last, or remove {field}"
    if serve == BEST and not spec.get("checks"):
        yield path, "the checks find the best checkpoint, and none are declared", "add spec.checks, or set last"


def _remote_source(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    remote = tuned_further(spec, capabilities).get("remote")
    if (
        "lineage" in capabilities.features
        and isinstance(remote, str)
        and not re.fullmatch(capabilities.tuned_model_pattern, remote)
    ):
        message = invalid(remote, f"the name of a tuned model of {capabilities.label}")
        yield ["spec", "source", "remote"], message, f"set a name such as {capabilities.tuned_model_example}"


def _display_name(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    name, limit = spec.get("displayName"), capabilities.max_display_name
    if isinstance(name, str) and len(name) > limit:
        message = f"{len(name)} characters, {exceeds_limit(capabilities.label, limit)}"
        yield ["spec", "displayName"], message, "shorten it"


_RULES: tuple[Rule, ...] = (_hyperparameters, _base_model_problems, _features, _serve, _remote_source, _display_name)
