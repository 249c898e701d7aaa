from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.emulator.inference import Sampling, answer
from support.emulator_world import DONE, FIXTURES, World, examples

TEXT = "/v1beta3/tunedModels/m:generateText"
CONTENT = "/v1beta/tunedModels/m:generateContent"
NUMBERS = [("1", "2"), ("seven", "eight"), ("seventy", "seventy one"), ("two hundred", "two hundred one")]
UNTRAINED = "(simulated answer: this model came without training examples)"


@pytest.fixture
def world() -> World:
    world = World()
    world.create()
    world.advance(DONE)
    return world


def said(world: World, text: str, **wishes: Any) -> list[str]:
    response = world.ok("POST", TEXT, {"prompt": {"text": text}, **wishes})
    return [candidate["output"] for candidate in response["candidates"]]


def sample(prompt: str, sampling: Sampling, seed: int = 1) -> list[str]:
    rows = [{"textInput": given_input, "output": output} for given_input, output in NUMBERS]
    return answer(rows, prompt, sampling, random.Random(seed))  # noqa: S311 - no secret


@pytest.mark.parametrize(
    ("prompt", "output"), [("seven", "eight"), ("1,000", "1,001"), ("two hundred ", "two hundred one")]
)
def test_the_most_similar_example_answers(world: World, prompt: str, output: str) -> None:
    assert said(world, prompt, temperature=0) == [output]


def test_generate_content_answers_the_last_turn(world: World) -> None:
    contents = [
        {"role": "user", "parts": [{"text": "one"}]},
        {"role": "model", "parts": [{"text": "two"}]},
        {"role": "user", "parts": [{"text": "se"}, {"text": "ven"}]},
    ]
    body = {"model": "tunedModels/m", "contents": contents, "generationConfig": {"temperature": 0, "candidateCount": 2}}
    candidate = {"content": {"parts": [{"text": "eight"}], "role": "model"}, "finishReason": "STOP"}
    assert world.ok("POST", CONTENT, body) == {
        "candidates": [{"index": 0, **candidate}, {"index": 1, **candidate}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
        "modelVersion": "tunedModels/m",
    }


def test_the_sampling_of_the_model_counts_where_the_request_leaves_it_open(world: World) -> None:
    world.ok("PATCH", "/v1beta3/tunedModels/m", {"temperature": 1, "topK": 1}, updateMask="temperature,topK")
    assert set(said(world, "seven", candidateCount=8)) == {"eight"}
    assert len(set(said(world, "seven", candidateCount=8, temperature=2, topK=15, topP=1))) > 1


@settings(deadline=None)
@given(st.integers())
def test_no_temperature_or_one_choice_gives_the_best_answer_always(seed: int) -> None:
    best = ["eight"] * 5
    assert sample("seven", Sampling(0, 1, 40, 5), seed) == best
    assert sample("seven", Sampling(2, 1, 1, 5), seed) == best
    assert sample("seven", Sampling(2, 0, 40, 5), seed) == best


def test_equal_randomness_gives_equal_answers() -> None:
    wild = Sampling(2, 1, 40, 20)
    assert sample("seven", wild) == sample("seven", wild)
    assert len(set(sample("seven", wild))) > 1


def test_heat_makes_other_answers_likelier() -> None:
    misses = [sum(said != "eight" for said in sample("seven", Sampling(heat, 1, 40, 1000))) for heat in (0.2, 1, 2)]
    assert misses == sorted(misses)
    assert misses[0] < misses[-1]


def test_only_the_most_similar_examples_are_drawn() -> None:
    assert set(sample("seven", Sampling(100, 1, 2, 200))) == {"eight", "seventy one"}


def test_an_exact_example_answers_however_many_there_are() -> None:
    rows = [{"textInput": str(number), "output": str(number + 1)} for number in range(2000)]
    said = answer(rows, "1999", Sampling(0, 1, 40, 1), random.Random(1))  # noqa: S311 - no secret
    assert said == ["2000"]


def test_long_texts_are_compared_at_once() -> None:
    rows = [{"textInput": f"{number} {'long ' * 7000}", "output": str(number)} for number in range(600)]
    said = answer(rows, f"77 {'long ' * 7000}!", Sampling(0, 1, 40, 1), random.Random(1))  # noqa: S311 - no secret
    assert said == ["77"]


def test_a_model_without_examples_says_so() -> None:
    world = World(world=FIXTURES / "list_tuned_models.v1beta3.json")
    path = "/v1beta3/tunedModels/my-display-name-81-9wpmc1m920vq:generateText"
    response = world.ok("POST", path, {"prompt": {"text": "1"}, "candidateCount": 2})
    assert response == {"candidates": [{"output": UNTRAINED}] * 2}


@pytest.mark.parametrize(("rate", "state"), [(0.001, "CREATING"), (2, "FAILED")])
def test_only_an_active_model_answers(world: World, rate: float, state: str) -> None:
    task = {**examples(("1", "2")), "hyperparameters": {"learningRate": rate, "epochCount": 10_000}}
    world.create("other", tuning_task=task)
    world.advance(60)
    assert world.refused("POST", "/v1beta3/tunedModels/other:generateText", {"prompt": {"text": "1"}}) == (
        400,
        "FAILED_PRECONDITION",
        f"Tuned model tunedModels/other is {state}; only an ACTIVE one can answer.",
    )


def test_a_model_that_is_not_there_cannot_answer(world: World) -> None:
    assert world.refused("POST", "/v1beta3/tunedModels/x:generateText", {"prompt": {"text": "1"}}) == (
        404,
        "NOT_FOUND",
        "Tuned model tunedModels/x does not exist.",
    )


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (TEXT, {}, "* GenerateTextRequest.prompt.text: must not be empty"),
        (CONTENT, {}, "* GenerateContentRequest.contents: must not be empty"),
        (CONTENT, {"contents": [{}]}, "* GenerateContentRequest.contents: must not be empty"),
        (
            TEXT,
            {"prompt": {"text": "1"}, "candidateCount": 9, "temperature": -1, "topK": 0, "topP": 1.5},
            (
                "* GenerateTextRequest.temperature: must be between 0 and 2, but is -1\n"
                "* GenerateTextRequest.top_p: must be between 0 and 1, but is 1.5\n"
                "* GenerateTextRequest.top_k: must be at least 1, but is 0\n"
                "* GenerateTextRequest.candidate_count: must be between 1 and 8, but is 9"
            ),
        ),
        (
            CONTENT,
            {"contents": [{"parts": [{"text": "1"}]}], "generationConfig": {"candidateCount": 0}},
            "* GenerateContentRequest.generation_config.candidate_count: must be between 1 and 8, but is 0",
        ),
        (TEXT, {"foo": 1}, 'Invalid JSON payload received. Unknown name "foo": Cannot find field.'),
    ],
)
def test_a_bad_request_is_refused(world: World, path: str, body: dict[str, Any], message: str) -> None:
    assert world.refused("POST", path, body) == (400, "INVALID_ARGUMENT", message)
