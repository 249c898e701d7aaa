from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.emulator.training import TrainingPace
from support.cases import each_row
from support.emulator_world import BASE_MODELS, DONE, FIXTURES, REQUEST, World, training

MODEL = "/v1beta3/tunedModels/m"


@pytest.fixture
def world() -> World:
    return World()


def page_of(world: World, version: str = "v1beta3", **query: Any) -> dict[str, Any]:
    return world.ok("GET", f"/{version}/tunedModels", **query)


def test_a_fresh_model_looks_like_a_real_one(world: World) -> None:
    task = training(epochCount=3, batchSize=4, learningRate=0.001)
    world.create("number-generator-ncqqnysl74dt", display_name="number generator", tuning_task=task)
    world.advance(2)
    real = json.loads((FIXTURES / "operations.v1beta3.json").read_text(encoding="utf-8"))["get_while_creating"]
    model = world.ok("GET", "/v1beta3/tunedModels/number-generator-ncqqnysl74dt")
    times = {"createTime": "2026-01-01T00:00:00Z", "updateTime": "2026-01-01T00:00:00Z"}
    task = {**real["tuningTask"], "startTime": "2026-01-01T00:00:01Z"}
    assert model == {**real, **times, "tuningTask": task}


def test_a_model_becomes_active_without_anyone_looking(world: World) -> None:
    world.create()
    world.advance(DONE - 0.001)
    assert world.ok("GET", MODEL)["state"] == "CREATING"
    world.advance(0.001)
    model = world.ok("GET", MODEL)
    assert (model["state"], model["updateTime"]) == ("ACTIVE", "2026-01-01T00:00:33Z")
    task = model["tuningTask"]
    assert (task["startTime"], task["completeTime"]) == ("2026-01-01T00:00:01Z", "2026-01-01T00:00:33Z")
    assert [snapshot["step"] for snapshot in task["snapshots"]] == list(range(1, 24))
    assert "epoch" not in task["snapshots"][0]
    assert task["snapshots"][-1]["epoch"] == 3
    assert "trainingData" not in task


def test_a_failed_model_does_not_say_why(world: World) -> None:
    world.create(tuning_task=training(learningRate=2))
    world.advance(1000)
    model = world.ok("GET", MODEL)
    assert model["state"] == "FAILED"
    assert "completeTime" not in model["tuningTask"]
    assert not {"error", "status"} & model.keys()


def test_nothing_is_an_empty_object(world: World) -> None:
    assert page_of(world) == {}


@pytest.mark.parametrize(("size", "pages"), [(None, [10, 3]), (0, [10, 3]), (1, [1] * 13), (5, [5, 5, 3]), (13, [13])])
def test_lists_come_in_pages_oldest_first(world: World, size: int | None, pages: list[int]) -> None:
    names = [f"m{number}" for number in range(13)]
    for name in names:
        world.create(name)
    seen: list[list[str]] = []
    query: dict[str, Any] = {} if size is None else {"page_size": size}
    while not seen or "pageToken" in query:
        page = page_of(world, **query)
        seen.append([model["name"].removeprefix("tunedModels/") for model in page["tunedModels"]])
        token = page.get("nextPageToken")
        query = {**query, "pageToken": token} if token else {}
    assert [len(page) for page in seen] == pages
    assert [name for page in seen for name in page] == names


def test_a_page_goes_on_where_the_last_one_ended_even_when_that_model_is_gone(world: World) -> None:
    for name in ("a", "b", "c"):
        world.create(name)
    token = page_of(world, pageSize=2)["nextPageToken"]
    world.ok("DELETE", "/v1beta3/tunedModels/b")
    assert world.names(pageToken=token) == ["c"]


def test_a_page_after_the_last_model_is_empty(world: World) -> None:
    world.create("a")
    world.create("b")
    token = page_of(world, pageSize=1)["nextPageToken"]
    world.ok("DELETE", "/v1beta3/tunedModels/b")
    assert page_of(world, pageToken=token) == {}


def test_larger_pages_than_the_service_gives_are_cut(tmp_path: Any) -> None:
    models = [{"name": f"tunedModels/m{number}"} for number in range(1001)]
    (tmp_path / "world.json").write_text(json.dumps({"tunedModels": models}), encoding="utf-8")
    world = World(world=tmp_path / "world.json")
    page = page_of(world, pageSize=5000)
    assert len(page["tunedModels"]) == 1000
    assert world.names(pageToken=page["nextPageToken"]) == ["m1000"]


