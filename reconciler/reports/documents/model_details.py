"""Portraits: what is known of each recorded model and how it came about, as part of the documents of reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import RemoteModel, Snapshot, State
from reconciler.reports.documents.envelope import Document, filled, number
from reconciler.state.lockfile import checks_json, source_json

CURVE_POINTS: Final = 100


def model_details(lock: Lock, live: Mapping[str, RemoteModel]) -> list[Document]:
    """Every recorded model with its generations, newest first, sorted by name.

    ``live`` holds what the service shows of the recorded ones, by remote name, which is believed before the record; a
    curve is there where it was asked for.
    """
    return [_model(name, model, live) for name, model in sorted(lock.models.items())]


def _model(name: str, model: LockedModel, live: Mapping[str, RemoteModel]) -> Document:
    return {
        "name": name,
        "manifest": model.manifest,
        **filled({"serving": model.serving}),
        "generations": [_generation(one, live.get(one.remote), model) for one in model.generations],
    }


def _generation(one: LockedGeneration, live: RemoteModel | None, model: LockedModel) -> Document:
    return filled(
        {
            "key": one.key,
            "remote": one.remote,
            "state": (live.state if live else one.state).value,
            "createTime": one.create_time or (live.create_time if live else ""),
            "completeTime": one.complete_time or (live.complete_time if live else ""),
            "promoteTime": one.promote_time,
            "rejected": one.key in model.rejected or None,
            "rejection": one.rejection,
            "finalLoss": number(_final_loss(one, live)),
            "totalSteps": one.total_steps or (live.total_steps if live else None),
            "checks": checks_json(one.checks) if one.checks else None,
            "source": source_json(one.source),
            "dataset": _dataset(one),
            "hyperparameters": filled({"declared": dict(one.declared), "effective": dict(_effective(one, live))}),
            "curve": curve(live.snapshots) if live else None,
        }
    )


def _final_loss(one: LockedGeneration, live: RemoteModel | None) -> float | None:
    if one.final_loss is not None or live is None or live.state is not State.ACTIVE or not live.snapshots:
        return one.final_loss
    return live.snapshots[-1].loss


def _effective(one: LockedGeneration, live: RemoteModel | None) -> Mapping[str, Any]:
    return one.effective or (live.hyperparameters if live else {})


def _dataset(one: LockedGeneration) -> Document:
    found = one.dataset
    return filled({"path": found.path, "digest": found.digest, "examples": found.examples or None})


def curve(snapshots: Sequence[Snapshot]) -> list[list[float]]:
    """At most a hundred points ``[step, loss]`` of a loss curve, evenly chosen, the first and the last among them.

    Losses that are no finite numbers are left out: nothing could draw them.
    """
    points: list[list[float]] = [[one.step, one.loss] for one in snapshots if math.isfinite(one.loss)]
    if len(points) <= CURVE_POINTS:
        return points
    stride = (len(points) - 1) / (CURVE_POINTS - 1)
    return [points[round(at * stride)] for at in range(CURVE_POINTS)]
