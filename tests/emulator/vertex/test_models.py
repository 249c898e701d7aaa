from __future__ import annotations

from typing import Any

import pytest

from support.cases import each_row
from support.emulator_vertex import DONE, PARENT, Vertex, lines

SERVED = "projects/demo/locations/us"
"""Where the base model is served."""
ASK: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "7"}]}],
    "generationConfig": {"temperature": 0, "topK": 5.0, "candidateCount": 2},
}


@pytest.fixture
def world() -> Vertex:
    return Vertex()


@pytest.fixture
def made(world: Vertex) -> dict[str, Any]:
    """What a finished job tells of its model and its three endpoints."""
    job = world.tune(tunedModelDisplayName="numbers", labels={"team": "demo"})
    world.advance(DONE)
    return dict(world.job(job)["tunedModel"])


def test_a_job_makes_a_model_that_is_deployed_to_an_endpoint_a_checkpoint(world: Vertex, made: dict[str, Any]) -> None:
    model = world.ok("GET", f"/v1/{made['model']}")
    assert f"{model['name']}@{model['versionId']}" == made["model"]
    assert (model["displayName"], model["labels"]) == ("numbers", {"team": "demo", "tune-type": "sft"})
    assert model["createTime"] == "2026-01-01T00:00:22Z"
    names = [checkpoint["endpoint"] for checkpoint in made["checkpoints"]]
    assert [each["endpoint"] for each in model["deployedModels"]] == names
    for name, checkpoint, reference in zip(names, made["checkpoints"], model["deployedModels"], strict=True):
        endpoint = world.ok("GET", f"/v1/{name}")
        deployed = endpoint["deployedModels"][0]
        assert (deployed["id"], deployed["model"]) == (reference["deployedModelId"], model["name"])
        assert deployed["checkpointId"] == checkpoint["checkpointId"]
    assert [each["name"] for each in world.ok("GET", f"/v1/{SERVED}/endpoints")["endpoints"]] == names[::-1]
    assert world.ok("GET", f"/v1/{PARENT}/models", filter="labels.team=demo")["models"] == [model]


def test_nothing_is_there_before_the_job_succeeds(world: Vertex) -> None:
    world.tune()
    world.advance(DONE - 0.001)
    assert world.ok("GET", f"/v1/{PARENT}/models") == world.ok("GET", f"/v1/{SERVED}/endpoints") == {}
    world.advance(0.001)
    assert len(world.ok("GET", f"/v1/{SERVED}/endpoints")["endpoints"]) == 3


@pytest.mark.parametrize("version", ["", "@1", "@default"])
def test_a_model_is_found_by_its_version(world: Vertex, made: dict[str, Any], version: str) -> None:
    plain = made["model"].removesuffix("@1")
    assert world.ok("GET", f"/v1/{plain}{version}")["name"] == plain


def test_another_version_is_not_there(world: Vertex, made: dict[str, Any]) -> None:
    name = made["model"].replace("@1", "@2")
    assert world.refused("GET", f"/v1/{name}") == (404, "NOT_FOUND", f"Requested entity was not found: {name}")


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_an_endpoint_answers_like_its_examples(world: Vertex, made: dict[str, Any], version: str) -> None:
    response = world.send("POST", f"/{version}/{made['endpoint']}:generateContent", ASK)
    texts = [each["content"]["parts"][0]["text"] for each in response.json()["candidates"]]
    assert texts == ["8", "8"]


def test_earlier_checkpoints_have_learned_fewer_examples(world: Vertex, made: dict[str, Any]) -> None:
    def answers(tuned: dict[str, Any]) -> list[bool]:
        replies = [world.ok("POST", f"/v1/{one['endpoint']}:generateContent", ASK) for one in tuned["checkpoints"]]
        return [reply["candidates"][0]["content"]["parts"][0]["text"] == "8" for reply in replies]

    assert answers(made) == [False, True, True], "5, 10 and all 15 examples"
    world.put("gs://data/other.jsonl", lines([("a", "b"), ("c", "d"), ("e", "f")]))
    spec = {"trainingDatasetUri": "gs://data/other.jsonl"}
    children = [
        world.tune(spec=spec, preTunedModel={"tunedModelName": made["model"], "checkpointId": number})
        for number in ("1", "2")
    ]
    world.advance(DONE)
    assert [answers(world.job(child)["tunedModel"])[-1] for child in children] == [False, True]


def test_a_question_that_is_none_is_refused(world: Vertex, made: dict[str, Any]) -> None:
    assert world.refused("POST", f"/v1/{made['endpoint']}:generateContent", {}) == (
        400,
        "INVALID_ARGUMENT",
        "* GenerateContentRequest.contents: must not be empty",
    )


