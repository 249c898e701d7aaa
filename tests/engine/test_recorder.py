"""When the lockfile is saved: only when it changed, at most once a second, and on flush."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from reconciler.core.events import Declared, Disappeared, Event, Promoted, Started, Targeted
from reconciler.core.lock import Lock, LockedModel, LockedTarget
from reconciler.core.lock_text import dumps, loads
from reconciler.engine.recorder import Recorder
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


def test_the_first_change_is_saved_at_once_and_the_next_within_the_second_on_flush() -> None:
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


def test_a_lock_without_models_is_not_worth_a_file() -> None:
    saved = Saved()
    recorder = Recorder(Lock(), saved, Time().clock)
    recorder.emit(TARGETED)
    recorder.flush()
    assert saved == []


def test_what_changes_nothing_is_neither_saved_nor_written_out() -> None:
    """Thousands of no-ops would take minutes if each were turned into text."""
    saved = Saved()
    lock = Lock(models={"numbers": LockedModel("numbers.yaml", generations=(generation(),))})
    recorder = Recorder(lock, saved, Time().clock)
    recorder.emit(Declared("numbers", "numbers.yaml", protect=False))
    recorder.emit(Disappeared("numbers", "unknown"))
    recorder.flush()
    assert saved == []
    assert recorder.lock is lock


def test_those_who_watch_get_every_event_after_it_was_recorded() -> None:
    seen: list[tuple[Event, Lock]] = []
    recorder = Recorder(Lock(), Saved(), Time().clock, [lambda event: seen.append((event, recorder.lock))])
    events: list[Event] = [STARTED, Disappeared("unknown", "unknown"), replace(STARTED, name="other")]
    for event in events:
        recorder.emit(event)
    assert [event for event, _ in seen] == events
    assert [set(lock.models) for _, lock in seen] == [{"numbers"}, {"numbers"}, {"numbers", "other"}]


def test_what_another_run_saved_meanwhile_is_kept() -> None:
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
