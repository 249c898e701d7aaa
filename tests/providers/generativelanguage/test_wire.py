from __future__ import annotations

import asyncio
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from starlette.responses import Response

from reconciler.domain.errors import ServiceError
from reconciler.domain.identity import with_mark
from reconciler.domain.model import Failure, RemoteModel, Sampling, Snapshot, Source, State, Update
from reconciler.providers.generativelanguage import wire
from reconciler.providers.google.errors import read_failure, read_integer
from support.cases import each_row
from support.google_clients import gemini, palm
from support.provider_samples import EXAMPLES, generation
from support.provider_service import Time, provider_of, script

FIXTURES = Path(__file__).parents[2] / "fixtures" / "legacy"


# legacy base models: models/text-bison-001
def test_a_real_page_is_read_whole() -> None:
    page = json.loads((FIXTURES / "list_tuned_models.v1beta3.json").read_text(encoding="utf-8"))
    models, token = wire.read_page(page)
    assert len(models) == len(page["tunedModels"])
    assert token == page.get("nextPageToken", "")
    first = models[0]
    assert (first.remote, first.chosen_id) == (
        "tunedModels/testnumbergenerator-fvitocr834l6",
        "testnumbergenerator-fvitocr834l6",
    )
    assert (first.state, first.source, first.mark) == (State.ACTIVE, Source("models/text-bison-001"), None)
    assert first.description.startswith('{"description":"generates the  next number')
    assert first.hyperparameters == {"epochCount": 10, "batchSize": 16, "learningRate": 0.02}
    assert first.sampling == Sampling(0.7, 0.95, 40)
    assert first.create_time == "2023-09-18T11:06:39.092786Z"
    assert first.start_time == "2023-09-18T11:06:39.461814784Z"
    assert first.complete_time == "2023-09-18T11:07:24.198359Z"
    assert first.snapshots[:2] == (Snapshot(1, 0, 16.613504), Snapshot(2, 1, 20.299532))
    assert len(first.snapshots) == 16


def test_a_model_that_trains_shows_no_end() -> None:
    real = json.loads((FIXTURES / "operations.v1beta3.json").read_text(encoding="utf-8"))["get_while_creating"]
    model = wire.read_model(real)
    assert (model.state, model.complete_time, model.snapshots) == (State.CREATING, "", ())
    assert (model.completed_steps, model.total_steps, model.failure) == (None, None, None)


def test_an_empty_list_is_an_empty_object() -> None:
    assert wire.read_page({}) == ((), "")


@each_row(
    ("shown", "state"),
    [
        ("ACTIVE", State.ACTIVE),
        (2, State.ACTIVE),
        ("CREATING", State.CREATING),
        (1, State.CREATING),
        ("FAILED", State.FAILED),
        (3, State.FAILED),
        ("STATE_UNSPECIFIED", State.CREATING),
        ("SOME_LATER_STATE", State.CREATING),
        (0, State.CREATING),
        (None, State.CREATING),
    ],
)
def test_a_state_that_is_not_known_counts_as_training(shown: object, state: State) -> None:
    assert wire.read_model({"name": "tunedModels/m", "state": shown}).state is state


def test_the_mark_is_reported_apart_from_the_human_description() -> None:
    wanted = generation()
    body = wire.write_generation(wanted, EXAMPLES)
    model = wire.read_model({"name": f"tunedModels/{wanted.key}", **body})
    assert (model.mark, model.description, model.chosen_id) == (wanted.mark, "Says the next number.", wanted.key)


@pytest.mark.parametrize("api", [palm, gemini])
def test_a_model_tuned_from_a_tuned_model_is_its_child_and_not_the_base_models(api: Any) -> None:
    source = api.TunedModelSource(tuned_model="tunedModels/parent", base_model="models/gemini-3.5-flash")
    child = api.TunedModel(name="tunedModels/m", tuned_model_source=source)
    body = json.loads(api.TunedModel.to_json(child))
    assert wire.read_model(body).source == Source(remote="tunedModels/parent")


@each_row("shown", [None, {}, {"baseModel": "models/gemini-3.5-flash"}, {"tunedModel": 5}])
def test_a_source_that_is_not_told_is_none(shown: object) -> None:
    assert wire.read_model({"name": "tunedModels/m", "tunedModelSource": shown}).source is None


def test_a_child_is_written_with_its_parent_alone() -> None:
    wanted = replace(generation(), source=Source(remote="tunedModels/parent"))
    body = wire.write_generation(wanted, EXAMPLES)
    assert (body["tunedModelSource"], "baseModel" in body) == ({"tunedModel": "tunedModels/parent"}, False)
    assert wire.read_model({"name": "tunedModels/m", **body}).source == wanted.source


def test_liberal_numbers_are_read() -> None:
    task = {
        "hyperparameters": {"epochCount": "3", "batchSize": 2.0, "learningRate": 0.001, "later": None},
        "snapshots": [{"step": "7", "epoch": 1.0, "meanLoss": -1.1e-06}, {"step": 8}],
    }
    model = wire.read_model({"name": "tunedModels/m", "topK": "40", "temperature": 0, "tuningTask": task})
    assert model.hyperparameters == {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}
    assert model.snapshots == (Snapshot(7, 1, -1.1e-06),)
    assert model.sampling == Sampling(temperature=0.0, top_k=40)


