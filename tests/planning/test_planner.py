"""The planner, case by case: facts in, actions out. The cases stand in ``cases/``."""

from __future__ import annotations

import cProfile

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import RecordedChecks
from reconciler.domain.lock import MAX_GENERATIONS, MAX_MODELS, Lock, LockedModel
from reconciler.domain.model import Dataset, Limits, Target
from reconciler.domain.plan import Action, Kind, Observation, Plan, Reason, World, hold_over_records
from reconciler.planning.planner import describe_suspicion, plan
from reconciler.planning.promotion_gates import describe_scores
from support.cases import each_row
from support.core_cases import (
    CAPABILITIES,
    SCOPE,
    START,
    Made,
    cases,
    digest_of,
    expected_reasons,
    live,
    manifest,
    recorded,
    remotes,
)

CASES = cases()


def bare(action: Action) -> Action:
    """An action without what follows from its manifest or is told in words."""
    return replace(
        action, remote="", message="", source=None, dataset=None, hyperparameters={}, training=None, serving=""
    )


def test_no_model_is_added_to_a_full_lockfile() -> None:
    full = {f"m{number}": LockedModel("m.yaml") for number in range(MAX_MODELS)}
    new, again = (
        Action("new", "new.yaml", Kind.CREATE, Reason.NOT_FOUND),
        Action("m1", "m", Kind.CREATE, Reason.MISSING),
    )
    held, kept = hold_over_records((new, again), Lock(models=full))
    assert (held.kind, held.reason, kept) == (Kind.HOLD, Reason.GUARDED, again)
    assert held.message.startswith("the lockfile would have 20001 models, and it has at most 20000, so none is added; ")
    assert hold_over_records((new,), Lock(models={"m1": full["m1"]})) == (new,)


def test_no_generation_is_added_to_a_full_record() -> None:
    world = CASES["creating: first run"].world()
    old = recorded(Made(hyperparameters={"epochCount": 9}), state="FAILED")
    generations = tuple(replace(old, key=f"numbers-{number:08}") for number in range(MAX_GENERATIONS))
    name = world.manifests[0].name
    lock = replace(world.lock, models={name: LockedModel("numbers.yaml", generations=generations)})
    (held,) = plan(replace(world, lock=lock)).actions
    assert (held.kind, held.reason) == (Kind.HOLD, Reason.GUARDED)
    assert held.message.endswith(
        "has 1000 recorded generations, and a lockfile has at most 1000;"
        f" reconcile prune --dry-run {name} lists superseded ones"
    )


def test_each_case() -> None:
    for name, case in CASES.items():
        made = case.planned()
        assert [bare(action) for action in made.actions] == case.expected(), name
        for action, words, remote in zip(made.actions, expected_reasons(case), remotes(case), strict=True):
            assert words is None or (words in action.message if words else not action.message), name
            assert remote in {None, action.remote}, name
        assert made.notices == tuple(case.notices), name
        assert (made.unmanaged, made.candidates) == (case.unmanaged, case.candidates), name


def plan_many(size: int, *, marked: bool) -> tuple[Plan, int]:
    """Plan as many manifests against as many models; return the plan and the number of function calls."""
    every = [Made(name=f"n{number}") for number in range(size)]
    models = {model.remote: model for model in (live(made, marked=marked, created=1) for made in every)}
    lock = Lock(models={made.name: LockedModel("m.yaml", made.key, generations=(recorded(made),)) for made in every})
    target = Target("default", "reconcile.yaml", "embedded", SCOPE, limits=Limits(max_creates=size))
    world = World(tuple(map(manifest, every)), lock, target, CAPABILITIES, START, Observation(models))
    profiler = cProfile.Profile()
    planned = profiler.runcall(plan, world)
    return planned, sum(entry.callcount for entry in profiler.getstats())