@each_row(
    ("query", "message"),
    [
        ({"pageSize": -1}, "* ListRequest.page_size: must not be negative, but is -1"),
        ({"pageSize": "x"}, "Invalid value at 'page_size' (TYPE_INT32), \"x\""),
        ({"pageToken": "x"}, '* ListRequest.page_token: "x" is not a token of this service'),
        ({"pageToken": "YWZ0ZXI6eA=="}, '* ListRequest.page_token: "YWZ0ZXI6eA==" is not a token of this service'),
        (
            {"filter": "owner:me"},
            (
                'Invalid JSON payload received. Unknown name "filter": Cannot bind query parameter. '
                "Field 'filter' could not be found in request message."
            ),
        ),
        (
            {"fields": "tunedModels(foo)"},
            (
                "Request contains an invalid argument. "
                "Error expanding 'fields' parameter. Cannot find matching fields for path 'foo'."
            ),
        ),
    ],
)
def test_a_bad_list_request_is_refused(world: World, query: dict[str, Any], message: str) -> None:
    assert world.refused("GET", "/v1beta3/tunedModels", **query) == (400, "INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", ["a", "b"]),
        ("owner:me", ["a", "b"]),
        ("readers:me writers:me", ["a", "b"]),
        ("BIRDS", ["b"]),
        ('"sings of birds" owner:me', ["b"]),
        ("100%", []),
    ],
)
def test_v1beta_lists_can_be_filtered(world: World, asked: str, found: list[str]) -> None:
    world.create("a", "v1beta", display_name="Tunes")
    world.create("b", "v1beta", display_name="Tunes", description="Sings of birds.")
    assert world.names("v1beta", filter=asked) == found


def test_an_unknown_filter_is_refused(world: World) -> None:
    assert world.refused("GET", "/v1beta/tunedModels", filter="readers:everyone")[2] == (
        '* ListTunedModelsRequest.filter: "readers:everyone" is not supported by this service; '
        "use words or owner:me, readers:me, writers:me"
    )


def test_partial_lists_hold_what_was_asked_for(world: World) -> None:
    world.create("a")
    world.create("b")
    world.advance(DONE)
    page = page_of(world, pageSize=1, fields="nextPageToken,tunedModels(name,state,tuning_task/hyperparameters)")
    assert page["nextPageToken"]
    assert page["tunedModels"] == [
        {
            "name": "tunedModels/a",
            "state": "ACTIVE",
            "tuningTask": {"hyperparameters": {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}},
        }
    ]
    curve = page_of(world, **{"$fields": "tunedModels/tuningTask/snapshots/step"})["tunedModels"][0]
    assert curve == {"tuningTask": {"snapshots": [{"step": step} for step in range(1, 24)]}}


@pytest.mark.parametrize(
    "query", ["$alt=json;enum-encoding=int", "%24alt=json%3Benum-encoding%3Dint", "$alt=json%3Benum-encoding=int"]
)
def test_enums_are_integers_for_who_asks(world: World, query: str) -> None:
    world.create()
    assert world.ok("GET", f"{MODEL}?{query}")["state"] == 1
    assert world.ok("GET", f"{MODEL}?alt=json")["state"] == "CREATING"
    assert world.ok("GET", f"/v1beta3/tunedModels?{query}")["tunedModels"][0]["state"] == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_not_there_is_not_found(world: World, method: str) -> None:
    assert world.refused(method, MODEL) == (404, "NOT_FOUND", "Tuned model tunedModels/m does not exist.")


def test_a_deleted_model_is_gone_with_its_operation_and_its_id_is_free(world: World) -> None:
    operation = world.create()["name"]
    assert world.ok("DELETE", MODEL) == {}
    assert world.refused("GET", MODEL)[0] == 404
    assert world.refused("GET", f"/v1/{operation}") == (
        404,
        "NOT_FOUND",
        "Tuned model tunedModels/m does not exist.",
    )
    world.advance(5)
    world.create()
    assert world.ok("GET", MODEL)["createTime"] == "2026-01-01T00:00:05Z"


def test_a_patch_sets_what_its_mask_names_and_nothing_else(world: World) -> None:
    world.create(description="old", temperature=0.1)
    world.advance(DONE)
    before = world.ok("GET", MODEL)
    world.advance(7)
    body = {"display_name": "new", "description": "new", "temperature": 0, "topP": 0.5, "topK": 3}
    patched = world.ok("PATCH", MODEL, body, updateMask="display_name,temperature,topP")
    changed = {"displayName": "new", "temperature": 0, "topP": 0.5, "updateTime": "2026-01-01T00:00:40Z"}
    assert patched == {**before, **changed}
    assert world.ok("GET", MODEL) == patched


def test_a_masked_field_that_the_body_lacks_goes_back_to_its_default(world: World) -> None:
    world.create(description="old", temperature=0.1)
    patched = world.ok("PATCH", MODEL, {}, update_mask="description,temperature")
    assert patched["temperature"] == 0.7
    assert "description" not in patched


