"""What is known about planned trainings, as a plan shows it; and the base model at the root of a lineage."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Source
from reconciler.domain.plan import (
    Action,
    Kind,
    Reason,
    Requirement,
    TrainingCheck,
    TrainingEstimate,
    TrainingFault,
    TrainingNeeds,
)
from reconciler.planning.lineage import root_base_model
from reconciler.planning.training_checks import check_notices, describe_faults, require_startable, with_needs
from support.core_cases import Made, recorded

CREATE = Action("numbers", "n.yaml", Kind.CREATE, Reason.NOT_FOUND, key="numbers-a")
HOLD = Action("held", "h.yaml", Kind.HOLD, Reason.SUSPENDED, key="held-b")
OTHER = Action("adder", "a.yaml", Kind.CREATE, Reason.NOT_FOUND, key="adder-c")
CUT = TrainingFault(message="row 3 is cut", remedy="raise maxLength", place="data.csv:4", is_warning=True)
NO_LIBRARY = TrainingCheck(unchecked="torch is missing", remedy="install it", cannot_start=True)


def test_an_estimate_keeps_what_a_check_does_not_know() -> None:
    estimate = TrainingEstimate(examples=3, estimated=True, seconds=9.0, device="cpu")
    needs = TrainingNeeds(tokens=12, memory=Requirement(100, 200))
    assert with_needs(estimate, needs) == TrainingEstimate(
        examples=3, estimated=True, seconds=9.0, device="cpu", tokens=12, memory=Requirement(100, 200)
    )


def test_the_first_faults_are_shown_and_the_others_counted() -> None:
    faults = [TrainingFault(message=f"row {number} is empty", remedy="fill it in") for number in range(7)]
    assert describe_faults([CUT]) == "data.csv:4: row 3 is cut; raise maxLength"
    assert describe_faults(faults).splitlines()[-2:] == ["row 4 is empty; fill it in", "and 2 more"]


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ({}, []),
        ({"numbers-a": TrainingCheck(faults=(CUT,))}, ["numbers: data.csv:4: row 3 is cut; raise maxLength"]),
        ({"held-b": TrainingCheck(faults=(CUT,))}, []),
        (
            {"numbers-a": TrainingCheck(faults=(CUT,) * 6)},
            ["numbers: data.csv:4: row 3 is cut; raise maxLength"] * 5 + ["numbers: 1 more warning about its examples"],
        ),
        (
            {"numbers-a": NO_LIBRARY, "adder-c": NO_LIBRARY},
            ["the training of adder, numbers was not checked: torch is missing; install it"],
        ),
    ],
)
def test_a_plan_warns_of_the_trainings_that_it_starts(checks: Mapping[str, TrainingCheck], expected: list[str]) -> None:
    assert list(check_notices(checks, [CREATE, HOLD, OTHER])) == expected


def test_a_training_that_cannot_start_is_refused() -> None:
    require_startable({"numbers-a": TrainingCheck(faults=(CUT,)), "held-b": NO_LIBRARY}, [CREATE, HOLD])
    with pytest.raises(ReconcileError, match="torch is missing, so numbers cannot be trained") as caught:
        require_startable({"numbers-a": NO_LIBRARY}, [HOLD, CREATE])
    assert caught.value.remedy == "install it"


def test_the_root_of_a_lineage_is_a_base_model_or_unknown() -> None:
    parent = recorded(Made())
    child = Source(tuned_model="numbers", key=parent.key)

    def root(source: Source, *generations: LockedGeneration) -> str:
        return root_base_model(source, Lock(models={"numbers": LockedModel("n.yaml", generations=generations)}))

    assert root(child, parent) == parent.source.base_model
    assert root(Source(base_model="models/a")) == "models/a"
    assert not root(child)
    assert not root(Source(tuned_model="gone", key="gone-a"), parent)
    assert not root(child, replace(parent, source=child)), "an edited lockfile may have a cycle"
