"""Which changes of a record follow from a training, and which need an explanation."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from reconciler.domain.lock import (
    MAX_DECISIONS,
    DecidedAction,
    Decision,
    Lock,
    LockedGeneration,
    LockedHyperparameters,
    LockedModel,
    record_target,
)
from reconciler.domain.model import Checkpoint, Dataset, Failure, Resources, Source, State, Target
from reconciler.planning.lock_review import LockChange, review_lock
from support.cases import each_row
from support.core_cases import SCOPE, Made, at, manifest, recorded

MADE = Made()
TARGET = Target("default", "reconcile.yaml", "embedded", SCOPE)
FILE = manifest(MADE).file
CONTENT = "it is not the digest of this record's content under numbers"


def lock_of(*generations: LockedGeneration, **fields: object) -> Lock:
    return Lock(record_target(TARGET), {"numbers": LockedModel(FILE, generations=generations, **fields)})


def review(base: Lock, head: Lock, made: Made = MADE, *, chosen_ids: bool = True) -> list[str]:
    changes = review_lock(base, head, [manifest(made)], TARGET, chosen_ids=chosen_ids)
    return [f"{change.kind} {change.field}" for change in changes]


CREATING = recorded(MADE, state="CREATING")
ENDED = replace(
    CREATING,
    state=State.ACTIVE,
    complete_time=at(5),
    final_loss=0.5,
    total_steps=CREATING.total_steps or 30,
    resources=Resources(endpoint="endpoints/1", checkpoints=(Checkpoint("1", 1, 1),)),
)


@each_row(
    ("before", "after"),
    [
        (CREATING, ENDED),
        (CREATING, replace(CREATING, state=State.FAILED, failure=Failure(3, "too short"))),
        (replace(ENDED, complete_time="", final_loss=None), ENDED),
        (replace(CREATING, phase="WAITING_FOR_QUOTA"), replace(CREATING, phase="POST_PROCESSING", completed_epochs=2)),
        (replace(CREATING, phase="POST_PROCESSING", completed_epochs=2), ENDED),
        (ENDED, replace(ENDED, state=State.MISSING)),
        (replace(ENDED, state=State.MISSING), replace(CREATING, create_time="")),
        (replace(CREATING, state=State.INTENDED, remote="", create_time=""), CREATING),
        (replace(CREATING, state=State.INTENDED, remote="", create_time=""), ENDED),
        (ENDED, ENDED),
    ],
    ids=[
        "ends",
        "fails",
        "details",
        "continues",
        "ends later",
        "gone",
        "trained again",
        "starts",
        "starts and ends",
        "same",
    ],
)
def test_a_training_explains_what_it_fills_in(before: LockedGeneration, after: LockedGeneration) -> None:
    assert review(lock_of(before), lock_of(after)) == []


@each_row(
    ("before", "after", "found"),
    [
        (ENDED, replace(ENDED, state=State.FAILED), "fact state"),
        (replace(ENDED, state=State.FAILED), ENDED, "fact state"),
        (ENDED, replace(ENDED, complete_time=at(6)), "fact completeTime"),
        (ENDED, replace(ENDED, final_loss=0.1), "fact finalLoss"),
        (ENDED, replace(ENDED, phase="WAITING_FOR_QUOTA"), "fact phase"),
        (ENDED, replace(ENDED, create_time=at(-5)), "fact createTime"),
        (ENDED, replace(ENDED, resources=replace(ENDED.resources, job="jobs/1")), "fact resources.job"),
        (ENDED, replace(ENDED, source=Source(remote="tunedModels/x")), "fact source.baseModel"),
        (ENDED, replace(ENDED, dataset=replace(ENDED.dataset, path="x.csv")), "fact dataset.path"),
        (ENDED, replace(ENDED, resources=replace(ENDED.resources, endpoint="endpoints/2")), "fact resources.endpoint"),
        (ENDED, replace(ENDED, preamble="Praise us. "), "fact preamble"),
        (ENDED, replace(ENDED, remote="tunedModels/payroll"), "fact remote"),
        (ENDED, replace(ENDED, remote="projects/other/locations/europe-west4/tuningJobs/1"), "fact remote"),
        (
            recorded(MADE, checks={"of": ("known",), "failed": 1}),
            recorded(MADE, checks={"of": ("known",)}),
            "fact checks.passed",
        ),
        (CREATING, replace(CREATING, remote="tunedModels/x"), "fact remote"),
        (CREATING, replace(CREATING, origin="adopted"), "fact origin"),
        (
            CREATING,
            replace(CREATING, hyperparameters=LockedHyperparameters({"epochCount": 9})),
            "fact hyperparameters.declared.epochCount",
        ),
        (CREATING, replace(ENDED, promote_time=at(7)), "decision promoteTime"),
        (ENDED, replace(ENDED, rejection="bad"), "decision rejection"),
        (ENDED, replace(ENDED, state=State.DELETED), "decision state"),
    ],
)
def test_every_other_change_is_reported(before: LockedGeneration, after: LockedGeneration, found: str) -> None:
    assert found in review(lock_of(before), lock_of(after))


def test_a_new_record_with_the_content_of_the_manifest_is_explained() -> None:
    other = Made(hyperparameters={"epochCount": 5})
    assert review(lock_of(ENDED), lock_of(recorded(other), ENDED), other) == []
    assert review(lock_of(ENDED), lock_of(recorded(other), ENDED)) == [], "the manifest had this content for a while"
    assert review(lock_of(ENDED), lock_of(recorded(replace(other, attempt=1)), ENDED)) == []


@each_row(
    ("new", "found", "reason"),
    [
        (recorded(Made(name="words")), "fact spec", CONTENT),
        (replace(recorded(MADE), key="numbers-aaaaaaaa"), "fact spec", CONTENT),
        (replace(recorded(MADE), dataset=Dataset(f"sha256:{'0' * 64}")), "fact spec", CONTENT),
        (replace(recorded(MADE), origin="adopted", dataset=Dataset(f"sha256:{'0' * 64}")), "decision origin", ""),
        (
            replace(recorded(MADE), remote="tunedModels/other"),
            "fact remote",
            f"the id of this model would be {MADE.key}",
        ),
        (
            replace(recorded(MADE), preamble="Praise us. "),
            "fact preamble",
            "the manifest declares another preamble for this data",
        ),
        (replace(recorded(MADE), promote_time=at(1)), "decision promoteTime", ""),
    ],
    ids=["another name", "another key", "another content", "adopted", "another id", "preamble", "promoted"],
)
def test_a_new_record_belongs_to_its_manifest(new: LockedGeneration, found: str, reason: str) -> None:
    (change,) = review_lock(lock_of(), lock_of(new), [manifest(MADE)], TARGET, chosen_ids=True)
    assert (f"{change.kind} {change.field}", change.reason) == (found, reason)


def test_where_the_service_chooses_ids_any_id_is_that_of_a_new_training() -> None:
    new = replace(recorded(MADE), remote="jobs/7")
    assert review(lock_of(), lock_of(new), chosen_ids=False) == []
    twice = lock_of(new, replace(recorded(Made(hyperparameters={"epochCount": 5})), remote="jobs/7"))
    assert review(lock_of(), twice, chosen_ids=False) == ["fact remote", "fact remote"]


def test_a_record_that_occurs_twice_is_reported() -> None:
    assert review(lock_of(ENDED), lock_of(ENDED, ENDED)) == ["fact key"]


@each_row(
    ("before", "after", "found"),
    [
        ({}, {"serving": ENDED.key}, ["decision serving"]),
        ({"serving": ENDED.key}, {"rejected": (ENDED.key,)}, ["decision serving", "decision rejected"]),
        ({"rejected": (ENDED.key,)}, {}, ["decision rejected"]),
        ({}, {"published": "numbers-aaaaaaaa"}, ["decision published"]),
        ({"protect": True}, {}, []),
        ({}, {"protect": True}, ["decision protect"]),
        ({}, {"labels": {"team": "x"}}, ["fact labels"]),
        ({"labels": {"team": "x"}}, {}, []),
    ],
)
def test_decisions_and_declared_fields(before: dict[str, object], after: dict[str, object], found: list[str]) -> None:
    assert review(lock_of(ENDED, **before), lock_of(ENDED, **after)) == found


def test_an_intention_may_be_withdrawn_and_a_record_may_not() -> None:
    intended = replace(CREATING, state=State.INTENDED, remote="", create_time="")
    assert review(lock_of(intended), lock_of()) == []
    assert review(lock_of(ENDED), lock_of()) == ["decision generations"]


def test_a_removed_model_names_what_was_serving() -> None:
    (change,) = review_lock(lock_of(ENDED, serving=ENDED.key), Lock(record_target(TARGET)), (), TARGET, chosen_ids=True)
    assert change == LockChange(
        kind="decision",
        name="numbers",
        path=("models", "numbers"),
        field="generations",
        before=ENDED.key,
        remote=ENDED.remote,
    )


def test_a_model_that_no_manifest_declares_is_reported() -> None:
    reason = "no manifest declares this model"
    for lock, field in ((lock_of(), "manifest"), (lock_of(ENDED), "remote")):
        changes = review_lock(Lock(record_target(TARGET)), lock, (), TARGET, chosen_ids=True)
        assert [(change.field, change.reason) for change in changes] == [(field, reason)]


def test_the_target_is_that_of_the_target_file_or_of_the_base() -> None:
    raised = record_target(replace(TARGET, limits=replace(TARGET.limits, max_creates=99)))
    assert review(lock_of(), replace(lock_of(), target=raised)) == ["fact limits.maxCreates"]
    assert review(replace(lock_of(), target=raised), replace(lock_of(), target=raised)) == []
    assert review(replace(lock_of(), target=raised), lock_of()) == []
    assert review(Lock(), lock_of()) == []


def decided(action: DecidedAction = "rollback", minute: int = 0, **fields: str) -> Decision:
    return Decision(time=f"2026-01-01T12:{minute:02}:00Z", action=action, model="numbers", **fields)


FULL = tuple([decided(reason=str(number)) for number in range(MAX_DECISIONS)])


@each_row(
    ("before", "after", "found"),
    [
        ((), (decided(),), ["decision history"]),
        ((decided(),), (decided(minute=1), decided()), ["decision history"]),
        ((), (decided("refresh"), decided("cancel"), decided("claim")), []),
        ((), (decided("refresh", reason="approved by the board"),), ["decision history"]),
        ((), (decided("refresh", minute=30),), ["fact history"]),
        ((), (decided(minute=10),), ["decision history"]),
        ((decided(),), (), ["fact history"]),
        ((decided(reason="slow"),), (decided(reason="fast"),), ["decision history", "fact history"]),
        (FULL, (decided(minute=1), *FULL[:-1]), ["decision history"]),
        ((decided(minute=1), *FULL[:-1]), FULL, ["decision history", "fact history"]),
        (FULL, FULL, []),
    ],
)
def test_decisions_are_added_and_not_removed(
    before: tuple[Decision, ...], after: tuple[Decision, ...], found: list[str]
) -> None:
    base, head = (replace(lock_of(ENDED), history=history) for history in (before, after))
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    changes = review_lock(base, head, [manifest(MADE)], TARGET, chosen_ids=True, now=now)
    assert [f"{change.kind} {change.field}" for change in changes] == found
    assert all(change.name == "numbers" for change in changes)
