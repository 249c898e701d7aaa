"""How each event changes the lock, and which change nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, Miss, RecordedChecks, RecordedMiss, check_results
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import MAX_DECISIONS, Decision, Lock, LockedHyperparameters, LockedModel, LockedTarget
from reconciler.domain.model import (
    DroppedExample,
    DroppedExamples,
    Failure,
    RemoteModel,
    Resources,
    Sampling,
    Snapshot,
    State,
)
from reconciler.planning.events import (
    Adopted,
    Cancelled,
    Checked,
    Checking,
    Completed,
    Decided,
    Declared,
    Disappeared,
    Dropped,
    Event,
    Failed,
    Forgotten,
    Intended,
    Progressed,
    Promoted,
    Published,
    Refused,
    Rejected,
    Renamed,
    Restored,
    Started,
    Targeted,
    Updated,
    Withdrawn,
    declared,
    record,
    update_observed,
)
from support.cases import each_row
from support.core_cases import Made, manifest
from support.core_strategies import DIGEST, generation

KEY = "numbers-aaaaaaaa"
REMOTE = f"tunedModels/{KEY}"
CREATING = generation(KEY, state=State.CREATING)
LOCK = Lock(models={"numbers": LockedModel("numbers.yaml", generations=(CREATING,))})
CURVE = (Snapshot(1, 0, 9.0), Snapshot(2, 0, 7.5))
TRAINING = RemoteModel(
    REMOTE,
    State.CREATING,
    hyperparameters={"epochCount": 3},
    create_time="2026-01-01T00:00:00Z",
    start_time="2026-01-01T00:00:01Z",
    snapshots=CURVE,
    completed_steps=2,
    total_steps=23,
)
READY = replace(
    TRAINING, state=State.ACTIVE, complete_time="2026-01-01T00:01:00Z", snapshots=(*CURVE, Snapshot(23, 2, 3.8))
)


def the_one(lock: Lock) -> object:
    (one,) = lock.models["numbers"].generations
    return one


def test_a_target_is_recorded() -> None:
    target = LockedTarget("default", "embedded", "demo")
    assert record(Lock(), Targeted(target)) == Lock(target)


def test_the_last_decision_comes_first_and_the_oldest_are_dropped() -> None:
    made = [Decision(time="2026-01-01T00:00:00Z", action="promote", model=f"m{number}") for number in range(3)]
    full = Lock(history=(made[1], *[made[0]] * (MAX_DECISIONS - 1)))
    after = record(full, Decided(made[2])).history
    assert (after[:3], len(after)) == ((made[2], made[1], made[0]), MAX_DECISIONS)


@pytest.mark.parametrize("kind", [Started, Adopted])
def test_a_first_generation_opens_a_block_and_the_next_goes_before_it(kind: type[Started | Adopted]) -> None:
    lock = record(Lock(), kind("numbers", "numbers.yaml", CREATING))
    assert lock == LOCK
    newer = generation("numbers-bbbbbbbb")
    lock = record(lock, kind("numbers", "moved.yaml", newer))
    assert lock.models["numbers"] == LockedModel("moved.yaml", generations=(newer, CREATING))


def test_a_generation_that_starts_again_takes_its_own_place() -> None:
    older = generation("numbers-bbbbbbbb")
    block = LockedModel("numbers.yaml", KEY, generations=(replace(CREATING, state=State.MISSING), older))
    lock = record(Lock(models={"numbers": block}), Started("numbers", "numbers.yaml", CREATING))
    assert lock.models["numbers"] == replace(block, serving=None, generations=(CREATING, older))


def test_a_training_leaves_another_generation_serving() -> None:
    serving = generation("numbers-bbbbbbbb")
    block = LockedModel("numbers.yaml", serving.key, generations=(serving,))
    lock = record(Lock(models={"numbers": block}), Started("numbers", "numbers.yaml", CREATING))
    assert lock.models["numbers"] == replace(block, generations=(CREATING, serving))


def test_an_adopted_ready_generation_keeps_serving() -> None:
    block = LockedModel("numbers.yaml", KEY, generations=(generation(KEY),))
    lock = record(Lock(models={"numbers": block}), Adopted("numbers", "numbers.yaml", generation(KEY, attempt=1)))
    assert lock.models["numbers"].serving == KEY


@pytest.mark.parametrize(("remote", "state"), [(REMOTE, State.CANCELLED), ("jobs/2", State.CREATING)])
def test_a_canceled_training_stays_canceled_unless_another_one_started(remote: str, state: State) -> None:
    lock = Lock(models={"numbers": LockedModel("numbers.yaml", generations=(generation(KEY, state=State.CANCELLED),))})
    lock = record(lock, Started("numbers", "numbers.yaml", replace(CREATING, remote=remote)))
    (recorded,) = lock.models["numbers"].generations
    assert (recorded.remote, recorded.state) == (remote, state)


@each_row(("sampling", "recorded"), [(Sampling(), None), (Sampling(temperature=0.5), Sampling(temperature=0.5))])
@each_row("protect", [True, False])
def test_the_fields_of_a_manifest_are_recorded(sampling: Sampling, recorded: Sampling | None, *, protect: bool) -> None:
    plain = manifest(Made())
    lifecycle = replace(plain.lifecycle, protect=protect)
    described = replace(plain, file="moved.yaml", lifecycle=lifecycle, labels={"team": "core"}, sampling=sampling)
    model = record(LOCK, declared(described)).models["numbers"]
    assert (model.manifest, model.protect, model.labels, model.sampling) == (
        "moved.yaml",
        protect,
        {"team": "core"},
        recorded,
    )


def test_rejections_add_up_and_are_taken_back_one_by_one() -> None:
    other = generation("numbers-bbbbbbbb")
    block = LockedModel("numbers.yaml", other.key, generations=(CREATING, other))
    lock = record(Lock(models={"numbers": block}), Rejected("numbers", KEY, "a"))
    assert (lock.models["numbers"].rejected, lock.models["numbers"].serving) == ((KEY,), other.key)
    lock = record(lock, Rejected("numbers", other.key, "b"))
    assert lock.models["numbers"].rejected == (KEY, other.key)
    assert record(lock, Restored("numbers", KEY)).models["numbers"].rejected == (other.key,)


RENAMED = Renamed("counter", "numbers", "counter.yaml")


@pytest.mark.parametrize(
    "models", [{}, {"numbers": LockedModel("numbers.yaml", published=KEY)}], ids=["unknown", "only published"]
)
def test_a_former_name_without_records_changes_nothing(models: dict[str, LockedModel]) -> None:
    lock = Lock(models=models)
    assert record(lock, RENAMED) is lock


@each_row(
    "event",
    [
        Started("numbers", "numbers.yaml", CREATING),
        Promoted("numbers", KEY, REMOTE),
        Published("numbers", KEY),
        Forgotten("numbers"),
        RENAMED,
    ],
    ids=lambda event: type(event).__name__,
)
def test_other_models_stay_recorded(event: Event) -> None:
    words = LockedModel("words.yaml", generations=(generation("words-aaaaaaaa"),))
    numbers = LockedModel("numbers.yaml", generations=(generation(KEY),))
    assert record(Lock(models={"words": words, "numbers": numbers}), event).models["words"] == words


@each_row(("present", "former"), [(True, False), (False, True), (False, False)])
def test_a_renamed_model_is_protected_if_either_record_is(*, present: bool, former: bool) -> None:
    models = {
        "numbers": LockedModel("numbers.yaml", protect=former, generations=(CREATING,)),
        "counter": LockedModel("counter.yaml", protect=present),
    }
    assert record(Lock(models=models), RENAMED).models["counter"].protect == (present or former)


@pytest.mark.parametrize(("serving", "merged"), [(None, KEY), ("numbers-bbbbbbbb", "numbers-bbbbbbbb")])
def test_records_of_a_former_name_are_merged_with_those_of_the_present_one(serving: str | None, merged: str) -> None:
    present = generation("numbers-bbbbbbbb")
    former = LockedModel("numbers.yaml", KEY, ("numbers-cccccccc",), protect=True, generations=(CREATING,))
    already = LockedModel("old.yaml", serving, ("numbers-dddddddd",), generations=(present,))
    lock = record(Lock(models={"numbers": former, "counter": already}), RENAMED)
    assert lock.models.keys() == {"counter"}
    counter = lock.models["counter"]
    assert (counter.manifest, counter.serving, counter.protect) == ("counter.yaml", merged, True)
    assert counter.rejected == ("numbers-dddddddd", "numbers-cccccccc")
    assert {model.key for model in counter.generations} == {KEY, present.key}


def test_what_is_declared_is_recorded_beside_the_generations() -> None:
    lock = record(LOCK, Declared("numbers", "moved.yaml", protect=True))
    assert lock.models["numbers"] == LockedModel("moved.yaml", protect=True, generations=(CREATING,))
    assert record(lock, Declared("numbers", "numbers.yaml", protect=False)) == LOCK


def test_the_first_progress_tells_what_the_service_chose_and_no_loss() -> None:
    lock = record(LOCK, Progressed("numbers", KEY, TRAINING, 23))
    assert the_one(lock) == replace(
        CREATING,
        hyperparameters=LockedHyperparameters(effective={"epochCount": 3}),
        create_time="2026-01-01T00:00:00Z",
        total_steps=23,
    )


def test_further_progress_changes_nothing() -> None:
    lock = record(LOCK, Progressed("numbers", KEY, TRAINING, 23))
    later = replace(TRAINING, snapshots=READY.snapshots, completed_steps=22)
    assert record(lock, Progressed("numbers", KEY, later, 23)) is lock


def test_the_last_loss_is_recorded_when_it_is_over() -> None:
    lock = record(LOCK, Completed("numbers", KEY, READY))
    assert the_one(lock) == replace(
        CREATING,
        state=State.ACTIVE,
        hyperparameters=LockedHyperparameters(effective={"epochCount": 3}),
        create_time="2026-01-01T00:00:00Z",
        complete_time="2026-01-01T00:01:00Z",
        total_steps=23,
        final_loss=3.8,
    )


@each_row("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_json_cannot_hold_is_not_recorded(loss: float) -> None:
    failure = Failure(3, "the loss is not a number")
    model = replace(TRAINING, state=State.FAILED, snapshots=(Snapshot(1, 0, loss),), failure=failure)
    one = update_observed(CREATING, model)
    assert (one.state, one.failure, one.final_loss) == (State.FAILED, failure, None)


def test_what_the_service_no_longer_tells_is_kept() -> None:
    known = update_observed(CREATING, replace(READY, failure=Failure(3, "no")))
    assert update_observed(known, RemoteModel(REMOTE, State.ACTIVE)) == known


def test_phase_and_epochs_are_recorded_while_a_training_runs() -> None:
    waiting = update_observed(CREATING, replace(TRAINING, phase="WAITING_FOR_QUOTA", completed_epochs=0))
    assert (waiting.phase, waiting.completed_epochs) == ("WAITING_FOR_QUOTA", 0)
    assert update_observed(waiting, replace(TRAINING, phase="ON_ANOTHER_HOST")).phase == "", "it depends on the reader"
    ended = update_observed(waiting, replace(READY, phase="WAITING_FOR_QUOTA", completed_epochs=3))
    assert (ended.phase, ended.completed_epochs) == ("", None)


def test_places_of_dropped_examples_are_kept_while_the_service_lists_the_same() -> None:
    listed = DroppedExamples(1, (DroppedExample(2, "empty"),))
    placed = DroppedExamples(1, (DroppedExample(2, "empty", "data.csv:3"),))
    known = update_observed(CREATING, replace(READY, dropped_examples=placed))
    assert known.dropped_examples == placed
    assert update_observed(known, replace(READY, dropped_examples=listed)) == known
    more = DroppedExamples(2, listed.sample)
    assert update_observed(known, replace(READY, dropped_examples=more)).dropped_examples == more
    assert update_observed(known, READY).dropped_examples is None, "a forged record does not stay"


def test_the_failure_is_recorded_with_its_message() -> None:
    failure = Failure(3, "the loss is not a number")
    lock = record(LOCK, Failed("numbers", KEY, replace(TRAINING, state=State.FAILED, failure=failure)))
    assert lock.models["numbers"].generations[0].failure == failure
    assert lock.models["numbers"].generations[0].state is State.FAILED


def test_what_is_gone_is_missing_and_keeps_its_record() -> None:
    assert the_one(record(LOCK, Disappeared("numbers", KEY))) == replace(CREATING, state=State.MISSING)


def test_what_is_promoted_serves() -> None:
    assert record(LOCK, Promoted("numbers", KEY, REMOTE)).models["numbers"] == LockedModel(
        "numbers.yaml", KEY, generations=(CREATING,)
    )


def test_when_what_serves_was_promoted_is_recorded() -> None:
    lock = record(LOCK, Promoted("numbers", KEY, REMOTE, "2026-01-01T12:00:00Z"))
    assert the_one(lock).promote_time == "2026-01-01T12:00:00Z"


def test_a_rejection_is_remembered_with_its_reason_until_it_is_taken_back() -> None:
    serving = record(LOCK, Promoted("numbers", KEY, REMOTE))
    rejected = record(serving, Rejected("numbers", KEY, "too slow")).models["numbers"]
    assert (rejected.serving, rejected.rejected) == (None, (KEY,))
    assert rejected.generations[0].rejection == "too slow"
    twice = record(record(serving, Rejected("numbers", KEY, "a")), Rejected("numbers", KEY, "b")).models["numbers"]
    assert twice.rejected == (KEY,)
    restored = record(Lock(models={"numbers": rejected}), Restored("numbers", KEY))
    assert restored == LOCK


def test_how_checks_went_is_recorded_in_short() -> None:
    results = (
        CheckResult(name="small", passed=True, passes=1, answers=1, score=1, minimum=1.0),
        CheckResult(
            name="big", passed=False, passes=0, answers=1, score=0, minimum=1.0, misses=(Miss("8", "10", "expected 9"),)
        ),
    )
    lock = record(LOCK, Checked("numbers", KEY, check_results(DIGEST, results)))
    assert the_one(lock).checks == RecordedChecks(DIGEST, 1, 1, {}, (RecordedMiss("big", "8", "10"),))


def test_what_was_published_is_remembered() -> None:
    lock = record(LOCK, Published("numbers", KEY))
    assert lock.models["numbers"].published == KEY
    assert record(lock, Published("numbers", None)) == LOCK


@each_row(
    "event",
    [
        Checking("numbers", KEY, 1, 2, 1),
        Restored("numbers", KEY),
        Promoted("words", KEY, REMOTE),
        Checked("words", KEY, check_results(DIGEST, ())),
    ],
    ids=["progress", "not rejected", "another's promotion", "another's checks"],
)
def test_what_changes_nothing_leaves_the_very_lock(event: Event) -> None:
    assert record(LOCK, event) is LOCK


INTENT = generation(KEY, state=State.INTENDED, remote="")
MISSING = generation(KEY, state=State.MISSING, attempt=2)
REFUSED = Withdrawn("numbers", KEY)


def test_an_intent_opens_a_block_and_leaves_none_when_it_is_withdrawn() -> None:
    lock = record(Lock(), Intended("numbers", "numbers.yaml", INTENT))
    assert lock == Lock(models={"numbers": LockedModel("numbers.yaml", generations=(INTENT,))})
    assert record(lock, REFUSED) == Lock()


def test_what_an_intent_took_the_place_of_comes_back_when_it_is_withdrawn() -> None:
    before = Lock(models={"numbers": LockedModel("numbers.yaml", KEY, generations=(MISSING, generation("numbers-b")))})
    lock = record(before, Intended("numbers", "numbers.yaml", INTENT))
    assert lock.models["numbers"].generation(KEY) == INTENT
    assert record(lock, replace(REFUSED, before=MISSING)) == before


def test_what_serves_gives_way_only_when_its_successor_was_begun() -> None:
    lock = Lock(models={"numbers": LockedModel("numbers.yaml", KEY, generations=(MISSING,))})
    lock = record(lock, Intended("numbers", "numbers.yaml", INTENT))
    assert lock.models["numbers"].serving == KEY
    assert record(lock, Started("numbers", "numbers.yaml", CREATING)).models["numbers"].serving is None


def test_what_was_rolled_back_is_remembered_when_an_intent_is_withdrawn() -> None:
    block = LockedModel("numbers.yaml", rejected=("numbers-b",))
    lock = record(Lock(models={"numbers": block}), Intended("numbers", "numbers.yaml", INTENT))
    assert record(lock, REFUSED) == Lock(models={"numbers": block})


def test_what_another_run_began_meanwhile_outlives_intents_and_refusals() -> None:
    assert record(LOCK, Intended("numbers", "numbers.yaml", INTENT)) is LOCK
    assert record(LOCK, REFUSED) is LOCK
    begun = record(LOCK, Started("numbers", "numbers.yaml", CREATING))
    assert begun is LOCK


@each_row("kind", [Completed, Failed, Cancelled])
def test_what_became_of_another_training_of_that_key_is_not_recorded(
    kind: type[Completed | Failed | Cancelled],
) -> None:
    assert record(LOCK, kind("numbers", KEY, replace(READY, remote="jobs/2"))) is LOCK


def test_what_a_training_made_is_recorded_as_the_service_reports_it() -> None:
    made = Resources(job="jobs/1", endpoint="endpoints/1")
    known = update_observed(CREATING, replace(READY, resources=made))
    assert known.resources == made
    assert update_observed(known, READY).resources == Resources()


@each_row(
    "event",
    [
        Dropped("numbers", KEY, "jobs/2"),
        Withdrawn("numbers", "unknown"),
        Withdrawn("unknown", KEY),
        Updated("numbers", KEY, ("description",)),
        Refused("numbers", ReconcileError("no")),
        Declared("numbers", "numbers.yaml", protect=False),
        Completed("numbers", "unknown", READY),
        Disappeared("numbers", "unknown"),
        Declared("unknown", "unknown.yaml", protect=True),
        Progressed("unknown", KEY, TRAINING, 23),
        Completed("unknown", KEY, READY),
        Failed("unknown", KEY, READY),
        Disappeared("unknown", KEY),
        Promoted("unknown", KEY, REMOTE),
        Started("numbers", "numbers.yaml", CREATING),
    ],
    ids=lambda event: f"{type(event).__name__} {event.name}",
)
def test_what_changes_nothing_gives_the_very_same_lock(event: Event) -> None:
    assert record(LOCK, event) is LOCK


def test_the_lock_before_an_event_is_left_as_it_was() -> None:
    before = {**LOCK.models}
    record(LOCK, Promoted("numbers", KEY, REMOTE))
    assert LOCK.models == before
