"""Reading a published pointer, and refusing to overwrite one that something else changed."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import MAX_MODELS, Lock, LockedModel
from reconciler.domain.model import Resources, Sampling, State, Target
from reconciler.planning.events import record
from reconciler.state.published_pointer import (
    PointerConflict,
    PublishedModel,
    find_conflicts,
    newly_published,
    read_pointer,
    require_unchanged,
    serving_keys,
)
from support.cases import each_row
from support.core_strategies import generation

TARGET = Target("default", "specs/reconcile.yaml", "embedded", "demo")
POINTER = "specs/serving.json"
K1, K2, K3 = "words-11111111", "words-22222222", "words-33333333"
names = st.sampled_from(["numbers", "words", "letters"])
keys = st.sampled_from([K1, K2])


def locked(serving: str | None, published: str | None = None, state: State = State.ACTIVE) -> LockedModel:
    generations = tuple(generation(key, state=state) for key in (serving,) if key)
    return LockedModel("words.yaml", serving=serving, published=published, generations=generations)


def lock(**models: LockedModel) -> Lock:
    return Lock(models=models)


locks = st.dictionaries(names, st.builds(locked, st.none() | keys, st.none() | keys)).map(
    lambda models: Lock(None, models)
)


def read_error(text: str, target: Target = TARGET) -> str:
    with pytest.raises(ReconcileError) as caught:
        read_pointer(text, target, POINTER)
    assert caught.value.remedy
    return str(caught.value)


def pointer(*models: dict[str, Any], **changes: Any) -> str:
    target = {"name": "default", "provider": "embedded", "label": "embedded service", "scope": "demo"}
    return json.dumps(
        {"version": 1, "kind": "Resolve", "simulated": True, "target": target, "models": models} | changes
    )


def test_only_ready_serving_generations_are_published() -> None:
    models = lock(
        words=locked(K1), numbers=locked(None), letters=locked(K2, state=State.MISSING), odd=LockedModel("odd.yaml", K3)
    )
    assert serving_keys(models) == {"words": K1}


@each_row(
    ("pointer_keys", "model", "unchanged"),
    [
        ({}, locked(K1), True),
        ({"words": K1}, locked(K2, K1), True),
        ({"words": K2}, locked(K2, K1), True),
        ({"words": K1}, locked(None, K1), True),
        ({}, locked(None, K1), True),
        ({"words": K3}, locked(K2, K1), False),
        ({}, locked(K2, K1), False),
        ({"words": K1}, locked(K2), False),
        ({"words": K1}, locked(None), False),
    ],
    ids=[
        "not published yet",
        "another generation is promoted",
        "published by an interrupted run",
        "no longer serving",
        "removed by an interrupted run",
        "another key",
        "deleted",
        "never written, another key",
        "never written, nothing is serving",
    ],
)
def test_a_pointer_has_the_written_or_the_serving_key(
    pointer_keys: dict[str, str], model: LockedModel, *, unchanged: bool
) -> None:
    assert (find_conflicts(pointer_keys, lock(words=model)) == ()) is unchanged


def test_an_unrecorded_model_is_a_conflict() -> None:
    assert find_conflicts({"alien": K1}, lock(words=locked(K2, K2))) == (
        PointerConflict("alien", K1, None, None),
        PointerConflict("words", None, K2, K2),
    )


@given(locks)
def test_a_published_key_is_neither_a_conflict_nor_published_again(before: Lock) -> None:
    after = reduce(record, newly_published(before), before)
    assert newly_published(after) == ()
    assert find_conflicts(serving_keys(before), after) == ()
    assert find_conflicts(serving_keys(before), before) == (), "a run can end between both writes"


@given(locks, names, keys)
def test_any_other_key_is_a_conflict(before: Lock, name: str, key: str) -> None:
    pointer_keys = serving_keys(before) | {name: key}
    model = before.models.get(name, LockedModel(""))
    expected = key not in {model.published, serving_keys(before).get(name)}
    assert [conflict.name for conflict in find_conflicts(pointer_keys, before)] == [name] * expected


def test_a_conflict_names_pointer_model_both_keys_and_the_remedy() -> None:
    with pytest.raises(ReconcileError) as caught:
        require_unchanged({"words": PublishedModel("words", K3)}, lock(words=locked(K2, K1)), POINTER)
    assert str(caught.value) == (
        f"specs/serving.json: changed out-of-band, not overwritten: words has {K3} (last written was {K1}, {K2} is "
        "serving); find out what changed it, then move it away: the next apply writes a new one"
    )


def test_an_error_lists_a_few_of_many_conflicts() -> None:
    models = {f"m{number}": locked(K2, K1) for number in range(4)}
    published = {name: PublishedModel(name, K3) for name in ("alien", *models)}
    with pytest.raises(ReconcileError) as caught:
        require_unchanged(published, Lock(models=models), POINTER)
    assert f"alien has {K3} (last written was nothing, no generation is serving); " in str(caught.value)
    assert "; and 2 more; find out what changed it" in str(caught.value)


def test_a_model_that_was_removed_from_the_pointer_is_a_conflict() -> None:
    with pytest.raises(ReconcileError) as caught:
        require_unchanged({}, lock(words=locked(K2, K1)), POINTER)
    assert f"words is missing (last written was {K1}, {K2} is serving)" in caught.value.message


def test_another_remote_name_of_a_recorded_key_is_a_conflict() -> None:
    recorded = lock(words=locked(K1, K1))
    require_unchanged({"words": PublishedModel("words", K1, f"tunedModels/{K1}")}, recorded, POINTER)
    with pytest.raises(ReconcileError) as caught:
        require_unchanged({"words": PublishedModel("words", K1, "tunedModels/evil")}, recorded, POINTER)
    assert "words has the remote name tunedModels/evil, which was not written by this project" in str(caught.value)


def test_another_endpoint_of_the_target_is_replaced() -> None:
    endpoint, former = ("projects/p/locations/here/endpoints/" + number for number in "21")
    recorded = lock(words=locked(K1, K1))
    generation = replace(recorded.models["words"].generations[0], resources=Resources(endpoint=endpoint))
    recorded = lock(words=recorded.models["words"].with_generation(generation))
    pattern = r"projects/p/locations/here/endpoints/\d+"
    require_unchanged({"words": PublishedModel("words", K1, former)}, recorded, POINTER, pattern)
    elsewhere = former.replace("projects/p", "projects/q")
    with pytest.raises(ReconcileError, match="projects/q/locations/here/endpoints/1, which was not written"):
        require_unchanged({"words": PublishedModel("words", K1, elsewhere)}, recorded, POINTER, pattern)


def test_a_pointer_is_read_as_models_by_name() -> None:
    models = [
        {
            "name": "words",
            "key": K1,
            "remote": "tunedModels/w",
            "sampling": {"temperature": 0.5, "topP": 1, "topK": 40},
        },
        {"name": "numbers", "key": K2, "remote": "tunedModels/n"},
    ]
    assert read_pointer(pointer(*models), TARGET, POINTER) == {
        "words": PublishedModel("words", K1, "tunedModels/w", sampling=Sampling(0.5, 1, 40)),
        "numbers": PublishedModel("numbers", K2, "tunedModels/n"),
    }
    assert read_pointer(pointer(), TARGET, POINTER) == {}


@each_row(
    ("text", "detail"),
    [
        ("", "1:1: {}empty file"),
        (pointer()[:-20], "1:146: target.scope: {}truncated JSON: the file ends too early"),
        ("[" * 100_000, "1:65: {}more than 64 nested values"),
        ("[]", "1:1: {}other JSON"),
        ('{"rows": 3}', "1:1: {}other JSON"),
        (pointer(kind="Status"), "1:1: {}other JSON"),
        (pointer(version="1"), "1:1: {}other JSON"),
        (pointer(version=True), "1:1: {}other JSON"),
        (pointer(models={}), "1:165: models: {}expected a list"),
        (pointer("words"), "1:166: models[0]: {}expected an object"),
        (pointer({"name": "words"}), "1:166: models[0].key: {}missing"),
        (pointer({"name": "w", "key": K1}, {"name": "w", "key": K2}), "1:206: models[1]: {}duplicate model w"),
        (
            pointer({"name": "w", "key": K1, "sampling": {"topK": "40"}}),
            "1:226: models[0].sampling.topK: {}expected an integer",
        ),
        (pointer()[:-1] + ', "kind": "Resolve"}', "1:169: kind: {}duplicate key (first defined on line 1)"),
    ],
)
def test_a_file_that_is_not_a_pointer_is_not_overwritten(text: str, detail: str) -> None:
    message = read_error(text)
    problem = detail.format("not a published pointer, not overwritten: ")
    assert message.startswith(f"specs/serving.json:{problem}")
    assert message.endswith("; check the file, then move it away: the next apply writes a new one")


def test_a_newer_version_is_not_read() -> None:
    assert read_error(pointer(version=2)) == (
        "specs/serving.json:1:13: unsupported version 2: this reconcile reads up to version 1; upgrade reconcile"
    )


@each_row(
    ("field", "value", "detail"),
    [
        ("scope", "theirs", "scope is theirs, but demo in specs/reconcile.yaml"),
        ("name", "production", "name is production, but default in specs/reconcile.yaml"),
        ("provider", "vertex", "provider is vertex, but embedded in specs/reconcile.yaml"),
        ("project", "p", "project is p, but none in specs/reconcile.yaml"),
    ],
)
def test_the_pointer_of_another_target_is_not_overwritten(field: str, value: str, detail: str) -> None:
    target = {"name": "default", "provider": "embedded", "scope": "demo", field: value}
    assert read_error(pointer(target=target)) == (
        f"specs/serving.json: belongs to another target, not overwritten: {detail}; set another spec.publish for each "
        "target, or move the file away: the next apply writes a new one"
    )


def test_a_pointer_with_too_many_models_is_refused() -> None:
    text = pointer(*({"name": f"m{number}", "key": "k"} for number in range(MAX_MODELS + 1)))
    assert "models: not a published pointer, not overwritten: 20001 models: expected at most 20000; " in read_error(
        text
    )