def test_a_model_goes_when_it_is_deployed_nowhere(world: Vertex, made: dict[str, Any]) -> None:
    plain = made["model"].removesuffix("@1")
    for checkpoint in made["checkpoints"]:
        name = checkpoint["endpoint"]
        assert world.refused("DELETE", f"/v1/{plain}") == (
            400,
            "FAILED_PRECONDITION",
            f"{plain} cannot be deleted: it is part of a deployment. Undeploy it from all endpoints first.",
        )
        assert world.refused("DELETE", f"/v1/{name}") == (
            400,
            "FAILED_PRECONDITION",
            f"{name} cannot be deleted: it is part of a deployment. Undeploy all models from it first.",
        )
        deployed = world.ok("GET", f"/v1/{name}")["deployedModels"][0]["id"]
        operation = world.ok("POST", f"/v1/{name}:undeployModel", {"deployedModelId": deployed})
        assert operation["name"].startswith(f"{name}/operations/")
        assert operation["response"] == {
            "@type": "type.googleapis.com/google.cloud.aiplatform.v1.UndeployModelResponse"
        }
        assert world.ok("GET", f"/v1/{operation['name']}") == operation
        assert world.refused("POST", f"/v1/{name}:generateContent", ASK) == (
            400,
            "FAILED_PRECONDITION",
            f"No model is deployed to {name}, so it cannot answer.",
        )
        world.ok("DELETE", f"/v1/{name}")
        assert world.refused("GET", f"/v1/{name}")[:2] == (404, "NOT_FOUND")
    operation = world.ok("DELETE", f"/v1/{plain}")
    assert operation["done"] is True
    assert world.ok("GET", f"/v1/{operation['name']}") == operation
    assert world.refused("GET", f"/v1/{made['model']}")[:2] == (404, "NOT_FOUND")
    assert world.refused("DELETE", f"/v1/{plain}")[:2] == (404, "NOT_FOUND")


def test_a_job_tells_what_it_made_even_when_that_is_gone(world: Vertex, made: dict[str, Any]) -> None:
    endpoint = made["checkpoints"][0]["endpoint"]
    deployed = world.ok("GET", f"/v1/{endpoint}")["deployedModels"][0]["id"]
    world.ok("POST", f"/v1/{endpoint}:undeployModel", {"deployedModelId": deployed})
    world.ok("DELETE", f"/v1/{endpoint}")
    assert world.job({"name": world.jobs()[0]})["tunedModel"] == made


def test_a_model_has_one_version_which_goes_with_it(world: Vertex, made: dict[str, Any]) -> None:
    plain = made["model"].removesuffix("@1")
    (version,) = world.ok("GET", f"/v1/{plain}:listVersions")["models"]
    assert version == world.ok("GET", f"/v1/{made['model']}")
    assert world.refused("DELETE", f"/v1/{made['model']}:deleteVersion") == (
        400,
        "FAILED_PRECONDITION",
        f"{plain} has no other version: delete the model instead.",
    )
    assert world.refused("GET", f"/v1/{plain}0:listVersions")[:2] == (404, "NOT_FOUND")


def test_only_what_is_deployed_can_be_undeployed(world: Vertex, made: dict[str, Any]) -> None:
    status, code, message = world.refused("POST", f"/v1/{made['endpoint']}:undeployModel", {"deployedModelId": "1"})
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert f'deployed_model_id: no model with the id "1" is deployed to {made["endpoint"]}' in message


def test_an_operation_that_never_was_is_not_there(world: Vertex, made: dict[str, Any]) -> None:
    name = f"{made['endpoint']}/operations/1"
    assert world.refused("GET", f"/v1/{name}") == (404, "NOT_FOUND", f"Requested entity was not found: {name}")


def test_a_model_is_deployed_to_a_new_endpoint_and_answers_there(world: Vertex, made: dict[str, Any]) -> None:
    created = world.ok("POST", f"/v1/{PARENT}/endpoints", {"displayName": "again", "labels": {"team": "demo"}})
    endpoint = created["response"]["name"]
    refused = world.refused("POST", f"/v1/{endpoint}:generateContent", ASK)
    assert refused == (400, "FAILED_PRECONDITION", f"No model is deployed to {endpoint}, so it cannot answer.")
    body = {"deployedModel": {"model": made["model"], "displayName": "again"}, "trafficSplit": {"0": 100}}
    operation = world.ok("POST", f"/v1/{endpoint}:deployModel", body)
    deployed = operation["response"]["deployedModel"]
    shown = world.ok("GET", f"/v1/{endpoint}")
    assert (shown["deployedModels"], shown["trafficSplit"]) == ([deployed], {deployed["id"]: 100})
    assert world.ok("GET", f"/v1/{PARENT}/endpoints", filter="labels.team=demo")["endpoints"][0] == shown
    response = world.send("POST", f"/v1/{endpoint}:generateContent", ASK)
    assert response.json()["candidates"][0]["content"]["parts"][0]["text"] == "8"


