"""Trainings in each location of the base models of today, and models that are served elsewhere than they are tuned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from reconciler.providers.vertex.spec import SPEC
from support.cases import slow_except
from support.vertex_runs import apply, manifest, on, states
from support.vertex_world import JOBS, PROJECT, aim, lock_of

if TYPE_CHECKING:
    from support.cli_world import Cli
    from support.vertex_world import World

CATALOG = SPEC.catalog()
TODAY = datetime(2026, 11, 30, tzinfo=UTC)
TUNABLE = [(name, CATALOG.models[name]) for name in CATALOG.tunable(TODAY.date()) if "/" not in name]
LOCATIONS = sorted({location for _, model in TUNABLE for location in model.locations})
AROUND = {"us-central1": "us", "europe-west4": "eu"}


@pytest.mark.parametrize("location", slow_except([(one,) for one in LOCATIONS], ("europe-west4",)))
def test_each_base_model_is_tuned_in_each_of_its_locations(reconcile: Cli, world: World, location: str) -> None:
    reconcile.clock.now = TODAY
    bases = [name for name, model in TUNABLE if location in model.locations]
    assert {"gemini-3.5-flash", "gemini-3.5-flash-lite", "gemini-3.1-flash-lite"} <= set(bases)
    names = [name.replace(".", "-") for name in bases]
    for name, base in zip(names, bases, strict=True):
        reconcile.manifest(name, more=f"  vertex: {{baseModel: {base}, hyperparameters: {{adapterSize: 4}}}}\n")
    aim(reconcile, world.url, location=location)
    applied = apply(reconcile)
    assert applied.status == 0, applied.err
    assert "according to the model catalog" not in applied.err + applied.out
    assert {name: states(reconcile, name) for name in names} == {name: ["ACTIVE"] for name in names}

    served = f"projects/{PROJECT}/locations/{AROUND[location]}"
    endpoints = {name: lock_of(reconcile, "vertex")[name]["generations"][0]["resources"]["endpoint"] for name in names}
    assert [name for name, endpoint in endpoints.items() if not endpoint.startswith(f"{served}/endpoints/")] == []
    found = on(reconcile, "resolve", "--live", "--format", "json").document["models"]
    assert {model["name"]: model["remote"] for model in found} == endpoints
    assert {model["location"] for model in found} == {AROUND[location]}

    asked = len(world.lines)
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0
    place = f"projects/{PROJECT}/locations/{location}"
    assert world.lines[asked:] == [
        f"GET /v1beta1/{place}/tuningJobs",
        f"GET /v1/{place}/models",
        f"GET /v1/{served}/endpoints",
    ]


def test_the_wrong_location_of_each_base_model_gets_its_message(reconcile: Cli, world: World) -> None:
    reconcile.clock.now = TODAY
    for name, _ in TUNABLE:
        manifest(reconcile, name.replace(".", "-"), base=name)
    aim(reconcile, world.url, location="us-east1")
    planned = on(reconcile, "plan")
    assert planned.status == 0
    shown = " ".join((planned.out + planned.err).split())
    warning = "cannot be tuned in us-east1, according to the model catalog of"
    assert [name for name, _ in TUNABLE if f"{name} {warning}" not in shown] == []

    refused = apply(reconcile)
    assert refused.status == 1
    jobs = JOBS.replace("europe-west4", "us-east1")
    assert " ".join((refused.out + refused.err).split()).count(
        f"POST {jobs} failed with 400 INVALID_ARGUMENT: Unsupported region for tuning: us-east1. The base model can be"
        " tuned in europe-west4, us-central1; set spec.location of the target to a location in which the"
        " base model can be tuned: `reconcile models --target vertex` lists them"
    ) >= len(TUNABLE)


def test_a_model_is_deployed_again_in_the_serving_location(reconcile: Cli, world: World) -> None:
    reconcile.clock.now = TODAY
    manifest(reconcile, base="gemini-3.5-flash")
    aim(reconcile, world.url)
    assert apply(reconcile).status == 0
    first = lock_of(reconcile, "vertex")["adder"]["generations"][0]["resources"]
    for checkpoint in first["checkpoints"]:
        [deployed] = world.ask("GET", f"/v1/{checkpoint['endpoint']}")["deployedModels"]
        body = f'{{"deployedModelId": "{deployed["id"]}"}}'.encode()
        world.ask("POST", f"/v1/{checkpoint['endpoint']}:undeployModel", body)
        world.ask("DELETE", f"/v1/{checkpoint['endpoint']}")

    aim(reconcile, world.url, more="  servingLocation: europe-west4\n")
    planned = on(reconcile, "plan")
    assert "serving location europe-west4" in " ".join(planned.out.split())
    assert apply(reconcile).status == 0
    serving = lock_of(reconcile, "vertex")["adder"]["generations"][0]["resources"]["endpoint"]
    assert serving.startswith(f"projects/{PROJECT}/locations/europe-west4/endpoints/")
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0

    aim(reconcile, world.url)  # without the field the model is found where it is deployed
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0
