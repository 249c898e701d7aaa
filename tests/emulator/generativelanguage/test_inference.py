from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator.generativelanguage.inference import BLOCKED_ANSWER, BLOCKED_PROMPT, NO_ANSWER
from support.cases import each_row
from support.emulator_world import DONE, FIXTURES, World, examples, judge

TEXT = "/v1beta3/tunedModels/m:generateText"
CONTENT = "/v1beta/tunedModels/m:generateContent"
UNTRAINED = "(simulated answer: this model has no training examples)"


@pytest.fixture
def world() -> World:
    world = World()
    world.create()
    world.advance(DONE)
    return world


def said(world: World, text: str, **wishes: Any) -> list[str]:
    response = world.ok("POST", TEXT, {"prompt": {"text": text}, **wishes})
    return [candidate["output"] for candidate in response["candidates"]]


def asked(text: str, **config: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}


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
    assert set(said(world, "seventeen", candidateCount=8)) == {"eight"}
    world.ok("PATCH", "/v1beta3/tunedModels/m", {"topP": 1}, updateMask="topP,topK")
    assert len(set(said(world, "seventeen", candidateCount=8))) > 1


def test_temperature_and_choices_come_from_the_request(world: World) -> None:
    alike = {"text": "5", "candidateCount": 8, "temperature": 1}  # no input has anything in common with it
    for narrow in ({"temperature": 0}, {"topK": 1}, {"topP": 0}):
        assert set(said(world, **{**alike, **narrow})) == {"2"}
    assert len(set(said(world, **alike, topK=2, topP=1))) == 2
    assert len(set(said(world, **alike, topK=15, topP=0.1))) == 2
    assert len(set(said(world, **alike, topK=15, topP=1))) > 2


def test_a_seed_repeats_the_answers(world: World) -> None:
    body = asked("seventeen", temperature=2, topP=1, candidateCount=8, seed=3)
    assert world.ok("POST", CONTENT, body) == world.ok("POST", CONTENT, body)


def test_palm_answers_are_cut_and_stopped_without_a_word(world: World) -> None:
    exact = {"temperature": 0, "candidateCount": 1}
    assert said(world, "two hundred", **exact, maxOutputTokens=2) == ["two hundred"]
    assert said(world, "two hundred", **exact, stopSequences=["red", "one"]) == ["two hund"]


@pytest.mark.parametrize(
    ("config", "text", "finish", "told"),
    [
        ({}, "two hundred one", "STOP", 3),
        ({"maxOutputTokens": 3}, "two hundred one", "STOP", 3),
        ({"maxOutputTokens": 2}, "two hundred", "MAX_TOKENS", 2),
        ({"stopSequences": [" one"]}, "two hundred", "STOP", 2),
    ],
)
def test_gemini_answers_tell_why_they_end(world: World, config: Any, text: str, finish: str, told: int) -> None:
    answer = world.ok("POST", CONTENT, asked("two hundred", temperature=0, **config))
    content = {"parts": [{"text": text}], "role": "model"}
    assert answer["candidates"] == [{"index": 0, "content": content, "finishReason": finish}]
    assert answer["usageMetadata"] == {"promptTokenCount": 2, "candidatesTokenCount": told, "totalTokenCount": 2 + told}


@pytest.mark.parametrize("marker", [BLOCKED_PROMPT, BLOCKED_ANSWER])
def test_palm_filters_what_is_blocked(world: World, marker: str) -> None:
    assert world.ok("POST", TEXT, {"prompt": {"text": f"seven {marker}"}, "candidateCount": 2}) == {
        "filters": [
            {"reason": "SAFETY", "message": "The prompt asks the embedded service to simulate a blocked answer."}
        ]
    }


def test_gemini_blocks_a_prompt(world: World) -> None:
    assert world.ok("POST", CONTENT, asked(f"seven {BLOCKED_PROMPT}")) == {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 2, "totalTokenCount": 2},
        "modelVersion": "tunedModels/m",
    }


@pytest.mark.parametrize(("marker", "finish"), [(BLOCKED_ANSWER, "SAFETY"), (NO_ANSWER, "OTHER")])
def test_gemini_withholds_an_answer(world: World, marker: str, finish: str) -> None:
    answer = world.ok("POST", CONTENT, asked(f"seven {marker}", candidateCount=2))
    assert answer["candidates"] == [{"index": 0, "finishReason": finish}, {"index": 1, "finishReason": finish}]
    assert "promptFeedback" not in answer


def test_palm_may_answer_nothing(world: World) -> None:
    assert world.ok("POST", TEXT, {"prompt": {"text": NO_ANSWER}}) == {}


def test_the_markers_are_those_that_the_documentation_tells() -> None:
    page = (Path(__file__).parents[3] / "docs" / "emulator.md").read_text(encoding="utf-8")
    assert all(f"`{marker}`" in page for marker in (BLOCKED_PROMPT, BLOCKED_ANSWER, NO_ANSWER))


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
        f"Tuned model tunedModels/other is {state}; only an ACTIVE one accepts prompts.",
    )


def test_a_model_that_is_not_there_cannot_answer(world: World) -> None:
    assert world.refused("POST", "/v1beta3/tunedModels/x:generateText", {"prompt": {"text": "1"}}) == (
        404,
        "NOT_FOUND",
        "Tuned model tunedModels/x does not exist.",
    )


