"""Which generations are deleted, and what is said of each that is kept, case by case."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.domain.access import Grant, Grantee
from reconciler.domain.checks import RecordedChecks
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedStage, LockedTarget
from reconciler.domain.model import (
    Checkpoint,
    Dataset,
    Failure,
    Limits,
    Manifest,
    RemoteModel,
    Resources,
    Source,
    Stage,
    State,
)
from reconciler.domain.plan import Kind, Observation, Plan, Pruning, Reason, Request
from reconciler.planning.prune import approved_only, deletions_only, without_deletions
from support.cases import each_row
from support.core_cases import SCOPE, START, Made, at, live, manifest, recorded
from support.core_pruning import PruningWorld

FIRST, SECOND, THIRD, FOURTH = (Made(hyperparameters={"epochCount": count}) for count in (1, 2, 3, 4))
EVERY = (FIRST, SECOND, THIRD, FOURTH)


def shown(*models: RemoteModel) -> Observation:
    return Observation({one.remote: one for one in models})


def in_production(**fields: Any) -> dict[str, Any]:
    return {"stages": {"production": LockedStage(**fields)}}


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


@each_row(("retain", "gone"), [(1, 3), (3, 1), (4, 0)])
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
    assert (first.remote, first.file) == (FIRST.remote, "numbers.yaml")


def test_the_size_of_the_data_set_in_cloud_storage_is_described() -> None:
    first = Made(data=1)
    lock = Lock(models={"numbers": block(recorded(first))})
    made = world(manifests=(), lock=lock, observation=shown(live(first))).plan()
    (action,) = (action for action in made.actions if action.prunes)
    assert action.deletion is not None
    assert (action.deletion.examples, action.deletion.size) == (0, 1000)


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


def test_a_generation_that_served_with_failed_checks_is_retained_by_age() -> None:
    checks = RecordedChecks("sha256:" + "0" * 64, 0, 1, {}, ())
    failed = replace(served(recorded_at(2), 2), checks=checks)
    lock = Lock(models={"numbers": block(recorded_at(3), failed, recorded_at(1), recorded_at(0), serving=FOURTH.key)})
    assert kept(world(lock=lock).plan()).keys() == {FOURTH.key, THIRD.key}


def test_models_that_are_deleted_are_not_updated() -> None:
    before = world(manifests=(replace(asking(), access=(Grant(Grantee("user", "ada@example.com"), "reader"),)),))
    permissions = {made.remote: () for made in EVERY}
    made = replace(before, observation=replace(before.observation, permissions=permissions)).plan()
    kinds = {one.key: {action.kind for action in made.actions if action.key == one.key} for one in EVERY}
    assert kinds == {
        FIRST.key: {Kind.DELETE},
        SECOND.key: {Kind.DELETE},
        THIRD.key: {Kind.UPDATE},
        FOURTH.key: {Kind.UPDATE},
    }


def test_what_the_manifest_asks_for_is_kept_although_it_does_not_serve_yet() -> None:
    lock = Lock(models={"numbers": block(*map(recorded_at, (3, 2, 1, 0)), serving=FIRST.key)})
    made = world(lock=lock, manifests=(asking(retain=1),)).plan()
    assert kept(made) == {
        FIRST.key: "it is serving; spec.lifecycle.retain keeps 1 ready generation, and it is one of them",
        FOURTH.key: "it matches the manifest",
    }


@each_row(
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
    assert {one.message for one in made.actions if one.key != FOURTH.key} == {"no manifest declares numbers"}
    assert not [one for one in made.actions if one.reason is Reason.ORPHANED]


def test_there_are_no_orphans_where_not_everything_was_read() -> None:
    made = world(manifests=(), request=Request(complete=False, pruning=Pruning())).plan()
    assert deleted(made) == {}
    assert "only a run over the whole root finds orphans" in kept(made)[FIRST.key]


def test_what_a_manifest_was_called_before_is_no_orphan() -> None:
    renamed = replace(asking(Made("counter")), formerly=("numbers",))
    assert Reason.ORPHANED_MODEL not in deleted(world(manifests=(renamed,)).plan()).values()


@each_row(
    ("provider", "fields", "why"),
    [
        ("embedded", {"serving": FIRST.key}, "the lockfile of target prod records it as serving"),
        ("embedded", {"published": FIRST.key}, "the lockfile of target prod records it as published"),
        (
            "embedded",
            in_production(serving=FIRST.key),
            "the lockfile of target prod records it as serving in production",
        ),
        (
            "embedded",
            in_production(requested=FIRST.key),
            "the lockfile of target prod records it as requested in production",
        ),
        ("embedded", {"protect": True}, "the lockfile of target prod protects it"),
        ("vertex", {"serving": FIRST.key}, ""),
    ],
)
def test_what_another_lockfile_of_the_root_relies_on_is_kept(provider: str, fields: dict[str, Any], why: str) -> None:
    other = Lock(LockedTarget("prod", provider, SCOPE), {"numbers": block(recorded(FIRST), **fields)})
    made = world(request=Request(pruning=Pruning(others=(other,)))).plan()
    assert kept(made).get(FIRST.key, "") == why


ELSEWHERE = Lock(LockedTarget("prod", "embedded", SCOPE), {"numbers": block(recorded(FIRST), serving=FIRST.key)})
TRAINING = shown(live(FIRST, state="CREATING"), *(live(one, created=number) for number, one in enumerate(EVERY[1:], 1)))


@each_row(
    ("fields", "why"),
    [
        ({}, {}),
        (
            {"manifests": (asking(protect=True),)},
            dict.fromkeys((one.key for one in EVERY), "spec.lifecycle.protect is set"),
        ),
        (
            {"manifests": (asking(suspend=True),)},
            dict.fromkeys((one.key for one in EVERY), "spec.lifecycle.suspend is set"),
        ),
        ({"others": (ELSEWHERE,)}, {FIRST.key: "the lockfile of target prod records it as serving"}),
        ({"observation": TRAINING}, {FIRST.key: "its training is in progress"}),
        ({"names": frozenset({"words"})}, dict.fromkeys((one.key for one in EVERY), "its model is not named")),
    ],
)
def test_destroy_deletes_all_generations_except_what_prune_never_deletes(
    fields: dict[str, Any], why: dict[str, str]
) -> None:
    options = {"names": frozenset({"numbers"}), "destroys": True}
    options |= {name: fields[name] for name in ("others", "names") if name in fields}
    request = Request(pruning=Pruning(**options))
    made = world(
        request=request, **{name: fields[name] for name in ("manifests", "observation") if name in fields}
    ).plan()
    assert {key: reason.partition(";")[0] for key, reason in kept(made).items()} == why
    assert deleted(made) == {one.key: Reason.ORPHANED_MODEL for one in EVERY if one.key not in why}
    serving = next(
        (one.message for one in made.actions if one.key == FOURTH.key and one.prunes), "numbers is destroyed"
    )
    assert serving.startswith("numbers is destroyed")


def test_what_a_lockfile_without_a_target_relies_on_is_kept() -> None:
    other = Lock(None, {"numbers": block(recorded(FIRST), serving=FIRST.key)})
    made = world(request=Request(pruning=Pruning(others=(other,)))).plan()
    assert kept(made)[FIRST.key] == "another lockfile records it as serving"


STAGES = (Stage("staging"), Stage("production", after="staging"), Stage("edge", after="production"))
NEXT = "it was serving in staging, and can be promoted to {}".format


@each_row(
    ("stages", "reasons"),
    [
        (
            {"production": LockedStage(serving=FIRST.key, previous=SECOND.key, requested=THIRD.key)},
            {
                FIRST.key: "it is serving in production",
                SECOND.key: "it was serving in production before",
                THIRD.key: "its promotion to production is requested",
                FOURTH.key: "it is serving in staging",
            },
        ),
        (
            {"production": LockedStage(serving=SECOND.key), "edge": LockedStage(serving=FOURTH.key)},
            {
                SECOND.key: "it is serving in production",
                THIRD.key: NEXT("production"),
                FOURTH.key: "it is serving in staging; it is serving in edge",
            },
        ),
        (
            {
                "production": LockedStage(serving=FOURTH.key),
                "edge": LockedStage(serving=FOURTH.key, published=FIRST.key),
            },
            {
                FIRST.key: "the published pointer names it",
                FOURTH.key: "it is serving in staging; it is serving in production; it is serving in edge",
            },
        ),
        (
            {
                "production": LockedStage(serving=FOURTH.key, rejected=(THIRD.key,)),
                "old": LockedStage(serving=FIRST.key),
            },
            {
                FIRST.key: "it is serving in old",
                SECOND.key: NEXT("edge"),
                FOURTH.key: "it is serving in staging; it is serving in production",
            },
        ),
    ],
)
def test_what_a_stage_may_need_is_kept(stages: dict[str, LockedStage], reasons: dict[str, str]) -> None:
    before = world(manifests=(asking(retain=1),), stages=STAGES)
    found = kept(replace(before, lock=Lock(models={"numbers": block_in(before, stages=stages)})).plan())
    assert {key: reason.partition("; it matches")[0] for key, reason in found.items()} == reasons


def block_in(before: PruningWorld, **fields: Any) -> LockedModel:
    return replace(before.lock.models["numbers"], **fields)


def test_what_was_rejected_before_a_stage_is_not_kept_for_it() -> None:
    before = world(manifests=(asking(retain=1),), stages=STAGES[:2])
    stages = {"production": LockedStage(serving=FIRST.key)}
    model = block_in(before, stages=stages, rejected=(SECOND.key,))
    assert kept(replace(before, lock=Lock(models={"numbers": model})).plan()).keys() == {
        FIRST.key,
        THIRD.key,
        FOURTH.key,
    }


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
    behind = replace(observation, time=START)
    assert deleted(replace(before, observation=behind, request=old).plan()) == {}, "the local clock is ahead"
    ahead = replace(observation, time=START + timedelta(days=9999))
    assert deleted(replace(before, observation=ahead, request=old).plan()) == deleted(made)
    other = Lock(LockedTarget("prod", "embedded", SCOPE), {"numbers": block(recorded(candidate))})
    recorded_there = Request(pruning=Pruning(timedelta(minutes=59), (other,)))
    made = replace(before, observation=observation, request=recorded_there).plan()
    assert kept(made)[candidate.key] == "the lockfile of another target records it"


def test_of_a_job_that_failed_unrecorded_there_is_nothing_to_delete() -> None:
    old = Request(pruning=Pruning(older_than=timedelta(0)))
    observation = shown(live(FIRST, number=1, state="FAILED"))
    made = PruningWorld((asking(),), observation, Lock(), old, ids=False).plan()
    assert kept(made) == {FIRST.key: "it is the record of a job without a model"}


@pytest.mark.parametrize(("model", "reason"), [("", None), ("models/1@1", Reason.ABANDONED)])
def test_an_unrecorded_job_is_deleted_only_if_it_has_a_model(model: str, reason: Reason | None) -> None:
    old = Request(pruning=Pruning(older_than=timedelta(0)))
    job = replace(live(FIRST, number=1), resources=Resources(model=model))
    made = PruningWorld((asking(),), shown(job), Lock(), old, ids=False).plan()
    assert deleted(made).get(FIRST.key) == reason


@pytest.mark.parametrize(("manifests", "file"), [((asking(),), "numbers.yaml"), ((), "(no manifest)")])
def test_unrecorded_models_do_not_count_as_retained(manifests: tuple[Manifest, ...], file: str) -> None:
    old = Request(pruning=Pruning(older_than=timedelta(0)))
    made = world(manifests=manifests, observation=shown(live(FIRST)), lock=Lock(), request=old).plan()
    (action,) = (action for action in made.actions if action.prunes)
    assert (action.key, action.reason, action.file) == (FIRST.key, Reason.ABANDONED, file)
    assert action.deletion is not None
    assert (action.deletion.examples, action.deletion.size, action.deletion.serves) == (0, 0, False)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"dataset": Dataset("", "gs://acme/data.jsonl")}, "data set"),
        ({"source": Source(tuned_model="base")}, "parent"),
    ],
)
def test_ready_generations_are_kept_while_it_is_unknown_what_the_manifest_declares(
    fields: dict[str, Any], missing: str
) -> None:
    made = world(manifests=(replace(asking(retain=1), **fields),)).plan()
    assert deleted(made) == {}
    assert kept(made)[FIRST.key] == f"whether it matches the manifest is unknown without the {missing}"


def test_how_long_a_generation_served_is_known_although_others_were_never_promoted() -> None:
    before = world()
    first, *others = reversed(before.lock.models["numbers"].generations)
    candidate = replace(others[1], promote_time="")
    lock = Lock(models={"numbers": block(others[2], candidate, others[0], first, serving=FOURTH.key)})
    made = replace(before, lock=lock).plan()
    served_until = {one.key: one.deletion.served_until for one in made.actions if one.deletion}
    assert served_until == {FIRST.key: at(1), SECOND.key: at(3)}


def test_a_serving_orphan_has_not_stopped_serving() -> None:
    before = world(manifests=())
    rolled_back = replace(before.lock.models["numbers"], serving=FIRST.key)
    made = replace(before, lock=Lock(models={"numbers": rolled_back})).plan()
    served_until = {one.key: (one.deletion.serves, one.deletion.served_until) for one in made.actions if one.deletion}
    assert served_until[FIRST.key] == (True, "")
    assert served_until[SECOND.key] == (False, at(2))


def test_the_record_of_a_job_whose_model_was_deleted_is_not_deleted_again() -> None:
    lock = Lock(models={"numbers": block(recorded(FIRST, number=1, state="DELETED"))})
    made = PruningWorld((asking(),), shown(live(FIRST, number=1)), lock, Request(pruning=Pruning()), ids=False).plan()
    assert (deleted(made), kept(made)) == ({}, {})


# plans of prune and apply


DELETIONS = world().plan()
CREATION = world(manifests=(asking(Made(data="B")),), request=Request()).plan()


def test_prune_deletes_only_what_was_approved() -> None:
    approved = replace(DELETIONS, actions=tuple(one for one in DELETIONS.actions if one.key != SECOND.key))
    assert deleted(approved_only(DELETIONS, approved)) == {FIRST.key: Reason.SUPERSEDED}
    both = replace(DELETIONS, actions=(*DELETIONS.actions, *CREATION.actions))
    assert approved_only(both, approved).actions == (*approved.actions, *CREATION.actions)


def test_the_plan_of_prune_has_deletions_only() -> None:
    both = replace(DELETIONS, actions=(*DELETIONS.actions, *CREATION.actions), notices=("first",))
    made = deletions_only(both)
    assert deleted(made) == deleted(DELETIONS)
    assert (len(made.actions), made.notices, made.kept) == (2, (), DELETIONS.kept)


@each_row("changed", [{"name": "words"}, {"key": "numbers-aaaaaaaa"}, {"remote": "tunedModels/other"}])
def test_an_approval_covers_only_the_same_generation(changed: dict[str, str]) -> None:
    approved = replace(DELETIONS, actions=tuple(replace(action, **changed) for action in DELETIONS.actions))
    assert deleted(approved_only(DELETIONS, approved)) == {}


@each_row(
    ("count", "notices"),
    [
        (0, ()),
        (1, ("1 more generation can be deleted; run reconcile prune --dry-run",)),
        (2, ("2 more generations can be deleted; run reconcile prune --dry-run",)),
    ],
)
def test_a_plan_without_deletions_counts_those_that_remain(count: int, notices: tuple[str, ...]) -> None:
    both = replace(DELETIONS, actions=(*DELETIONS.actions, *CREATION.actions), notices=("first",))
    deletions = [action for action in DELETIONS.actions if action.prunes]
    remaining = replace(DELETIONS, actions=tuple(deletions[:count]), notices=("second",))
    made = without_deletions(both, remaining)
    others = tuple(action for action in DELETIONS.actions if not action.prunes)
    assert (made.actions, made.kept) == ((*others, *CREATION.actions), ())
    assert made.notices == ("first", "second", *notices)


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


@each_row(
    ("state", "keeps"),
    [
        ("INTENDED", True),
        ("CREATING", True),
        ("ACTIVE", True),
        ("FAILED", False),
        ("CANCELLED", False),
        ("MISSING", False),
        ("DELETED", False),
    ],
)
@each_row("provider", ["here", "embedded", "vertex"])
def test_a_recorded_child_keeps_its_parent_while_it_may_exist(state: str, provider: str, *, keeps: bool) -> None:
    """The child is recorded here, or in the lockfile of another target, and is not listed."""
    before = world()
    child = {"leaf": LockedModel("leaf.yaml", generations=(recorded(CHILD, state=state),))}
    if provider == "here":
        made = replace(before, lock=Lock(models={**before.lock.models, **child})).plan()
    else:
        other = Lock(LockedTarget("prod", provider, SCOPE), child)
        made = replace(before, request=Request(pruning=Pruning(others=(other,)))).plan()
    assert (FIRST.key in kept(made)) == (keeps and provider != "vertex")


@pytest.mark.parametrize("provider", ["embedded", "vertex"])
def test_ancestors_are_found_through_the_lockfiles_of_other_targets(provider: str) -> None:
    before = world()
    gone = LockedModel("leaf.yaml", generations=(recorded(CHILD, state="DELETED"),))
    other = Lock(LockedTarget("prod", provider, SCOPE), {"leaf": gone})
    observation = Observation({**before.observation.models, GRANDCHILD.remote: live(GRANDCHILD)})
    made = replace(before, observation=observation, request=Request(pruning=Pruning(others=(other,)))).plan()
    assert (FIRST.key in kept(made)) == (provider == "embedded")


@pytest.mark.parametrize(
    ("recorded_source", "live_source"),
    [(CHILD.recorded_source, None), (CHILD.recorded_source, CHILD.live_source)],
    ids=["recorded", "live"],
)
def test_children_are_deleted_before_the_parent_in_either_source(
    recorded_source: Source, live_source: Source | None
) -> None:
    record = replace(recorded(CHILD), source=recorded_source)
    models = {"numbers": block(recorded(FIRST)), "leaf": LockedModel("leaf.yaml", generations=(record,))}
    child = replace(live(CHILD), source=live_source)
    made = world(manifests=(), lock=Lock(models=models), observation=shown(live(FIRST), child)).plan()
    assert {one.key: one.descendants for one in made.actions if one.deletion}[FIRST.key] == {CHILD.remote}


def test_generations_of_a_child_are_deleted_when_its_parent_is_known() -> None:
    before, child = world(), Made("leaf", parent=FOURTH)
    old = Made("leaf", data="B", parent=FOURTH)
    leaf = manifest(child)
    leaf = replace(leaf, lifecycle=replace(leaf.lifecycle, retain=1))
    generations = (recorded(child, created=5), recorded(old))
    models = {**before.lock.models, "leaf": LockedModel("leaf.yaml", child.key, generations=generations)}
    observation = shown(*before.observation.models.values(), live(child, created=5), live(old))
    made = replace(before, manifests=(*before.manifests, leaf), lock=Lock(models=models), observation=observation)
    assert deleted(made.plan())[old.key] is Reason.SUPERSEDED


def test_a_parent_that_is_kept_anyway_keeps_its_own_reason() -> None:
    child = Made("leaf", parent=FOURTH)
    before = world()
    further = replace(manifest(child), source=Source(tuned_model="numbers", key=FOURTH.key))
    models = {**before.lock.models, "leaf": LockedModel("leaf.yaml", child.key, generations=(recorded(child),))}
    observation = Observation({**before.observation.models, child.remote: live(child)})
    manifests = (*before.manifests, further)
    made = replace(before, manifests=manifests, lock=Lock(models=models), observation=observation).plan()
    assert kept(made)[FOURTH.key] == "it is serving; it matches the manifest"


@each_row("project", ["123", "my-project"])
@each_row("version", ["@1", "", "@default"])
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


@each_row(
    ("count", "gone", "allowed"),
    [(1, 1, True), (3, 3, True), (9, 9, False), (5, 4, False), (10, 3, True), (10, 4, False), (20, 6, True)],
)
def test_no_more_than_a_share_of_the_managed_models_goes_or_nothing_at_all(
    count: int, gone: int, *, allowed: bool
) -> None:
    made = deletions_only(crowd(count, gone).plan())
    assert {one.kind for one in made.actions} == {Kind.DELETE if allowed else Kind.HOLD}
    assert len(made.actions) == gone
    if not allowed:
        assert {one.reason for one in made.failing} == {Reason.GUARDED}
        assert made.actions[0].message == (
            f"{gone} of {count} managed models would be deleted, over the target's limits.maxDeletes of 3 and "
            "limits.maxDeletePercent of 30, so none is; raise one of them in spec.limits of the target, or delete "
            "fewer with --only, -l or --older-than"
        )


def test_models_of_other_branches_do_not_raise_the_share_that_is_deleted() -> None:
    before = crowd(10, 4)
    others = [live(Made(f"branch{number}")) for number in range(10)]
    models = {model.remote: model for model in (*before.observation.models.values(), *others)}
    made = deletions_only(replace(before, observation=Observation(models)).plan())
    assert {one.kind for one in made.actions} == {Kind.HOLD}


def test_when_much_has_vanished_nothing_is_deleted_and_that_is_said_of_orphans_too() -> None:
    before = world(manifests=())
    models = {FIRST.remote: before.observation.models[FIRST.remote]}
    gone = frozenset(one.remote for one in EVERY[1:])
    made = deletions_only(replace(before, observation=Observation(models, gone)).plan())
    assert [(one.kind, one.reason, one.name) for one in made.actions] == [
        (Kind.HOLD, Reason.LISTING_SUSPICIOUS, "numbers")
    ]
