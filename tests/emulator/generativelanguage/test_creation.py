from __future__ import annotations

import re
from typing import Any

import pytest

from support.cases import each_row
from support.emulator_world import BASE_MODELS, DONE, REQUEST, World, examples, training

CREATE = "/v1beta3/tunedModels"
DATA = "tuned_model.tuning_task.training_data.examples.examples"


@pytest.fixture
def world() -> World:
    return World()


def refused(world: World, chosen: str = "m", **changes: Any) -> str:
    status, code, message = world.refused("POST", CREATE, {**REQUEST, **changes}, tunedModelId=chosen)
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert world.names() == []
    return message


@pytest.mark.parametrize(
    ("version", "declared", "effective", "steps"),
    [
        ("v1beta3", {}, {"epochCount": 10, "batchSize": 16, "learningRate": 0.0002}, 10),
        ("v1beta3", {"batchSize": 4}, {"epochCount": 10, "batchSize": 4, "learningRate": 0.0002}, 38),
        ("v1beta", {}, {"epochCount": 5, "batchSize": 4, "learningRate": 0.001}, 19),
        ("v1beta", {"learningRate": 0.1}, {"epochCount": 5, "batchSize": 4, "learningRate": 0.1}, 19),
        (
            "v1beta",
            {"learningRateMultiplier": 0.5},
            {"epochCount": 5, "batchSize": 4, "learningRateMultiplier": 0.5},
            19,
        ),
    ],
)
def test_what_is_left_out_is_chosen_at_once(
    world: World, version: str, declared: dict[str, Any], effective: dict[str, Any], steps: int
) -> None:
    operation = world.create("m", version, tuning_task=training(**declared))
    assert operation["metadata"]["totalSteps"] == steps
    model = world.ok("GET", f"/{version}/tunedModels/m")
    assert model["state"] == "CREATING"
    assert model["tuningTask"] == {"hyperparameters": effective}


@pytest.mark.parametrize(("version", "sampling"), [("v1beta3", (0.7, 0.95, 40)), ("v1beta", (1, 0.95, 64))])
def test_sampling_is_that_of_the_base_model_where_it_is_left_out(
    world: World, version: str, sampling: tuple[float, float, int]
) -> None:
    world.create("plain", version)
    world.create("chosen", version, temperature=0, topK=3)
    plain, chosen = (world.ok("GET", f"/{version}/tunedModels/{name}") for name in ("plain", "chosen"))
    assert (plain["temperature"], plain["topP"], plain["topK"]) == sampling
    assert (chosen["temperature"], chosen["topP"], chosen["topK"]) == (0, sampling[1], 3)


def test_floats_come_back_as_32_bit_floats(world: World) -> None:
    world.create(temperature=0.123456789, tuning_task=training(learningRate=0.00012345678901))
    model = world.ok("GET", f"{CREATE}/m")
    assert model["temperature"] == 0.12345679
    assert model["tuningTask"]["hyperparameters"]["learningRate"] == 0.00012345679


def test_a_request_may_be_spelled_in_any_way_that_proto_json_allows(world: World) -> None:
    body = {
        "name": "tunedModels/ignored",
        "state": "ACTIVE",
        "displayName": "m",
        "description": None,
        "base_model": BASE_MODELS["v1beta3"],
        "topK": "7",
        "tuningTask": training(epoch_count=3.0, batchSize="2", learning_rate="0.001"),
    }
    world.ok("POST", CREATE, body, tuned_model_id="m")
    model = world.ok("GET", f"{CREATE}/m")
    assert (model["name"], model["state"], model["topK"]) == ("tunedModels/m", "CREATING", 7)
    assert model["tuningTask"]["hyperparameters"] == {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}


@pytest.mark.parametrize(
    ("display_name", "stem"),
    [
        ("number generator model", "number-generator-model"),
        ("test_number_generator", "testnumbergenerator"),
        ("my display name 81", "my-display-name-81"),
        ("42 : Ünlü", "nl"),
        ("A name that is just as long as it may be", "a-name-that-is-just-as-long"),
        (None, "tuned-model"),
    ],
)
def test_without_an_id_one_is_made_of_the_display_name(world: World, display_name: str | None, stem: str) -> None:
    operation = world.ok("POST", CREATE, {**REQUEST, "display_name": display_name})
    made = operation["metadata"]["tunedModel"].removeprefix("tunedModels/")
    assert re.fullmatch(rf"{stem}-[a-z0-9]{{12}}", made)
    assert len(made) <= 40


