"""Data sets in Cloud Storage that change or go, and uploads that are cut off, through the command line."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from support.cli_world import Cli
from support.vertex_fronts import Cutting, Front, line_of, refusal, refusing
from support.vertex_runs import apply, conversations, declare, goes_on, manifest, on, states
from support.vertex_world import BUCKET, CREATE, OBJECTS, UPLOAD, World, fresh, lock_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

NAME = "sets/chat.jsonl"
URI = f"gs://{BUCKET}/{NAME}"
LOOK = f"GET {OBJECTS}/{NAME}"
GONE = f"no such object: {URI}; fix the address, or upload the data set"


@pytest.fixture
def world(served: World, reconcile: Cli) -> World:
    """Services, and a manifest over a data set in Cloud Storage that nobody has uploaded yet."""
    declare(reconcile, "adder", URI, "    hyperparameters: {epochCount: 2}\n")
    return fresh(served, reconcile)


def test_an_object_that_is_gone_changes_nothing_and_one_that_is_overwritten_is_a_changed_data_set(
    reconcile: Cli, world: World
) -> None:
    first = world.put(NAME, conversations())["generation"]
    goes_on(reconcile, world)
    old = lock_of(reconcile, "vertex")["adder"]["serving"]
    world.delete(NAME)

    planned = on(reconcile, "plan", "--detailed-exitcode")

    assert planned.status == 0
    assert f"Note: adder is compared with its recorded data set: {GONE}\n" in planned.out
    assert "No changes. 1 model matches its manifest." in planned.out
    again = apply(reconcile)
    assert again.out.startswith("No changes. 1 model matches its manifest; ")
    assert f"Note: adder is compared with its recorded data set: {GONE}\n" in again.err
    for command in (["validate", "--locked"], ["apply", "--yes", "--locked"], ["plan", "--offline"]):
        answer = on(reconcile, *command)
        assert answer.status == 0, answer.out + answer.err
    assert world.count(CREATE) == 1

    second = world.put(NAME, conversations(30))["generation"]
    planned = on(reconcile, "plan")
    assert f"changes            dataset.generation: {first} → {second}\n" in planned.out
    assert f"data set           {URI}, " in planned.out
    changes = on(reconcile, "plan", "--format", "json").document["actions"][0]["changes"]
    assert changes[0] == {"field": "dataset.generation", "live": first, "declared": second}
    assert apply(reconcile, "--no-wait").status == 0
    assert lock_of(reconcile, "vertex")["adder"]["serving"] == old
    goes_on(reconcile, world, jobs=2)
    recorded = [one["dataset"]["generation"] for one in lock_of(reconcile, "vertex")["adder"]["generations"]]
    assert recorded == [second, first]


def test_an_object_that_is_not_there_or_may_not_be_seen_holds_its_model_alone(reconcile: Cli, world: World) -> None:
    manifest(reconcile, "other")

    assert f"held: DataUnavailable\n      why                {GONE}\n" in on(reconcile, "plan").out
    answer = apply(reconcile)

    assert answer.status == 1
    assert f"adder  held (DataUnavailable): {GONE}\n" in answer.out
    assert "other  ready: " in answer.out
    assert states(reconcile) == []
    assert on(reconcile, "plan", "--offline").status == 1

    world.put(NAME, conversations())
    world.front = refusing(refusal(403, "", "me@example.com does not have storage.objects.get access."), LOOK)

    answer = apply(reconcile)

    assert answer.status == 1
    assert "adder  held (DataUnavailable): GET " in answer.out
    assert (
        "failed with 403 PERMISSION_DENIED: me@example.com does not have storage.objects.get access; ask for"
        f" roles/storage.objectUser on gs://{BUCKET} "
    ) in answer.out


def test_a_validation_data_set_that_is_not_there_holds_the_create(reconcile: Cli, world: World) -> None:
    world.put(NAME, conversations())
    block = f"    hyperparameters: {{epochCount: 2}}\n    validationDataset: {{path: gs://{BUCKET}/sets/none.jsonl}}\n"
    declare(reconcile, "adder", URI, block)

    answer = apply(reconcile)

    assert answer.status == 1
    assert f"adder  held (DataUnavailable): no such object: gs://{BUCKET}/sets/none.jsonl; fix" in answer.out
    world.put("sets/none.jsonl", conversations(10))
    goes_on(reconcile, world)
    world.delete("sets/none.jsonl")
    assert apply(reconcile).out.startswith("No changes. 1 model matches its manifest; "), (
        "it counts for the next training only"
    )


def between(act: Callable[[], object]) -> Front:
    """Lets something happen when a run looks at the object for the second time: after its plan, before its create."""
    looks: list[str] = []

    def front(app: ASGIApp) -> ASGIApp:
        async def meanwhile(scope: Scope, receive: Receive, send: Send) -> None:
            if line_of(scope) == LOOK:
                looks.append(LOOK)
                if len(looks) == 2:
                    await asyncio.to_thread(act)
            await app(scope, receive, send)

        return meanwhile

    return front


def test_an_object_that_changes_or_goes_after_the_plan_is_not_trained_on(reconcile: Cli, world: World) -> None:
    world.put(NAME, conversations())
    for act, said in (
        (lambda: world.put(NAME, conversations(10)), "has changed"),
        (lambda: world.delete(NAME), "has been deleted"),
    ):
        world.front = between(act)
        answer = apply(reconcile)
        assert answer.status == 1
        assert f"adder  refused: {URI} {said} since the plan was made; run the command again\n" in answer.out
        assert world.count(CREATE) == 0
        assert states(reconcile) == []

    assert f"adder  held (DataUnavailable): {GONE}\n" in apply(reconcile).out
    world.put(NAME, conversations(30))
    goes_on(reconcile, world)
    assert world.jobs()[0]["tuningDataStats"]["supervisedTuningDataStats"]["tuningDatasetExampleCount"] == "30"


def test_an_object_that_is_not_a_data_set_fails_the_job(reconcile: Cli, world: World) -> None:
    world.put(NAME, b"no JSON")

    answer = apply(reconcile)

    said = f"Line 1 of the data set {URI}: is not valid JSON: "
    assert answer.status == 1
    assert f"adder  failed: {said}" in answer.out
    held = apply(reconcile)
    assert held.status == 1
    assert f"adder  held (Failed): {said}" in held.out
    assert "change the inputs, or train it again with --retry adder" in held.out


LARGE = 9 * 2**20
"""More than is uploaded in one request."""
PART = 2**20
"""What arrives of it at first; the service writes the remainder in several batches."""


@pytest.fixture
def large(reconcile: Cli, world: World) -> World:
    """Services, and a manifest over a large data set."""
    text = "x" * (LARGE // 100)
    block = "  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {epochCount: 2}}\n"
    reconcile.manifest("adder", examples=[(f"{number} {text}", str(number)) for number in range(100)], more=block)
    return world


@pytest.mark.slow  # without a command: test_upload_resumable.py
def test_an_upload_that_is_always_interrupted_ends_without_a_training(reconcile: Cli, large: World) -> None:
    large.front = Cutting(0, times=100)

    answer = apply(reconcile)

    assert answer.status == 1
    assert f"adder  refused: PUT {UPLOAD} failed with 503 UNAVAILABLE: The connection was lost; " in answer.out
    assert "upload_id" not in answer.out + answer.err + str(lock_of(reconcile, "vertex")), "its address is a secret"
    assert large.objects() == []
    assert large.count(CREATE) == 0
    large.front = lambda app: app
    assert apply(reconcile).status == 0


def test_an_interrupted_upload_is_resumed(reconcile: Cli, large: World) -> None:
    cutting = Cutting(PART, times=1)
    large.front = cutting

    answer = apply(reconcile)

    assert answer.status == 0, answer.out
    first, asked, second = cutting.spans
    size = first.partition("/")[2]
    assert asked == f"bytes */{size}"
    assert first.startswith("bytes 0-")
    assert second.startswith(f"bytes {PART}-")
    assert large.count(f"POST {UPLOAD}") == 1, "one session"
    (name,) = large.objects()
    assert len(large.read(f"{OBJECTS}/{name.replace('/', '%2F')}")) == int(size)
    assert (states(reconcile), len(large.jobs())) == (["ACTIVE"], 1)


def test_a_complete_upload_is_not_repeated_and_a_damaged_one_is_not_trained_on(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    world.front = refusing(refusal(403, "PERMISSION_DENIED", "Permission denied."), CREATE)
    for _ in range(2):
        assert apply(reconcile).status == 3
        assert len(world.objects()) == 1
    assert world.count(f"POST {UPLOAD}") == 1
    (name,) = world.objects()
    world.put(name, b"somebody else's")
    world.front = lambda app: app

    answer = apply(reconcile)

    assert answer.status == 1
    assert f"adder  refused: gs://{BUCKET}/{name} has 15 bytes with MD5 " in answer.out
    assert (
        f"move it away and run the command again: `gcloud storage mv gs://{BUCKET}/{name} gs://{BUCKET}/{name}.damaged`\n"
        in answer.out
    )
    assert world.jobs() == []
    world.delete(name.replace("/", "%2F"))
    goes_on(reconcile, world)
