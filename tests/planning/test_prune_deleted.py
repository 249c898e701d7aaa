"""What becomes of the lockfile's block of a model when its generations are deleted."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Failure, Resources, State
from reconciler.planning.events import Deleted, Ended, Event, Published, Unprotected, Unserved, record
from support.cases import each_row
from support.core_cases import at
from support.core_strategies import generation

KEY = "numbers-aaaaaaaa"
REMOTE = f"tunedModels/{KEY}"


def lock_of(*generations: LockedGeneration, **fields: object) -> Lock:
    block = LockedModel("numbers.yaml", generations=generations)
    return Lock(models={"numbers": replace(block, **fields)})  # type: ignore[arg-type]  # fields of a LockedModel


def test_what_was_deleted_stays_as_provenance() -> None:
    made = Resources(job="jobs/1", model="models/1@1", endpoint="endpoints/1")
    before = lock_of(generation(KEY, resources=made, promote_time=at(0)))
    after = record(before, Deleted("numbers", KEY, REMOTE))
    assert after.models["numbers"].generation(KEY) == replace(
        before.models["numbers"].generations[0], state=State.DELETED
    )


@each_row(
    ("state", "failure", "kept"),
    [
        (State.FAILED, Failure(3, "No."), Failure(3, "No.")),
        (State.FAILED, None, Failure(2, "the training failed; the service reported no reason")),
        (State.CANCELLED, None, Failure(1, "the training was canceled")),
        (State.ACTIVE, None, None),
    ],
)
def test_that_a_training_ended_badly_stays_recorded(
    state: State, failure: Failure | None, kept: Failure | None
) -> None:
    after = record(lock_of(generation(KEY, state=state, failure=failure)), Deleted("numbers", KEY, REMOTE))
    (one,) = after.models["numbers"].generations
    assert (one.state, one.failure) == (State.DELETED, kept)


@each_row(
    "event",
    [
        Deleted("words", "words-aaaaaaaa", REMOTE),
        Deleted("numbers", "numbers-bbbbbbbb", REMOTE),
        Deleted("numbers", KEY, "tunedModels/another"),
        Unserved("numbers", "numbers-bbbbbbbb"),
        Unprotected("numbers"),
        Ended("numbers"),
    ],
)
def test_what_is_not_recorded_so_changes_nothing(event: Event) -> None:
    before = lock_of(generation(KEY), serving=KEY)
    assert record(before, event) is before


def test_ten_that_are_gone_stay_recorded_and_those_that_decide_something() -> None:
    every = [generation(f"numbers-{number:08}", create_time=at(-number)) for number in range(20)]
    lock = lock_of(*every, serving=every[0].key, rejected=(every[19].key,))
    for one in every[1:]:
        lock = record(lock, Deleted("numbers", one.key, one.remote))
    left = lock.models["numbers"].generations
    assert [one.key for one in left] == [one.key for one in (*every[:11], every[19])]


@each_row(("failures", "records"), [(8, 2), (9, 1), (10, 0), (12, 0)])
def test_those_that_failed_count_and_stay_until_they_are_deleted(failures: int, records: int) -> None:
    failed = [generation(f"numbers-{number:08}", state=State.FAILED) for number in range(failures)]
    ready = [generation(f"numbers-1{number:07}") for number in range(5)]
    lock = lock_of(*failed, *ready)
    for one in ready:
        lock = record(lock, Deleted("numbers", one.key, one.remote))
    states = [one.state for one in lock.models["numbers"].generations]
    assert (states.count(State.FAILED), states.count(State.DELETED)) == (failures, records)


def test_protection_is_lifted_and_service_ended() -> None:
    lock = lock_of(generation(KEY), serving=KEY, protect=True)
    lock = record(record(lock, Unprotected("numbers")), Unserved("numbers", KEY))
    assert (lock.models["numbers"].protect, lock.models["numbers"].serving) == (False, None)


@each_row(
    ("states", "leaves"),
    [
        ([State.DELETED, State.MISSING], True),
        ([State.DELETED, State.INTENDED], False),
        ([State.DELETED, State.ACTIVE], False),
        ([State.FAILED], False),
    ],
)
def test_an_orphan_leaves_the_lockfile_only_if_all_its_generations_are_gone(
    states: list[State], *, leaves: bool
) -> None:
    every = [generation(f"numbers-{number:08}", state=state) for number, state in enumerate(states)]
    before = lock_of(*every)
    after = record(before, Ended("numbers"))
    assert after == (Lock() if leaves else before)


def test_all_missing_generations_are_removed_where_more_than_ten_failed() -> None:
    failed = [generation(f"numbers-{number:08}", state=State.FAILED) for number in range(12)]
    missing = [generation(f"numbers-1{number:07}", state=State.MISSING) for number in range(3)]
    last = generation("numbers-99999999")
    after = record(lock_of(*failed, *missing, last), Deleted("numbers", last.key, last.remote))
    assert {model.state for model in after.models["numbers"].generations} == {State.FAILED}


def test_missing_generations_count_among_the_deleted_ones() -> None:
    missing = [generation(f"numbers-{number:08}", state=State.MISSING) for number in range(10)]
    last = generation("numbers-99999999", create_time=at(-1))
    after = record(lock_of(*missing, last), Deleted("numbers", last.key, last.remote))
    assert len(after.models["numbers"].generations) == 10


@each_row(("fields", "leaves"), [({}, True), ({"protect": True}, False), ({"rejected": (KEY,)}, False)])
def test_a_model_of_which_nothing_is_left_leaves_the_lockfile_unless_it_decides_something(
    fields: dict[str, object], *, leaves: bool
) -> None:
    after = record(lock_of(generation(KEY, state=State.DELETED), **fields), Ended("numbers"))
    assert ("numbers" not in after.models) == leaves


def test_what_applications_were_told_stays_until_they_are_told_better() -> None:
    told = record(lock_of(generation(KEY, state=State.DELETED), published=KEY), Ended("numbers"))
    assert told.models == {"numbers": LockedModel("numbers.yaml", published=KEY)}
    assert record(told, Published("numbers", None)).models == {}
