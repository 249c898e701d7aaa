"""What training on this machine can do, and the settings that its targets have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from msgspec import convert

from reconciler.domain.identity import canonical_number
from reconciler.domain.model import MUTABLE_FIELDS, Capabilities, Dataset, Number, Target
from reconciler.providers.local.base_models import EXAMPLE, PATTERN, UNPINNED
from reconciler.trainer.run_files import Hyperparameters, effective

PREFIX: Final = "local/"
BASE_PREFIX: Final = "base:"
MERGED_PREFIX: Final = "merged:"
DEFAULT_STORE: Final = ".reconcile/local"
HUB: Final = "https://huggingface.co"
HUB_VARIABLE: Final = "HF_ENDPOINT"
_REMOTE: Final = rf"{PREFIX}[A-Za-z0-9][A-Za-z0-9._-]*"
_EXAMPLE: Final = f"{PREFIX}number-generator-3kq7w2ma"
NUMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        encoded: name
        for encoded, name in zip(
            Hyperparameters.__struct_encode_fields__, Hyperparameters.__struct_fields__, strict=True
        )
        if name not in {"schedule", "target_modules", "packing", "precision"}
    }
)
"""The hyperparameters that manifests declare, with their names in the trainer."""


def numbers_of(hyperparameters: Hyperparameters) -> dict[str, Number]:
    """Return hyperparameters of the trainer under the names that manifests have."""
    found = ((encoded, getattr(hyperparameters, name)) for encoded, name in NUMBERS.items())
    return {encoded: canonical_number(value) for encoded, value in found if value is not None}


DEFAULTS: Final[Mapping[str, Number]] = MappingProxyType(
    numbers_of(effective(Hyperparameters(), "supervised", "lora", examples=1))
)


def effective_numbers(declared: Mapping[str, Number], dataset: Dataset) -> dict[str, Number]:
    """Return the effective hyperparameters of a training; without examples, those of a small data set."""
    given = convert(dict(declared), Hyperparameters)
    return numbers_of(effective(given, dataset.method, "lora", dataset.examples))


CAPABILITIES: Final = Capabilities(
    label="this machine",
    hyperparameters=frozenset(NUMBERS),
    mutable=frozenset(field.group for field in MUTABLE_FIELDS),
    defaults=DEFAULTS,
    effective=effective_numbers,
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
