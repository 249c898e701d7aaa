"""Build the model details of reports: the history of each recorded model, with loss curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from reconciler.domain.document import builtins_of
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import RemoteModel, Snapshot, State
from reconciler.reports.documents.envelope import Document, filled, number

CURVE_POINTS: Final = 100


def model_details(lock: Lock, live: Mapping[str, RemoteModel]) -> list[Document]:
    """Return every recorded model with its generations, newest first, sorted by name.

    ``live`` has the live state by remote name and overrides the record; a loss curve is included if it was read.
    """
    return [_model(name, model, live) for name, model in sorted(lock.models.items())]


def _model(name: str, model: LockedModel, live: Mapping[str, RemoteModel]) -> Document:
    return {
        "name": name,
        "manifest": model.manifest,
        **filled({"serving": model.serving}),
        "generations": [
            _generation(generation, live.get(generation.remote), model) for generation in model.generations
        ],
    }


def _generation(generation: LockedGeneration, live: RemoteModel | None, model: LockedModel) -> Document:
    return filled(
        {
            "key": generation.key,
            "remote": generation.remote,
            "state": (live.state if live else generation.state).value,
            "createTime": generation.create_time or (live.create_time if live else ""),
            "completeTime": generation.complete_time or (live.complete_time if live else ""),
            "promoteTime": generation.promote_time,
            "rejected": generation.key in model.rejected or None,
            "rejection": generation.rejection,
            "finalLoss": number(_final_loss(generation, live)),
            "totalSteps": generation.total_steps or (live.total_steps if live else None),
            "checks": builtins_of(generation.checks) if generation.checks else None,
            "source": builtins_of(generation.source.recorded),
            "dataset": _dataset(generation),
            "hyperparameters": filled(
                {"declared": dict(generation.declared), "effective": dict(_effective(generation, live))}
            ),
            "curve": curve(live.snapshots) if live else None,
        }
    )


def _final_loss(generation: LockedGeneration, live: RemoteModel | None) -> float | None:
    if generation.final_loss is not None or live is None or live.state is not State.ACTIVE or not live.snapshots:
        return generation.final_loss
    return live.snapshots[-1].loss


def _effective(generation: LockedGeneration, live: RemoteModel | None) -> Mapping[str, Any]:
    return generation.effective or (live.hyperparameters if live else {})


def _dataset(generation: LockedGeneration) -> Document:
    dataset = generation.dataset
    return filled({"path": dataset.path, "digest": dataset.digest, "examples": dataset.examples or None})


def curve(snapshots: Sequence[Snapshot]) -> list[list[float]]:
    """Return at most a hundred points ``[step, loss]`` of a loss curve, including the first and the last.

    Infinite and undefined losses are omitted, because they cannot be drawn.
    """
    points: list[list[float]] = [
        [snapshot.step, snapshot.loss] for snapshot in snapshots if math.isfinite(snapshot.loss)
    ]
    if len(points) <= CURVE_POINTS:
        return points
    stride = (len(points) - 1) / (CURVE_POINTS - 1)
    return [points[round(at * stride)] for at in range(CURVE_POINTS)]
