"""How long a training is: steps, and seconds where they can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reconciler.core.model import Capabilities, Hyperparameters, Manifest, Number


@dataclass(frozen=True, slots=True)
class Training:
    """The size of a training. ``estimated`` says that the service chooses the epochs or the batch size.

    ``seconds`` is known where a service tells its pace; ``steps`` is ``None`` where nothing lets it be told.
    """

    examples: int
    epochs: Number | None
    batch: Number | None
    steps: int | None
    estimated: bool
    seconds: float | None


def total_steps(examples: int, hyperparameters: Hyperparameters) -> int | None:
    """``ceil(examples * epochs / batch)``, the services' own count; ``None`` while epochs or batch are unknown."""
    epochs, batch = hyperparameters.get("epochCount"), hyperparameters.get("batchSize")
    if epochs is None or not batch:
        return None
    return math.ceil(examples * epochs / batch)


def training_of(manifest: Manifest, capabilities: Capabilities) -> Training:
    """The training that a new generation of this manifest would take."""
    assumed = {**capabilities.defaults, **manifest.hyperparameters}
    steps = total_steps(manifest.dataset.examples, assumed)
    pace = capabilities.seconds_per_step
    return Training(
        examples=manifest.dataset.examples,
        epochs=assumed.get("epochCount"),
        batch=assumed.get("batchSize"),
        steps=steps,
        estimated=not {"epochCount", "batchSize"} <= manifest.hyperparameters.keys(),
        seconds=None if steps is None or pace is None else capabilities.overhead_seconds + steps * pace,
    )