def test_made_up_ids_differ(world: World) -> None:
    for _ in range(3):
        world.ok("POST", CREATE, REQUEST)
    assert len(set(world.names())) == 3


def test_a_taken_id_is_refused_and_nothing_is_overwritten(world: World) -> None:
    world.create(description="first")
    body = {**REQUEST, "description": "second"}
    assert world.refused("POST", CREATE, body, tunedModelId="m") == (
        409,
        "ALREADY_EXISTS",
        "Tuned model tunedModels/m already exists.",
    )
    assert world.ok("GET", f"{CREATE}/m")["description"] == "first"


@each_row("chosen", ["", "M", "1a", "-a", "a-", "a_b", "a" * 41, "a/b", "a\n"])
def test_an_id_that_breaks_the_pattern_is_refused(world: World, chosen: str) -> None:
    assert refused(world, chosen) == (
        "* CreateTunedModelRequest.tuned_model_id: must match [a-z]([a-z0-9-]{0,38}[a-z0-9])? "
        f'(at most 40 characters), but is "{chosen}"'
    )


@pytest.mark.parametrize("chosen", ["a", "a1", "a" * 40, "a-1"])
def test_an_id_that_keeps_the_pattern_is_taken(world: World, chosen: str) -> None:
    world.create(chosen)
    assert world.names() == [chosen]


@each_row(
    ("changes", "message"),
    [
        ({"display_name": "x" * 41}, "display_name: must have at most 40 characters, but is 41 characters long"),
        ({"temperature": 1.5}, "temperature: must be between 0 and 1, but is 1.5"),
        ({"temperature": -0.5}, "temperature: must be between 0 and 1, but is -0.5"),
        ({"topP": 2}, "top_p: must be between 0 and 1, but is 2"),
        ({"topK": 0}, "top_k: must be at least 1, but is 0"),
        (
            {"tuning_task": training(epochCount=0)},
            "tuning_task.hyperparameters.epoch_count: must be at least 1, but is 0",
        ),
        (
            {"tuning_task": training(batchSize=-1)},
            "tuning_task.hyperparameters.batch_size: must be at least 1, but is -1",
        ),
        (
            {"tuning_task": training(learningRate=0)},
            "tuning_task.hyperparameters.learning_rate: must be greater than 0, but is 0",
        ),
        (
            {"tuning_task": training(epochCount=2**31 - 1, batchSize=1)},
            "tuning_task.hyperparameters.epoch_count: makes 32212254705 steps, more than 2147483647",
        ),
        (
            {"base_model": "gemini-3.5-flash"},
            'base_model: must be the name of a base model in the form models/ID, but is "',
        ),
        ({"base_model": None}, 'base_model: must be the name of a base model in the form models/ID, but is ""'),
    ],
)
def test_a_value_beyond_its_limit_is_refused(world: World, changes: dict[str, Any], message: str) -> None:
    assert refused(world, **changes).startswith(f"* CreateTunedModelRequest.tuned_model.{message}")


@each_row(
    ("task", "message"),
    [
        (None, f"{DATA}: must have at least one example"),
        (examples(), f"{DATA}: must have at least one example"),
        (examples(("a", "b"), ("", "b")), f"{DATA}[1].text_input: must not be empty"),
        (examples(("a", "")), f"{DATA}[0].output: must not be empty"),
        (
            examples(("a" * 40_001, "b")),
            f"{DATA}[0].text_input: must have at most 40000 characters, but is 40001 characters long",
        ),
        (
            examples(("a", "b" * 5_001)),
            f"{DATA}[0].output: must have at most 5000 characters, but is 5001 characters long",
        ),
        (
            examples(*[("ä" * 21_000, "b")] * 100),
            f"{DATA}: must not exceed 4194304 bytes, but has 4200100",
        ),
    ],
)
def test_a_data_set_beyond_the_limits_is_refused(world: World, task: Any, message: str) -> None:
    assert refused(world, tuning_task=task) == f"* CreateTunedModelRequest.{message}"


