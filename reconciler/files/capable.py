"""What a manifest asks of a service that cannot do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.core.model import Capabilities
from reconciler.core.problems import Problem
from reconciler.files.explain import Finding
from reconciler.files.yaml import Document, dotted

_FEATURES = {"access": "access", "source": "lineage"}
"""The optional parts of a manifest's spec, and the feature that a service must have for each."""

Rule = Callable[[Mapping[str, Any], Capabilities], Iterator[Finding]]


def incapabilities(document: Document, capabilities: Capabilities) -> list[Problem]:
    """Every field that the service cannot honour; the document may have other problems."""
    spec = _mapping(document.value.get("spec"))
    return [
        Problem(document.place(path, key=True), dotted(path), message, remedy)
        for rule in _RULES
        for path, message, remedy in rule(spec, capabilities)
    ]


def _hyperparameters(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    for name in _mapping(spec.get("hyperparameters")):
        if name in _KNOWN_HYPERPARAMETERS and name not in capabilities.hyperparameters:
            taken = ", ".join(sorted(capabilities.hyperparameters))
            message = f"{capabilities.label} has no such hyperparameter"
            yield ["spec", "hyperparameters", name], message, f"delete it; there are {taken}"


def _features(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    for field, feature in _FEATURES.items():
        if field in spec and feature not in capabilities.features:
            yield ["spec", field], f"is not supported with {capabilities.label}", "delete it"


def _display_name(spec: Mapping[str, Any], capabilities: Capabilities) -> Iterator[Finding]:
    name, most = spec.get("displayName"), capabilities.max_display_name
    if isinstance(name, str) and len(name) > most:
        message = f"has {len(name)} characters, where {capabilities.label} takes {most}"
        yield ["spec", "displayName"], message, "shorten it"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


_KNOWN_HYPERPARAMETERS = frozenset({"epochCount", "batchSize", "learningRate", "learningRateMultiplier"})
_RULES: tuple[Rule, ...] = (_hyperparameters, _features, _display_name)
