"""What a manifest says for one provider: the provider's own block stands in place of common fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.core.model import Capabilities, Source
from reconciler.files.yaml import Path

_MODELS = "models/"
"""What the names of base models begin with in the Generative Language API, and nowhere else."""


def block_of(spec: Mapping[str, Any], capabilities: Capabilities | None) -> Mapping[str, Any]:
    """The provider's own block; empty where there is none."""
    return mapping(spec.get(capabilities.block)) if capabilities and capabilities.block else {}


def hyperparameters(spec: Mapping[str, Any], capabilities: Capabilities | None) -> tuple[Path, Mapping[str, Any]]:
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
    """The base model by its full name; a service with a block of its own has bare names."""
    if capabilities and capabilities.block:
        return str(block_of(spec, capabilities).get("baseModel") or spec["baseModel"])
    return _MODELS + str(spec["baseModel"]).removeprefix(_MODELS)


def has_foreign_base_model(spec: Mapping[str, Any], capabilities: Capabilities) -> bool:
    """Whether the base model that counts bears a name of the Generative Language API that is none here."""
    if not capabilities.block or "baseModel" in block_of(spec, capabilities):
        return False
    common = spec.get("baseModel")
    return isinstance(common, str) and common.startswith(_MODELS)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