def test_a_patch_while_training_does_not_hide_its_end(world: World) -> None:
    world.create()
    world.advance(20)
    assert world.ok("PATCH", MODEL, {"description": "x"}, updateMask="description")["updateTime"].endswith("00:20Z")
    world.advance(20)
    assert world.ok("GET", MODEL)["updateTime"] == "2026-01-01T00:00:33Z"


def test_a_whole_object_can_be_sent_back_with_its_output_and_integer_enums(world: World) -> None:
    world.create()
    world.advance(DONE)
    whole = world.ok("GET", f"{MODEL}?$alt=json;enum-encoding=int")
    patched = world.ok("PATCH", MODEL, {**whole, "description": "new", "state": 3}, updateMask="description")
    assert (patched["description"], patched["state"]) == ("new", "ACTIVE")


def test_v1beta_patches_reader_projects(world: World) -> None:
    world.create("m", "v1beta")
    model = "/v1beta/tunedModels/m"
    patched = world.ok("PATCH", model, {"readerProjectNumbers": [12, "34"]}, updateMask="reader_project_numbers")
    assert patched["readerProjectNumbers"] == ["12", "34"]
    assert "readerProjectNumbers" not in world.ok("GET", MODEL)
    assert "readerProjectNumbers" not in world.ok("PATCH", model, {}, updateMask="readerProjectNumbers")


def test_v1beta_creates_a_model_that_projects_read(world: World) -> None:
    world.create("m", "v1beta", reader_project_numbers=["9007199254740993", 7])
    numbers = ["9007199254740993", "7"]
    assert world.ok("GET", "/v1beta/tunedModels/m")["readerProjectNumbers"] == numbers
    world.ok("PATCH", MODEL, {"description": "x"}, updateMask="description")
    part = page_of(world, "v1beta", fields="tunedModels(readerProjectNumbers)")
    assert part == {"tunedModels": [{"readerProjectNumbers": numbers}]}


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("my-project", "Invalid value at 'tuned_model.reader_project_numbers[0]' (TYPE_INT64), \"my-project\""),
        (2**63, "Invalid value at 'tuned_model.reader_project_numbers[0]' (TYPE_INT64), 9223372036854775808"),
    ],
)
def test_what_is_no_number_of_a_project_is_refused(world: World, number: Any, message: str) -> None:
    world.create("m", "v1beta")
    body = {"readerProjectNumbers": [number]}
    refused = world.refused("PATCH", "/v1beta/tunedModels/m", body, updateMask="readerProjectNumbers")
    assert refused == (400, "INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    ("query", "body", "message"),
    [
        ({}, {}, "* UpdateTunedModelRequest.update_mask: is required"),
        ({"updateMask": " , "}, {}, "* UpdateTunedModelRequest.update_mask: is required"),
        ({"updateMask": "baseModel"}, {}, '* UpdateTunedModelRequest.update_mask: "baseModel" is immutable'),
        (
            {"updateMask": "tuning_task.hyperparameters,foo,description"},
            {},
            (
                '* UpdateTunedModelRequest.update_mask: "tuning_task.hyperparameters" is immutable\n'
                '* UpdateTunedModelRequest.update_mask: "foo" is not a field of a tuned model'
            ),
        ),
        ({"updateMask": "*"}, {}, '* UpdateTunedModelRequest.update_mask: "*" is not a field of a tuned model'),
        (
            {"updateMask": "readerProjectNumbers"},
            {},
            '* UpdateTunedModelRequest.update_mask: "readerProjectNumbers" is not a field of a tuned model',
        ),
        (
            {"updateMask": "temperature,topK"},
            {"temperature": 1.5, "topK": 0},
            (
                "* UpdateTunedModelRequest.tuned_model.temperature: must be between 0 and 1, but is 1.5\n"
                "* UpdateTunedModelRequest.tuned_model.top_k: must be at least 1, but is 0"
            ),
        ),
        (
            {"updateMask": "description"},
            {"foo": 1},
            "Invalid JSON payload received. Unknown name \"foo\" at 'tuned_model': Cannot find field.",
        ),
    ],
)
def test_a_bad_patch_is_refused_and_changes_nothing(
    world: World, query: dict[str, str], body: dict[str, Any], message: str
) -> None:
    world.create()
    before = world.ok("GET", MODEL)
    assert world.refused("PATCH", MODEL, body, **query) == (400, "INVALID_ARGUMENT", message)
    assert world.ok("GET", MODEL) == before


def test_a_patch_of_nothing_is_not_found(world: World) -> None:
    assert world.refused("PATCH", MODEL, {}, updateMask="description")[0] == 404


