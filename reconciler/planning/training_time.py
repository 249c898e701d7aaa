"""How often to look at a training, and how long it will still take."""

from __future__ import annotations

import math
from datetime import datetime

from reconciler.domain.lock import parse_time
from reconciler.domain.model import Capabilities, Hyperparameters, Manifest, RemoteModel
from reconciler.domain.plan import TrainingEstimate


def total_steps(examples: int, hyperparameters: Hyperparameters) -> int | None:
    """``ceil(examples * epochs / batch)``, the services' own count; ``None`` while epochs or batch are unknown."""
    epochs, batch = hyperparameters.get("epochCount"), hyperparameters.get("batchSize")
    if epochs is None or not batch:
        return None
    return math.ceil(examples * epochs / batch)


def estimate_training(manifest: Manifest, capabilities: Capabilities) -> TrainingEstimate:
    """The training that a new generation of this manifest would take."""
    assumed = {**capabilities.defaults, **manifest.hyperparameters}
    steps = total_steps(manifest.dataset.examples, assumed)
    pace = capabilities.seconds_per_step
    return TrainingEstimate(
        examples=manifest.dataset.examples,
        epochs=assumed.get("epochCount"),
        batch=assumed.get("batchSize"),
        steps=steps,
        estimated=not {"epochCount", "batchSize"} <= manifest.hyperparameters.keys(),
        seconds=None if steps is None or pace is None else capabilities.overhead_seconds + steps * pace,
    )


POLLS_PER_TRAINING = 20
SLOWEST_SECONDS = 30.0
FASTEST_SECONDS = 2.0
FASTEST_SIMULATED_SECONDS = 0.1
SLOWEST_SIMULATED_SECONDS = 1.0
"""A look at the embedded service costs no network, so a person at a terminal gets a smooth display."""


def seconds_left(model: RemoteModel, total_steps: int | None, now: datetime) -> float | None:
    """The time that a training still needs at its pace so far; ``None`` before its first step, or without a total."""
    started = training_start(model)
    done = completed_steps(model)
    if not (started and total_steps and done):
        return None
    return max(0.0, (now - started).total_seconds() / done * (total_steps - done))


def training_start(model: RemoteModel) -> datetime | None:
    """When a training began or, until then, was asked for; ``None`` when the service tells neither."""
    return parse_time(model.start_time or model.create_time)


def reports_progress(model: RemoteModel) -> bool:
    """Whether the service tells how far a training is; where it does not, no count of steps says anything."""
    return model.completed_steps is not None or bool(model.snapshots)


def completed_steps(model: RemoteModel) -> int:
    """The steps that are done, as the service counts them or as its loss curve shows."""
    if model.completed_steps is not None:
        return model.completed_steps
    return model.snapshots[-1].step if model.snapshots else 0


def poll_delay(left: float | None, waited: float, capabilities: Capabilities) -> float:
    """Seconds until the next look: about twenty looks a training, denser where it costs nothing.

    Without an estimate (``left`` is ``None``) the pause grows with the time already ``waited``.
    """
    fastest, slowest = (
        (FASTEST_SIMULATED_SECONDS, SLOWEST_SIMULATED_SECONDS)
        if capabilities.simulated
        else (FASTEST_SECONDS, SLOWEST_SECONDS)
    )
    pause = (waited if left is None else left) / POLLS_PER_TRAINING
    return min(max(pause, fastest), slowest)