@each_row(
    ("path", "body", "message"),
    [
        (TEXT, {}, "* GenerateTextRequest.prompt.text: must not be empty"),
        (CONTENT, {}, "* GenerateContentRequest.contents: must not be empty"),
        (CONTENT, {"contents": [{}]}, "* GenerateContentRequest.contents: must not be empty"),
        (
            TEXT,
            {"prompt": {"text": "1"}, "candidateCount": 9, "temperature": -1, "topK": 0, "topP": 1.5},
            (
                "* GenerateTextRequest.temperature: must be between 0 and 1, but is -1\n"
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
        (
            TEXT,
            {"prompt": {"text": "1"}, "temperature": 1.5, "maxOutputTokens": 0, "stopSequences": ["x"] * 6},
            (
                "* GenerateTextRequest.temperature: must be between 0 and 1, but is 1.5\n"
                "* GenerateTextRequest.max_output_tokens: must be at least 1, but is 0\n"
                "* GenerateTextRequest.stop_sequences: must have at most 5 entries, but is a list of 6"
            ),
        ),
        (
            CONTENT,
            asked("1", temperature=2.5, maxOutputTokens=-1),
            (
                "* GenerateContentRequest.generation_config.temperature: must be between 0 and 2, but is 2.5\n"
                "* GenerateContentRequest.generation_config.max_output_tokens: must be at least 1, but is -1"
            ),
        ),
        (TEXT, {"foo": 1}, 'Invalid JSON payload received. Unknown name "foo": Cannot find field.'),
    ],
)
def test_a_bad_request_is_refused(world: World, path: str, body: dict[str, Any], message: str) -> None:
    assert world.refused("POST", path, body) == (400, "INVALID_ARGUMENT", message)


def parts_of(world: World, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a stream, which are the same in both of its forms."""
    stream = path.replace(":generateContent", ":streamGenerateContent")
    listed = world.send("POST", stream, body)
    sent = world.send("POST", stream, body, alt="sse")
    assert sent.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, rest = sent.text.split("\r\n\r\n")
    assert rest == ""
    parts = [json.loads(event.removeprefix("data: ")) for event in events]
    assert parts == listed.json()
    for part in parts:
        judge("POST", path, json.dumps(part))
    return parts


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("seven", ["eight"]),
        ("two hundred", ["two", " hundred", " one"]),
        ("long", ["a b", " c d", " e f", " g h", " i j", " k"]),
        (BLOCKED_PROMPT, []),
        (BLOCKED_ANSWER, []),
    ],
)
def test_a_stream_has_the_text_in_parts_and_the_rest_at_its_end(world: World, prompt: str, texts: list[str]) -> None:
    pairs = ("seven", "eight"), ("two hundred", "two hundred one"), ("long", "a b c d e f g h i j k")
    world.create("n", version="v1beta", tuning_task=examples(*pairs))
    world.advance(1000)
    body = asked(prompt, temperature=0)
    path = CONTENT.replace("/m:", "/n:")
    whole = world.ok("POST", path, body)
    parts = parts_of(world, path, body)
    said = [part["candidates"][0]["content"]["parts"][0]["text"] for part in parts if texts]
    assert said == texts
    end = {"content": {"parts": [{"text": texts[-1]}], "role": "model"}} if texts else {}
    ended = [{**candidate, **end} for candidate in whole["candidates"]] if "candidates" in whole else None
    assert parts[-1] == {**whole, **({"candidates": ended} if ended else {})}
    assert all("usageMetadata" not in part and "finishReason" not in part["candidates"][0] for part in parts[:-1])


# legacy base models: models/text-bison-001, models/gemini-1.5-flash-001-tuning
def test_a_base_model_answers_before_anything_is_tuned() -> None:
    world = World()
    base = "/v1beta/models/gemini-1.5-flash-001-tuning"
    answer = world.ok("POST", f"{base}:generateContent", asked("seven"))
    assert answer["candidates"][0]["content"]["parts"][0]["text"] == UNTRAINED
    assert answer["modelVersion"] == base.removeprefix("/v1beta/")
    assert world.ok("POST", f"{base}:countTokens", {"contents": asked("one two")["contents"]}) == {"totalTokens": 2}
    text = {"prompt": {"text": "seven"}}
    assert world.ok("POST", "/v1beta3/models/text-bison-001:generateText", text)["candidates"] == [
        {"output": UNTRAINED}
    ]


@each_row(
    ("call", "body", "message"),
    [
        (
            "v1beta3/models/embedding-gecko-001:generateText",
            {"prompt": {"text": "x"}},
            "not supported for generateText",
        ),
        ("v1beta/models/text-embedding-004:generateContent", asked("x"), "not supported for generateContent"),
        ("v1beta/models/missing:generateContent", asked("x"), "models/missing is not found"),
        ("v1beta/models/missing:countTokens", {}, "models/missing is not found"),
    ],
)
def test_a_base_model_without_the_method_is_refused(call: str, body: dict[str, Any], message: str) -> None:
    status, code, told = World().refused("POST", f"/{call}", body)
    assert (status, code) == (404, "NOT_FOUND")
    assert message in told