@pytest.mark.parametrize("marked", [True, False], ids=["managed", "unmanaged"])
def test_the_work_of_a_plan_grows_with_the_number_of_models_and_not_faster(*, marked: bool) -> None:
    _, calls = plan_many(40, marked=marked)
    planned, more_calls = plan_many(200, marked=marked)
    assert {action.reason for action in planned.actions} == {Reason.IN_SYNC if marked else Reason.RECORD_MISMATCH}
    assert len(planned.actions) == 200
    assert more_calls < 5.5 * calls


def test_reasons_belong_to_the_kinds_of_action_that_their_table_lists() -> None:
    actions = [action for case in CASES.values() for action in case.planned().actions]
    assert [action for action in actions if action.kind not in action.reason.kinds] == []


def test_a_create_describes_what_it_would_train() -> None:
    made = CASES["creating: first run"].planned()
    (action,) = made.of_kind(Kind.CREATE)
    assert action.training is not None
    assert (action.training.steps, action.training.examples, action.training.estimated) == (30, 20, False)
    assert (action.dataset and action.dataset.path, action.file) == ("data.csv", "numbers.yaml")
    assert action.source is not None
    assert action.source.base_model == "models/gemini-3.5-flash"
    assert made.steps == 30
    assert made.changes


@each_row(
    ("validation", "shown"),
    [(None, ""), (Dataset("", "validation.csv"), "validation.csv"), (Dataset(digest_of("B")), "inline")],
)
def test_a_create_names_its_validation_data(validation: Dataset | None, shown: str) -> None:
    world = CASES["creating: first run"].world()
    declared = replace(world.manifests[0], validation=validation)
    (action,) = plan(replace(world, manifests=(declared,))).actions
    assert action.validation == shown


@each_row(("count", "named"), [(2, 2), (3, 3), (4, 3)])
def test_a_suspicious_observation_names_at_most_three_missing_models(count: int, named: int) -> None:
    every = [Made(data=f"data {number}") for number in range(count)]
    models = {"numbers": LockedModel("numbers.yaml", generations=tuple(map(recorded, every)))}
    gone = frozenset(made.remote for made in every)
    text = describe_suspicion(Lock(models=models), Observation(gone=gone))
    names = ", ".join([*sorted(gone)[:named], *(["…"] if count > named else [])])
    assert text.startswith(f"{count} recorded models are gone at once ({names}), which")


def test_a_plan_has_the_sources_of_its_manifests() -> None:
    case = CASES["lineage: a child begins when its parent serves"]
    top, leaf = case.made["top"], case.made["leaf"]
    sources = case.planned().sources
    assert sources == {"numbers": top.declared_source, "leaf": replace(leaf.recorded_source, remote=top.remote)}


def test_scores_are_in_the_order_of_their_names() -> None:
    checks = RecordedChecks("sha256:" + "0" * 64, 1, 1, {"tone": 0.5, "accuracy": 0.25})
    assert describe_scores(checks) == "1 of 2 checks passed, accuracy 0.25, tone 0.50"


def test_a_plan_records_a_rename_before_anything_else() -> None:
    world = CASES["creating: nothing to do"].world()
    renamed = replace(world.manifests[0], name="counter", formerly=("numbers",), display_name="numbers")
    reasons = [
        (action.name, action.kind, action.reason) for action in plan(replace(world, manifests=(renamed,))).actions
    ]
    assert reasons[0] == ("counter", Kind.ADOPT, Reason.RENAMED)
    assert Reason.ORPHANED not in {reason for _, _, reason in reasons}


def test_the_hold_of_a_taken_id_names_the_model_that_has_it() -> None:
    case = CASES["creating: the id is taken by a stranger"]
    (action,) = case.planned().actions
    assert action.remote == case.made["one"].remote


def test_holds_that_somebody_asked_for_do_not_fail_a_run() -> None:
    for name, case in CASES.items():
        failing = {action.reason for action in case.planned().failing}
        assert failing.isdisjoint({Reason.SUSPENDED, Reason.ROLLED_BACK}), name
    held = CASES["failing: a failed generation is held"].planned()
    assert [action.reason for action in held.failing] == [Reason.FAILED]
