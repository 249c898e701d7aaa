from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.tokens import estimate_tokens
from reconciler.emulator.vertex.creation import CHECKED_LINES
from reconciler.providers.vertex.spec import SPEC as SPEC_OF_VERTEX
from support.cases import each_row
from support.emulator_vertex import DONE, NUMBERS, PARENT, URI, Vertex, line, lines, request
from support.google_clients import vertex

SPEC = "supervised_tuning_spec."
RATES = f"{SPEC}hyper_parameters"
FORM = "must have the form gs://bucket/object.jsonl"
JOBS = f"/v1/{PARENT}/tuningJobs"
OPEN = "qwen/qwen3@qwen3-8b"


@pytest.fixture
def world() -> Vertex:
    return Vertex()


def refused(world: Vertex, **changes: Any) -> str:
    status, code, message = world.refused("POST", JOBS, request(**changes))
    assert (status, code) == (400, "INVALID_ARGUMENT")
    return message.replace("* CreateTuningJobRequest.tuning_job.", "")


def fault(world: Vertex, **changes: Any) -> tuple[int, str]:
    """How the job ends that could not even begin to train."""
    created = world.tune(**changes)
    assert (created["state"], "error" in created) == ("JOB_STATE_PENDING", False)
    world.advance(11)
    job = world.job(created)
    assert (job["state"], "tunedModel" in job, "tuningDataStats" in job) == ("JOB_STATE_FAILED", False, False)
    assert (job["startTime"], job["endTime"]) < ("2026-01-01T00:00:11Z", "2026-01-01T00:00:11Z")
    return job["error"]["code"], job["error"]["message"]


