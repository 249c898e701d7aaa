"""When the lockfile is saved: only when it changed, at most once a second, and on flush."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import reduce
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import LockConflict, ServiceError, TimeoutReached
from reconciler.domain.lock import Lock, LockedModel, LockedTarget
from reconciler.engine.recorder import Recorder
from reconciler.environment import Deadline
from reconciler.planning.events import Declared, Disappeared, Event, Promoted, Rejected, Started, Targeted, record
from reconciler.state.lockfile import LockFile, dumps, loads
from support.core_strategies import generation
from support.provider_service import Time

STARTED = Started("numbers", "numbers.yaml", generation())
TARGETED = Targeted(LockedTarget("default", "embedded", "demo"))


class Saved(list[str]):
    """A lock store that keeps every text that was written."""

    path = "reconcile.lock.json"

    def read(self) -> str | None:
        return self[-1] if self else None

    def write(self, text: str) -> bool:
        self.append(text)
        return True

    def check_writable(self) -> None:
        """Lists can always be written."""

    def lease(self) -> AbstractContextManager[None]:
        return nullcontext()

    saving = lease


class Contested(Saved):
    """A store of several runs: before each write of ours another run saves the next of ``rivals``, if there is one."""

    def __init__(self, *rivals: str) -> None:
        super().__init__()
        self.rivals = list(rivals)

    def write(self, text: str) -> bool:
        if self.rivals:
            self.append(self.rivals.pop(0))
            raise LockConflict("another run has saved it meanwhile")
        return super().write(text)


def others(*names: str) -> str:
    """What runs leave that started one model each."""
    events: list[Event] = [TARGETED, *(replace(STARTED, name=name) for name in names)]
    return dumps(reduce(record, events, Lock()))


def test_the_first_change_is_saved_at_once_and_later_ones_on_flush() -> None:
    saved = Saved()
    time = Time()
    recorder = Recorder(Lock(), saved, time.clock)
    recorder.emit(STARTED)
    assert saved == [dumps(recorder.lock)]
    recorder.emit(Promoted("numbers", STARTED.generation.key, STARTED.generation.remote))
    assert len(saved) == 1
    recorder.flush()
    assert saved[1:] == [dumps(recorder.lock)]
    recorder.flush()
    assert len(saved) == 2


def test_events_of_one_call_are_saved_together() -> None:
    saved, told = Saved(), list[Event]()
    recorder = Recorder(Lock(), saved, Time().clock, [told.append])
    promoted = Promoted("numbers", STARTED.generation.key, STARTED.generation.remote)
    recorder.emit(STARTED, promoted)
    assert saved == [dumps(reduce(record, [STARTED, promoted], Lock()))]
    assert told == [STARTED, promoted]


def test_a_change_is_saved_by_the_first_event_after_a_second() -> None:
    saved = Saved()
    time = Time()
    recorder = Recorder(Lock(), saved, time.clock)
    recorder.emit(TARGETED)
    recorder.emit(STARTED)
    recorder.emit(Declared("numbers", "numbers.yaml", protect=True))
    time.now += timedelta(seconds=1)
    recorder.emit(Promoted("unknown", "", ""))
    assert len(saved) == 2
    assert loads(saved[-1], "lock").models["numbers"].protect


def test_a_lock_without_models_creates_no_file() -> None:
    saved = Saved()
    recorder = Recorder(Lock(), saved, Time().clock)
    recorder.emit(TARGETED)
    recorder.flush()
    assert saved == []


def test_events_without_effect_are_not_saved() -> None:
    """Thousands of no-ops would take minutes if each were turned into text."""
    saved = Saved()
    lock = Lock(models={"numbers": LockedModel("numbers.yaml", generations=(generation(),))})
    recorder = Recorder(lock, saved, Time().clock)
    recorder.emit(Declared("numbers", "numbers.yaml", protect=False))
    recorder.emit(Disappeared("numbers", "unknown"))
    recorder.flush()
    assert saved == []
    assert recorder.lock is lock


def test_sinks_receive_every_event_after_it_was_recorded() -> None:
    seen: list[tuple[Event, Lock]] = []
    recorder = Recorder(Lock(), Saved(), Time().clock, [lambda event: seen.append((event, recorder.lock))])
    events: list[Event] = [STARTED, Disappeared("unknown", "unknown"), replace(STARTED, name="other")]
    for event in events:
        recorder.emit(event)
    assert [event for event, _ in seen] == events
    assert [set(lock.models) for _, lock in seen] == [{"numbers"}, {"numbers"}, {"numbers", "other"}]


def test_changes_of_another_run_are_kept() -> None:
    saved = Saved()
    ours, theirs = Recorder(Lock(), saved, Time().clock), Recorder(Lock(), saved, Time().clock)
    for recorder, event in ((ours, STARTED), (theirs, replace(STARTED, name="other"))):
        recorder.emit(TARGETED)
        recorder.emit(event)
    ours.emit(Promoted("numbers", STARTED.generation.key, STARTED.generation.remote))
    ours.flush()
    lock = loads(saved[-1], "lock")
    assert set(lock.models) == {"numbers", "other"}
    assert lock.models["numbers"].serving == STARTED.generation.key
    assert ours.lock == lock


def test_changes_of_faster_runs_are_kept() -> None:
    saved = Contested(others("a"), others("a", "b"), others("a", "b", "c"), others("a", "b", "c", "d"))
    recorder = Recorder(Lock(), saved, Time().clock)
    recorder.emit(STARTED)
    assert set(loads(saved[-1], "lock").models) == {"a", "b", "c", "d", "numbers"}
    assert dumps(recorder.lock) == saved[-1]


def test_changes_that_a_faster_run_reverted_are_not_saved() -> None:
    saved = Contested()
    recorder = Recorder(Lock(), saved, Time().clock)
    recorder.emit(TARGETED)
    recorder.emit(STARTED)
    saved.rivals = [others("numbers", "fleeting"), saved[-1]]
    recorder.emit(Promoted("numbers", STARTED.generation.key, STARTED.generation.remote))
    recorder.flush()
    assert set(loads(saved[-1], "lock").models) == {"numbers"}


def test_repeated_conflicts_are_an_error_and_lose_nothing() -> None:
    saved = Contested(*(others(f"rival-{number}") for number in range(5)))
    recorder = Recorder(Lock(), saved, Time().clock)
    with pytest.raises(LockConflict) as caught:
        recorder.emit(STARTED)
    assert str(caught.value) == (
        "reconcile.lock.json cannot be saved: another run saved it first, 5 times in a row; run the command again; "
        "trainings that were started continue and are found"
    )
    recorder.flush()
    assert set(loads(saved[-1], "lock").models) == {"rival-4", "numbers"}


def test_a_lease_reads_changes_of_another_run() -> None:
    store = Saved([others("words")])
    recorder = Recorder(loads(others("words"), "lock"), store, Time().clock)
    with recorder.lease() as changed:
        assert not changed
    store.append(others("words", "letters"))
    with recorder.lease() as changed, recorder.lease() as changed_again:
        assert (changed, changed_again) == (True, False)
        assert recorder.lock.models.keys() == {"words", "letters"}
    assert len(store) == 2
    with recorder.lease():
        recorder.emit(STARTED)
        recorder.emit(replace(STARTED, name="figures"))
    assert loads(store[-1], "lock").models.keys() == {"words", "letters", "numbers", "figures"}


def test_a_lease_keeps_unsaved_events() -> None:
    store = Saved()
    recorder = Recorder(Lock(), store, Time().clock)
    recorder.emit(TARGETED, STARTED)
    recorder.emit(replace(STARTED, name="words"))
    store.append(others("letters"))
    with recorder.lease():
        pass
    assert loads(store[-1], "lock").models.keys() == {"words", "letters"}


def test_a_decision_whose_save_was_not_confirmed_is_recorded_once() -> None:
    class Unconfirmed(Saved):
        def write(self, text: str) -> bool:
            super().write(text)
            if len(self) == 1:
                raise ServiceError("no answer", "run the command again", code="UNREACHABLE")
            return True

    store = Unconfirmed()
    recorder = Recorder(Lock(), store, Time().clock)
    with pytest.raises(ServiceError):
        recorder.emit(TARGETED, STARTED, recorder.decided("adopt", "numbers"))
    recorder.emit(replace(STARTED, name="words"))
    recorder.flush()
    (decision,) = loads(store[-1], "lock").history
    assert (decision.action, len(loads(store[-1], "lock").models)) == ("adopt", 2)


def test_saved_events_are_not_replayed() -> None:
    """One run promotes and waits, another rolls back: the next save of the first keeps the rollback."""
    store = Saved()
    recorder = Recorder(Lock(), store, Time().clock)
    promoted = Promoted("numbers", STARTED.generation.key, STARTED.generation.remote)
    recorder.emit(TARGETED, STARTED, promoted)
    rolled_back = record(loads(store[-1], "lock"), Rejected("numbers", STARTED.generation.key, "bad"))
    store.append(dumps(rolled_back))
    recorder.emit(replace(STARTED, name="words"))
    recorder.flush()
    saved = loads(store[-1], "lock")
    assert saved.models["numbers"] == rolled_back.models["numbers"]
    assert saved.models["words"].generations == (STARTED.generation,)


def test_nobody_saves_between_reading_and_writing(tmp_path: Path) -> None:
    """Or else a run among many others is always too late."""
    file, rivals = tmp_path / "reconcile.lock.json", list[str]()

    class Watched(LockFile):
        def read(self) -> str | None:
            rival = LockFile(file, Deadline(timedelta(), grace=timedelta(microseconds=1)))
            try:
                with rival.lease():
                    rivals.append("had the lock")
            except TimeoutReached:
                rivals.append("had to wait")
            return super().read()

    recorder = Recorder(Lock(), Watched(file), Time().clock)
    recorder.emit(TARGETED, STARTED)
    assert loads(file.read_text(), "saved") == recorder.lock
    assert rivals == ["had to wait"]
