"""Tuning a tuned model further, on both kinds of service: who may be a parent, and what a child knows of it."""

from __future__ import annotations

from typing import Any

import pytest

from support.cases import in_turn
from support.emulator_vertex import DONE as JOB_DONE
from support.emulator_vertex import PARENT, Vertex, lines, request
from support.emulator_world import BASE_MODELS, DONE, REQUEST, World, examples

VERSIONS = tuple(BASE_MODELS)
FIRST, SECOND, THIRD = [("a", "a1"), ("b", "b1"), ("c", "c1")], [("b", "b2"), ("d", "d2")], [("d", "d3")]


@pytest.fixture
def world() -> World:
    return World()


def further(parent: str) -> dict[str, Any]:
    return {"base_model": None, "tuned_model_source": {"tuned_model": f"tunedModels/{parent}"}}


def refused(world: World, version: str, **changes: Any) -> tuple[int, str, str]:
    return world.refused("POST", f"/{version}/tunedModels", {**REQUEST, **changes}, tunedModelId="child")


def ask(world: World, name: str, text: str, version: str = "v1beta3") -> str:
    if version == "v1beta3":
        body: dict[str, Any] = {"prompt": {"text": text}, "temperature": 0}
        answer = world.ok("POST", f"/v1beta3/tunedModels/{name}:generateText", body)
        return str(answer["candidates"][0]["output"])
    return content(world, f"/v1beta/tunedModels/{name}", text)


def content(world: World, path: str, text: str) -> str:
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": {"temperature": 0}}
    answer = world.ok("POST", f"{path}:generateContent", body)
    return str(answer["candidates"][0]["content"]["parts"][0]["text"])


@in_turn("version", VERSIONS)
def test_a_line_of_models_tells_its_base_model(world: World, version: str) -> None:
    world.create("m0", version)
    for number in range(3):
        world.advance(DONE)
        source = {"tuned_model": f"tunedModels/m{number}", "baseModel": "models/not-for-the-caller-to-say"}
        world.create(f"m{number + 1}", version, base_model=None, tuned_model_source=source)
    sources = [
        {"tunedModelSource": {"tunedModel": f"tunedModels/m{number}", "baseModel": BASE_MODELS[version]}}
        for number in range(3)
    ]
    page = world.ok("GET", f"/{version}/tunedModels", fields="tunedModels(tunedModelSource)")
    assert page == {"tunedModels": [{}, *sources]}
    page = world.ok("GET", f"/{version}/tunedModels", fields="tunedModels(baseModel,tunedModelSource/tunedModel)")
    assert page["tunedModels"][:2] == [
        {"baseModel": BASE_MODELS[version]},
        {"tunedModelSource": {"tunedModel": "tunedModels/m0"}},
    ]
    child = world.ok("GET", f"/{version}/tunedModels/m3")
    assert "baseModel" not in child
    assert child["tunedModelSource"] == sources[2]["tunedModelSource"]
    assert child["temperature"] == {"v1beta3": 0.7, "v1beta": 1}[version]


@in_turn("version", VERSIONS)
@pytest.mark.parametrize(("rate", "state"), [(0.001, "CREATING"), (2, "FAILED")])
def test_only_an_active_model_is_tuned_further(world: World, version: str, rate: float, state: str) -> None:
    task = {**examples(*FIRST), "hyperparameters": {"learningRate": rate, "epochCount": 10_000}}
    world.create("parent", version, tuning_task=task)
    world.advance(100)
    assert refused(world, version, **further("parent")) == (
        400,
        "FAILED_PRECONDITION",
        f"Tuned model tunedModels/parent is {state}; only an ACTIVE one can be tuned further.",
    )
    assert world.names(version) == ["parent"]


def test_a_parent_that_is_not_there_is_not_found(world: World) -> None:
    expected = (404, "NOT_FOUND", "Tuned model tunedModels/parent does not exist.")
    assert refused(world, "v1beta3", **further("parent")) == expected


@pytest.mark.parametrize("source", [{}, {"tunedModel": "parent"}, {"tunedModel": "models/gemini-3.5-flash"}])
def test_a_parent_that_is_no_tuned_model_is_refused(world: World, source: dict[str, str]) -> None:
    status, code, message = refused(world, "v1beta3", base_model=None, tuned_model_source=source)
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert message == (
        "* CreateTunedModelRequest.tuned_model.tuned_model_source.tuned_model: must be the name of a tuned model "
        f'in the form tunedModels/ID, but is "{source.get("tunedModel", "")}"'
    )


def test_a_model_has_one_source(world: World) -> None:
    assert refused(world, "v1beta3", tuned_model_source={"tuned_model": "tunedModels/m"})[:2] == (
        400,
        "INVALID_ARGUMENT",
    )