def test_the_largest_data_set_is_taken(world: World) -> None:
    world.create(tuning_task=examples(*[("a" * 40_000, "b" * 1_943)] * 100))
    assert world.names() == ["m"]


def test_everything_wrong_is_told_at_once_with_its_field(world: World) -> None:
    body = {**REQUEST, "temperature": 2, "topK": 0, "display_name": "x" * 50}
    error = world.send("POST", CREATE, body, tunedModelId="M").json()["error"]
    assert [violation["field"] for violation in error["details"][0]["fieldViolations"]] == [
        "tuned_model_id",
        "tuned_model.display_name",
        "tuned_model.temperature",
        "tuned_model.top_k",
    ]


def test_unknown_and_exclusive_fields_are_refused(world: World) -> None:
    assert refused(world, foo=1) == (
        "Invalid JSON payload received. Unknown name \"foo\" at 'tuned_model': Cannot find field."
    )
    assert refused(world, tuning_task=training(learningRateMultiplier=1)) == (
        'Invalid JSON payload received. Unknown name "learningRateMultiplier" '
        "at 'tuned_model.tuning_task.hyperparameters': Cannot find field."
    )
    assert refused(world, tunedModelSource={"tunedModel": "tunedModels/m"}) == (
        "Invalid value at 'tuned_model' (oneof), oneof field 'source_model' is already set. "
        "Cannot set 'tunedModelSource'"
    )
    both = {"base_model": BASE_MODELS["v1beta"], "tuningTask": training(learningRate=1, learningRateMultiplier=1)}
    assert world.refused("POST", "/v1beta/tunedModels", both)[2] == (
        "Invalid value at 'tuned_model.tuning_task.hyperparameters' (oneof), "
        "oneof field 'learning_rate_option' is already set. Cannot set 'learningRateMultiplier'"
    )


# legacy base models: models/text-bison-001, models/gemini-1.5-flash-001, models/gemini-1.5-flash-001-tuning
@each_row(
    ("version", "model", "status", "code"),
    [
        ("v1beta3", "models/text-bison-009", 404, "NOT_FOUND"),
        ("v1beta3", "models/gemini-1.5-flash-001-tuning", 404, "NOT_FOUND"),
        ("v1beta3", "models/chat-bison-001", 400, "INVALID_ARGUMENT"),
        ("v1beta", "models/text-bison-001", 404, "NOT_FOUND"),
        ("v1beta", "models/gemini-1.5-flash-001", 400, "INVALID_ARGUMENT"),
    ],
)
def test_a_base_model_must_be_there_and_tunable(world: World, version: str, model: str, status: int, code: str) -> None:
    assert world.refused("POST", f"/{version}/tunedModels", {**REQUEST, "base_model": model}) == (
        status,
        code,
        (
            f"{model} is not found for API version {version}, or is not supported for createTunedModel. "
            "Call ListModels to see the list of available models and their supported methods."
        ),
    )


def test_equal_content_trains_alike_and_other_content_otherwise(world: World) -> None:
    world.create("a")
    world.create("b", description="does not matter")
    world.create("c", tuning_task=training(epochCount=3, batchSize=2, learningRate=0.0011))
    world.create(
        "d", tuning_task={**examples(*[("1", "2")] * 15), "hyperparameters": {"epochCount": 3, "batchSize": 2}}
    )
    world.advance(DONE)

    def losses(name: str) -> list[float]:
        task = world.ok("GET", f"{CREATE}/{name}")["tuningTask"]
        return [snapshot["meanLoss"] for snapshot in task["snapshots"]]

    assert losses("a") == losses("b")
    assert losses("a") != losses("c")
    assert losses("a") != losses("d")


def test_a_multiplier_counts_from_the_default_rate(world: World) -> None:
    world.create("tame", "v1beta", tuning_task=training(learningRateMultiplier=999))
    world.create("wild", "v1beta", tuning_task=training(learningRateMultiplier=1000))
    world.advance(1000)
    states = [world.ok("GET", f"/v1beta/tunedModels/{name}")["state"] for name in ("tame", "wild")]
    assert states == ["ACTIVE", "FAILED"]
