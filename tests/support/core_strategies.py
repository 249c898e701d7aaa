"""Values of the core, representative and arbitrary."""

from __future__ import annotations

from typing import Any

from reconciler.core.lock import LockedGeneration
from reconciler.core.model import Dataset, Source, State

DIGEST = "sha256:" + "0" * 64


def generation(key: str = "numbers-aaaaaaaa", **fields: Any) -> LockedGeneration:
    """A recorded generation, ready where ``fields`` say nothing else."""
    common: dict[str, Any] = {
        "key": key,
        "remote": f"tunedModels/{key}",
        "spec": DIGEST,
        "attempt": 0,
        "origin": "created",
        "state": State.ACTIVE,
        "source": Source("models/text-bison-001"),
        "dataset": Dataset("data.csv", DIGEST, 15),
    }
    return LockedGeneration(**(common | fields))
