from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.domain.errors import ReconcileError
from support.cases import each_row
from support.emulator_world import FIXTURES, World

REAL = FIXTURES / "list_tuned_models.v1beta3.json"
REMEDY = 'use the format of the list method: {"tunedModels": [{"name": "tunedModels/…", …}]}'


def names(path: Path, *models: str) -> Path:
    models_there = [{"name": f"tunedModels/{model}"} for model in models]
    path.write_text(json.dumps({"tunedModels": models_there}), encoding="utf-8")
    return path


def test_a_real_world_is_listed_as_it_was() -> None:
    world = World(world=REAL)
    assert world.ok("GET", "/v1beta3/tunedModels") == json.loads(REAL.read_text(encoding="utf-8"))
    world.advance(1e6)
    real = json.loads(REAL.read_text(encoding="utf-8"))["tunedModels"]
    assert [world.ok("GET", f"/v1beta3/{model['name']}") for model in real] == real


def test_snapshots_of_a_world_are_left_out_when_they_are_not_asked_for() -> None:
    page = World(world=REAL).ok("GET", "/v1beta3/tunedModels", fields="tunedModels(tuningTask(hyperparameters))")
    assert page["tunedModels"][0] == {
        "tuningTask": {"hyperparameters": {"epochCount": 10, "batchSize": 16, "learningRate": 0.02}}
    }


def test_models_of_a_world_can_be_changed_shared_and_deleted() -> None:
    world = World(world=REAL)
    model = "/v1beta3/tunedModels/number-generator-model-w1eabln5adwp"
    assert world.ok("PATCH", model, {"description": "x"}, updateMask="description")["description"] == "x"
    assert len(world.ok("GET", f"{model}/permissions")["permissions"]) == 1
    assert world.ok("DELETE", model) == {}
    assert len(world.names()) == 4


def test_a_world_is_loaded_once(tmp_path: Path) -> None:
    file, store = names(tmp_path / "world.json", "a", "b"), tmp_path / "store"
    first = World(store, world=file)
    first.ok("DELETE", "/v1beta3/tunedModels/a")
    assert World(store, world=file).names() == ["b"]


def test_a_changed_world_adds_its_models_and_changes_none_that_is_there(tmp_path: Path) -> None:
    file, store = names(tmp_path / "world.json", "a"), tmp_path / "store"
    first = World(store, world=file)
    first.ok("PATCH", "/v1beta3/tunedModels/a", {"description": "mine"}, updateMask="description")
    second = World(store, world=names(file, "a", "b"))
    assert second.names() == ["a", "b"]
    assert second.ok("GET", "/v1beta3/tunedModels/a")["description"] == "mine"


def test_a_world_may_bring_examples_and_integer_enums(tmp_path: Path) -> None:
    data = {"examples": {"examples": [{"textInput": "ping", "output": "pong"}]}}
    model = {"name": "tunedModels/a", "state": 2, "tuningTask": {"trainingData": data}}
    (tmp_path / "world.json").write_text(json.dumps({"tuned_models": [model]}), encoding="utf-8")
    world = World(world=tmp_path / "world.json")
    answer = world.ok("POST", "/v1beta3/tunedModels/a:generateText", {"prompt": {"text": "ping"}})
    assert answer == {"candidates": [{"output": "pong"}]}
    assert world.ok("GET", "/v1beta3/tunedModels/a") == {"name": "tunedModels/a", "state": "ACTIVE", "tuningTask": {}}


def test_an_empty_world_is_a_world(tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text("{}", encoding="utf-8")
    assert World(world=tmp_path / "world.json").names() == []


@each_row(
    ("text", "message"),
    [
        ('{"tunedModels": [\n  }', "{file}:2:3: not valid JSON: Expecting value"),
        ("[]", "{file}: is not a list of tuned models: Invalid value at '' (ListTunedModelsResponse), []"),
        (
            '{"tunedModels": [{}, {"foo": 1}]}',
            (
                "{file}: is not a list of tuned models: Invalid JSON payload received. "
                "Unknown name \"foo\" at 'tuned_models[1]': Cannot find field."
            ),
        ),
        (
            '{"tunedModels": [{"state": "ACTIVE"}]}',
            '{file}: tunedModels[0].name: invalid name "": expected tunedModels/ID',
        ),
        (
            '{"tunedModels": [{"name": "tunedModels/a/b"}]}',
            '{file}: tunedModels[0].name: invalid name "tunedModels/a/b": expected tunedModels/ID',
        ),
    ],
)
def test_a_file_that_is_no_world_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "world.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ReconcileError) as caught:
        World(tmp_path / "store", world=file)
    assert str(caught.value) == f"{message.replace('{file}', str(file))}; {REMEDY}"
    assert World(tmp_path / "store").names() == []


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "world.json"
    file.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ReconcileError, match=r"world\.json: is not valid JSON: 'utf-.*; use the format"):
        World(world=file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError) as caught:
        World(world=tmp_path / "none.json")
    assert str(caught.value) == (
        f"{tmp_path / 'none.json'}: cannot be read: No such file or directory; name a world file that exists"
    )
