"""What the lockfile alone promises: a ready generation with exactly the declared content."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.planning.lock_review import verify_locked
from support.cases import each_row
from support.core_cases import SCOPE, Made, manifest, recorded

MADE = Made()
LOCKFILE = "specs/reconcile.lock.json"


def lock_of(*generations: LockedGeneration) -> Lock:
    return Lock(models={"numbers": LockedModel("numbers.yaml", generations=generations)})


@each_row(
    ("wanted", "generation"),
    [
        (MADE, recorded(MADE)),
        (MADE, recorded(replace(MADE, attempt=3))),
        (Made(hyperparameters={"epochCount": 3}), recorded(Made(hyperparameters={"epochCount": 3, "batchSize": 16}))),
    ],
    ids=["same", "other attempt", "a default left out"],
)
def test_a_ready_generation_of_this_content_is_enough(wanted: Made, generation: LockedGeneration) -> None:
    assert list(verify_locked([manifest(wanted)], SCOPE, lock_of(generation), LOCKFILE)) == []


@each_row(
    ("lock", "found"),
    [
        (Lock(), "none is recorded"),
        (lock_of(recorded(replace(MADE, data="B"))), "none is recorded"),
        (lock_of(recorded(MADE, state="CREATING")), "recorded: CREATING"),
        (lock_of(recorded(MADE, state="FAILED")), "recorded: FAILED"),
        (
            lock_of(recorded(MADE, state="MISSING"), recorded(replace(MADE, attempt=1), state="CREATING")),
            "recorded: CREATING, MISSING",
        ),
    ],
    ids=["nothing", "other content", "training", "failed", "two"],
)
def test_anything_less_is_a_problem_at_the_manifests_name(lock: Lock, found: str) -> None:
    (problem,) = verify_locked([manifest(MADE)], SCOPE, lock, LOCKFILE)
    assert str(problem) == (
        f"numbers.yaml:1:1: metadata.name: {LOCKFILE} has no ready generation of numbers with this content "
        f"({found}); run reconcile apply where training is allowed, and commit the lockfile"
    )


def test_every_manifest_that_is_not_ready_is_told() -> None:
    manifests = [manifest(Made(name=name)) for name in ("numbers", "words", "letters")]
    problems = verify_locked(manifests, SCOPE, lock_of(recorded(MADE)), LOCKFILE)
    assert [problem.place.file for problem in problems] == ["words.yaml", "letters.yaml"]


@pytest.mark.parametrize(("state", "found"), [("ACTIVE", 0), ("MISSING", 1)])
def test_a_rollback_needs_a_generation_that_serves(state: str, found: int) -> None:
    rejected, serving = recorded(MADE), recorded(replace(MADE, data="B"), state=state)
    model = LockedModel("numbers.yaml", serving.key, rejected=(rejected.key,), generations=(rejected, serving))

    problems = list(verify_locked([manifest(MADE)], SCOPE, Lock(models={"numbers": model}), LOCKFILE))

    assert len(problems) == found
    for problem in problems:
        assert f"the one with this content was rolled back, and {serving.key} is recorded as MISSING" in str(problem)
