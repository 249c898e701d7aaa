"""Estimate the size and the remaining time of trainings, and how often to poll one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, parse_time
from reconciler.domain.model import Capabilities, Hyperparameters, Manifest, Number, RemoteModel, State
from reconciler.domain.plan import Action, Kind, TrainingEstimate


def total_steps(examples: int, hyperparameters: Hyperparameters) -> int | None:
    """``ceil(examples * epochs / batch)``, the services' own count; ``None`` while epochs or batch are unknown.

    Where batches are accumulated, each epoch ends with a step.
    """
    epochs, batch = number_of(hyperparameters, "epochCount"), number_of(hyperparameters, "batchSize")
    if epochs is None or not batch:
        return None
    accumulated = number_of(hyperparameters, "gradientAccumulation")
    if accumulated:
        return math.ceil(examples / (batch * accumulated)) * int(epochs)
    return math.ceil(examples * epochs / batch)


def number_of(hyperparameters: Hyperparameters, name: str) -> Number | None:
    """Return a hyperparameter that is a number; ``None`` if it is unknown."""
    value = hyperparameters.get(name)
    return None if isinstance(value, str) else value


def estimate_training(manifest: Manifest, capabilities: Capabilities) -> TrainingEstimate:
    """Estimate the training of a new generation."""
    examples, declared = manifest.dataset.examples, manifest.hyperparameters
    effective = capabilities.effective(declared, manifest.dataset) if capabilities.effective else {}
    assumed = effective or {**capabilities.defaults, **declared}
    steps = total_steps(examples, assumed)
    pace = capabilities.seconds_per_step
    return TrainingEstimate(
        examples=examples,
        epochs=number_of(assumed, "epochCount"),
        batch=number_of(assumed, "batchSize"),
        steps=steps,
        tokens=manifest.training_tokens,
        tokens_estimated=manifest.training_tokens is not None,
        estimated=not effective and not {"epochCount", "batchSize"} <= declared.keys(),
        effective=effective,
        seconds=None if steps is None or pace is None else capabilities.overhead_seconds + steps * pace,
    )


_MOST_COMPARED = 100
"""The number of recorded trainings that one is compared with, so that plans of thousands stay quick."""


class _Completed(Struct, frozen=True):
    """A completed training, and how long it took, queues included."""

    examples: int
    epochs: Number | None
    seconds: float


def with_durations(actions: Iterable[Action], lock: Lock) -> tuple[Action, ...]:
    """Return the actions, with the durations of creates that earlier trainings show, where the service reports none.

    Of the recorded trainings of the same manifest, or else of the same base model, the one with the nearest number of
    examples counts, in proportion if it had fewer: most of the time of a short training does not depend on its data.
    """
    actions = tuple(actions)
    if not any(_lacks_duration(action) for action in actions):
        return actions
    by_name: dict[str, list[_Completed]] = defaultdict(list)
    by_base_model: dict[str, list[_Completed]] = defaultdict(list)
    for name, model in lock.models.items():
        for generation in model.generations:
            for completed in _completed(generation):
                by_name[name].append(completed)
                by_base_model[generation.source.base_model].append(completed)

    def with_duration(action: Action) -> Action:
        training = action.training
        if training is None or not training.examples or not _lacks_duration(action):
            return action
        base_model = action.source.base_model if action.source else ""
        known = by_name.get(action.name) or (by_base_model.get(base_model) if base_model else None)
        if not known:
            return action
        amount = _amount(training.examples, training.epochs)
        chosen = training.epochs is None  # the service chooses the epochs, as many as for the others
        amounts = {
            completed: _amount(completed.examples, None if chosen else completed.epochs)
            for completed in known[:_MOST_COMPARED]
        }
        nearest = min(amounts, key=lambda completed: abs(amounts[completed] - amount))
        seconds = nearest.seconds * max(1.0, amount / amounts[nearest])
        return replace(action, training=replace(training, seconds=seconds))

    return tuple(map(with_duration, actions))


def _lacks_duration(action: Action) -> bool:
    return action.kind is Kind.CREATE and action.training is not None and action.training.seconds is None


def _completed(generation: LockedGeneration) -> Iterator[_Completed]:
    start, end = parse_time(generation.create_time), parse_time(generation.complete_time)
    parameters = generation.hyperparameters
    epochs = number_of({**parameters.declared, **parameters.effective}, "epochCount")
    if generation.state is State.ACTIVE and start and end and end > start and generation.dataset.examples:
        yield _Completed(generation.dataset.examples, epochs, (end - start).total_seconds())


def _amount(examples: int, epochs: Number | None) -> float:
    """Return the examples of all epochs; of one epoch if their number is unknown. Edited files may have any number."""
    return examples * min(max(float(epochs or 1), 0.001), 1e6)


def seconds_left(model: RemoteModel, total_steps: int | None, now: datetime) -> float | None:
    """Return the remaining seconds at the pace so far; ``None`` before the first step or without a total."""
    started, progress = training_start(model), counted_progress(model, total_steps)
    if not (started and progress and progress.total and progress.done):
        return None
    return max(0.0, (now - started).total_seconds() / progress.done * (progress.total - progress.done))


def training_start(model: RemoteModel) -> datetime | None:
    """Return when a training started or, until then, was created; ``None`` if unknown."""
    return parse_time(model.start_time or model.create_time)


class CountedProgress(Struct, frozen=True):
    """What of a training is completed, and the total if it is known; ``unit`` is what is counted."""

    done: int
    total: int | None
    unit: Literal["step", "epoch"]

    @property
    def percent(self) -> float | None:
        """The completed share; ``None`` while unknown."""
        return round(100 * self.done / self.total, 1) if self.total else None


def counted_progress(model: RemoteModel, total_steps: int | None) -> CountedProgress | None:
    """Return the progress in steps, or in epochs if the service counts only them; ``None`` without progress."""
    if reports_progress(model):
        return CountedProgress(completed_steps(model), total_steps, "step")
    if model.completed_epochs is None:
        return None
    return CountedProgress(model.completed_epochs, epoch_count(model.hyperparameters), "epoch")


def epoch_count(hyperparameters: Hyperparameters) -> int | None:
    """Return the number of epochs; ``None`` if it is unknown."""
    epochs = number_of(hyperparameters, "epochCount")
    return None if epochs is None else math.ceil(epochs)


def last_epoch(model: RemoteModel) -> int | None:
    """Return the number of completed epochs, as the service counts them or as the loss curve shows."""
    if model.completed_epochs is not None:
        return model.completed_epochs
    return model.snapshots[-1].epoch if model.snapshots else None


def reports_progress(model: RemoteModel) -> bool:
    """Whether the service reports progress; otherwise step counts are meaningless."""
    return model.completed_steps is not None or bool(model.snapshots)


def completed_steps(model: RemoteModel) -> int:
    """Return the completed steps, as the service counts them or as the loss curve shows, at most the total."""
    done = model.completed_steps
    if done is None:
        done = model.snapshots[-1].step if model.snapshots else 0
    return done if model.total_steps is None else min(done, model.total_steps)


POLLS_PER_TRAINING = 20
SLOWEST_SECONDS = 30.0
FASTEST_SECONDS = 2.0
FASTEST_SIMULATED_SECONDS = 0.1
SLOWEST_SIMULATED_SECONDS = 1.0
"""Polling the embedded service costs no network, so the display is smooth."""


def poll_delay(left: float | None, waited: float, capabilities: Capabilities) -> float:
    """Return the seconds until the next poll: about twenty polls per training, more often if it costs nothing.

    Without an estimate (``left`` is ``None``) the pause grows with the time already ``waited``.
    """
    fastest, slowest = (
        (FASTEST_SIMULATED_SECONDS, SLOWEST_SIMULATED_SECONDS)
        if capabilities.simulated
        else (FASTEST_SECONDS, SLOWEST_SECONDS)
    )
    pause = (waited if left is None else left) / POLLS_PER_TRAINING
    return min(max(pause, fastest), slowest)
