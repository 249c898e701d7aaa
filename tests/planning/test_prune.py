"""Which generations are deleted, and what is said of each that is kept, case by case."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedTarget
from reconciler.domain.model import (
    Checkpoint,
    Failure,
    Limits,
    Manifest,
    RemoteModel,
    Resources,
    Source,
    State,
)
from reconciler.domain.plan import Kind, Observation, Plan, Pruning, Reason, Request
from reconciler.planning.prune import deletions_only
from support.core_cases import SCOPE, Made, at, live, manifest, recorded
from support.core_pruning import PruningWorld

FIRST, SECOND, THIRD, FOURTH = (Made(hyperparameters={"epochCount": count}) for count in (1, 2, 3, 4))
EVERY = (FIRST, SECOND, THIRD, FOURTH)


def shown(*models: RemoteModel) -> Observation:
    return Observation({one.remote: one for one in models})


def served(model: LockedGeneration, minutes: float) -> LockedGeneration:
    return replace(model, promote_time=at(minutes))


def block(*generations: LockedGeneration, **fields: Any) -> LockedModel:
    return LockedModel("numbers.yaml", generations=generations, **fields)


def asking(made: Made = FOURTH, *, retain: int = 2, protect: bool = False, suspend: bool = False) -> Manifest:
    plain = manifest(made, suspend=suspend)
    return replace(plain, lifecycle=replace(plain.lifecycle, retain=retain, protect=protect))


def world(**fields: Any) -> PruningWorld:
    """Four generations, of which the newest serves; ``fields`` are other ones of the world."""
    generations = [served(recorded(one, created=number), number) for number, one in enumerate(EVERY)]
    common = {
        "manifests": (asking(),),
        "observation": shown(*(live(one, created=number) for number, one in enumerate(EVERY))),
        "lock": Lock(models={"numbers": block(*reversed(generations), serving=FOURTH.key)}),
        "request": Request(pruning=Pruning()),
    }
    return PruningWorld(**(common | fields))


def deleted(made: Plan) -> dict[str, Reason]:
    return {one.key: one.reason for one in made.actions if one.prunes}


def kept(made: Plan) -> dict[str, str]:
    return {one.key: one.reason for one in made.kept}


def test_nothing_is_deleted_that_nobody_asked_to_delete() -> None:
    made = world(request=Request()).plan()
    assert (deleted(made), made.kept) == ({}, ())


def test_what_is_superseded_goes_beyond_what_is_to_be_retained() -> None:
    made = world().plan()
    assert deleted(made) == {FIRST.key: Reason.SUPERSEDED, SECOND.key: Reason.SUPERSEDED}
    assert kept(made) == {
        THIRD.key: "spec.lifecycle.retain keeps 2 ready generations, and it is one of them",
        FOURTH.key: "it is serving; it matches the manifest",
    }
    assert {one.message for one in made.actions if one.prunes} == {
        "spec.lifecycle.retain keeps 2 ready generations, and others come first"
    }


@pytest.mark.parametrize(("retain", "gone"), [(1, 3), (3, 1), (4, 0)])
def test_retain_counts_the_one_that_serves(retain: int, gone: int) -> None:
    assert len(deleted(world(manifests=(asking(retain=retain),)).plan())) == gone


def test_what_is_deleted_is_described() -> None:
    one = replace(
        live(FIRST, created=0), resources=Resources(checkpoints=(Checkpoint("1", 1, 3), Checkpoint("2", 2, 6)))
    )
    before = world()
    described = replace(before, observation=shown(one, *list(before.observation.models.values())[1:]))
    first = next(action for action in described.plan().actions if action.key == FIRST.key)
    assert first.deletion is not None
    assert (first.deletion.create_time, first.deletion.age_seconds) == (at(0), 3600)
    assert (first.deletion.served_from, first.deletion.served_until) == (at(0), at(1))
    assert (first.deletion.examples, first.deletion.checkpoints, first.deletion.serves) == (20, 2, False)


def test_what_serves_comes_before_what_is_newer() -> None:
    made = world(lock=Lock(models={"numbers": block(*map(recorded_at, range(4)), serving=FIRST.key)})).plan()
    assert kept(made).keys() == {FIRST.key, FOURTH.key}


def recorded_at(number: int) -> LockedGeneration:
    return recorded(EVERY[number], created=number)


def test_what_was_rejected_is_superseded_before_what_could_serve_again() -> None:
    generations = [recorded_at(number) for number in (3, 2, 1, 0)]
    generations[0] = replace(generations[0], rejection="It says nonsense.")
    lock = Lock(models={"numbers": block(*generations, serving=THIRD.key, rejected=(FOURTH.key,))})
    made = world(lock=lock).plan()
    assert kept(made).keys() == {THIRD.key, SECOND.key}
    (rejected,) = (one for one in made.actions if one.key == FOURTH.key and one.prunes)
    assert (
        rejected.message
        == "it was rejected: It says nonsense; spec.lifecycle.retain keeps 2 ready generations, and others come first"
    )


def test_what_failed_its_checks_and_never_served_goes_first() -> None:
    failed = replace(recorded_at(2), checks=RecordedChecks("sha256:" + "0" * 64, 0, 1, {}, ()))
    lock = Lock(models={"numbers": block(recorded_at(3), failed, recorded_at(1), recorded_at(0), serving=FOURTH.key)})
    assert kept(world(lock=lock).plan()).keys() == {FOURTH.key, SECOND.key}


def test_what_the_manifest_asks_for_is_kept_although_it_does_not_serve_yet() -> None:
    lock = Lock(models={"numbers": block(*map(recorded_at, (3, 2, 1, 0)), serving=FIRST.key)})
    made = world(lock=lock, manifests=(asking(retain=1),)).plan()
    assert kept(made) == {
        FIRST.key: "it is serving; spec.lifecycle.retain keeps 1 ready generation, and it is one of them",
        FOURTH.key: "it matches the manifest",
    }


@pytest.mark.parametrize(
    ("state", "failure", "message"),
    [
        ("FAILED", Failure(3, "The loss is not a number."), "The loss is not a number"),
        ("FAILED", None, "the service reports no reason"),
        ("CANCELLED", None, "the service reports no reason"),
    ],
)
def test_what_ended_badly_goes(state: str, failure: Failure | None, message: str) -> None:
    generation = replace(recorded(FIRST, state=state), failure=failure)
    observation = shown(live(FIRST, state=state), live(FOURTH))
    lock = Lock(models={"numbers": block(recorded(FOURTH), generation, serving=FOURTH.key)})
    (action,) = (one for one in world(lock=lock, observation=observation).plan().actions if one.prunes)
    reason = Reason.FAILED_TRAINING if state == "FAILED" else Reason.CANCELLED_TRAINING
    assert (action.key, action.reason, action.message) == (FIRST.key, reason, message)


@pytest.mark.parametrize("state", ["CREATING", "ACTIVE"])
def test_a_recorded_model_that_trains_is_left_alone(state: str) -> None:
    lock = Lock(models={"numbers": block(recorded(FOURTH), recorded(FIRST, state=state), serving=FOURTH.key)})
    made = world(
        lock=lock, observation=shown(live(FIRST, state="CREATING"), live(FOURTH)), manifests=(asking(retain=1),)
    ).plan()
    assert kept(made)[FIRST.key] == "its training is in progress"


@pytest.mark.parametrize(
    ("manifests", "why"),
    [
        ((asking(suspend=True),), "spec.lifecycle.suspend is set"),
        ((asking(protect=True),), "spec.lifecycle.protect is set"),
    ],
)
def test_a_manifest_can_keep_everything(manifests: tuple[Manifest, ...], why: str) -> None:
    made = world(manifests=manifests).plan()
    assert (deleted(made), kept(made)[FIRST.key]) == ({}, why)


def test_protection_outlives_the_manifest() -> None:
    before = world(manifests=())
    assert len(deleted(before.plan())) == 4
    protected = replace(before.lock.models["numbers"], protect=True)
    made = replace(before, lock=Lock(models={"numbers": protected})).plan()
    assert deleted(made) == {}
    assert set(kept(made).values()) == {"numbers is recorded as protected"}


def test_an_orphan_goes_whole_and_what_serves_of_it_is_said_to() -> None:
    made = world(manifests=()).plan()
    assert set(deleted(made).values()) == {Reason.ORPHANED_MODEL}
    (serving,) = (one for one in made.actions if one.key == FOURTH.key)
    assert "no manifest declares numbers; it is recorded as serving" in serving.message
    assert serving.file == "numbers.yaml"
    assert not [one for one in made.actions if one.reason is Reason.ORPHANED]


def test_there_are_no_orphans_where_not_everything_was_read() -> None:
    made = world(manifests=(), request=Request(complete=False, pruning=Pruning())).plan()
    assert deleted(made) == {}
    assert "only a run over the whole root finds orphans" in kept(made)[FIRST.key]


def test_what_a_manifest_was_called_before_is_no_orphan() -> None:
    renamed = replace(asking(Made("counter")), formerly=("numbers",))
    assert Reason.ORPHANED_MODEL not in deleted(world(manifests=(renamed,)).plan()).values()


@pytest.mark.parametrize(
    ("provider", "fields", "why"),
    [
        ("embedded", {"serving": FIRST.key}, "the lockfile of target prod records it as serving"),
        ("embedded", {"published": FIRST.key}, "the lockfile of target prod records it as published"),
        ("embedded", {"protect": True}, "the lockfile of target prod protects it"),
        ("vertex", {"serving": FIRST.key}, ""),
    ],
)
def test_what_another_lockfile_of_the_root_relies_on_is_kept(provider: str, fields: dict[str, Any], why: str) -> None:
    other = Lock(LockedTarget("prod", provider, SCOPE), {"numbers": block(recorded(FIRST), **fields)})
    made = world(request=Request(pruning=Pruning(others=(other,)))).plan()
    assert kept(made).get(FIRST.key, "") == why


def test_what_applications_were_told_of_is_kept() -> None:
    before = world()
    told = replace(before.lock.models["numbers"], published=FIRST.key)
    made = replace(before, lock=Lock(models={"numbers": told})).plan()
    assert kept(made)[FIRST.key] == "the published pointer names it"


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (live(FIRST, created=9), "its creation time differs from the recorded one"),
        (live(replace(FIRST, scope="theirs"), under=FIRST.key), "it has the mark of the scope theirs"),
    ],
)
def test_what_is_not_the_recorded_one_is_kept(model: RemoteModel, why: str) -> None:
    before = world()
    other = replace(before, observation=Observation({**before.observation.models, model.remote: model}))
    assert why in kept(other.plan())[FIRST.key]


def test_what_lost_its_mark_is_known_by_the_moment_of_its_creation() -> None:
    before, bare = world(), live(FIRST, marked=False)
    other = replace(before, observation=Observation({**before.observation.models, bare.remote: bare}))
    assert FIRST.key in deleted(other.plan())


def test_a_model_of_another_branch_goes_only_when_it_is_old() -> None:
    candidate = Made(hyperparameters={"epochCount": 9})
    before = world()
    observation = Observation({**before.observation.models, candidate.remote: live(candidate)})
    made = replace(before, observation=observation).plan()
    assert "another branch may need it" in kept(made)[candidate.key]
    old = Request(pruning=Pruning(older_than=timedelta(minutes=59)))
    made = replace(before, observation=observation, request=old).plan()
    assert deleted(made) == {FIRST.key: Reason.SUPERSEDED, candidate.key: Reason.ABANDONED}
    assert kept(made)[SECOND.key] == "it is not older than --older-than"
    other = Lock(LockedTarget("prod", "embedded", SCOPE), {"numbers": block(recorded(candidate))})
    recorded_there = Request(pruning=Pruning(timedelta(minutes=59), (other,)))
    made = replace(before, observation=observation, request=recorded_there).plan()
    assert kept(made)[candidate.key] == "the lockfile of another target records it"


def test_of_a_job_that_failed_unrecorded_there_is_nothing_to_delete() -> None:
    old = Request(pruning=Pruning(older_than=timedelta(0)))
    observation = shown(live(FIRST, number=1, state="FAILED"))
    made = PruningWorld((asking(),), observation, Lock(), old, ids=False).plan()
    assert kept(made) == {FIRST.key: "it is the record of a job without a model"}


# lineage


CHILD, GRANDCHILD = Made("leaf", parent=FIRST), Made("bud", parent=Made("leaf", parent=FIRST))


def test_what_something_is_tuned_from_is_kept_however_far_up() -> None:
    before = world()
    models = {**before.lock.models, "bud": LockedModel("bud.yaml", GRANDCHILD.key, generations=(recorded(GRANDCHILD),))}
    gone = replace(recorded(CHILD), state=State.DELETED)
    models["leaf"] = LockedModel("leaf.yaml", generations=(gone,))
    observation = Observation({**before.observation.models, GRANDCHILD.remote: live(GRANDCHILD)})
    made = replace(
        before,
        lock=Lock(models=models),
        observation=observation,
        manifests=(*before.manifests, manifest(Made("bud", parent=CHILD))),
    ).plan()
    assert kept(made)[FIRST.key] == f"{GRANDCHILD.key} is tuned from it"
    assert SECOND.key in deleted(made)


def test_what_nobody_declares_goes_with_what_is_tuned_from_it_children_first() -> None:
    models = {
        "numbers": block(recorded(FIRST)),
        "leaf": LockedModel("leaf.yaml", generations=(recorded(CHILD),)),
    }
    made = world(manifests=(), lock=Lock(models=models), observation=shown(live(FIRST), live(CHILD))).plan()
    descendants = {one.key: one.descendants for one in made.actions if one.deletion}
    assert descendants == {FIRST.key: {CHILD.remote}, CHILD.key: frozenset()}


@pytest.mark.parametrize("project", ["123", "my-project"])
@pytest.mark.parametrize("version", ["@1", "", "@default"])
def test_the_model_of_a_job_is_known_by_number_or_id_of_its_project_and_with_or_without_version(
    project: str, version: str
) -> None:
    made_by = Resources(model="projects/123/locations/here/models/7@1")
    first = replace(live(FIRST, number=1), resources=made_by)
    parent = f"projects/{project}/locations/here/models/7{version}"
    child = replace(live(CHILD, number=2), source=Source(remote=parent))
    lock = Lock(models={"numbers": block(recorded(FIRST, number=1))})
    made = PruningWorld((), shown(first, child), lock, Request(pruning=Pruning()), ids=False).plan()
    assert kept(made)[FIRST.key] == f"{CHILD.key} is tuned from it"


def test_what_a_manifest_names_as_its_source_is_kept() -> None:
    further = replace(manifest(Made("leaf", parent=FIRST)), source=Source(remote=FIRST.remote))
    before = world()
    made = replace(before, manifests=(*before.manifests, further)).plan()
    assert kept(made)[FIRST.key] == "the manifest leaf is tuned from it"


# limits


def crowd(count: int, superseded: int) -> PruningWorld:
    every = [Made(f"n{number}") for number in range(count)]
    models = {one.name: LockedModel("m.yaml", one.key, generations=(recorded(one),)) for one in every}
    manifests = tuple(manifest(one) for one in every[superseded:])
    return world(manifests=manifests, lock=Lock(models=models), observation=shown(*map(live, every)), limits=Limits())


@pytest.mark.parametrize(("count", "gone", "allowed"), [(9, 9, True), (10, 3, True), (10, 4, False), (20, 6, True)])
def test_no_more_than_a_share_of_the_managed_models_goes_or_nothing_at_all(
    count: int, gone: int, *, allowed: bool
) -> None:
    made = deletions_only(crowd(count, gone).plan())
    assert {one.kind for one in made.actions} == {Kind.DELETE if allowed else Kind.HOLD}
    assert len(made.actions) == gone
    if not allowed:
        assert {one.reason for one in made.failing} == {Reason.GUARDED}
        assert made.actions[0].message == (
            "4 of 10 managed models would be deleted, over the target's limits.maxDeletePercent of 30, so none is; "
            "raise spec.limits.maxDeletePercent in the target, or delete fewer with --only, -l or --older-than"
        )


def test_when_much_has_vanished_nothing_is_deleted_and_that_is_said_of_orphans_too() -> None:
    before = world(manifests=())
    models = {FIRST.remote: before.observation.models[FIRST.remote]}
    gone = frozenset(one.remote for one in EVERY[1:])
    made = deletions_only(replace(before, observation=Observation(models, gone)).plan())
    assert [(one.kind, one.reason, one.name) for one in made.actions] == [
        (Kind.HOLD, Reason.LISTING_SUSPICIOUS, "numbers")
    ]
