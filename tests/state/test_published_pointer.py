"""What a published pointer says, and who may have written that."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Sampling, State, Target
from reconciler.planning.events import record
from reconciler.state.published_pointer import (
    Conflict,
    Entry,
    conflicts,
    newly_published,
    read_pointer,
    require_ours,
    serving_keys,
)
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
    lambda found: Lock(None, found)
)


def refusal(text: str, target: Target = TARGET) -> str:
    with pytest.raises(ReconcileError) as caught:
        read_pointer(text, target, POINTER)
    assert caught.value.remedy
    return str(caught.value)


def pointer(*models: dict[str, Any], **changes: Any) -> str:
    target = {"name": "default", "provider": "embedded", "label": "embedded service", "scope": "demo"}
    return json.dumps(
        {"version": 1, "kind": "Resolve", "simulated": True, "target": target, "models": models} | changes
    )


def test_what_serves_is_what_is_ready_and_serves() -> None:
    everything = lock(
        words=locked(K1), numbers=locked(None), letters=locked(K2, state=State.MISSING), odd=LockedModel("odd.yaml", K3)
    )
    assert serving_keys(everything) == {"words": K1}


@pytest.mark.parametrize(
    ("says", "model", "ours"),
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
        "never told",
        "moves",
        "told by a run that died",
        "stops",
        "told that it stopped by a run that died",
        "another key",
        "deleted",
        "never written, other key",
        "never written, nothing serves",
    ],
)
def test_a_pointer_says_what_it_was_told_or_is_about_to_be(
    says: dict[str, str], model: LockedModel, *, ours: bool
) -> None:
    assert (conflicts(says, lock(words=model)) == ()) is ours


def test_a_model_that_nobody_here_knows_is_somebody_elses_word() -> None:
    assert conflicts({"alien": K1}, lock(words=locked(K2, K2))) == (
        Conflict("alien", K1, None, None),
        Conflict("words", None, K2, K2),
    )


@given(locks)
def test_what_was_told_is_no_conflict_and_no_news(before: Lock) -> None:
    after = reduce(record, newly_published(before), before)
    assert newly_published(after) == ()
    assert conflicts(serving_keys(before), after) == ()
    assert conflicts(serving_keys(before), before) == (), "a run may die between the pointer and the lockfile"


@given(locks, names, keys)
def test_whatever_else_is_said_is_a_conflict(before: Lock, name: str, key: str) -> None:
    says = serving_keys(before) | {name: key}
    model = before.models.get(name, LockedModel(""))
    expected = key not in {model.published, serving_keys(before).get(name)}
    assert [one.name for one in conflicts(says, before)] == [name] * expected


def test_a_conflict_tells_pointer_model_both_keys_and_the_remedy() -> None:
    with pytest.raises(ReconcileError) as caught:
        require_ours({"words": Entry(K3)}, lock(words=locked(K2, K1)), POINTER)
    assert str(caught.value) == (
        f"specs/serving.json was changed by somebody else, and is left as it is: it says that {K3} serves words, where "
        f"{K1} was last written and {K2} serves now; see who did that; then delete it, or move it away: the next apply "
        "writes it anew"
    )


def test_of_many_conflicts_a_few_are_told() -> None:
    models = {f"m{number}": locked(K2, K1) for number in range(4)}
    says = {"alien": Entry(K3)} | {name: Entry(K3) for name in models}
    with pytest.raises(ReconcileError) as caught:
        require_ours(says, Lock(models=models), POINTER)
    assert (
        "it says that words-33333333 serves alien, where nothing was written from here and nothing serves now; "
        in str(caught.value)
    )
    assert "; and 2 more; see who did that" in str(caught.value)


def test_a_model_that_was_taken_out_of_the_pointer_is_told() -> None:
    with pytest.raises(ReconcileError) as caught:
        require_ours({}, lock(words=locked(K2, K1)), POINTER)
    assert f"it does not name words any more, where {K1} was last written" in caught.value.message


def test_a_pointer_that_sends_prompts_elsewhere_is_told() -> None:
    ours = lock(words=locked(K1, K1))
    require_ours({"words": Entry(K1, f"tunedModels/{K1}")}, ours, POINTER)
    with pytest.raises(ReconcileError) as caught:
        require_ours({"words": Entry(K1, "tunedModels/evil")}, ours, POINTER)
    assert "it gives words another remote name than was written, tunedModels/evil; see who did that" in str(
        caught.value
    )


def test_a_pointer_is_read_by_model() -> None:
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
        "words": Entry(K1, "tunedModels/w", Sampling(0.5, 1, 40)),
        "numbers": Entry(K2, "tunedModels/n"),
    }
    assert read_pointer(pointer(), TARGET, POINTER) == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no complete JSON ("),
        (pointer()[:-20], "it is no complete JSON ("),
        ("[" * 100_000, "it is no complete JSON ("),
        ("[]", "it is JSON of another kind"),
        ('{"rows": 3}', "it is JSON of another kind"),
        (pointer(kind="Status"), "it is JSON of another kind"),
        (pointer(version="1"), "it is JSON of another kind"),
        (pointer(version=True), "it is JSON of another kind"),
        (pointer(models={}), "models is no list"),
        (pointer("words"), "models[0] is no object"),
        (pointer({"name": "words"}), "models[0] lacks key"),
        (pointer({"name": "w", "key": K1}, {"name": "w", "key": K2}), "models[1] is a second entry of w"),
        (pointer({"name": "w", "key": K1, "sampling": {"topK": "40"}}), "models[0].sampling.topK is no whole number"),
    ],
)
def test_what_is_no_pointer_is_left_alone(text: str, why: str) -> None:
    told = refusal(text)
    assert told.startswith(f"specs/serving.json is not what reconcile publishes, and is left as it is: {why}")
    assert told.endswith("; see what it is; then delete it, or move it away: the next apply writes it anew")


def test_a_newer_pointer_needs_a_newer_reconcile() -> None:
    assert refusal(pointer(version=2)) == (
        "specs/serving.json has version 2, and this reconcile reads up to 1; upgrade reconcile"
    )


@pytest.mark.parametrize(
    ("field", "says", "shown"),
    [
        ("scope", "theirs", "its scope is theirs, that of specs/reconcile.yaml demo"),
        ("name", "production", "its name is production, that of specs/reconcile.yaml default"),
        ("provider", "vertex", "its provider is vertex, that of specs/reconcile.yaml embedded"),
        ("project", "p", "its project is p, that of specs/reconcile.yaml none"),
    ],
)
def test_the_pointer_of_another_target_is_left_alone(field: str, says: str, shown: str) -> None:
    target = {"name": "default", "provider": "embedded", "scope": "demo", field: says}
    assert refusal(pointer(target=target)) == (
        f"specs/serving.json belongs to another target, and is left as it is: {shown}; give each target a spec.publish "
        "of its own; or delete the file, or move it away: the next apply writes it anew"
    )
