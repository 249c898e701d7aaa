"""What a manifest asks of a service that cannot do it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.domain.errors import Problem
from reconciler.domain.model import Capabilities, Source
from reconciler.domain.text import shorten
from reconciler.manifests.schema_validation import Finding
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted

_MODELS = "models/"
"""The prefix that the schema allows for base models, and that the Generative Language API requires."""


def block_of(spec: Mapping[str, Any], capabilities: Capabilities | None) -> Mapping[str, Any]:
    """The provider's own block; empty where there is none."""
    return mapping(spec.get(capabilities.block)) if capabilities and capabilities.block else {}


def hyperparameters(spec: Mapping[str, Any], capabilities: Capabilities | None) -> tuple[FieldPath, Mapping[str, Any]]:
    """The hyperparameters that count, and where they stand: those of the block, if it has any, in place of all."""
    block = block_of(spec, capabilities)
    if capabilities and "hyperparameters" in block:
        return ("spec", capabilities.block, "hyperparameters"), mapping(block["hyperparameters"])
    return ("spec", "hyperparameters"), mapping(spec.get("hyperparameters"))


def source(spec: Mapping[str, Any], capabilities: Capabilities | None) -> Source:
    """What the model is tuned from."""
    further = tuned_further(spec, capabilities)
    if further:
        return Source(tuned_model=further.get("tunedModel", ""), remote=further.get("remote", ""))
    return Source(_base_model(spec, capabilities))


def tuned_further(spec: Mapping[str, Any], capabilities: Capabilities | None) -> Mapping[str, Any]:
    """The tuned model to tune further; empty where there is none, or where a base model in the block replaces it."""
    return {} if "baseModel" in block_of(spec, capabilities) else mapping(spec.get("source"))


def _base_model(spec: Mapping[str, Any], capabilities: Capabilities | None) -> str:
    """Return the base model by its full name; that of the provider's own block takes precedence."""
    named = str(block_of(spec, capabilities).get("baseModel") or spec["baseModel"])
    prefix = capabilities.base_model_prefix if capabilities else _MODELS
    return prefix + named.removeprefix(prefix)


def has_foreign_base_model(spec: Mapping[str, Any], capabilities: Capabilities) -> bool:
    """Whether the base model that counts bears a name of the Generative Language API that is none here."""
    if capabilities.base_model_prefix == _MODELS or "baseModel" in block_of(spec, capabilities):
        return False
    common = spec.get("baseModel")
    return isinstance(common, str) and common.startswith(_MODELS)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


_FEATURES = {"access": "access", "source": "lineage"}
"""The optional parts of a manifest's spec, and the feature that a service must have for each."""

Rule = Callable[[Mapping[str, Any], Capabilities], Iterator[Finding]]


def incapabilities(document: Document, capabilities: Capabilities) -> list[Problem]:
    """Every field that the service cannot honour; the document may have other problems."""
    spec = mapping(document.value.get("spec"))
    return [
        Problem(document.place(path, key=True), dotted(path), message, remedy)
        for rule in _RULES
        for path, message, remedy in rule(spec, capabilities)
    ]


def _hyperparameters(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    path, declared = hyperparameters(spec, capabilities)
    taken = ", ".join(sorted(capabilities.hyperparameters))
    for name in declared:
        if name not in capabilities.hyperparameters:
            remedy = f"delete it; there are {taken}"
            if capabilities.block and path == ("spec", "hyperparameters"):
                own = f"spec.{capabilities.block}.hyperparameters"
                remedy = f"write {own}, which take the place of these there: {taken}"
            yield [*path, name], f"{capabilities.label} has no such hyperparameter", remedy


def _base_model_problems(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    if has_foreign_base_model(spec, capabilities):
        message = f"{shorten(spec['baseModel'])} is a name of the Generative Language API"
        example = capabilities.base_model_example
        block = capabilities.block
        remedy = (
            f"for {capabilities.label} add spec.{block}.baseModel, as in {example}" if block else f"write {example}"
        )
        yield ["spec", "baseModel"], message, remedy


def _features(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    replaced = {"source"} if "baseModel" in block_of(spec, capabilities) else set()
    for field, feature in _FEATURES.items():
        if field in spec and field not in replaced and feature not in capabilities.features:
            remedy = capabilities.remedies.get(field, "delete it")
            yield ["spec", field], f"is not supported with {capabilities.label}", remedy


def _remote_source(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    remote = tuned_further(spec, capabilities).get("remote")
    if (
        "lineage" in capabilities.features
        and isinstance(remote, str)
        and not re.fullmatch(capabilities.tuned_model_pattern, remote)
    ):
        message = f"{shorten(remote)} is no name of a tuned model of {capabilities.label}"
        yield ["spec", "source", "remote"], message, f"write it as in {capabilities.tuned_model_example}"


def _display_name(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    name, most = spec.get("displayName"), capabilities.max_display_name
    if isinstance(name, str) and len(name) > most:
        message = f"has {len(name)} characters, where {capabilities.label} takes {most}"
        yield ["spec", "displayName"], message, "shorten it"


_RULES: tuple[Rule, ...] = (_hyperparameters, _base_model_problems, _features, _remote_source, _display_name)
