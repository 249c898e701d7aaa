from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.identity import with_mark
from reconciler.core.model import Failure, RemoteModel, Sampling, Snapshot, Source, State, Update
from reconciler.providers import wire
from support.provider_samples import EXAMPLES, generation

FIXTURES = Path(__file__).parent.parent / "fixtures"


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


@pytest.mark.parametrize(
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


def test_the_mark_is_told_apart_from_the_human_description() -> None:
    wanted = generation()
    body = wire.write_generation(wanted, EXAMPLES)
    model = wire.read_model({"name": f"tunedModels/{wanted.key}", **body})
    assert (model.mark, model.description, model.chosen_id) == (wanted.mark, "Says the next number.", wanted.key)


def test_a_model_tuned_from_a_tuned_model_is_no_child_of_a_base_model() -> None:
    source = {"tunedModel": "tunedModels/parent", "baseModel": "models/text-bison-001"}
    assert wire.read_model({"name": "tunedModels/m", "tunedModelSource": source}).source is None


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


def test_a_failure_keeps_code_and_words() -> None:
    assert wire.read_failure({"code": 3, "message": "Loss is\nnot a number."}) == Failure(3, "Loss is not a number")
    assert wire.read_failure({}) == Failure(0, "no reason given")


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


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("name", "state", "description", "baseModel", "topK", "temperature", "tuningTask")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, json_values)))
def test_nonsense_is_read_or_refused_with_the_documented_errors(body: dict[str, Any]) -> None:
    try:
        model = wire.read_model(body)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        return
    assert isinstance(model, RemoteModel)