@pytest.mark.parametrize("progress", [True, False])
def test_the_field_mask_asks_for_curves_only_with_progress(progress: bool) -> None:  # noqa: FBT001 - a table's column
    assert ("snapshots(" in wire.list_fields(progress=progress)) is progress
    assert wire.list_fields(progress=progress).startswith("nextPageToken,tunedModels(name,")
    assert "baseModel,tunedModelSource(tunedModel)," in wire.list_fields(progress=progress)


def test_a_failure_keeps_code_and_words() -> None:
    assert read_failure({"code": 3, "message": "Loss is\nnot a number."}) == Failure(3, "Loss is not a number")
    assert read_failure({}) == Failure(0, "no reason given")


def test_what_is_not_declared_is_not_sent() -> None:
    body = wire.write_generation(generation(hyperparameters={}), EXAMPLES[:1])
    assert set(body) == {"displayName", "description", "baseModel", "tuningTask"}
    assert body["tuningTask"] == {
        "trainingData": {"examples": {"examples": [{"textInput": "0", "output": "1"}]}},
    }


def test_sampling_of_zero_is_declared() -> None:
    body = wire.write_generation(generation(sampling=Sampling(temperature=0.0, top_k=1)), EXAMPLES)
    assert (body["temperature"], body["topK"], "topP" in body) == (0.0, 1, False)


def test_an_update_writes_the_mark_with_the_description() -> None:
    mark = generation().mark
    assert wire.write_update(Update(mark, display_name="new")) == {"displayName": "new"}
    assert wire.write_update(Update(mark, description="")) == {"description": with_mark("", mark)}
    assert wire.write_update(Update(mark, sampling=Sampling(0.0, 0.5, 3))) == {
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 3,
    }


TIMES = ("createTime", "startTime", "completeTime")


@each_row(
    ("told", "read"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.123456789+05:30", "2026-01-01T00:00:00.123456789+05:30"),
        ("yesterday", ""),
        ("2026-01-01T00:00:00", ""),
        ("2026-01-01", ""),
        ("2026-01-01\x1b00:00:00Z", ""),
        ("2026-02-30T00:00:00Z", ""),
        ("2026-01-01T00:00:00+99:00", ""),
        (1767225600, ""),
        (None, ""),
    ],
)
def test_a_time_that_is_none_is_unknown(told: object, read: str) -> None:
    model = wire.read_model({"name": "tunedModels/m", "createTime": told, "tuningTask": dict.fromkeys(TIMES, told)})
    assert (model.create_time, model.start_time, model.complete_time) == (read, read, read)


@each_row("told", ["NaN", "Infinity", float("nan"), float("-inf"), "1e999", 10**400, "fast", [], {}])
def test_a_number_that_is_none_is_not_told(told: object) -> None:
    task = {"hyperparameters": {"learningRate": told, "epochCount": 3}}
    sampling = {"temperature": told, "topP": told, "topK": told}
    model = wire.read_model({"name": "tunedModels/m", **sampling, "tuningTask": task})
    assert model.hyperparameters == {"epochCount": 3}
    assert model.sampling == Sampling()


def test_only_integers_that_a_float_holds_are_integers() -> None:
    assert read_integer(2**53 - 1) == 2**53 - 1
    assert [read_integer(value) for value in (2**53, 1e300, 1.5)] == [None, None, None]
    assert wire.read_model(
        {"name": "tunedModels/m", "tuningTask": {"hyperparameters": {"x": 1e300}}}
    ).hyperparameters == {"x": 1e300}


def test_a_loss_that_diverged_is_kept() -> None:
    losses = [snapshot.loss for snapshot in wire.read_snapshots({"snapshots": [{"meanLoss": "NaN"}, {"meanLoss": 1}]})]
    assert math.isnan(losses[0])
    assert losses[1:] == [1.0]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5)
    | st.sampled_from(["NaN", "1e999", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z"])
    | st.datetimes().map(datetime.isoformat),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HYPERPARAMETERS = ("epochCount", "batchSize", "learningRate")
tasks = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("startTime", "completeTime", "snapshots"), json_values),
        "hyperparameters": st.fixed_dictionaries({}, optional=dict.fromkeys(HYPERPARAMETERS, json_values))
        | json_values,
    },
)
FIELDS = (
    *("state", "description", "displayName", "baseModel", "tunedModelSource"),
    *("topK", "topP", "temperature", "createTime"),
)
bodies = st.fixed_dictionaries(
    {"name": st.just("tunedModels/m") | json_values},
    optional={**dict.fromkeys(FIELDS, json_values), "tuningTask": tasks | json_values},
)


@given(bodies | json_values)
def test_any_body_is_a_valid_model_or_a_service_error(body: Any) -> None:
    answer = Response(json.dumps({"tunedModels": [body]}), media_type="application/json")
    try:
        models = asyncio.run(provider_of(script(answer), Time()).list(progress=True))
    except ServiceError as error:
        assert "returned a body of another shape" in error.message  # noqa: PT017 - either outcome is right
        return
    assert all(_is_sound(model) for model in models)


def _is_sound(model: RemoteModel) -> bool:
    times = (model.create_time, model.start_time, model.complete_time)
    sampling = (model.sampling.temperature, model.sampling.top_p, model.sampling.top_k)
    numbers = (*model.hyperparameters.values(), *(number for number in sampling if number is not None))
    texts = (model.remote, model.display_name, model.description, *model.hyperparameters)
    return (
        all(datetime.fromisoformat(time).tzinfo for time in times if time)
        and all(math.isfinite(number) for number in numbers)
        and all(text.encode() or True for text in texts)
    )
