"""Runs of the command line on one of three targets, mostly Vertex AI, and what they left."""

from __future__ import annotations

import json

from support.base_models import GEMINI_API, VERTEX
from support.cli_world import Cli, Result
from support.vertex_world import World, lock_of

BASE = GEMINI_API


def chosen(target: str) -> tuple[str, ...]:
    return ("--target", target) if target else ()


def manifest(reconcile: Cli, name: str = "adder", *, multiplier: float = 1, more: str = "", base: str = VERTEX) -> None:
    block = f"epochCount: 2, learningRateMultiplier: {multiplier}"
    reconcile.manifest(name, more=f"  vertex: {{baseModel: {base}, hyperparameters: {{{block}}}}}\n{more}")


def conversations(count: int = 20, first: int = 0) -> bytes:
    """A data set in Vertex AI's format: a system instruction, and two turns of each side a line."""
    return b"".join(_conversation(number) for number in range(first, first + count))


def _conversation(number: int) -> bytes:
    said = [("user", number), ("model", number + 1), ("user", "and then?"), ("model", number + 2)]
    turns = [{"role": role, "parts": [{"text": str(text)}]} for role, text in said]
    return json.dumps({"systemInstruction": {"parts": [{"text": "Count."}]}, "contents": turns}).encode() + b"\n"


def declare(reconcile: Cli, name: str, path: str, block: str = "", base: str = VERTEX) -> None:
    """Write a manifest over a data set that is there; ``block`` are further lines of the block for Vertex AI."""
    (reconcile.specs / f"{name}.yaml").write_text(
        f"apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\nmetadata: {{name: {name}}}\nspec:\n"
        f"  baseModel: {GEMINI_API}\n  dataset: {{path: {path}}}\n  vertex:\n    baseModel: {base}\n{block}"
    )


def on(reconcile: Cli, *arguments: str) -> Result:
    return reconcile(*arguments, "--target", "vertex")


def apply(reconcile: Cli, *arguments: str) -> Result:
    return on(reconcile, "apply", "--yes", *arguments)


def states(reconcile: Cli, name: str = "adder") -> list[str]:
    """The recorded generations' states, the newest first."""
    return [generation["state"] for generation in lock_of(reconcile, "vertex").get(name, {}).get("generations", ())]


def goes_on(reconcile: Cli, world: World, *arguments: str, jobs: int = 1) -> None:
    """The trouble is over, and the next run ends well, with so many jobs in all."""
    world.front = lambda app: app
    again = apply(reconcile, *arguments)
    assert again.status == 0, again.out + again.err
    assert states(reconcile)[0] == "ACTIVE"
    assert len(world.jobs()) == jobs


def trainings(world: World, reconcile: Cli, target: str) -> int:
    """How many trainings the service ever began, cancelled ones apart."""
    if target == "vertex":
        return len(world.jobs("PENDING", "RUNNING", "SUCCEEDED", "FAILED"))
    if target == "gl":
        return len(world.ask("GET", "/v1beta/tunedModels").get("tunedModels", []))
    return sum(len(model["generations"]) for model in lock_of(reconcile, target).values())
