"""What an observation says of the recorded generations, as events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Manifest, RemoteModel, State, Target
from reconciler.domain.plan import Observation, Request, World
from reconciler.planning.events import (
    Adopted,
    Cancelled,
    Completed,
    Disappeared,
    Event,
    Failed,
    Progressed,
    Withdrawn,
    record,
)
from reconciler.planning.observed_events import observed_events
from support.cases import each_row
from support.core_cases import CAPABILITIES, SCOPE, START, Made, intended, job, live, manifest, recorded

ONE, OTHER = Made(), Made(data="B")
WANTED = {"numbers": manifest(ONE)}


def lock_of(*generations: LockedGeneration, serving: str | None = None) -> Lock:
    return Lock(models={"numbers": LockedModel("numbers.yaml", serving, generations=generations)})


def told(
    lock: Lock,
    *shown: RemoteModel,
    gone: frozenset[str] = frozenset(),
    manifests: Mapping[str, Manifest] = WANTED,
    complete: bool = True,
) -> list[Event]:
    seen = Observation({model.remote: model for model in shown}, gone)
    target, request = Target("default", "reconcile.yaml", "embedded", SCOPE), Request(complete=complete)
    return list(observed_events(World(tuple(manifests.values()), lock, target, CAPABILITIES, START, seen, request)))


@each_row(
    ("state", "kind"),
    [("CREATING", Progressed), ("ACTIVE", Completed), ("FAILED", Failed), ("CANCELLED", Cancelled)],
)
def test_what_became_of_a_training_is_told(state: str, kind: type[Event]) -> None:
    (event,) = told(lock_of(recorded(ONE, state="CREATING", number=1)), live(ONE, state=state, number=1))
    assert isinstance(event, kind)


def test_what_is_known_already_is_not_told_again() -> None:
    for state in ("ACTIVE", "FAILED", "CANCELLED"):
        assert told(lock_of(recorded(ONE, state=state, number=1)), live(ONE, state=state, number=1)) == []


@each_row("state", ["CREATING", "ACTIVE", "FAILED", "CANCELLED"])
def test_a_deleted_generation_stays_deleted(state: str) -> None:
    assert told(lock_of(recorded(ONE, state="DELETED", number=1)), live(ONE, state=state, number=1)) == []


def test_what_is_gone_is_told_once() -> None:
    gone = frozenset({job(1)})
    assert told(lock_of(recorded(ONE, number=1)), gone=gone) == [Disappeared("numbers", ONE.key)]
    assert told(lock_of(recorded(ONE, state="MISSING", number=1)), gone=gone) == []
    assert told(lock_of(recorded(ONE, number=1))) == []


def test_an_observation_that_is_not_believed_tells_nothing() -> None:
    lock = lock_of(recorded(ONE, number=1), recorded(OTHER, number=2), intended(Made(data="C")))
    assert told(lock, gone=frozenset({job(1), job(2)})) == []


@each_row("state", ["CREATING", "ACTIVE", "FAILED", "CANCELLED"])
@each_row("manifests", [WANTED, {}], ids=["declared", "orphaned"])
def test_an_intent_that_shows_is_taken_up_as_what_it_became(state: str, manifests: Mapping[str, Manifest]) -> None:
    lock = lock_of(intended(ONE))
    (event,) = told(lock, live(ONE, state=state, number=1, created=3, failure="bad luck"), manifests=manifests)
    assert isinstance(event, Adopted)
    (one,) = record(lock, event).models["numbers"].generations
    assert (one.key, one.remote, one.state, one.origin) == (ONE.key, job(1), State(state), "created")
    assert (one.total_steps, one.create_time) == (30, "2026-01-01T00:03:00Z")
    assert one.failure is not None


def test_a_record_that_lost_to_another_training_becomes_that_one() -> None:
    lost = recorded(ONE, state="CREATING", number=2, created=5, failure="old")
    shown = live(ONE, state="CANCELLED", number=2, created=5), live(ONE, state="CREATING", number=1, created=4)
    (event,) = told(lock_of(lost), *shown)
    assert isinstance(event, Adopted)
    assert (event.generation.remote, event.generation.origin) == (job(1), "adopted")
    assert (event.generation.failure, event.generation.operation) == (None, None)


def test_a_record_that_was_kept_is_told_nothing_of_the_double() -> None:
    kept = recorded(ONE, number=1)
    for state in ("CREATING", "FAILED", "CANCELLED", "ACTIVE"):
        assert told(lock_of(kept), live(ONE, number=1), live(ONE, state=state, number=2)) == []


def test_an_intent_that_is_still_wanted_stays() -> None:
    assert told(lock_of(intended(ONE))) == []
    assert told(lock_of(intended(Made(attempt=2)), recorded(ONE, state="FAILED", number=1))) == []


def test_an_intent_of_other_content_is_withdrawn() -> None:
    assert told(lock_of(intended(OTHER))) == [Withdrawn("numbers", OTHER.key)]


def test_an_intent_that_nobody_declares_is_withdrawn_where_everything_was_read() -> None:
    lock = lock_of(intended(ONE))
    events = told(lock, manifests={})
    assert events == [Withdrawn("numbers", ONE.key)]
    assert reduce(record, events, lock) == Lock()
    assert told(lock, manifests={}, complete=False) == []