def test_an_operation_tells_what_the_real_one_tells(world: World) -> None:
    real = json.loads((FIXTURES / "operations.v1beta3.json").read_text(encoding="utf-8"))["create_response_batch2"]
    operation = world.ok("POST", "/v1beta3/tunedModels", REQUEST, tunedModelId="number-generator-model-q2d0uism5ivd")
    assert operation == {**real, "name": operation["name"]}
    assert operation["name"].rpartition("/")[0] == real["name"].rpartition("/")[0]


@pytest.mark.parametrize("version", ["v1", "v1beta3"])
def test_an_operation_goes_through_its_training(world: World, version: str) -> None:
    name = f"/{version}/{world.create()['name']}"
    world.advance(9 + 8.5)
    halfway = world.ok("GET", name)
    metadata = halfway["metadata"]
    assert (metadata["totalSteps"], metadata["completedSteps"], metadata["completedPercent"]) == (23, 8, 34.782608)
    assert len(metadata["snapshots"]) == 8
    assert "done" not in halfway
    world.advance(100)
    done = world.ok("GET", name)
    assert (done["done"], done["metadata"]["completedPercent"]) == (True, 100)
    kind = "type.googleapis.com/google.ai.generativelanguage.v1beta3.TunedModel"
    assert done["response"] == {"@type": kind, **world.ok("GET", MODEL)}


def test_an_operation_alone_tells_why_a_training_failed(world: World) -> None:
    name = world.create(tuning_task=training(epochCount=3, batchSize=2, learningRate=2))["name"]
    world.advance(1000)
    operation = world.ok("GET", f"/v1beta3/{name}")
    assert operation["done"] is True
    assert "response" not in operation
    assert operation["metadata"]["completedSteps"] == 5
    assert operation["error"] == {
        "code": 3,
        "message": "Tuning failed: the mean loss is not a number at step 6 of 23. "
        "The effective learning rate 2 is too high; lower it, or its multiplier, and tune again. (simulated training)",
    }


def test_an_operation_speaks_the_version_it_is_read_in_and_v1_that_of_its_creation(world: World) -> None:
    name = world.create("m", "v1beta", tuning_task=training(learningRateMultiplier=2))["name"]
    world.advance(1000)
    kinds = {
        version: world.ok("GET", f"/{version}/{name}")["response"]["@type"].split(".")[-2]
        for version in ("v1beta3", "v1beta")
    }
    assert kinds == {"v1beta3": "v1beta3", "v1beta": "v1beta"}
    response = world.send("GET", f"/v1/{name}").json()["response"]
    assert response["@type"].split(".")[-2] == "v1beta"
    assert response["tuningTask"]["hyperparameters"]["learningRateMultiplier"] == 2


def test_an_operation_can_be_read_in_part(world: World) -> None:
    name = world.create()["name"]
    world.advance(1000)
    part = world.send("GET", f"/v1beta3/{name}", fields="done,metadata(completedSteps),response/state")
    assert part.json() == {"done": True, "metadata": {"completedSteps": 23}, "response": {"state": "ACTIVE"}}


def test_an_unknown_operation_is_not_found(world: World) -> None:
    world.create()
    assert world.refused("GET", f"{MODEL}/operations/x") == (
        404,
        "NOT_FOUND",
        "Requested entity was not found: tunedModels/m/operations/x",
    )


def test_the_pace_of_a_training_is_that_of_its_creation(tmp_path: Any) -> None:
    World(tmp_path / "store", pace=TrainingPace(step_seconds=1, overhead_seconds=10)).create()
    later = World(tmp_path / "store", pace=TrainingPace(step_seconds=1000, overhead_seconds=0))
    later.advance(DONE)
    assert later.ok("GET", MODEL)["state"] == "ACTIVE"


def test_v1_answers_as_v1beta_does(world: World) -> None:
    created = world.ok("POST", "/v1/tunedModels", {**REQUEST, "base_model": BASE_MODELS["v1beta"]}, tunedModelId="new")
    assert (
        created["metadata"]["@type"]
        == "type.googleapis.com/google.ai.generativelanguage.v1beta.CreateTunedModelMetadata"
    )
    assert world.ok("GET", "/v1/tunedModels/new") == world.ok("GET", "/v1beta/tunedModels/new")
    assert world.ok("GET", "/v1/tunedModels") == world.ok("GET", "/v1beta/tunedModels")


def test_a_patch_without_a_mask_sets_the_fields_of_its_body_on_v1beta(world: World) -> None:
    world.create("new", version="v1beta", description="before", temperature=0.5)
    patched = world.ok("PATCH", "/v1beta/tunedModels/new", {"description": "after", "baseModel": "models/other"})
    assert (patched["description"], patched["temperature"]) == ("after", 0.5)
    assert patched["baseModel"] == BASE_MODELS["v1beta"]