@pytest.mark.parametrize(
    ("method", "body", "problem"),
    [
        ("", {}, "CreateEndpointRequest.endpoint.display_name: is required"),
        (
            ":deployModel",
            {"deployedModel": {"model": "x"}},
            'DeployModelRequest.deployed_model.model: must be the name of a model, but is "x"',
        ),
        (
            ":deployModel",
            {"deployedModel": {"model": "MODEL"}, "trafficSplit": {"0": 50}},
            "DeployModelRequest.traffic_split: must add up to 100",
        ),
    ],
)
def test_a_deployment_that_cannot_be_made_is_refused(
    world: Vertex, made: dict[str, Any], method: str, body: dict[str, Any], problem: str
) -> None:
    if body.get("deployedModel", {}).get("model") == "MODEL":
        body = {**body, "deployedModel": {"model": made["model"]}}
    path = f"/v1/{made['endpoint']}{method}" if method else f"/v1/{PARENT}/endpoints"
    assert world.refused("POST", path, body) == (400, "INVALID_ARGUMENT", f"* {problem}")


def test_a_model_is_patched_by_mask(world: Vertex, made: dict[str, Any]) -> None:
    name = made["model"].partition("@")[0]
    body = {"displayName": "renamed", "description": "not in the mask", "labels": {"team": "other"}}
    patched = world.ok("PATCH", f"/v1/{name}", body, updateMask="displayName,labels")
    assert (patched["displayName"], patched["labels"]) == ("renamed", {"team": "other"})
    assert patched == world.ok("GET", f"/v1/{name}")
    assert "description" not in patched
    for mask, message in (("", "update_mask: is required"), ("name,foo", '"foo" cannot be changed')):
        status, code, told = world.refused("PATCH", f"/v1/{name}", body, updateMask=mask)
        assert (status, code) == (400, "INVALID_ARGUMENT")
        assert message in told


def test_the_tokens_of_a_prompt_are_its_words(world: Vertex, made: dict[str, Any]) -> None:
    contents = [{"role": "user", "parts": [{"text": "one two"}]}]
    body = {"contents": contents, "systemInstruction": {"parts": [{"text": "Count."}]}}
    assert world.ok("POST", f"/v1/{made['endpoint']}:countTokens", body) == {"totalTokens": 3}


@pytest.mark.parametrize("location", ["us", "eu", "global"])
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_base_model_answers_where_it_is_served(world: Vertex, version: str, location: str) -> None:
    name = f"/{version}/projects/demo/locations/{location}/publishers/google/models/gemini-3.5-flash"
    reply = world.ok("POST", f"{name}:generateContent", ASK)
    texts = [candidate["content"]["parts"][0]["text"] for candidate in reply["candidates"]]
    assert texts == ["(simulated answer: this model has no training examples)"] * 2
    assert reply["modelVersion"] == "gemini-3.5-flash"
    assert world.ok("POST", f"{name}:countTokens", {"contents": ASK["contents"]}) == {"totalTokens": 1}


@each_row(("location", "model"), [("us-central1", "gemini-3.5-flash"), ("us", "none-such")])
@each_row("method", ["generateContent", "streamGenerateContent", "countTokens"])
def test_a_base_model_does_not_answer_elsewhere(world: Vertex, location: str, model: str, method: str) -> None:
    name = f"projects/demo/locations/{location}/publishers/google/models/{model}"
    body = {"contents": ASK["contents"]}
    status, code, message = world.refused("POST", f"/v1/{name}:{method}", body)
    assert (status, code) == (404, "NOT_FOUND")
    assert message.startswith(f"Publisher Model `{name}` was not found or your project does not have access to it.")


def test_base_models_are_listed_in_pages(world: Vertex) -> None:
    names, token = [], ""
    for _ in range(100):
        page = world.ok("GET", "/v1beta1/publishers/google/models", pageSize=2, pageToken=token)
        names += [model["name"] for model in page["publisherModels"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert len(set(names)) == len(names) > 2
    assert world.ok("GET", f"/v1beta1/{names[0]}")["name"] == names[0]
    assert world.refused("GET", "/v1beta1/publishers/google/models/x")[:2] == (404, "NOT_FOUND")
