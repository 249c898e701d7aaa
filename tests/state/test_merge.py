"""Merging two versions of a lockfile."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import (
    MAX_DECISIONS,
    Decision,
    Lock,
    LockedGeneration,
    LockedHyperparameters,
    LockedModel,
    LockedTarget,
)
from reconciler.domain.model import Dataset, Failure, RemoteModel, State
from reconciler.planning.events import (
    Completed,
    Declared,
    Disappeared,
    Event,
    Failed,
    Promoted,
    Published,
    Rejected,
    Restored,
    Started,
    record,
)
from reconciler.state.lockfile import dumps, loads
from reconciler.state.merge import merge
from support.cases import each_row
from support.core_strategies import DIGEST, generation, locks

TARGET = LockedTarget("default", "embedded", "demo")
A, B, C = (f"numbers-{letter * 8}" for letter in "abc")
NAMES = ("numbers", "words")


def lock_of(*generations: LockedGeneration, name: str = "numbers", **fields: object) -> Lock:
    return Lock(TARGET, {name: LockedModel(f"{name}.yaml", generations=generations, **fields)})  # type: ignore[arg-type] # the fields are of several types


def after(lock: Lock, *events: Event) -> Lock:
    return reduce(record, events, lock)


def model(lock: Lock, name: str = "numbers") -> LockedModel:
    return lock.models[name]


def keys(lock: Lock, name: str = "numbers") -> list[str]:
    return keys_of(lock.models[name])


def keys_of(model: LockedModel) -> list[str]:
    return [generation.key for generation in model.generations]


# decisions


def decided(second: int, reason: str = "") -> Decision:
    return Decision(time=f"2026-01-01T00:00:0{second}Z", action="promote", model="numbers", reason=reason)


@each_row(
    ("ours", "theirs", "merged"),
    [
        ((), (), ()),
        ((decided(1),), (decided(1),), (decided(1),)),
        ((decided(2), decided(1)), (decided(3), decided(1)), (decided(3), decided(2), decided(1))),
        # within a second: what both have is older, and each side keeps its order
        (
            (decided(1, "c"), decided(1, "b"), decided(1, "a")),
            (decided(1, "a"),),
            (decided(1, "c"), decided(1, "b"), decided(1, "a")),
        ),
        # a removed decision comes back, and one with another reason is another decision
        ((decided(1, "a"),), (decided(1, "b"),), (decided(1, "a"), decided(1, "b"))),
        ((decided(1),), (), (decided(1),)),
    ],
)
def test_decisions_of_both_sides_are_kept(
    ours: tuple[Decision, ...], theirs: tuple[Decision, ...], merged: tuple[Decision, ...]
) -> None:
    for sides in ((ours, theirs), (theirs, ours)):
        left, right = (Lock(TARGET, history=side) for side in sides)
        for ancestor in (Lock(TARGET), None):
            assert merge(ancestor, left, right).lock.history == merged


def test_a_merged_history_keeps_the_last_decisions() -> None:
    old, new = (tuple([decided(second, str(number)) for number in range(600)]) for second in (1, 2))
    merged = merge(None, Lock(TARGET, history=old), Lock(TARGET, history=new)).lock.history
    assert (merged[:600], len(merged)) == (new, MAX_DECISIONS)


# arbitrary histories


def moment(number: int) -> str:
    return f"2026-01-01T00:{number:02}:00Z"


@st.composite
def recorded_events(draw: st.DrawFn) -> Event:
    """An event about one of a few generations."""
    name = draw(st.sampled_from(NAMES))
    key = f"{name}-{draw(st.sampled_from('abc')) * 8}"
    minute = draw(st.integers(0, 5))
    shown = RemoteModel(f"tunedModels/{key}", State.ACTIVE, create_time=moment(minute))
    begun = generation(key, state=State.CREATING, create_time=draw(st.sampled_from(["", moment(minute)])))
    remote = draw(st.sampled_from([begun.remote, f"jobs/{minute}"]))
    return draw(
        st.sampled_from(
            [
                Started(name, f"{name}.yaml", replace(begun, remote=remote)),
                Declared(name, draw(st.sampled_from(["a.yaml", "b.yaml"])), draw(st.booleans())),
                Completed(name, key, shown),
                Failed(name, key, replace(shown, state=State.FAILED, failure=Failure(3, "no"))),
                Disappeared(name, key),
                Promoted(name, key, remote, moment(minute)),
                Rejected(name, key, draw(st.sampled_from(["slow", "wrong"]))),
                Restored(name, key),
                Published(name, draw(st.sampled_from([None, key]))),
            ]
        )
    )


def without(lock: Lock, names: frozenset[str], keys: frozenset[str]) -> Lock:
    """The lock without models of these names, and without generations of these keys that are not serving."""
    return Lock(
        lock.target,
        {
            name: replace(
                model,
                generations=tuple(
                    generation
                    for generation in model.generations
                    if generation.key not in keys or generation.key == model.serving
                ),
            )
            for name, model in lock.models.items()
            if name not in names
        },
    )


@st.composite
def sides(draw: st.DrawFn) -> tuple[Lock | None, Lock, Lock]:
    """A common ancestor, sometimes unknown, and two locks that grew from it."""
    base = after(Lock(TARGET), *draw(st.lists(recorded_events(), max_size=8)))

    def branch() -> Lock:
        grown = after(base, *draw(st.lists(recorded_events(), max_size=6)))
        names = st.frozensets(st.sampled_from(NAMES), max_size=1)
        recorded = sorted({generation.key for model in grown.models.values() for generation in model.generations})
        removed = draw(st.frozensets(st.sampled_from(recorded), max_size=1)) if recorded else frozenset()
        return without(grown, draw(st.just(frozenset()) | names), removed)

    return draw(st.sampled_from([base, base, None])), branch(), branch()


LOCKS = sides() | st.tuples(*[locks().map(lambda lock: replace(lock, target=TARGET))] * 3)


def a_change_on_one_side_is_taken(merge_input: tuple[Lock | None, Lock, Lock]) -> None:
    base, ours, theirs = merge_input
    assert merge(base, ours, ours).lock == ours
    assert merge(ours, ours, theirs).lock == theirs
    assert merge(ours, theirs, ours).lock == theirs


def the_order_of_the_sides_does_not_matter(merge_input: tuple[Lock | None, Lock, Lock]) -> None:
    base, ours, theirs = merge_input
    merged, mirrored = merge(base, ours, theirs), merge(base, theirs, ours)
    assert dumps(merged.lock) == dumps(mirrored.lock)
    assert merged.notes == mirrored.notes


def merging_again_changes_nothing_and_the_result_is_valid(merge_input: tuple[Lock | None, Lock, Lock]) -> None:
    base, ours, theirs = merge_input
    merged = merge(base, ours, theirs).lock
    assert merge(base, merged, merged).lock == merged
    assert loads(dumps(merged), "x") == merged


def additions_of_both_sides_are_kept(merge_input: tuple[Lock | None, Lock, Lock]) -> None:
    base, *both = merge_input
    merged = merge(base, *both).lock
    for side in both:
        for name, changed in side.models.items():
            before = (base or Lock()).models.get(name, LockedModel(""))
            added = set(keys_of(changed)) - set(keys_of(before))
            rejected = set(changed.rejected) - set(before.rejected)
            if added or rejected or (changed.protect and not before.protect):
                result = merged.models[name]
                assert added <= set(keys_of(result))
                assert rejected <= set(result.rejected)
                assert result.protect or not changed.protect or before.protect


@given(LOCKS)
def test_what_holds_of_every_merge(merge_input: tuple[Lock | None, Lock, Lock]) -> None:
    for holds in (
        a_change_on_one_side_is_taken,
        the_order_of_the_sides_does_not_matter,
        merging_again_changes_nothing_and_the_result_is_valid,
        additions_of_both_sides_are_kept,
    ):
        holds(merge_input)


@given(sides())
def test_the_serving_generation_is_recorded_and_not_rejected(merge_input: tuple[Lock | None, Lock, Lock]) -> None:
    base, *both = merge_input
    merged = merge(base, *both).lock
    invalid = {
        name
        for side in (*both, base or Lock())
        for name, found in side.models.items()
        if found.serving in found.rejected or (found.serving and not found.generation(found.serving))
    }
    for name in merged.models.keys() - invalid:
        found = merged.models[name]
        assert found.serving is None or found.generation(found.serving)
        assert found.serving not in found.rejected


# conflicts that a rule decides

BASE = lock_of(generation(A, create_time=moment(0), promote_time=moment(1)), serving=A)


def begun(key: str, minute: int, **fields: object) -> Started:
    return Started("numbers", "numbers.yaml", generation(key, create_time=moment(minute), **fields))


def test_each_side_trained_a_generation() -> None:
    ours = after(BASE, begun(B, 5))
    theirs = after(BASE, begun(C, 3), Started("words", "words.yaml", generation("words-dddddddd")))
    merged = merge(BASE, ours, theirs)
    assert keys(merged.lock) == [B, C, A]
    assert keys(merged.lock, "words") == ["words-dddddddd"]
    assert (model(merged.lock).serving, merged.notes) == (A, ())


def test_the_later_promotion_is_kept_and_noted() -> None:
    ours = after(BASE, begun(B, 5), Promoted("numbers", B, "", moment(8)))
    theirs = after(BASE, begun(C, 3), Promoted("numbers", C, "", moment(7)))
    merged = merge(BASE, ours, theirs)
    assert model(merged.lock).serving == B
    (note,) = merged.notes
    assert note == (
        f"numbers: the sides promoted different generations, {B} (since 2026-01-01 00:08:00) and {C} (since 2026-01-01"
        f" 00:07:00); {B} is serving as the later one"
    )


@each_row(
    ("ours", "theirs", "kept"),
    [
        ((8, "2"), (7, "1"), "2"),
        ((7, "2"), (8, "1"), "1"),
        ((8, ""), (7, "1"), ""),
        ((None, ""), (7, "1"), "1"),
    ],
)
def test_the_checkpoint_of_the_later_promotion_is_kept(
    ours: tuple[int | None, str], theirs: tuple[int | None, str], kept: str
) -> None:
    base = after(BASE, begun(B, 5))
    sides = [
        base if minute is None else after(base, Promoted("numbers", B, "", moment(minute), checkpoint))
        for minute, checkpoint in (ours, theirs)
    ]
    (merged,) = [found for found in model(merge(base, *sides).lock).generations if found.key == B]
    assert merged.checkpoint == kept


def test_a_promoted_generation_that_the_other_side_rejected_is_not_serving() -> None:
    base = after(BASE, begun(B, 5))
    ours = after(base, Promoted("numbers", B, "", moment(8)))
    theirs = after(ours, Rejected("numbers", B, "slow"), Promoted("numbers", A, "", moment(1)))
    merged = merge(base, ours, theirs)
    assert (model(merged.lock).serving, model(merged.lock).rejected) == (A, (B,))
    assert merged.notes == (f"numbers: {B} is not serving because one side rejected it; {A} is serving",)
    alone = merge(lock_of(generation(B)), lock_of(generation(B), serving=B), lock_of(generation(B), rejected=(B,)))
    assert (model(alone.lock).serving, alone.notes) == (
        None,
        (f"numbers: {B} is not serving because one side rejected it; no generation is serving",),
    )


def test_a_promotion_wins_over_a_rejection_without_replacement() -> None:
    ours, theirs = (
        after(BASE, Rejected("numbers", A, "slow")),
        after(BASE, begun(B, 5), Promoted("numbers", B, "", moment(8))),
    )
    merged = merge(BASE, ours, theirs)
    assert (model(merged.lock).serving, model(merged.lock).rejected) == (B, (A,))
    assert merged.notes == (
        f"numbers: one side promoted {B}, and on the other no generation is serving; {B} is serving",
    )


def test_a_promoted_generation_that_is_missing_on_the_other_side_is_noted() -> None:
    base = after(BASE, begun(B, 5))
    ours = after(base, Promoted("numbers", B, "", moment(8)))
    theirs = after(base, Disappeared("numbers", B))
    merged = merge(base, ours, theirs)
    assert model(merged.lock).serving == B
    assert merged.notes == (
        f"numbers: {B} is serving on one side and MISSING on the other; run reconcile apply to fix this",
    )


def test_a_revoked_rejection_leaves_no_reason() -> None:
    base = after(BASE, begun(B, 5), Rejected("numbers", B, "slow"))
    ours = after(base, Restored("numbers", B))
    theirs = after(base, Disappeared("numbers", B))
    merged = model(merge(base, ours, theirs).lock)
    assert (merged.rejected, merged.generation(B)) == (
        (),
        replace(generation(B), create_time=moment(5), state=State.MISSING),
    )


def test_two_reasons_for_one_rejection_are_both_kept() -> None:
    base = after(BASE, begun(B, 5))
    ours, theirs = (after(base, Rejected("numbers", B, reason)) for reason in ("too slow", "it is rude"))
    merged = merge(base, ours, theirs).lock
    rejected = model(merged).generation(B)
    assert rejected
    assert rejected.rejection == "it is rude; too slow"
    assert merge(base, merged, theirs).lock == merged


ACTIVE = generation(A, create_time=moment(0), complete_time=moment(2), final_loss=3.5)
CREATING = generation(A, state=State.CREATING, create_time=moment(0), operation="operations/1")


@each_row(
    ("ours", "theirs", "state"),
    [
        (State.CREATING, State.ACTIVE, State.ACTIVE),
        (State.INTENDED, State.CREATING, State.CREATING),
        (State.ACTIVE, State.MISSING, State.MISSING),
        (State.MISSING, State.FAILED, State.FAILED),
        (State.MISSING, State.CANCELLED, State.CANCELLED),
        (State.ACTIVE, State.DELETED, State.DELETED),
        (State.FAILED, State.DELETED, State.DELETED),
    ],
)
def test_the_later_state_of_one_training_counts(ours: State, theirs: State, state: State) -> None:
    merged = merge(None, lock_of(replace(CREATING, state=ours)), lock_of(replace(ACTIVE, state=theirs))).lock
    (found,) = model(merged).generations
    assert (found.state, found.operation, found.final_loss) == (state, "operations/1", 3.5)


def test_a_failed_training_keeps_its_reason() -> None:
    failed = replace(CREATING, state=State.FAILED, failure=Failure(3, "no"))
    gone = replace(CREATING, state=State.MISSING, complete_time=moment(3))
    (found,) = model(merge(lock_of(CREATING), lock_of(failed), lock_of(gone)).lock).generations
    assert (found.state, found.failure, found.complete_time) == (State.FAILED, Failure(3, "no"), moment(3))


def test_a_model_that_was_found_again_is_ready() -> None:
    lost = replace(ACTIVE, state=State.MISSING)
    (found,) = model(merge(lock_of(lost), lock_of(ACTIVE), lock_of(replace(lost, preamble="x"))).lock).generations
    assert (found.state, found.preamble) == (State.ACTIVE, "x")


def test_an_adopted_record_gets_the_values_of_the_created_one() -> None:
    adopted = replace(ACTIVE, origin="adopted", dataset=Dataset(DIGEST, "", 0), hyperparameters=LockedHyperparameters())
    created = replace(ACTIVE, hyperparameters=LockedHyperparameters({"epochCount": 3}), preamble="Say: ")
    (found,) = model(merge(None, lock_of(adopted), lock_of(created)).lock).generations
    assert found == created


def test_a_new_training_on_one_side_is_kept() -> None:
    lost = replace(ACTIVE, state=State.MISSING)
    newer = replace(CREATING, remote="jobs/2", create_time=moment(9))
    touched = replace(lost, checks=RecordedChecks(DIGEST, 1, 0))
    assert model(merge(lock_of(lost), lock_of(newer), lock_of(touched)).lock).generations == (newer,)


def test_of_two_trainings_with_one_key_the_earlier_is_kept_and_noted() -> None:
    first, second = (replace(CREATING, remote=f"jobs/{number}", create_time=moment(number)) for number in (1, 2))
    merged = merge(None, lock_of(second), lock_of(first))
    assert model(merged.lock).generations == (first,)
    assert merged.notes == (f"numbers: {A} was trained on both sides, as jobs/1 and jobs/2; jobs/1 is kept",)
    ready = replace(second, state=State.ACTIVE)
    assert model(merge(None, lock_of(first), lock_of(ready)).lock).generations == (ready,)


def test_an_intent_becomes_the_training_of_the_other_side() -> None:
    intent = replace(CREATING, remote="", create_time="", operation=None, state=State.INTENDED)
    merged = merge(lock_of(intent), lock_of(replace(intent, rejection="slow")), lock_of(CREATING))
    assert model(merged.lock).generations == (replace(CREATING, rejection="slow"),)
    assert merged.notes == ()


OLD, NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@each_row(
    ("ours", "theirs", "kept"),
    [
        (RecordedChecks(OLD, 1, 1), RecordedChecks(NEW, 2, 0), RecordedChecks(NEW, 2, 0)),
        (RecordedChecks(NEW, 1, 1), RecordedChecks(NEW, 2, 0), RecordedChecks(NEW, 1, 1)),
        (None, RecordedChecks(NEW, 2, 0), RecordedChecks(NEW, 2, 0)),
    ],
    ids=["the newer checks", "the worse result", "the only result"],
)
def test_which_result_of_checks_is_kept(
    ours: RecordedChecks | None, theirs: RecordedChecks, kept: RecordedChecks
) -> None:
    base = lock_of(replace(ACTIVE, checks=RecordedChecks(OLD, 2, 0)))
    merged = merge(base, lock_of(replace(ACTIVE, checks=ours)), lock_of(replace(ACTIVE, checks=theirs)))
    (found,) = model(merged.lock).generations
    assert found.checks == kept
    note = f"numbers: the results of the checks of {A} differ; the result with {kept.failed} of 2 failed is kept"
    assert merged.notes == ((note,) if ours else ())


def test_a_removed_generation_stays_removed_unless_the_other_side_changed_it() -> None:
    base = lock_of(ACTIVE, replace(ACTIVE, key=B), replace(ACTIVE, key=C))
    ours = lock_of(replace(ACTIVE, preamble="changed"), replace(ACTIVE, key=C))
    theirs = lock_of(replace(ACTIVE, key=B))
    merged = merge(base, ours, theirs)
    assert keys(merged.lock) == [A]
    assert merged.notes == (f"numbers: {A} was removed on one side and changed on the other: it is kept",)


def test_a_forgotten_model_stays_forgotten_unless_the_other_side_changed_it() -> None:
    forgotten = Lock(TARGET)
    assert merge(BASE, forgotten, BASE).lock == forgotten
    grown = after(BASE, begun(B, 5))
    merged = merge(BASE, forgotten, grown)
    assert merged.lock == grown
    assert merged.notes == ("numbers was removed from the lockfile on one side and changed on the other: it is kept",)
    assert merge(None, forgotten, BASE).lock == BASE


def test_a_promoted_generation_is_kept_although_the_other_side_removed_it() -> None:
    base = lock_of(ACTIVE, replace(ACTIVE, key=B), serving=A)
    ours = lock_of(ACTIVE, replace(ACTIVE, key=B), serving=B)
    merged = merge(base, ours, lock_of(ACTIVE, serving=A, protect=True)).lock
    assert (keys(merged), model(merged).serving, model(merged).protect) == ([B, A], B, True)


def test_rejected_protect_and_published() -> None:
    base = lock_of(ACTIVE, rejected=(B, C), published=A, protect=True)
    ours = lock_of(ACTIVE, rejected=(C, "numbers-y"), published=A, protect=False)
    theirs = lock_of(ACTIVE, rejected=(B, C, "numbers-x"), published=B, protect=True)
    merged = model(merge(base, ours, theirs).lock)
    assert (merged.rejected, merged.published, merged.protect) == ((C, "numbers-x", "numbers-y"), B, False)


def test_each_limit_is_merged_alone() -> None:
    base, ours, theirs = (
        Lock(replace(TARGET, limits=limits))
        for limits in ({"maxCreates": 5, "maxSteps": 7}, {"maxCreates": 6, "concurrency": 3}, {"maxCreates": 4})
    )
    merged = merge(base, ours, theirs).lock.target
    assert merged
    assert merged.limits == {"maxCreates": 4, "concurrency": 3}
    assert merge(None, Lock(), ours).lock == ours


@each_row("field", ["provider", "project", "location", "scope"])
def test_locks_of_different_targets_are_not_merged(field: str) -> None:
    other = Lock(replace(TARGET, **{field: "other"}))
    with pytest.raises(ReconcileError) as caught:
        merge(None, Lock(TARGET), other)
    first = str(getattr(TARGET, field))
    assert str(caught.value) == (
        f"the sides of this merge differ in the {field} of their target: {' and '.join(sorted((first, 'other')))}; "
        "take one side (`git checkout --ours FILE` or `--theirs`, then `git add FILE`), and run reconcile refresh"
    )


def test_an_ancestor_of_another_target_is_ignored() -> None:
    base = Lock(replace(TARGET, scope="other"), BASE.models)
    assert merge(base, BASE, Lock(TARGET)).lock == BASE
