"""What a tuning job makes: a model, and an endpoint for each of its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.service import Service
from reconciler.emulator.training import Training, total_steps
from reconciler.emulator.vertex_names import new_name

MAX_CHECKPOINTS = 10
"""https://cloud.google.com/vertex-ai/generative-ai/docs/models/tuning-checkpoints"""
_COPIED = ("description", "labels", "encryptionSpec")


def checkpoints_of(service: Service, parent: str, training: Training, *, last_only: bool) -> list[JsonObject]:
    """The checkpoints of a training, each with a new endpoint: one an epoch, and at most ten evenly spread ones."""
    shown = 1 if last_only else min(training.epochs, MAX_CHECKPOINTS)
    epochs = [training.epochs * number // shown for number in range(1, shown + 1)]
    return [
        {
            "checkpointId": str(number),
            "epoch": str(epoch),
            "step": str(total_steps(training.examples, epoch, training.batch_size)),
            "endpoint": new_name(service, f"{parent}/endpoints"),
        }
        for number, epoch in enumerate(epochs, 1)
    ]


def products_of(service: Service, job: Mapping[str, Any], made: Mapping[str, Any], time: str) -> Iterator[JsonObject]:
    """The model and the endpoints that a job makes at a time, given what it tells of them (its ``tunedModel``)."""
    model = made["model"].rpartition("@")[0]
    common = {
        "displayName": job.get("tunedModelDisplayName", ""),
        "createTime": time,
        "updateTime": time,
        **{name: job[name] for name in _COPIED if name in job},
    }
    deployed = [(each, service.number()) for each in made["checkpoints"]]
    yield {
        **common,
        "name": model,
        "versionId": "1",
        "versionAliases": ["default"],
        "versionCreateTime": time,
        "versionUpdateTime": time,
        "deployedModels": [{"endpoint": each["endpoint"], "deployedModelId": number} for each, number in deployed],
    }
    for each, number in deployed:
        here = {
            "id": number,
            "model": model,
            "modelVersionId": "1",
            "displayName": common["displayName"],
            "createTime": time,
            "checkpointId": each["checkpointId"],
        }
        yield {**common, "name": each["endpoint"], "deployedModels": [here]}
