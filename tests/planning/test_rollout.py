"""Which generation a rollback goes back to, and which one a promotion by hand lets serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import Check, Expectation, RecordedChecks
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel
from reconciler.domain.model import Lifecycle, Manifest, Source, State
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.rollout import alternatives, choose_promotion, choose_rollback, require_passed
from support.cases import each_row
from support.core_cases import SCOPE, Made, at, manifest, recorded

OLD, MIDDLE, NEW = (Made(hyperparameters={"epochCount": epochs}) for epochs in (1, 2, 3))
CHECK = Check("small", "8", (Expectation("equals", ("9",)),))
DIGEST = checks_digest([CHECK])
RECORDED = f"recorded generations: {NEW.key} (ACTIVE), {MIDDLE.key} (FAILED), {OLD.key} (ACTIVE)"
TAKEN_BACK = f"remove the rejection with reconcile promote numbers --to {OLD.key}"


def generation(made: Made, created: float, promoted: float | None = None, **fields: Any) -> LockedGeneration:
    time = "" if promoted is None else at(promoted)
    return replace(recorded(made, created=created), promote_time=time, **fields)


def model(*generations: LockedGeneration, serving: Made | None = NEW, rejected: tuple[Made, ...] = ()) -> LockedModel:
    return LockedModel(
        "numbers.yaml",
        serving=serving.key if serving else None,
        rejected=tuple(made.key for made in rejected),
        generations=generations,
    )


def checked(failed: int, digest: str = DIGEST) -> RecordedChecks:
    return RecordedChecks(digest, 3 - failed, failed)


def with_checks(made: Made, on_failed_checks: Literal["hold", "serve"] = "hold") -> Manifest:
    declared = manifest(made)
    return replace(declared, checks=(CHECK,), lifecycle=Lifecycle(on_failed_checks=on_failed_checks))


def back(locked: LockedModel, to: str | None = None) -> str:
    return choose_rollback("numbers", locked, to).key


def chosen(locked: LockedModel, to: str | None = None, declared: Manifest | None = None, **others: LockedModel) -> str:
    lock = Lock(models={"numbers": locked, **others})
    return choose_promotion("numbers", lock, to, scope=SCOPE, manifest=declared).key


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(ReconcileError) as caught:
        act()
    assert caught.value.message
    assert caught.value.remedy
    return str(caught.value)


# rollback


def test_it_goes_back_to_what_served_before_whatever_is_newest() -> None:
    locked = model(generation(NEW, 30, 35), generation(MIDDLE, 20, 22), generation(OLD, 10, 33))
    assert back(locked) == OLD.key


def test_promotions_are_compared_as_times() -> None:
    first, second = replace(generation(OLD, 10), promote_time="2026-01-01T01:30:00+01:00"), generation(MIDDLE, 20, 31)
    assert back(model(generation(NEW, 40, 45), second, first)) == MIDDLE.key


def test_what_never_served_is_passed_over_as_long_as_something_did() -> None:
    assert back(model(generation(NEW, 30, 35), generation(MIDDLE, 20), generation(OLD, 10, 12))) == OLD.key


def test_without_any_promotion_it_goes_back_to_the_newest_older_one() -> None:
    locked = model(generation(NEW, 30), generation(MIDDLE, 20), generation(OLD, 10), serving=MIDDLE)
    assert back(locked) == OLD.key


def test_without_any_promotion_one_that_failed_its_checks_is_passed_over() -> None:
    locked = model(generation(NEW, 30), generation(MIDDLE, 20, checks=checked(1)), generation(OLD, 10))
    assert back(locked) == OLD.key


def test_a_serving_generation_that_is_not_recorded_is_newer_than_all() -> None:
    assert back(model(generation(OLD, 10), serving=NEW)) == OLD.key


def test_a_serving_generation_that_was_deleted_by_hand_can_be_left() -> None:
    assert back(model(generation(NEW, 30, 35, state=State.MISSING), generation(OLD, 10, 12))) == OLD.key


def test_what_is_rejected_or_not_ready_is_never_gone_back_to() -> None:
    lost = generation(MIDDLE, 20, 25, state=State.MISSING)
    locked = model(generation(NEW, 30, 35), lost, generation(OLD, 10, 12), rejected=(OLD,))
    assert refusal(lambda: back(locked)) == (
        f"there is no generation to roll back to from {NEW.key}: no other generation of numbers is ready and "
        "not rejected; "
        "change the manifest and run reconcile apply"
    )


def test_a_newer_one_that_never_served_has_to_be_named() -> None:
    locked = model(generation(NEW, 30), generation(OLD, 10), serving=OLD)
    assert refusal(lambda: back(locked)) == (
        f"there is no generation to roll back to from {OLD.key}: no other generation of numbers served "
        "before, or is older and "
        f"did not fail its checks; pass another one with --to: {NEW.key}"
    )
    assert back(locked, NEW.key) == NEW.key


def test_a_ready_one_can_be_named_although_its_checks_failed() -> None:
    assert back(model(generation(NEW, 30), generation(OLD, 10, checks=checked(3))), OLD.key) == OLD.key


def test_where_nothing_serves_there_is_nothing_to_roll_back() -> None:
    assert refusal(lambda: back(model(generation(NEW, 30), serving=None))) == (
        "numbers has no serving generation, so there is nothing to roll back; promote a generation with "
        "reconcile promote "
        "numbers --to KEY, or run reconcile apply"
    )


@each_row(
    ("to", "message"),
    [
        ("numbers-22222222", f"numbers has no recorded generation numbers-22222222; pass one with --to; {RECORDED}"),
        (
            NEW.key,
            f"{NEW.key} is already serving numbers; no other generation can be promoted; change the manifest and run",
        ),
        (
            MIDDLE.key,
            f"{MIDDLE.key} cannot be promoted: its recorded state is FAILED; no other generation can be promoted;",
        ),
        (OLD.key, f"{OLD.key} was rejected: it swears; {TAKEN_BACK}"),
    ],
    ids=["unknown", "serving", "failed", "rejected"],
)
def test_what_cannot_be_gone_back_to(to: str, message: str) -> None:
    old, failed = generation(OLD, 10, 12, rejection="it swears"), generation(MIDDLE, 20, state=State.FAILED)
    assert refusal(lambda: back(model(generation(NEW, 30, 35), failed, old, rejected=(OLD,)), to)).startswith(message)


def test_the_alternatives_are_named() -> None:
    locked = model(generation(NEW, 30, 35), generation(MIDDLE, 20, state=State.CANCELLED), generation(OLD, 10))
    assert [one.key for one in alternatives(locked)] == [OLD.key]
    assert alternatives(locked, OLD.key) == ()
    assert refusal(lambda: back(locked, MIDDLE.key)).endswith(f"pass another one with --to: {OLD.key}")


# promote


def test_the_rejected_one_that_the_manifest_asks_for_comes_first() -> None:
    locked = model(
        generation(NEW, 30), generation(MIDDLE, 20), generation(OLD, 10), serving=OLD, rejected=(MIDDLE, NEW)
    )
    assert chosen(locked, declared=manifest(MIDDLE)) == MIDDLE.key
    assert chosen(locked, declared=manifest(NEW)) == NEW.key


def test_else_the_newest_rejected_one_that_is_ready() -> None:
    lost = generation(NEW, 30, state=State.MISSING)
    locked = model(lost, generation(MIDDLE, 20), generation(OLD, 10), serving=None, rejected=(OLD, MIDDLE, NEW))
    assert chosen(locked, declared=manifest(NEW)) == MIDDLE.key
    assert chosen(locked) == MIDDLE.key


def test_what_serves_and_is_not_rejected_is_fine_as_it_is() -> None:
    locked = model(generation(NEW, 30, state=State.MISSING), generation(OLD, 10))
    assert chosen(locked) == NEW.key
    assert chosen(locked, NEW.key, with_checks(OLD)) == NEW.key


def test_what_serves_although_it_is_rejected_is_looked_at() -> None:
    locked = model(generation(NEW, 30, state=State.MISSING), rejected=(NEW,))
    assert "its recorded state is MISSING" in refusal(lambda: chosen(locked, NEW.key))


def test_an_orphan_is_promoted_without_a_manifest() -> None:
    assert chosen(model(generation(NEW, 30), generation(OLD, 10)), OLD.key) == OLD.key


def test_nothing_rejected_and_nothing_serving_leaves_nothing_to_choose() -> None:
    assert refusal(lambda: chosen(model(generation(NEW, 30), serving=None))) == (
        "no generation of numbers is rejected, so there is none to promote again; pass one with --to; recorded "
        f"generations: {NEW.key} (ACTIVE)"
    )
    assert refusal(lambda: chosen(model(serving=None))).endswith("; run reconcile apply first")


@each_row("state", [State.MISSING, State.FAILED, State.CREATING, State.INTENDED])
def test_what_is_not_ready_is_not_promoted(state: State) -> None:
    locked = model(generation(NEW, 30, state=state), generation(OLD, 10), serving=None, rejected=(NEW,))
    message = f"{NEW.key} cannot be promoted: its recorded state is {state}; pass another one with --to: {OLD.key}"
    assert refusal(lambda: chosen(locked)) == message
    assert refusal(lambda: chosen(locked, NEW.key)) == message


def test_an_unknown_key_is_told_with_those_that_there_are() -> None:
    assert "has no recorded generation numbers-x; pass one with --to; recorded generations: numbers-" in refusal(
        lambda: chosen(model(generation(NEW, 30)), "numbers-x")
    )


def test_failed_checks_hold_what_is_promoted_by_hand_unless_the_manifest_allows_it() -> None:
    assert refusal(lambda: require_passed(NEW.key, checked(2), with_checks(NEW))) == (
        f"{NEW.key} cannot be promoted: 1 of 3 checks passed; fix the data or the checks, or set"
        " spec.lifecycle.onFailedChecks to serve"
    )
    require_passed(NEW.key, checked(0), with_checks(NEW))
    require_passed(NEW.key, checked(2), with_checks(NEW, "serve"))


@each_row("checks", [None, checked(0), checked(2), checked(0, "sha256:" + "0" * 64)])
def test_recorded_results_of_checks_decide_no_promotion_by_hand(checks: RecordedChecks | None) -> None:
    locked = model(generation(NEW, 30, checks=checks), serving=None, rejected=(NEW,))
    assert chosen(locked, declared=with_checks(NEW)) == NEW.key


def test_what_the_next_apply_would_undo_is_refused_with_the_rollback_that_lasts() -> None:
    locked = model(generation(NEW, 30), generation(OLD, 10))
    assert refusal(lambda: chosen(locked, OLD.key, manifest(NEW))) == (
        f"{OLD.key} would not keep serving: {NEW.key} is ready and matches the manifest, so the next apply"
        f" would promote it again; reject that one instead: reconcile rollback numbers --to {OLD.key} --reason TEXT"
    )
    assert back(locked, OLD.key) == OLD.key


def test_a_rejected_one_that_the_next_apply_would_leave_needs_its_manifest_back() -> None:
    locked = model(generation(NEW, 30), generation(OLD, 10), rejected=(OLD,))
    told = refusal(lambda: chosen(locked, declared=manifest(NEW)))
    assert told.endswith(f"restore the manifest that {OLD.key} was trained from (nothing is trained), then promote it")
    assert chosen(locked, declared=manifest(OLD)) == OLD.key


def test_a_later_attempt_at_the_same_content_would_take_over_again() -> None:
    later = replace(NEW, attempt=1)
    locked = model(generation(later, 40), generation(NEW, 30), serving=later)
    assert "would not keep serving" in refusal(lambda: chosen(locked, NEW.key, manifest(NEW)))


def test_what_cannot_serve_itself_is_no_obstacle() -> None:
    """The generation that the manifest asks for is still training, rejected, or failed its checks."""
    for other in (
        model(generation(NEW, 30, state=State.CREATING), generation(MIDDLE, 20), generation(OLD, 10), serving=MIDDLE),
        model(generation(NEW, 30), generation(MIDDLE, 20), generation(OLD, 10), serving=MIDDLE, rejected=(NEW,)),
    ):
        assert chosen(other, OLD.key, manifest(NEW)) == OLD.key
    held = generation(NEW, 30, checks=checked(1))
    locked = model(held, generation(MIDDLE, 20), generation(OLD, 10, checks=checked(0)), serving=MIDDLE)
    assert chosen(locked, OLD.key, with_checks(NEW)) == OLD.key


def test_what_a_child_is_to_be_follows_from_the_parent_generation_that_serves() -> None:
    parent = Made("base")
    served = LockedModel("base.yaml", serving=parent.key, generations=(generation(parent, 0, 1),))
    ours, theirs = (Source(tuned_model="base", key=key) for key in (parent.key, "base-22222222"))
    child = replace(manifest(NEW), source=Source(tuned_model="base"))
    good, other = generation(OLD, 10, source=ours), generation(NEW, 30, source=theirs)
    fit = {"hyperparameters": LockedHyperparameters({}, child.hyperparameters), "spec": "sha256:" + "0" * 64}
    locked = model(replace(other, **fit), replace(good, **fit), serving=None, rejected=(OLD, NEW))
    assert chosen(locked, declared=child, base=served) == OLD.key
    assert chosen(locked, declared=child) == NEW.key, "nothing serves the parent, so nothing can satisfy"