@each_row(
    ("changes", "message"),
    [
        (
            {"tunedModelDisplayName": "x" * 129},
            "tuned_model_display_name: must have at most 128 characters, but is 129 characters long",
        ),
        ({"labels": {f"k{number}": "" for number in range(65)}}, "labels: must have at most 64 entries, but has 65"),
        ({"labels": {"Team": "x"}}, 'labels: the key must match [a-z][a-z0-9_-]{0,63}, but is "Team"'),
        ({"labels": {"1": "x"}}, 'labels: the key must match [a-z][a-z0-9_-]{0,63}, but is "1"'),
        ({"labels": {"team": "a/b"}}, 'labels: the value of team must match [a-z0-9_-]{0,64}, but is "a/b"'),
        (
            {"spec": {"trainingDatasetUri": "gs://data/numbers.csv"}},
            f'{SPEC}training_dataset_uri: {FORM}, but is "gs://data/numbers.csv"',
        ),
        (
            {"spec": {"validationDatasetUri": "numbers.jsonl"}},
            f'{SPEC}validation_dataset_uri: {FORM}, but is "numbers.jsonl"',
        ),
        ({"spec": {"trainingDatasetUri": None}}, "supervised_tuning_spec.training_dataset_uri: is required"),
        ({"parameters": {"epochCount": -1}}, f"{RATES}.epoch_count: must be between 1 and 100, but is -1"),
        ({"parameters": {"epochCount": "101"}}, f"{RATES}.epoch_count: must be between 1 and 100, but is 101"),
        (
            {"parameters": {"learningRateMultiplier": -0.5}},
            f"{RATES}.learning_rate_multiplier: must be greater than 0, but is -0.5",
        ),
        ({"baseModel": None}, "base_model: either base_model or pre_tuned_model is required"),
        (
            {"baseModel": "gemini-9-pro"},
            'Base model "gemini-9-pro" is not supported for tuning. Supported are: gemini-3.5-flash, ',
        ),
        (
            {"baseModel": "gemini-3.5-flash", "parameters": {"adapterSize": "ADAPTER_SIZE_THIRTY_TWO"}},
            "Adapter size 32 is not supported for the base model. Supported are: 1, 2, 4, 8, 16.",
        ),
        (
            {"baseModel": "gemini-3.5-flash", "encryptionSpec": {"kmsKeyName": "projects/p/locations/l/keyRings/r"}},
            "Customer-managed encryption keys are not supported for the base model.",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused(world: Vertex, changes: dict[str, Any], message: str) -> None:
    assert refused(world, **changes).startswith(message)
    assert world.jobs() == []


@each_row(
    ("changes", "message"),
    [
        ({"batchSize": 4}, "Unknown name \"batchSize\" at 'tuning_job': Cannot find field."),
        ({"parameters": {"batchSize": 4}}, f"Unknown name \"batchSize\" at 'tuning_job.{RATES}'"),
        (
            {"parameters": {"adapterSize": "ADAPTER_SIZE_THREE"}},
            f"Invalid value at 'tuning_job.{RATES}.adapter_size' (TYPE_ENUM)",
        ),
        ({"parameters": {"epochCount": "many"}}, 'epoch_count\' (TYPE_INT64), "many"'),
        ({"parameters": {"learningRateMultiplier": "NaN"}}, 'learning_rate_multiplier\' (TYPE_DOUBLE), "NaN"'),
        ({"labels": ["a"]}, "Invalid value at 'tuning_job.labels' (TYPE_MAP), [\"a\"]"),
        ({"labels": {"a": 1}}, "Invalid value at 'tuning_job.labels' (TYPE_MAP)"),
        (
            {"baseModel": "gemini-3.1-flash-lite", "preTunedModel": {"tunedModelName": "x"}},
            "oneof field 'source_model' is already set",
        ),
    ],
)
def test_what_does_not_fit_the_message_is_refused(world: Vertex, changes: dict[str, Any], message: str) -> None:
    assert message in refused(world, **changes)


def test_all_that_is_wrong_is_told_at_once(world: Vertex) -> None:
    body = request(labels={"A": "x"}, parameters={"epochCount": -1}, spec={"trainingDatasetUri": "x"})
    response = world.send("POST", JOBS, body).json()
    fields = [each["field"] for each in response["error"]["details"][0]["fieldViolations"]]
    assert fields == [
        "tuning_job.labels",
        "tuning_job.supervised_tuning_spec.training_dataset_uri",
        "tuning_job.supervised_tuning_spec.hyper_parameters.epoch_count",
    ]


def test_the_service_chooses_what_is_left_open(world: Vertex) -> None:
    created = world.tune(parameters={"epochCount": 0})
    assert created["supervisedTuningSpec"]["hyperParameters"]["epochCount"] == "5"


@pytest.mark.parametrize(("examples", "steps"), [(15, 4), (400, 100), (401, 51), (6000, 94)])
def test_batches_double_with_the_data_set(world: Vertex, examples: int, steps: int) -> None:
    world.put(URI, lines((str(number), "x") for number in range(examples)))
    created = world.tune(parameters={"epochCount": 1})
    world.advance(2)
    checked = min(examples, CHECKED_LINES)
    billable = sum(estimate_tokens(str(number), "x") for number in range(checked))
    assert world.job(created)["tuningDataStats"]["supervisedTuningDataStats"] == {
        "tuningDatasetExampleCount": str(examples),
        "totalBillableTokenCount": str(round(billable * examples / checked)),
        "tuningStepCount": str(steps),
    }


def test_the_batch_size_of_an_open_model_is_the_declared_one() -> None:
    world = Vertex(now=TODAY)
    world.put(URI, lines((str(number), "x") for number in range(16)))
    body = request(parameters={"epochCount": 3, "batchSize": 8}, baseModel=OPEN, outputUri="gs://data/out")
    created = world.ok("POST", f"/v1beta1/{PARENT}/tuningJobs", body)
    world.advance(2)
    stats = world.ok("GET", f"/v1beta1/{created['name']}")["tuningDataStats"]["supervisedTuningDataStats"]
    assert stats["tuningStepCount"] == "6"


def test_lines_are_counted_behind_those_that_are_read(world: Vertex) -> None:
    world.put(URI, lines([("a", "b")] * CHECKED_LINES) + b"not looked at\nno line end")
    created = world.tune()
    world.advance(2)
    stats = world.job(created)["tuningDataStats"]["supervisedTuningDataStats"]
    assert stats["tuningDatasetExampleCount"] == str(CHECKED_LINES + 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no examples"),
        (b"\n \n", "has no examples"),
        (b"{\n", "Line 1 of the data set {uri}: is not valid JSON: "),
        (b"\xff\n", "Line 1 of the data set {uri}: is not valid JSON: "),
        (b"[]\n", "Line 1 of the data set {uri}: must be a JSON object"),
        (b'{"textInput": "1", "output": "2"}\n', "must have contents, a list of turns"),
        (b'{"contents": ["1"]}', "contents[0] must be an object"),
        (b'{"contents": [{"role": "user", "parts": []}]}', "contents[0].parts must be a list that is not empty"),
        (b'{"contents": [{"role": "user", "parts": ["1"]}]}', "contents[0].parts[0] must be an object"),
        (b'{"contents": [{"role": "user", "parts": [{"text": 1}]}]}', "contents[0].parts[0].text must be a string"),
        (b'{"contents": [{"role": "system", "parts": [{"text": ""}]}]}', 'contents[0].role must be "user" or "model"'),
        (
            b'{"contents": [{"role": "user", "parts": [{"text": ""}]}]}',
            'contents must end with a turn of the role "model"',
        ),
        (b'{"contents": [{"role": "model", "parts": [{"text": ""}]}]}', 'contents must have a turn of the role "user"'),
        (
            line("1", "2").encode() + b"\n" + line("3", "4", systemInstruction="be brief").encode(),
            "Line 2 of the data set {uri}: systemInstruction must be an object",
        ),
        (b'"' + b"x" * 9_000_000, "is longer than 8388608 bytes"),
    ],
)
def test_a_data_set_of_another_form_fails_the_job(world: Vertex, content: bytes, reason: str) -> None:
    world.put(URI, content)
    code, message = fault(world)
    assert code == 3
    assert reason.replace("{uri}", URI) in message


def test_a_data_set_that_is_not_there_fails_the_job(world: Vertex) -> None:
    missing = "gs://data/missing.jsonl"
    message = f"The data set {missing} was not found: No such object: data/missing.jsonl"
    assert fault(world, spec={"trainingDatasetUri": missing}) == (5, message)


def test_the_validation_data_set_is_read_too(world: Vertex) -> None:
    missing = {"validationDatasetUri": "gs://data/missing.jsonl"}
    message = "The data set gs://data/missing.jsonl was not found: No such object: data/missing.jsonl"
    assert fault(world, spec=missing) == (5, message)


def test_a_large_validation_data_set_fails_the_job(world: Vertex) -> None:
    world.put("gs://data/v.jsonl", lines([("a", "b")] * 5001))
    message = "The validation data set gs://data/v.jsonl has 5001 examples, more than 5000."
    assert fault(world, spec={"validationDatasetUri": "gs://data/v.jsonl"}) == (3, message)


def test_what_was_read_is_kept(world: Vertex) -> None:
    job = world.tune()
    world.put(URI, lines([("one", "other")]))
    world.advance(DONE)
    endpoint = world.job(job)["tunedModel"]["endpoint"]
    body = {"contents": [{"role": "user", "parts": [{"text": "7"}]}], "generationConfig": {"temperature": 0}}
    answer = world.ok("POST", f"/v1/{endpoint}:generateContent", body)
    assert answer["candidates"][0]["content"]["parts"] == [{"text": dict(NUMBERS)["7"]}]


def test_a_tuned_model_is_tuned_further_from_one_of_its_checkpoints(world: Vertex) -> None:
    first = world.tune()
    world.advance(DONE)
    model = world.job(first)["tunedModel"]["model"]
    last = {"tunedModelName": model, "checkpointId": "3", "baseModel": "gemini-3.5-flash"}
    second = world.tune(preTunedModel={"tunedModelName": model})
    assert second["preTunedModel"] == last
    early = world.tune(preTunedModel={"tunedModelName": model.removesuffix("@1"), "checkpointId": "1"})
    assert early["preTunedModel"] == {**last, "tunedModelName": model.removesuffix("@1"), "checkpointId": "1"}
    world.advance(DONE)
    grandchild = world.job(second)["tunedModel"]["model"]
    assert world.tune(preTunedModel={"tunedModelName": grandchild})["preTunedModel"]["baseModel"] == "gemini-3.5-flash"
    wrong = refused(world, preTunedModel={"tunedModelName": model, "checkpointId": "4"})
    assert wrong == 'pre_tuned_model.checkpoint_id: must be one of 1, 2, 3, but is "4"'


@pytest.mark.parametrize("name", ["", f"{PARENT}/endpoints/1"])
def test_what_is_no_model_cannot_be_tuned(world: Vertex, name: str) -> None:
    message = f'pre_tuned_model.tuned_model_name: must be the name of a model, but is "{name}"'
    assert refused(world, preTunedModel={"tunedModelName": name}) == message


def test_a_model_that_is_not_there_cannot_be_tuned(world: Vertex) -> None:
    body = request(preTunedModel={"tunedModelName": f"{PARENT}/models/1@1"})
    expected = (404, "NOT_FOUND", f"Requested entity was not found: {PARENT}/models/1")
    assert world.refused("POST", JOBS, body) == expected


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", max_size=64)
keys = words.filter(lambda word: word[:1].isalpha())


@given(
    labels=st.dictionaries(keys, words, max_size=64),
    epochs=st.integers(1, 100),
    multiplier=st.floats(1e-6, 1e6),
    name=st.text(st.characters(codec="utf-8"), max_size=128),
)
def test_what_a_good_request_says_comes_back(labels: dict[str, str], epochs: int, multiplier: float, name: str) -> None:
    world = Vertex()
    body = request(
        labels=labels,
        tunedModelDisplayName=name,
        parameters={"epochCount": str(epochs), "learningRateMultiplier": multiplier},
    )
    ParseDict(body, vertex.TuningJob.pb()())
    told = world.ok("POST", JOBS, body)
    assert told.get("labels", {}) == labels
    assert told.get("tunedModelDisplayName", "") == name
    parameters = told["supervisedTuningSpec"]["hyperParameters"]
    assert (parameters["epochCount"], parameters["learningRateMultiplier"]) == (str(epochs), multiplier)
    assert world.jobs(filter=" AND ".join(f"labels.{key}={value}" for key, value in labels.items())) == [told["name"]]


names = st.sampled_from(
    [
        "baseModel",
        "pre_tuned_model",
        "tunedModelName",
        "supervisedTuningSpec",
        "training_dataset_uri",
        "hyperParameters",
        "epochCount",
        "learningRateMultiplier",
        "adapterSize",
        "labels",
        "tunedModelDisplayName",
        "state",
        "foo",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([URI, "gemini-3.1-flash-lite", ""])
inner = st.recursive(scalars, lambda deep: st.lists(deep, max_size=2) | st.dictionaries(names, deep, max_size=3))


@given(body=st.dictionaries(names, inner, max_size=4), good=st.booleans())
def test_no_body_breaks_the_service(body: dict[str, Any], *, good: bool) -> None:
    world = Vertex()
    status = world.send("POST", JOBS, {**request(), **body} if good else body).status_code
    assert status in {200, 400, 404}
    world.advance(1000)
    assert len(world.jobs()) == (status == 200)


TODAY = datetime(2026, 11, 30, tzinfo=UTC)
CATALOG = SPEC_OF_VERTEX.catalog()
TUNABLE = [name for name in CATALOG.tunable(TODAY.date()) if "/" not in name]
RETIRED = next(name for name, model in CATALOG.models.items() if model.is_retired(TODAY.date()))
SERVED = {"us-central1": "us", "europe-west4": "eu"}


def test_the_base_models_of_today_can_be_tuned_in_two_locations() -> None:
    assert TUNABLE == ["gemini-3.5-flash", "gemini-3.5-flash-lite", "gemini-3.1-flash-lite"]
    assert {CATALOG.models[name].locations for name in TUNABLE} == {tuple(sorted(SERVED))}


@each_row("location", SERVED)
@each_row("name", TUNABLE)
def test_a_model_of_today_is_tuned_in_its_location_and_served_around_it(name: str, location: str) -> None:
    world, parent = Vertex(now=TODAY), f"projects/demo/locations/{location}"
    created = world.tune(parent=parent, baseModel=name)
    world.advance(1000)
    made = world.job(created)["tunedModel"]
    around = f"projects/demo/locations/{SERVED[location]}"
    assert made["model"].startswith(f"{parent}/models/")
    assert {each["endpoint"].rpartition("/")[0] for each in made["checkpoints"]} == {f"{around}/endpoints"}
    listed = world.ok("GET", f"/v1/{around}/endpoints")["endpoints"]
    assert made["endpoint"] in [endpoint["name"] for endpoint in listed]
    assert "endpoints" not in world.ok("GET", f"/v1/{parent}/endpoints")
    body = {"contents": [{"role": "user", "parts": [{"text": "7"}]}], "generationConfig": {"temperature": 0}}
    answer = world.ok("POST", f"/v1/{made['endpoint']}:generateContent", body)
    assert answer["candidates"][0]["content"]["parts"][0]["text"] == "8"
    child = world.tune(parent=parent, preTunedModel={"tunedModelName": made["model"]})
    assert child["preTunedModel"]["baseModel"] == name


@each_row("location", ["us-east1", "us", "eu", "global"])
@each_row("name", TUNABLE)
def test_a_model_is_not_tuned_elsewhere(name: str, location: str) -> None:
    path = f"/v1/projects/demo/locations/{location}/tuningJobs"
    assert Vertex(now=TODAY).refused("POST", path, request(baseModel=name)) == (
        400,
        "INVALID_ARGUMENT",
        f"Unsupported region for tuning: {location}. The base model can be tuned in europe-west4, us-central1.",
    )


@each_row("name", [RETIRED, "gemini-4-argon"])
def test_what_is_retired_or_not_simulated_is_refused(name: str) -> None:
    supported = ", ".join(TUNABLE)
    message = f'Base model "{name}" is not supported for tuning. Supported are: {supported}.'
    assert Vertex(now=TODAY).refused("POST", JOBS, request(baseModel=name)) == (400, "INVALID_ARGUMENT", message)


@each_row(
    ("job", "location", "description"),
    [
        ({"baseModel": OPEN}, "global", "output_uri: is required"),
        ({"baseModel": OPEN, "outputUri": "gs://data"}, "global", "output_uri: must have the form gs://bucket/folder"),
        ({"outputUri": "gs://data/out"}, "us-central1", "output_uri: is only available for open source models"),
        ({"customBaseModel": "gs://data/own"}, "us-central1", "custom_base_model: is only available for open source"),
        (
            {"baseModel": OPEN, "outputUri": "gs://data/out", "encryptionSpec": {"kmsKeyName": "k"}},
            "global",
            "Customer-managed encryption keys are not supported in the location global.",
        ),
        ({}, "global", "Unsupported region for tuning: global"),
    ],
)
def test_open_models_have_rules_of_their_own(job: dict[str, Any], location: str, description: str) -> None:
    path = f"/v1beta1/projects/demo/locations/{location}/tuningJobs"
    status, _, message = Vertex(now=TODAY).refused("POST", path, request(**job))
    assert status == 400
    assert description in message
