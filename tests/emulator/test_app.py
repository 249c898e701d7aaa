from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.emulator.app import MAX_BODY_BYTES
from support.cases import each_row, in_turn
from support.emulator_world import REQUEST, World, training

CREATE = "/v1beta3/tunedModels"


# legacy base models: models/text-bison-001, models/gemini-1.5-flash-001-tuning
@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("version", "legacy"),
    [("v1beta3", "models/text-bison-001"), ("v1beta", "models/gemini-1.5-flash-001-tuning")],
)
def test_each_version_has_base_models_some_of_them_tunable(world: World, version: str, legacy: str) -> None:
    today = ["gemini-3.5-flash", "gemini-3.5-flash-lite", "gemini-3.1-flash-lite"]
    tunable = [legacy, *(f"models/{name}" for name in today)]
    models = world.ok("GET", f"/{version}/models")["models"]
    assert [model["name"] for model in models if "createTunedModel" in model["supportedGenerationMethods"]] == tunable
    assert len(models) > len(tunable)
    assert all("Simulated" in model["description"] and "simulated" in model["displayName"] for model in models)
    assert [world.ok("GET", f"/{version}/{model['name']}") for model in models] == models


def test_base_models_come_in_pages(world: World) -> None:
    pages = [world.ok("GET", "/v1beta3/models", pageSize=4)]
    pages.append(world.ok("GET", "/v1beta3/models", pageSize=4, pageToken=pages[0]["nextPageToken"]))
    assert [len(page["models"]) for page in pages] == [4, 2]
    assert "nextPageToken" not in pages[1]


def test_an_unknown_base_model_is_not_found(world: World) -> None:
    assert world.refused("GET", "/v1beta/models/text-bison-001") == (
        404,
        "NOT_FOUND",
        "models/text-bison-001 is not found for API version v1beta.",
    )


@each_row(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1beta2/tunedModels"),
        ("POST", "/v1beta/tunedModels/m:countTokens"),
        ("GET", "/v1beta3/tunedModels/"),
        ("PUT", "/v1beta3/tunedModels/m"),
        ("POST", "/v1beta3/tunedModels/m:generateContent"),
        ("POST", "/v1beta/tunedModels/m:generateText"),
    ],
)
def test_a_call_that_is_not_offered_is_not_found(world: World, method: str, path: str) -> None:
    assert world.refused(method, path) == (404, "NOT_FOUND", f"Method not found: {method} {path}")


def test_an_error_body_has_the_shape_of_google_rpc(world: World) -> None:
    response = world.send("POST", CREATE, {"foo": 1})
    message = "Invalid JSON payload received. Unknown name \"foo\" at 'tuned_model': Cannot find field."
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    assert response.json() == {
        "error": {
            "code": 400,
            "message": message,
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{"field": "tuned_model", "description": message}],
                }
            ],
        }
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON payload received. Unable to parse: "),
        (b"[]", "Invalid JSON payload received. Root element must be a message."),
        (b'{"\\ud800": 1}', "Invalid JSON payload received. Unknown name \"\\ud800\" at 'tuned_model'"),
        (b" " * (MAX_BODY_BYTES + 1), "Request payload size exceeds the limit: 20971520 bytes."),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(world: World, body: bytes, message: str) -> None:
    status, code, told = world.refused("POST", CREATE, body)
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert told.startswith(message)


def test_system_parameters_are_no_parameters_of_the_call(world: World) -> None:
    query = "key=abc&alt=json&prettyPrint=false&$fields=models/name&quotaUser=me&access_token=x"
    assert "description" not in world.ok("GET", f"/v1beta3/models?{query}")["models"][0]


def test_any_credentials_or_none_will_do(world: World) -> None:
    async def ask(headers: dict[str, str]) -> int:
        transport = httpx.ASGITransport(world.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator", headers=headers) as client:
            return (await client.get("/v1beta3/models")).status_code

    for headers in ({}, {"Authorization": "Bearer x", "x-goog-user-project": "p"}, {"x-goog-api-key": "k"}):
        assert asyncio.run(ask(headers)) == 200


def test_a_body_in_chunks_is_read_whole(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        whole = json.dumps(REQUEST).encode()
        for start in range(0, len(whole), 100):
            yield whole[start : start + 100]

    async def create() -> httpx.Response:
        transport = httpx.ASGITransport(world.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
            return await client.post(f"{CREATE}?tunedModelId=m", content=chunks())

    assert asyncio.run(create()).json()["metadata"]["totalSteps"] == 23


def test_creates_at_once_with_one_id_end_with_one_model(world: World) -> None:
    async def race() -> list[int]:
        transport = httpx.ASGITransport(world.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
            creates = (client.post(f"{CREATE}?tunedModelId=m", json=REQUEST) for _ in range(5))
            return [response.status_code for response in await asyncio.gather(*creates)]

    assert sorted(asyncio.run(race())) == [200, 409, 409, 409, 409]


def test_time_goes_on_while_no_process_lives(tmp_path: Any) -> None:
    store = tmp_path / "folder" / "store.sqlite3"
    operation = World(store).create(tuning_task=training(epochCount=3, batchSize=2))["name"]
    later = World(store)
    assert "done" not in later.ok("GET", f"/v1/{operation}")
    later.advance(1000)
    assert later.ok("GET", f"/v1/{operation}")["done"] is True
    assert later.ok("GET", f"{CREATE}/m")["state"] == "ACTIVE"
    earlier = World(store)
    assert earlier.ok("GET", f"{CREATE}/m")["state"] == "CREATING"


names = st.sampled_from(
    [
        "displayName",
        "base_model",
        "temperature",
        "topK",
        "tuningTask",
        "hyperparameters",
        "epochCount",
        "trainingData",
        "examples",
        "textInput",
        "output",
        "state",
        "tunedModelSource",
        "tunedModel",
        "learningRateMultiplier",
        "readerProjectNumbers",
        "foo",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
bodies = st.dictionaries(
    names,
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=3)),
    max_size=4,
)


@in_turn("version", ["v1beta3", "v1beta"])
@given(body=bodies)
def test_no_body_breaks_the_service(version: str, body: dict[str, Any]) -> None:
    world = World()
    answer = world.send("POST", f"/{version}/tunedModels?tunedModelId=m", body)
    assert answer.status_code in {200, 400, 404}
    world.create()
    mask = ",".join(body) or "description"
    assert world.send("PATCH", f"/{version}/tunedModels/m", body, updateMask=mask).status_code in {200, 400}
    world.ok("GET", f"/{version}/tunedModels/m")


def test_text_of_any_language_survives(world: World) -> None:
    world.create(display_name="数字 🤖 'quoted'", description="Zeile 1\nZeile 2 ﬁ\u2028")
    model = world.ok("GET", f"{CREATE}/m")
    assert (model["displayName"], model["description"]) == ("数字 🤖 'quoted'", "Zeile 1\nZeile 2 ﬁ\u2028")
