"""Generations as reports have them, and the model details of pages: every recorded model with its loss curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.document import Count, Digest, NonEmpty, Record
from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel
from reconciler.domain.model import Dataset, Failure, RemoteModel, Snapshot, Source, State
from reconciler.reports.documents.envelope import Loss, number

CURVE_POINTS: Final = 100


class TrainingData(Record, frozen=True):
    """The training data of a generation."""

    digest: Digest
    """The digest of the examples, or of the object in Cloud Storage."""
    path: str = ""
    """The path relative to the root, or a gs:// address; omitted for inline examples."""
    examples: Count = 0
    """The number of examples; omitted if unknown."""
    generation: str = ""
    """The generation of the object in Cloud Storage."""


class GenerationSummary(Record, frozen=True, kw_only=True):
    """A generation of a manifest."""

    key: NonEmpty
    """The key."""
    remote: str = ""
    """The remote name; omitted while the state is INTENDED."""
    state: State
    """The live state of the generation, or else the recorded one."""
    create_time: str = ""
    """When it was created; RFC 3339, as the service wrote it."""
    complete_time: str = ""
    """When its training ended; RFC 3339, as the service wrote it."""
    promote_time: str = ""
    """When it was last promoted; RFC 3339."""
    rejection: str = ""
    """The reason for the rollback."""
    total_steps: Count | None = None
    """The total number of training steps."""
    final_loss: Loss | None = None
    """The mean loss of the last step."""
    error: Failure | None = None
    """Why the training failed."""
    checks: RecordedChecks | None = None
    """The result of the last run of the checks."""


class LiveGeneration(GenerationSummary, frozen=True, kw_only=True):
    """A generation as the service lists it, or else as it is recorded."""

    rejected: bool = False
    """Whether it is rejected: it was rolled back and is not promoted again. Omitted if not."""


class GenerationDetails(LiveGeneration, frozen=True, kw_only=True):
    """One generation of the manifest, with its inputs and its loss curve."""

    source: Source
    """The base model or parent that it was tuned from."""
    dataset: TrainingData
    """The training data."""
    hyperparameters: LockedHyperparameters | None = None
    """The hyperparameters."""
    curve: tuple[tuple[float, float], ...] = ()
    """At most 100 points of the loss curve, each a step and its mean loss, the first and the last included."""


class ModelDetails(Record, frozen=True, kw_only=True):
    """One recorded model and its history."""

    name: NonEmpty
    """The manifest's metadata.name."""
    manifest: NonEmpty
    """The manifest's path relative to the root; `-` is standard input."""
    serving: str = ""
    """The key of the serving generation; omitted if there is none."""
    generations: tuple[GenerationDetails, ...]
    """Its generations, newest first."""


def model_details(lock: Lock, live: Mapping[str, RemoteModel]) -> tuple[ModelDetails, ...]:
    """Return every recorded model with its generations, newest first, sorted by name.

    ``live`` has the live state by remote name and overrides the record; a loss curve is included if it was read.
    """
    return tuple(
        ModelDetails(
            name=name,
            manifest=model.manifest,
            serving=model.serving_key or "",
            generations=tuple(_details(known, live.get(known.remote), model) for known in model.generations),
        )
        for name, model in sorted(lock.models.items())
    )


def _details(generation: LockedGeneration, live: RemoteModel | None, model: LockedModel) -> GenerationDetails:
    effective = generation.hyperparameters.effective or (live.hyperparameters if live else {})
    both = LockedHyperparameters(generation.hyperparameters.declared, effective)
    return live_generation(
        GenerationDetails,
        generation,
        live,
        model,
        source=generation.source.recorded,
        dataset=training_data(generation.dataset),
        hyperparameters=both if generation.hyperparameters.declared or effective else None,
        curve=curve(live.snapshots) if live else (),
    )


_G = TypeVar("_G", bound=LiveGeneration)


def live_generation(
    kind: type[_G], generation: LockedGeneration, live: RemoteModel | None, model: LockedModel, **further: Any
) -> _G:
    """Return a generation with its live state, or else the recorded one, and with the further fields of its kind."""
    state = live.state if live else generation.state
    snapshots = live.snapshots if live and state is State.ACTIVE else ()
    return kind(
        key=generation.key,
        remote=generation.remote,
        state=state,
        create_time=generation.create_time or (live.create_time if live else ""),
        complete_time=generation.complete_time or (live.complete_time if live else ""),
        promote_time=generation.promote_time,
        rejection=generation.rejection,
        total_steps=generation.total_steps or (live.total_steps if live else None),
        final_loss=number(snapshots[-1].loss if snapshots else generation.final_loss),
        error=(live.failure if live else None) or generation.failure,
        checks=generation.checks,
        rejected=generation.key in model.rejected,
        **further,
    )


def training_data(dataset: Dataset) -> TrainingData:
    """Return the training data that a data set is."""
    return TrainingData(dataset.digest, dataset.path, dataset.examples, dataset.generation)


def curve(snapshots: Sequence[Snapshot]) -> tuple[tuple[float, float], ...]:
    """Return at most a hundred points (step, loss) of a loss curve, including the first and the last.

    Infinite and undefined losses are omitted, because they cannot be drawn.
    """
    points = [(snapshot.step, snapshot.loss) for snapshot in snapshots if math.isfinite(snapshot.loss)]
    if len(points) <= CURVE_POINTS:
        return tuple(points)
    stride = (len(points) - 1) / (CURVE_POINTS - 1)
    return tuple(points[round(at * stride)] for at in range(CURVE_POINTS))
