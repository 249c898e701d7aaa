"""Models that other users trained at the services, and manifests that adopt them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import timedelta

from support.base_models import GEMINI_API, VERTEX
from support.cli_world import EXAMPLES, Cli, Result
from support.vertex_runs import chosen
from support.vertex_world import BUCKET, JOBS, World

MODELS = "/v1beta/tunedModels"
THEIRS = "tunedModels/theirs"
_LINE = '{"contents":[{"role":"user","parts":[{"text":"1"}]},{"role":"model","parts":[{"text":"2"}]}]}\n'


def foreign(
    reconcile: Cli, world: World, target: str = "gl", *, called: str = "theirs", ready: bool = True, **fields: object
) -> str:
    """The remote name of a model that another user trained; ``None`` leaves a field out."""
    described = {"displayName": "Their adder", "description": "adds: one"} | fields
    remote = _job(world, described) if target == "vertex" else _model(world, called, described)
    if ready:
        reconcile.clock.now += timedelta(minutes=5)
    return remote


def _job(world: World, fields: dict[str, object]) -> str:
    world.put("theirs.jsonl", (_LINE * 20).encode())
    name = fields.pop("displayName")
    job = {
        "baseModel": VERTEX,
        "tunedModelDisplayName": name,
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"gs://{BUCKET}/theirs.jsonl",
            "hyperParameters": {"epochCount": "3"},
        },
        **fields,
    }
    remote: str = world.ask("POST", JOBS, json.dumps(job).encode())["name"]
    return remote


def _model(world: World, chosen_id: str, fields: dict[str, object]) -> str:
    rows = [{"textInput": given, "output": wanted} for given, wanted in EXAMPLES]
    model = {
        "baseModel": GEMINI_API,
        "temperature": 0.5,
        "tuningTask": {
            "trainingData": {"examples": {"examples": rows}},
            "hyperparameters": {"epochCount": 3, "batchSize": 4},
        },
        **fields,
    }
    body = {name: value for name, value in model.items() if value is not None}
    world.ask("POST", MODELS, json.dumps(body).encode(), tunedModelId=chosen_id)
    return f"tunedModels/{chosen_id}"


def job_of(world: World, remote: str) -> str:
    """The endpoint at which a tuning job's model answers; empty for other models."""
    return next((str(job["tunedModel"]["endpoint"]) for job in world.jobs() if job["name"] == remote), "")


def adopt(reconcile: Cli, remote: str, target: str, *arguments: str) -> Result:
    """Take over a model as adder."""
    taken = reconcile("adopt", "adder", remote, *arguments, *chosen(target))
    assert taken.status == 0, taken.err
    return taken


def manifest_of(reconcile: Cli, name: str, examples: Iterable[tuple[str, str]], more: str = "") -> None:
    """Declare these examples in a manifest that says so far that its data is not at hand, or other ones."""
    lines = ["text_input,output", *(f"{given},{wanted}" for given, wanted in examples)]
    (reconcile.specs / f"{name}.csv").write_text("\n".join(lines) + "\n")
    file = reconcile.specs / f"{name}.yaml"
    file.write_text(re.sub(r"    unknown: true.*", f"    path: {name}.csv", file.read_text()) + more)


def declared(reconcile: Cli, dataset: str, *, hyperparameters: str = "{}") -> None:
    """Write a manifest adder over a data set."""
    (reconcile.specs / "adder.yaml").write_text(
        "apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\nmetadata: {name: adder}\nspec:\n"
        f"  baseModel: {GEMINI_API}\n  dataset: {dataset}\n  hyperparameters: {hyperparameters}\n"
    )
