"""What a plan says of models that another target has trained already."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedModel, LockedTarget
from reconciler.domain.money import dollars
from reconciler.domain.plan import Action, Kind, Plan, Reason, TrainingCost, TrainingEstimate
from reconciler.planning.planner import cross_target_notices

OTHER = LockedTarget("default", "generativelanguage", "demo")


def creating(*names: str) -> Plan:
    return Plan(tuple(Action(name, f"{name}.yaml", Kind.CREATE, Reason.NOT_FOUND) for name in names))


def serving(*names: str, target: LockedTarget | None = OTHER) -> Lock:
    return Lock(target, {name: LockedModel(f"{name}.yaml", f"{name}-aaaaaaaa") for name in names})


def test_what_another_service_has_is_said_to_be_trained_anew() -> None:
    (notice,) = cross_target_notices(creating("b", "a", "c"), "vertex", [serving("a", "b", "d")])
    assert notice == (
        "target default (generativelanguage) already serves a, b; a tuned model cannot be moved to another service,"
        " so it is trained again"
    )


def test_what_another_target_of_the_service_has_costs_again() -> None:
    cost = TrainingCost(total=dollars(1.25))
    training = TrainingEstimate(examples=20, estimated=False, cost=cost)
    plan = Plan(tuple(replace(action, training=training) for action in creating("a", "b", "c").actions))
    (notice,) = cross_target_notices(plan, "generativelanguage", [serving("a", "b")])
    assert notice == (
        "target default (generativelanguage) already serves a, b; a tuned model cannot be copied to another target,"
        " so it is trained again, which costs about 2.50 USD; stages of one target train once"
    )


def test_of_many_models_some_are_named() -> None:
    names = [f"n{number}" for number in range(7)]
    (notice,) = cross_target_notices(creating(*names), "vertex", [serving(*names)])
    assert notice.startswith("target default (generativelanguage) already serves n0, n1, n2, n3, n4 and 2 more;")


def test_nothing_is_said_where_nothing_moves() -> None:
    unserved = Lock(OTHER, {"a": LockedModel("a.yaml")})
    for lock in (Lock(), unserved, serving("b"), serving("a", target=None)):
        assert tuple(cross_target_notices(creating("a"), "vertex", [lock])) == ()
    waiting = Plan((Action("a", "a.yaml", Kind.WAIT, Reason.TRAINING),))
    assert tuple(cross_target_notices(waiting, "vertex", [serving("a")])) == ()
