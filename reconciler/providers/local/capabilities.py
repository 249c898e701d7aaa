"""What training on this machine can do, and the settings that its targets have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from msgspec import convert

from reconciler.domain.identity import canonical_value
from reconciler.domain.model import MUTABLE_FIELDS, UNKNOWN_DATA, Capabilities, Dataset, HyperparameterValue, Target
from reconciler.providers.local.base_models import EXAMPLE, PATTERN, UNPINNED
from reconciler.trainer.run_files import Hyperparameters, Tuning, effective

PREFIX: Final = "local/"
BASE_PREFIX: Final = "base:"
MERGED_PREFIX: Final = "merged:"
DEFAULT_STORE: Final = ".reconcile/local"
_REMOTE: Final = rf"{PREFIX}[A-Za-z0-9][A-Za-z0-9._-]*"
_EXAMPLE: Final = f"{PREFIX}number-generator-3kq7w2ma"
ALL_LAYERS: Final = "all-linear"
"""The value of targetModules for all linear layers, as PEFT has it."""
TUNING: Final = "tuning"
HYPERPARAMETERS: Final = (*Hyperparameters.__struct_encode_fields__, TUNING)
"""The hyperparameters that manifests declare: those of the trainer, and what is trained."""


def read_hyperparameters(declared: Mapping[str, HyperparameterValue]) -> tuple[Hyperparameters, Tuning]:
    """Return declared hyperparameters as the trainer has them; raises msgspec.ValidationError."""
    values: dict[str, Any] = {name: value for name, value in declared.items() if name != TUNING}
    if "targetModules" in values:
        names = str(values["targetModules"])
        values["targetModules"] = [] if names == ALL_LAYERS else names.split(",")
    if "packing" in values:
        values["packing"] = values["packing"] == "true"
    return convert(values, Hyperparameters), convert(declared.get(TUNING, "lora"), Tuning)


def shown_hyperparameters(found: Hyperparameters, tuning: Tuning) -> dict[str, HyperparameterValue]:
    """Return hyperparameters of the trainer as manifests have them."""
    names = zip(Hyperparameters.__struct_encode_fields__, Hyperparameters.__struct_fields__, strict=True)
    values = ((encoded, getattr(found, name)) for encoded, name in names)
    return {**{name: _shown(value) for name, value in values if value is not None}, TUNING: tuning}


def _shown(value: Any) -> HyperparameterValue:
    if isinstance(value, bool):
        return "true" if value else "false"
    return (",".join(value) or ALL_LAYERS) if isinstance(value, tuple) else canonical_value(value)


def effective_hyperparameters(
    declared: Mapping[str, HyperparameterValue], dataset: Dataset
) -> dict[str, HyperparameterValue]:
    """Return the effective hyperparameters of a training."""
    given, tuning = read_hyperparameters(declared)
    return shown_hyperparameters(effective(given, dataset.method, tuning, dataset.examples), tuning)


DEFAULTS: Final[Mapping[str, HyperparameterValue]] = MappingProxyType(
    effective_hyperparameters({}, Dataset(UNKNOWN_DATA, examples=1))
)
CAPABILITIES: Final = Capabilities(
    billed=False,
    label="this machine",
    hyperparameters=frozenset(HYPERPARAMETERS),
    mutable=frozenset(field.group for field in MUTABLE_FIELDS),
    defaults=DEFAULTS,
    effective=effective_hyperparameters,
    block="local",
    features=frozenset({"basePrompts", "cancellation", "conversations", "lineage", "preference"}),
    recommended_examples=20,
    max_display_name=128,
    max_candidates=16,
    tuned_model_pattern=_REMOTE,
    tuned_model_example=_EXAMPLE,
    remote_pattern=_REMOTE,
    remote_example=_EXAMPLE,
    base_model_pattern=PATTERN,
    base_model_hints=MappingProxyType(dict([UNPINNED])),
    base_model_example=EXAMPLE,
    remedies=MappingProxyType({"access": "remove it, and set the permissions of the store's folder"}),
)


def store_of(target: Target, root: Path) -> Path:
    """Return the folder of a target's store; links are followed."""
    return Path(os.path.realpath(root / target.settings.get("store", DEFAULT_STORE)))


def slots_of(target: Target) -> int:
    """Return how many trainings run at once."""
    return int(target.settings.get("slots", 1))


def threads_of(target: Target) -> int:
    """Return the CPU threads of each training; half of the processors are usually the cores."""
    default = max(1, (os.cpu_count() or 1) // 2 // slots_of(target))
    return int(target.settings.get("threads", default))


def inference_of(target: Target) -> str:
    """Return the address of the server that answers prompts; empty if a worker of this machine does."""
    return str(target.settings.get("inference", {}).get("url", "")).rstrip("/")