@in_turn("version", VERSIONS)
def test_a_child_knows_its_own_examples_first_and_then_its_ancestors(world: World, version: str) -> None:
    world.create("first", version, tuning_task=examples(*FIRST))
    world.advance(1000)
    world.create("second", version, tuning_task=examples(*SECOND), **further("first"))
    world.advance(1000)
    world.create("third", version, tuning_task=examples(*THIRD), **further("second"))
    world.advance(1000)
    told = {name: [ask(world, name, text, version) for text in "abcd"] for name in ("first", "second", "third")}
    assert told["first"][:3] == ["a1", "b1", "c1"]
    assert told["second"] == ["a1", "b2", "c1", "d2"]
    assert told["third"] == ["a1", "b2", "c1", "d3"]
    steps = world.ok("GET", f"/{version}/tunedModels/third")["tuningTask"]["snapshots"][-1]["step"]
    assert steps <= 10  # trained on its own example alone


def test_what_becomes_of_a_parent_changes_nothing_for_its_child(world: World) -> None:
    world.create("parent", tuning_task=examples(*FIRST))
    world.advance(1000)
    world.create("child", tuning_task=examples(*SECOND), **further("parent"))
    world.ok("DELETE", "/v1beta3/tunedModels/parent")
    world.create("parent", tuning_task=examples(("a", "other")))
    world.advance(1000)
    assert [ask(world, "child", text) for text in "abcd"] == ["a1", "b2", "c1", "d2"]
    source = world.ok("GET", "/v1beta3/tunedModels/child")["tunedModelSource"]
    assert source == {"tunedModel": "tunedModels/parent", "baseModel": BASE_MODELS["v1beta3"]}


def test_another_parent_is_another_training(world: World) -> None:
    for name in ("a", "b"):
        world.create(name, tuning_task=examples(*FIRST))
    world.advance(1000)
    for name in ("a", "b"):
        world.create(f"{name}-child", tuning_task=examples(*SECOND), **further(name))
    world.advance(1000)
    losses = [
        world.ok("GET", f"/v1beta3/tunedModels/{name}-child")["tuningTask"]["snapshots"][0]["meanLoss"]
        for name in ("a", "b")
    ]
    assert losses[0] != losses[1]


def tuned(vertex: Vertex, pairs: list[tuple[str, str]], parent: str = "") -> dict[str, Any]:
    """What a job makes of a data set, when it has succeeded."""
    uri = "gs://data/line.jsonl"
    vertex.put(uri, lines(pairs))
    source = {"preTunedModel": {"tunedModelName": parent}} if parent else {}
    job = vertex.tune(spec={"trainingDatasetUri": uri}, **source)
    vertex.advance(JOB_DONE)
    return dict(vertex.job(job)["tunedModel"])


def remove(vertex: Vertex, made: dict[str, Any]) -> str:
    """Takes a model down with its endpoints."""
    model = str(made["model"]).removesuffix("@1")
    for checkpoint in made["checkpoints"]:
        endpoint = checkpoint["endpoint"]
        deployed = vertex.ok("GET", f"/v1/{endpoint}")["deployedModels"][0]["id"]
        vertex.ok("POST", f"/v1/{endpoint}:undeployModel", {"deployedModelId": deployed})
        vertex.ok("DELETE", f"/v1/{endpoint}")
    vertex.ok("DELETE", f"/v1/{model}")
    return model


def test_a_job_tunes_further_what_a_job_made() -> None:
    vertex = Vertex()
    first = tuned(vertex, FIRST)
    second = tuned(vertex, SECOND, first["model"])
    third = tuned(vertex, THIRD, second["model"])
    removed = remove(vertex, second)
    told = [[content(vertex, f"/v1/{made['endpoint']}", text) for text in "abcd"] for made in (first, third)]
    assert told[0][:3] == ["a1", "b1", "c1"]
    assert told[1] == ["a1", "b2", "c1", "d3"]
    job = vertex.job({"name": vertex.jobs()[0]})
    assert (job["preTunedModel"]["tunedModelName"], job["preTunedModel"]["baseModel"]) == (
        f"{removed}@1",
        "gemini-3.5-flash",
    )


def test_a_model_that_was_taken_down_is_no_parent() -> None:
    vertex = Vertex()
    removed = remove(vertex, tuned(vertex, FIRST))
    body = request(preTunedModel={"tunedModelName": f"{removed}@1"})
    assert vertex.refused("POST", f"/v1/{PARENT}/tuningJobs", body) == (
        404,
        "NOT_FOUND",
        f"Requested entity was not found: {removed}",
    )
