"""The generations of a manifest one after the other, and what changed between them."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.lock import LockedGeneration, LockedHyperparameters, LockedModel
from reconciler.domain.model import Dataset, Example, Source, State
from reconciler.planning.datasets import ExampleChanges
from reconciler.planning.history import Changes, GenerationRole, list_history
from support.cases import each_row
from support.core_strategies import DIGEST, generation, locked_models

OTHER = "sha256:" + "1" * 64
FAILED = RecordedChecks(DIGEST, passed=1, failed=1)
PASSED = RecordedChecks(DIGEST, passed=2, failed=0)


def changes(older: dict[str, Any], newer: dict[str, Any], **examples: list[Example]) -> Changes:
    """The changes from one generation to the next; ``old`` and ``new`` are the available examples."""
    model = LockedModel("m.yaml", generations=(generation("new", **newer), generation("old", **older)))
    digests = {"old": DIGEST, "new": OTHER}
    entries = list_history(model, {digests[side]: some.__iter__ for side, some in examples.items()})
    assert [entry.generation.key for entry in entries] == ["new", "old"]
    assert entries[1].changes is None
    found = entries[0].changes
    assert found
    assert found.since.key == "old"
    return found


def numbers(older: dict[str, Any], newer: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The hyperparameters that differ, each with its values."""
    return [(one.name, one.before, one.after) for one in changes(older, newer).hyperparameters]


def test_equal_generations_differ_in_nothing() -> None:
    found = changes({"attempt": 0}, {"attempt": 1})
    assert found == Changes(found.since, source=False, hyperparameters=(), dataset=False, preamble=False)


def values(declared: dict[str, float], effective: dict[str, float] | None = None) -> dict[str, Any]:
    return {"hyperparameters": LockedHyperparameters(declared, effective or {})}


def test_effective_hyperparameters_count_before_declared_ones() -> None:
    older = values({"epochCount": 3}, {"epochCount": 3, "batchSize": 4, "learningRate": 0.001})
    newer = values({"batchSize": 8}, {"epochCount": 5, "batchSize": 8, "learningRate": 0.0010000001})
    assert numbers(older, newer) == [("batchSize", 4, 8), ("epochCount", 3, 5)]


def test_what_is_not_told_yet_counts_as_declared_or_not_at_all() -> None:
    older = values({"epochCount": 3}, {"epochCount": 3, "batchSize": 4})
    assert numbers(older, values({"epochCount": 9})) == [("epochCount", 3, 9)]
    assert numbers(older, {}) == [("epochCount", 3, None)]
    assert numbers({}, older) == [("epochCount", None, 3)]
    assert numbers(values({}, {"epochCount": 3}), values({"epochCount": 3})) == []


def test_another_base_model_or_parent_is_another_source() -> None:
    base, parent = Source("models/a"), Source(tuned_model="parent", key="parent-a", remote="tunedModels/a")
    assert changes({"source": base}, {"source": Source("models/b")}).source
    assert changes({"source": base}, {"source": parent}).source
    assert changes({"source": parent}, {"source": Source(tuned_model="parent", key="parent-b")}).source
    assert not changes({"source": parent}, {"source": Source(remote="tunedModels/a")}).source


def test_examples_are_counted_without_their_preambles() -> None:
    older = {"dataset": Dataset(DIGEST, "old.csv", 1)}
    newer = {"dataset": Dataset(OTHER, "new.csv", 2), "preamble": "Say: "}
    found = changes(older, newer, old=[Example("1", "2")], new=[Example("Say: 1", "2"), Example("Say: 3", "4")])
    assert found.preamble
    assert found.dataset
    assert found.available == (True, True)
    assert found.examples == ExampleChanges(added=1, some_added=(Example("3", "4"),))


@each_row("there", [{}, {"old": [Example("1", "2")]}, {"new": [Example("1", "2")]}])
def test_examples_that_are_not_at_hand_are_not_counted(there: dict[str, list[Example]]) -> None:
    found = changes({}, {"dataset": Dataset(OTHER, "data.csv", 2)}, **there)
    assert found.dataset
    assert found.examples is None
    assert found.available == ("old" in there, "new" in there)


def test_the_same_data_under_another_name_is_no_change() -> None:
    assert not changes({}, {"dataset": Dataset(DIGEST, "renamed.csv", 15)}).dataset


def standings(*generations: LockedGeneration, serving: str | None = None, rejected: str = "") -> list[GenerationRole]:
    """What each generation is to those who ask which one serves."""
    model = LockedModel("m.yaml", serving, (rejected,) if rejected else (), generations=generations)
    return [entry.role for entry in list_history(model, {})]


def test_serving_and_rejected_generations_are_told() -> None:
    some = [generation(key) for key in "abc"]
    assert standings(*some, serving="b", rejected="a") == ["rejected", "serving", ""]
    assert standings(*some) == ["", "", ""]


def test_failed_checks_hold_until_a_later_generation_serves() -> None:
    held, fine, training = (
        generation("held", checks=FAILED),
        generation("fine", checks=PASSED),
        generation("training", state=State.CREATING, checks=FAILED),
    )
    assert standings(held, fine, serving="fine") == ["held", "serving"]
    assert standings(training, held) == ["", "held"]
    assert standings(fine, held, serving="fine") == ["serving", ""]
    assert standings(held, fine, serving="held") == ["serving", ""]
    assert standings(held, rejected="held") == ["rejected"]


@given(locked_models())
def test_every_recorded_model_has_a_history(model: LockedModel) -> None:
    entries = list_history(model, {})
    assert [entry.generation for entry in entries] == list(model.generations)
    assert [entry.changes is None for entry in entries] == [one is model.generations[-1] for one in model.generations]
    for entry in entries:
        told = entry.changes.hyperparameters if entry.changes else ()
        assert all(one.before is not None or one.after is not None for one in told)
